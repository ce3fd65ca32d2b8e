"""A configuration over the real MongoDB, and two ways to give a command: in this process, and as a real one."""

import base64
import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from daemon.__main__ import main
from daemon.adapters.keyring import KeyRing
from tests.commands.canned_endpoint import Endpoint

CLIENT_SECRET = "canary-client-secret-9f2c"
ACCESS = "canary-access-token-71aa"
REFRESH = "canary-refresh-token-42bb"
MASTER = hashlib.sha256(b"for these tests").digest()
SECRETS = (CLIENT_SECRET, ACCESS, REFRESH, base64.b64encode(MASTER).decode())
RESPONSE = {"access_token": ACCESS, "refresh_token": REFRESH, "expires_in": 3600, "token_type": "Bearer"}

CONFIG = """
[store]
uri = {uri}
database = "{database}"
[state]
dir = "state"
[keys]
active = "one"
[keys.ring]
one = {{ env = "TEST_KEY" }}
[providers.xero]
client_id = "client"
client_secret = {{ env = "TEST_CLIENT_SECRET" }}
[providers.acme]
token_url = "https://${{company}}.acme.example/token"
domains = ["acme.example"]
client_auth = "none"
client_id = "client"
keep = ["api_domain"]
[providers.acme.variables.company]
pattern = "[a-z]+"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Cli:
    """Gives commands against one database. No secret may ever be printed that was not asked for."""

    def __init__(self, home: Path, uri: str, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self.uri, self._monkeypatch = home, uri, monkeypatch
        self.config = home / "config.toml"
        self.write(CONFIG.format(uri=json.dumps(uri), database=database))
        self.env = {
            "TEST_KEY": base64.b64encode(MASTER).decode(),
            "TEST_CLIENT_SECRET": CLIENT_SECRET,
            "REFRESHD_CONFIG": str(self.config),
        }
        for name, value in self.env.items():
            monkeypatch.setenv(name, value)
        self.ring = KeyRing({"one": MASTER}, active="one")

    def write(self, config: str) -> None:
        self.config.write_text(config)
        self.config.chmod(0o600)

    def run(self, *arguments: str, stdin: object = "", may_reveal: bool = False) -> Ran:
        """In this process: quick."""
        text = stdin if isinstance(stdin, str) else json.dumps(stdin)
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        with self._monkeypatch.context() as patched:
            patched.setattr(sys, "argv", ["refreshd", *arguments])
            patched.setattr(
                sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode("utf-8", "surrogateescape")))
            )
            patched.setattr(sys, "stdout", out)
            patched.setattr(sys, "stderr", err)
            code = main()
        ran = Ran(code=code, out=_read(out), err=_read(err))
        if not may_reveal:
            assert not [secret for secret in SECRETS if secret in ran.out + ran.err]
        return ran

    def process(self, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        """As a real process."""
        return subprocess.Popen(
            [sys.executable, "-m", "daemon", *arguments],
            env={**os.environ, **self.env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def real(self, *arguments: str, stdin: str = "") -> Ran:
        """In a process of its own; also where MongoDB is away, since its driver then forgets a socket."""
        process = self.process(*arguments)
        out, err = process.communicate(stdin, timeout=60)
        return Ran(code=process.returncode, out=out, err=err)

    def add(self, name: str, response: object = RESPONSE, *options: str) -> Ran:
        provider, account = name.split(":", 1)
        return self.run("add", provider, account, *options, stdin=response)


def _read(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()


@pytest.fixture
def syslog(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What reaches the system's log: each line in a list, as soon as its command has ended."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as home, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(f"{home}/log")
        monkeypatch.setattr("daemon.commands.support.access.SYSLOG", Path(home, "log"))

        def receive() -> None:
            while line := log.recv(65_536).decode():
                lines.append(line)

        reader = threading.Thread(target=receive)
        reader.start()
        yield lines
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", f"{home}/log")
        reader.join()


@pytest.fixture
def cli(
    tmp_path: Path,
    mongod: str,
    database_name: str,
    monkeypatch: pytest.MonkeyPatch,
    syslog: list[str],
) -> Cli:
    """The command line over a database of its own."""
    return Cli(tmp_path, mongod, database_name, monkeypatch)


@pytest.fixture
def database(mongo_client: MongoClient[dict[str, Any]], database_name: str) -> Database[dict[str, Any]]:
    """The same database, as another program sees it."""
    return mongo_client[database_name]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A provider's endpoint with one answer."""
    found = Endpoint()
    yield found
    found.close()
