"""The contenders of compare_rivals.py at work: processes that are started, told that tokens are due, and measured, in one way."""

import os
import signal
import subprocess
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from support.installed import SOURCES, VENV
from support.processes import (
    KEY_ID,
    PROVIDER,
    STOP_LIMIT,
    DaemonProcess,
    Endpoint,
    Mongod,
    Usage,
    await_true,
    free_port,
    usage,
)
from support.tokens import Tokens

from daemon.adapters.mongo.embedded_mongod import HOST

READY_LIMIT = 60


class Place(NamedTuple):
    """Where a run takes place: all of it fresh."""

    directory: Path
    mongod: Mongod
    endpoint: Endpoint
    tokens: Tokens


class Running(Protocol):
    """A contender at work."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *why: object) -> None: ...
    def await_ready(self) -> object: ...
    def usage(self) -> Usage: ...
    def tail(self) -> str: ...

    def begin(self) -> None:
        """The tokens are due from now on."""

    def broker(self) -> Usage | None:
        """What the broker used, if there is one."""


class Refreshd(DaemonProcess):
    """The daemon, with journal, metrics, and a line in its log for each token."""

    def __init__(self, place: Place, in_flight: int, name: str = "daemon") -> None:
        super().__init__(
            place.directory / name,
            uri=place.mongod.uri,
            database=place.mongod.database.name,
            token_urls={PROVIDER: place.endpoint.url},
            key=place.tokens.key,
            sweep_every="1s",
            concurrency=in_flight,
        )

    def begin(self) -> None:
        """It looks by itself."""

    def broker(self) -> None:
        return None


class RefreshdTwice:
    """Two of them beside each other, which share the tokens by themselves."""

    def __init__(self, place: Place, in_flight: int) -> None:
        with ExitStack() as closing:
            self._daemons = [
                closing.enter_context(Refreshd(place, in_flight, name)) for name in ("daemon-1", "daemon-2")
            ]
            self._closing = closing.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self._closing.__exit__(None, None, None)

    def await_ready(self) -> None:
        for daemon in self._daemons:
            daemon.await_ready()

    def begin(self) -> None:
        """They look by themselves."""

    def broker(self) -> None:
        return None

    def usage(self) -> Usage:
        return Usage(*(sum(values) for values in zip(*(one.usage() for one in self._daemons), strict=True)))

    def tail(self) -> str:
        return "".join(daemon.tail() for daemon in self._daemons)


class Program:
    """A process of ours with its children and a log; ended with the block, by its id."""

    def __init__(
        self, command: Sequence[str | Path], *, log: Path, says: str, more: Mapping[str, str] | None = None
    ) -> None:
        self._log, self._says = log, says
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=SOURCES,
                env={**os.environ, **(more or {})},
            )

    def await_ready(self) -> None:
        await_true(self._ready, limit=READY_LIMIT, why=f"{self._log.name}: not ready: {self.tail()}")

    def _ready(self) -> bool:
        if self._process.poll() is not None:
            raise SystemExit(f"{self._log.name}: ended with {self._process.returncode}: {self.tail()}")
        return self._says in self._log.read_text(errors="replace")

    def usage(self) -> Usage:
        """Summed over its processes. Memory that they share counts in each."""
        each = [usage(pid) for pid in _family(self._process.pid)]
        return Usage(*(sum(values) for values in zip(*each, strict=True)))

    def tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        family = _family(self._process.pid)
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()


class Rival(Program):
    """A rival's program, which looks for due tokens by itself each second, as the daemon does here."""

    def __init__(self, command: Sequence[str | Path], place: Place, in_flight: int, **more: str) -> None:
        self._more = {
            "RIVAL_MONGODB": place.mongod.uri,
            "RIVAL_DATABASE": place.mongod.database.name,
            "RIVAL_TOKEN_URL": place.endpoint.url,
            "RIVAL_CLIENT_ID": "bench",
            "RIVAL_CLIENT_SECRET": "s3cret/+",
            "RIVAL_KEY_ID": KEY_ID,
            "RIVAL_KEY": b64encode(place.tokens.key).decode(),
            "RIVAL_IN_FLIGHT": str(in_flight),
            "NODE_ENV": "production",
            **more,
        }
        super().__init__(command, log=place.directory / "rival.log", says="ready", more=self._more)

    def begin(self) -> None:
        """It looks by itself."""

    def broker(self) -> Usage | None:
        return None


class CeleryRival(Rival):
    """Celery's worker with so many processes, and a broker of its own, which keeps nothing on disk."""

    _CELERY = (VENV / "bin" / "celery", "--app", "celery_authlib")

    def __init__(self, place: Place, in_flight: int) -> None:
        port = free_port()
        redis = ("redis-server", "--bind", HOST, "--port", str(port), "--save", "", "--appendonly", "no")
        worker = (*self._CELERY, "worker", "--pool", "prefork", "--concurrency", str(in_flight))
        with ExitStack() as closing:
            log = place.directory / "redis.log"
            self._broker = closing.enter_context(Program(redis, log=log, says="Ready to accept"))
            self._broker.await_ready()
            super().__init__(worker, place, in_flight, RIVAL_REDIS=f"redis://{HOST}:{port}/0")
            self._closing = closing.pop_all()

    def begin(self) -> None:
        """One sweep, as Celery's beat would start it every few minutes."""
        call = (*self._CELERY, "call", "celery_authlib.sweep")
        env = {**os.environ, **self._more}
        subprocess.run(call, cwd=SOURCES, env=env, check=True, stdout=subprocess.DEVNULL)

    def broker(self) -> Usage:
        return self._broker.usage()

    def __exit__(self, *why: object) -> None:
        with self._closing:
            super().__exit__(*why)


def _family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    family = [pid]
    for member in family:
        family += children.get(member, [])
    return family
