"""How fast rows of an application's store move in, and what the command needs for it.

    python bench/import_rows.py --rows 100000 --runs 3 [--postgresql URI]

The rows are encrypted as applications do it (AES-256-GCM, nonce of 16 bytes, base64), in a table of the PostgreSQL at
URI, which the bench creates and drops; without one, they stand in a file of JSON lines in plain text. Each run imports
into an empty MongoDB, as a process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median

import psycopg
from support.processes import Mongod
from support.report import Report, table

from daemon.adapters.foreign.cipher import AesGcm
from daemon.domain.secret import Secret
from daemon.runtime.config.layouts import shipped_layouts

KEY = "07" * 16 + "1c" * 16
EXPIRES = "2036-01-01T00:00:00+00:00"
CONFIG = """
[store]
uri = "{uri}"
[state]
dir = "state"
[keys]
active = "bench"
ring.bench = "{key}"
[providers.xero]
client_id = "c"
client_secret = "s"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the import of many rows.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--postgresql", metavar="URI", help="a database in which a table may be created")
    options = parser.parse_args()
    report = Report("import_rows")
    with tempfile.TemporaryDirectory(prefix="refreshd-bench-") as home:
        source = (
            _table(options.postgresql, options.rows)
            if options.postgresql
            else _lines(Path(home), options.rows)
        )
        found = [_run(Path(home, str(run)), source, options.rows) for run in range(options.runs)]
    rows = [
        ["rows a second", f"{median(one['rate'] for one in found):,.0f}"],
        ["seconds", f"{median(one['seconds'] for one in found):.1f}"],
        ["command: CPU seconds per 1,000 rows", f"{median(one['cpu'] for one in found):.2f}"],
        ["command: peak resident memory, MB", f"{max(one['memory'] for one in found):.0f}"],
    ]
    report.save({"rows": options.rows, "found": found}, table(["import", source[0]], rows))


def _lines(home: Path, count: int) -> list[str]:
    file = home / "rows.jsonl"
    with file.open("w") as lines:
        for account, access, refresh in _tokens(count):
            row = {"provider": "xero", "account": account, "access_token": access, "refresh_token": refresh}
            lines.write(json.dumps({**row, "expires_at": EXPIRES, "tenant": account}) + "\n")
    return ["jsonl", str(file)]


def _table(uri: str, count: int) -> list[str]:
    encryption = shipped_layouts()["encrypted-postgresql"].encryption
    assert encryption is not None
    cipher = AesGcm(encryption, Secret(KEY))
    with closing(psycopg.connect(uri, autocommit=True)) as database, database.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS refreshd_bench")
        cursor.execute(
            'CREATE TABLE refreshd_bench ("userId" text, integration text, access_token text, refresh_token text,'
            ' expires_at timestamptz, scope text, user_agent text, PRIMARY KEY ("userId", integration))'
        )
        with cursor.copy("COPY refreshd_bench FROM STDIN") as copy:
            for account, access, refresh in _tokens(count):
                sealed = (str(cipher.seal(text, like=None)) for text in (access, refresh))
                copy.write_row((account, "xero", *sealed, EXPIRES, "read", "Firefox"))
    return ["encrypted-postgresql", uri, "--table", "refreshd_bench", "--key-env", "BENCH_KEY"]


def _tokens(count: int) -> Iterator[tuple[str, str, str]]:
    for number in range(count):
        yield f"company-{number}", b64encode(os.urandom(600)).decode(), b64encode(os.urandom(48)).decode()


def _run(home: Path, source: list[str], count: int) -> dict[str, float]:
    home.mkdir(mode=0o700)
    with Mongod(home / "mongod") as mongod:
        config = home / "config.toml"
        config.touch(mode=0o600)
        key = b64encode(os.urandom(32)).decode()
        config.write_text(CONFIG.format(uri=mongod.uri, key=key))
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "daemon", "--config", str(config), "import", *source, "--json"],
            env={**os.environ, "BENCH_KEY": KEY},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        out = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
    imported = json.loads(out)["imported"]
    if imported != count:
        raise SystemExit(f"{imported} of {count} rows were imported")
    return {
        "rate": count / seconds,
        "seconds": seconds,
        "cpu": 1000 * (used.ru_utime + used.ru_stime) / count,
        "memory": used.ru_maxrss / 1000,
    }


if __name__ == "__main__":
    main()
