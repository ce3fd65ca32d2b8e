"""The access service, measured: access tokens by HTTP from 100,000 stored ones.

    python bench/access.py --seconds 20

Closed loop: 50 clients, each with the next request after the last answer. Open loop: 1,000 connections, 500 requests a
second at random moments. With --express the same is asked of a service as a user would build it, with Express, the MongoDB
driver and node's crypto, which reads MongoDB at each request; the two take turns. With --audit-off the same is asked of the
service without its audit of reads. The generator runs on the same machine, and its CPU is reported apart.

With --renewals, a daemon renews tokens that fall due at the same moment, alone and beside the service at 80 % of the rate
that its closed loop has reached.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from support.installed import NODE, install_node, need
from support.load import Load, closed_loop, open_loop
from support.processes import (
    HOST,
    KEY_ID,
    PROVIDER,
    DaemonProcess,
    Endpoint,
    Mongod,
    Usage,
    await_true,
    free_port,
    get,
    usage,
)
from support.renewals import Renewals, renew
from support.report import Report, table
from support.tokens import Tokens

from daemon.adapters.keyring import KeyRing
from daemon.domain.access_key import new_key, secret_hash

STORED = 100_000
CLIENTS, CONNECTIONS, RATE = 50, 1_000, 500.0
LOADED = 0.8  # of the closed loop's rate, beside renewals
IN_FLIGHT = 256  # renewals
BENCH = Path(__file__).parent


class Subject(NamedTuple):
    """What is measured."""

    name: str
    pid: int
    port: int
    request: Callable[[], bytes]


def main() -> None:
    options = _options()
    report = Report("access")
    lines: list[str] = []
    figures: dict[str, Any] = {"stored": options.tokens, "seconds": options.seconds}
    with (
        tempfile.TemporaryDirectory(prefix="refreshd-bench-") as home,
        Mongod(Path(home) / "mongod") as mongod,
    ):
        tokens = Tokens(mongod.database)
        tokens.insert(options.tokens)
        rows = []
        subjects = [
            _serving,
            *([_unaudited] if options.audit_off else []),
            *([_express] if options.express else []),
        ]
        if options.renewals:
            lines += _beside_renewals(Path(home), mongod, tokens, options, figures)
            subjects = []
        for _ in range(options.runs):
            for start in subjects:
                with start(Path(home), mongod, tokens) as subject:
                    rows += _measured(subject, mongod, options, figures)
    head = (
        "",
        "requests/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "failed",
        "CPU s/1,000",
        "mongod",
        "generator",
        "MB",
    )
    if rows:
        lines += table(head, rows)
    report.save(figures, lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures the access service on this machine.")
    parser.add_argument("--tokens", type=int, default=STORED, help=f"stored ones (default: {STORED})")
    parser.add_argument("--seconds", type=float, default=20, help="of each load (default: 20)")
    parser.add_argument(
        "--express", action="store_true", help="beside Express, which takes turns (Node and npm)"
    )
    parser.add_argument(
        "--audit-off", action="store_true", help="beside the service without its audit, in turns"
    )
    parser.add_argument(
        "--renewals", type=int, metavar="N", help="instead: N renewals, alone and beside the service"
    )
    parser.add_argument("--runs", type=int, default=1, help="of each (default: 1)")
    return parser.parse_args()


def _measured(
    subject: Subject, mongod: Mongod, options: argparse.Namespace, figures: dict[str, Any]
) -> Iterator[list[str]]:
    """Two loads, after a short one that warms up."""
    asyncio.run(closed_loop(HOST, subject.port, subject.request, clients=CLIENTS, seconds=2))
    loads: dict[str, Callable[[], Load]] = {
        f"{CLIENTS} clients, closed loop": lambda: asyncio.run(
            closed_loop(HOST, subject.port, subject.request, clients=CLIENTS, seconds=options.seconds)
        ),
        f"{CONNECTIONS:,} connections, {RATE:.0f}/s": lambda: asyncio.run(
            open_loop(
                HOST,
                subject.port,
                subject.request,
                connections=CONNECTIONS,
                rate=RATE,
                seconds=options.seconds,
            )
        ),
    }
    for name, run in loads.items():
        before, store, own = usage(subject.pid), mongod.usage(), _own_cpu()
        load = run()
        after = usage(subject.pid)
        used = _per_thousand(after, before, load), _per_thousand(mongod.usage(), store, load)
        generator = (_own_cpu() - own) / len(load.seconds) * 1000
        row = [
            f"{load.rate:,.0f}",
            *(f"{load.percentile(share) * 1000:.1f}" for share in (0.5, 0.95, 0.99)),
            str(load.failed),
            *(f"{cpu:.2f}" for cpu in (*used, generator)),
            f"{after.peak_mb:.0f}",
        ]
        figures.setdefault(f"{subject.name}: {name}", []).append(row)
        yield [f"{subject.name}: {name}", *row]


def _beside_renewals(
    home: Path, mongod: Mongod, tokens: Tokens, options: argparse.Namespace, figures: dict[str, Any]
) -> list[str]:
    """Renewals alone and beside the service, in turns. What the machine leaves them: the cores, less the CPU of the service
    and of the generator.
    """
    count = min(options.renewals, tokens.count)
    ids = [f"{PROVIDER}:company-{number:06}" for number in range(count)]
    rows: list[list[str]] = []
    with (
        Endpoint(home / "nginx") as endpoint,
        DaemonProcess(
            home / "daemon",
            uri=mongod.uri,
            database=mongod.database.name,
            token_urls={PROVIDER: endpoint.url},
            key=tokens.key,
            sweep_every="1s",
            concurrency=IN_FLIGHT,
        ) as daemon,
        _serving(home, mongod, tokens) as subject,
    ):
        daemon.await_ready()
        closed = closed_loop(HOST, subject.port, subject.request, clients=CLIENTS, seconds=options.seconds)
        rate = LOADED * asyncio.run(closed).rate
        renew(daemon, endpoint, mongod, ids)  # warms up
        for _ in range(options.runs):
            alone = renew(daemon, endpoint, mongod, ids)
            beside, load, share = _under_load(
                subject, rate, 5 + 8 * alone.took, lambda: renew(daemon, endpoint, mongod, ids)
            )
            row = [
                f"{alone.rate:,.0f}",
                f"{beside.rate:,.0f}",
                f"{beside.rate / alone.rate:.2f}",
                f"{1 - share:.2f}",
                f"{alone.cpu / count * 1000:.3f}",
                f"{beside.cpu / count * 1000:.3f}",
                f"{rate:,.0f}",
                f"{load.percentile(0.95) * 1000:.1f}",
                str(load.failed),
            ]
            rows.append(row)
    figures["renewals"] = rows
    head = (
        "alone/s",
        "beside/s",
        "beside to alone",
        "left by the machine",
        "CPU s/1,000 alone",
        "beside",
        "requests/s",
        "p95 ms",
        "failed",
    )
    return table(head, rows)


def _under_load(
    subject: Subject, rate: float, seconds: float, work: Callable[[], Renewals]
) -> tuple[Renewals, Load, float]:
    """Do `work` while requests come at this rate. Returns also the share of the machine's CPU that the service and the
    generator used.
    """
    coming = open_loop(
        HOST, subject.port, subject.request, connections=CONNECTIONS, rate=rate, seconds=seconds
    )
    before, own, began = usage(subject.pid).cpu, _own_cpu(), time.monotonic()
    with ThreadPoolExecutor(1) as thread:
        loading = thread.submit(lambda: asyncio.run(coming))
        done = work()
        used, took = usage(subject.pid).cpu - before + _own_cpu() - own, time.monotonic() - began
        if loading.done():
            raise SystemExit("the requests ended before the renewals did: try more --seconds or fewer tokens")
        load = loading.result()
    return done, load, used / took / (os.cpu_count() or 1)


def _per_thousand(after: Usage, before: Usage, load: Load) -> float:
    return (after.cpu - before.cpu) / len(load.seconds) * 1000


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _unaudited(home: Path, mongod: Mongod, tokens: Tokens) -> AbstractContextManager[Subject]:
    """The same without its audit of reads."""
    return _serving(home, mongod, tokens, name="without audit", program="support.unaudited")


@contextmanager
def _serving(
    home: Path, mongod: Mongod, tokens: Tokens, *, name: str = "refreshd", program: str = "daemon"
) -> Iterator[Subject]:
    """`refreshd serve` with a reader key alone."""
    text, presented = new_key()
    mongod.database["tokens_access"].insert_one(
        {
            "_id": presented.id,
            "name": "bench",
            "generation": 1,
            "secret_hash": secret_hash(presented.secret),
            "tokens": [f"{PROVIDER}:*"],
            "can": ["read"],
            "where": [],
            "from": [],
            **dict.fromkeys(
                ("rate", "created_at", "expires_at", "revoked_at", "disabled_at", "last_used_at")
            ),
        }
    )
    port = free_port()
    reader = KeyRing({KEY_ID: tokens.key}, active=KEY_ID).field_key("access_token")
    line = json.dumps({"field": "access_token", "key_id": KEY_ID, "key": b64encode(reader).decode()})
    file = home / "serve.toml"
    file.touch(mode=0o600)
    file.write_text(
        f'[store]\nuri = "{mongod.uri}"\ndatabase = "{mongod.database.name}"\n'
        f"[keys]\nreaders = {json.dumps(line)}\n"
        f'[access]\nport = {port}\nrate = "1000000/1s"\n[log]\nformat = "json"\n'
    )
    command = [sys.executable, "-m", program, "--config", str(file), "serve"]
    with (home / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=BENCH)
    try:
        await_true(
            lambda: get(port, "/readyz")[0] == 200 or process.poll() is not None,
            limit=60,
            why="refreshd serve is not ready",
        )
        if process.poll() is not None:
            raise SystemExit((home / "serve.log").read_text())
        yield Subject(name, process.pid, port, _requests(tokens.count, text.reveal(), "/v1/tokens/"))
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _express(_home: Path, mongod: Mongod, tokens: Tokens) -> Iterator[Subject]:
    """The service of rivals/node/door.js."""
    need(["node", "npm"])
    install_node()
    port, key = free_port(), "rfk_" + "a" * 20 + "_" + "b" * 43
    settings = {
        "uri": mongod.uri,
        "database": mongod.database.name,
        "keyId": KEY_ID,
        "key": b64encode(tokens.key).decode(),
        "accessKey": key,
        "port": port,
    }
    environment = {**os.environ, "NODE_ENV": "production", "DOOR": json.dumps(settings)}
    process = subprocess.Popen(["node", "door.js"], cwd=NODE, env=environment)
    try:
        await_true(lambda: get(port, "/readyz")[0] == 200, limit=60, why="the Express service is not ready")
        yield Subject("Express", process.pid, port, _requests(tokens.count, key, "/v1/tokens/"))
    finally:
        process.terminate()
        process.wait(30)


def _requests(count: int, key: str, path: str) -> Callable[[], bytes]:
    """Requests for random tokens."""
    chance = random.Random(2)
    ahead = f"GET {path}{PROVIDER}/"
    behind = f" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n"

    def request() -> bytes:
        return f"{ahead}company-{chance.randrange(count):06}{behind}".encode()

    return request


if __name__ == "__main__":
    main()
