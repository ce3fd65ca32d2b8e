"""The real thing, as an operator has it: a configuration file, the commands, and the daemon as a process.

    place = Installation(tmp_path, uri=mongod, database=name, providers={"intranet": {...}})
    code, out, err = await place.refreshd("add", "intranet", "acme", stdin=json.dumps(response))
    async with place.running() as daemon:
        await daemon.ready()
        renewed = await daemon.event("token.renewed", token="intranet:acme")
        assert await daemon.stop() == 0

A process that is still there when its block ends is killed, with all of its group.
"""

import asyncio
import json
import os
import signal
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import aiohttp

from daemon.adapters.keyring import KEY_BYTES, KeyRing

Table = Mapping[str, object]
Line = dict[str, Any]

KEY_ID = "e2e"
PATIENCE = timedelta(seconds=30)
STOP_LIMIT = timedelta(seconds=60)  # longer than the default drain
LONGEST_LINE = 1 << 24
POLL_EVERY = timedelta(milliseconds=50)


class Finished(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    stdout: str
    stderr: str


class Installation:
    """One configuration file (0600) with its state directory and key. Two of them on one database are two replicas."""

    def __init__(
        self,
        directory: Path,
        *,
        uri: str,
        database: str,
        providers: Mapping[str, Table],
        key: bytes | None = None,
        **sections: Table,
    ) -> None:
        """`sections` are laid over what stands below, key by key: `refresh={"sweep_every": "1s"}`."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self.key = key or os.urandom(KEY_BYTES)
        self.keyring = KeyRing({KEY_ID: self.key}, active=KEY_ID)
        usual: dict[str, Table] = {
            "store": {"uri": uri, "database": database},
            "state": {"dir": "state"},
            "refresh": {"sweep_every": "1s"},
            "keys": {"active": KEY_ID, "ring": {KEY_ID: b64encode(self.key).decode()}},
            "server": {"port": 0},
            "log": {"format": "json"},
        }
        tables = {
            name: {**usual.get(name, {}), **sections.get(name, {})} for name in {**usual, **sections}
        } | {f"providers.{name}": table for name, table in providers.items()}
        self.config = directory / "config.toml"
        self.config.touch(mode=0o600)
        self.configure(tables)

    def configure(self, tables: Mapping[str, Table]) -> None:
        """Write the file anew, whole; `[section]` names as keys, with a dot where there is one."""
        self.tables = dict(tables)
        self.config.write_text(
            "\n".join(
                f"[{name}]\n" + "".join(f"{_key(key)} = {_toml(value)}\n" for key, value in table.items())
                for name, table in tables.items()
            )
        )

    async def refreshd(
        self, *arguments: str, stdin: str = "", within: timedelta = PATIENCE, **environment: str
    ) -> Finished:
        """Run a command with this configuration to its end."""
        process = await self._spawn(*arguments, stdin=asyncio.subprocess.PIPE, environment=environment)
        try:
            out, err = await asyncio.wait_for(process.communicate(stdin.encode()), within.total_seconds())
        except BaseException:
            await _kill(process)
            raise
        assert process.returncode is not None
        return Finished(process.returncode, out.decode(), err.decode())

    @asynccontextmanager
    async def asking(self, *arguments: str, **environment: str) -> AsyncIterator["Dialogue"]:
        """A command that shows something on standard error and waits, as long as the block lasts."""
        stdin = asyncio.subprocess.PIPE
        process = await self._spawn(*arguments, stdin=stdin, environment=environment)
        try:
            yield Dialogue(process)
        finally:
            await _kill(process)

    @asynccontextmanager
    async def running(self, *arguments: str, **environment: str) -> AsyncIterator["DaemonProcess"]:
        """`refreshd run` as long as the block lasts. `arguments` come after `run`."""
        stdin = asyncio.subprocess.DEVNULL
        process = await self._spawn("run", *arguments, stdin=stdin, environment=environment)
        daemon = DaemonProcess(process)
        try:
            yield daemon
        finally:
            await _kill(process)
            await daemon.ended()

    @asynccontextmanager
    async def serving(self, *arguments: str, **environment: str) -> AsyncIterator["DaemonProcess"]:
        """`refreshd serve` as long as the block lasts. `arguments` come after `serve`."""
        stdin = asyncio.subprocess.DEVNULL
        process = await self._spawn("serve", *arguments, stdin=stdin, environment=environment)
        service = DaemonProcess(process, started="access.started")
        try:
            yield service
        finally:
            await _kill(process)
            await service.ended()

    async def _spawn(
        self, *arguments: str, stdin: int, environment: Mapping[str, str]
    ) -> asyncio.subprocess.Process:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("REFRESHD_")}
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "daemon", "--config", str(self.config), *arguments),
            cwd=self.directory,
            env={**inherited, **environment},
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=LONGEST_LINE,
        )


class Dialogue:
    """A command in conversation with the test."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self, start: str) -> str:
        """The next line of standard error that begins so."""
        assert self._process.stderr is not None
        said = []
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while raw := await self._process.stderr.readline():
                said.append(raw.decode())
                if said[-1].startswith(start):
                    return said[-1].rstrip("\n")
        raise AssertionError(f"no line begins with {start!r}: {''.join(said)}")

    async def following(self, line: str) -> str:
        """The line behind the one that begins so."""
        await self.line(line)
        return await self.line("")

    async def ended(self, *, stdin: str = "") -> Finished:
        """Send the rest of standard input, and wait for the end."""
        limit = PATIENCE.total_seconds()
        out, err = await asyncio.wait_for(self._process.communicate(stdin.encode()), limit)
        assert self._process.returncode is not None
        return Finished(self._process.returncode, out.decode(), err.decode())


class Install(Protocol):
    """The fixture `install`: all installations of one test share its database and key."""

    def __call__(self, providers: Mapping[str, Table], **sections: Table) -> Installation: ...


class DaemonProcess:
    """A `refreshd run`, or another process that says by the event `started` where it listens. Its log is read while it
    is written; waiting for an event fails when the process ends first.
    """

    def __init__(self, process: asyncio.subprocess.Process, *, started: str = "daemon.started") -> None:
        self._process = process
        self._started = started
        self.pid = process.pid
        self.lines: list[Line] = []  # every line of the log, in order
        self._written: list[str] = []
        self._news = asyncio.Condition()
        self._over = False
        self._reader = asyncio.create_task(self._read())

    @property
    def logs(self) -> str:
        """All that the process has written so far, on both outputs."""
        return "".join(self._written)

    async def url(self) -> str:
        """Where its HTTP server listens."""
        return str((await self.event(self._started))["url"])

    async def ready(self, *, within: timedelta = PATIENCE) -> str:
        """Wait until /readyz says so. Returns the URL of the HTTP server."""
        detail = "nothing yet"
        try:
            async with asyncio.timeout(within.total_seconds()), aiohttp.ClientSession() as session:
                url = await self.url()
                while True:
                    async with session.get(f"{url}/readyz") as answer:
                        detail = await answer.text()
                        if answer.status == 200:
                            return url
                    await asyncio.sleep(POLL_EVERY.total_seconds())
        except TimeoutError:
            raise AssertionError(f"not ready within {within}: {detail}\n{self._tail()}") from None

    def seen(self, name: str, **match: object) -> list[Line]:
        """The events of this name so far that hold these fields."""
        return [line for line in self.lines if _fits(line, name, match)]

    async def event(
        self, name: str, *, count: int = 1, within: timedelta = PATIENCE, **match: object
    ) -> Line:
        """The `count`th event of this name with these fields, counted from the start of the process."""
        cursor = missing = 0
        try:
            async with asyncio.timeout(within.total_seconds()), self._news:
                missing = count
                while True:
                    for line in self.lines[cursor:]:
                        missing -= _fits(line, name, match)
                        if not missing:
                            return line
                    cursor = len(self.lines)
                    if self._over:
                        break
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(
                f"no {name} {match} within {within}, {missing} of {count} missing\n{self._tail()}"
            ) from None
        raise AssertionError(f"the process ended before {name} {match}\n{self._tail()}")

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def stop(self, number: signal.Signals = signal.SIGTERM, *, within: timedelta = STOP_LIMIT) -> int:
        """Send the signal and wait. Returns the exit code (negative: the signal that killed it)."""
        self.send_signal(number)
        return await self.ended(within=within)

    async def ended(self, *, within: timedelta = STOP_LIMIT) -> int:
        """Wait for the end of the process, and of its log. Returns the exit code."""
        async with asyncio.timeout(within.total_seconds()):
            code = await self._process.wait()
            await self._reader
        return code

    async def _read(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        await asyncio.gather(self._take(self._process.stdout), self._take(self._process.stderr))
        async with self._news:
            self._over = True
            self._news.notify_all()

    async def _take(self, stream: asyncio.StreamReader) -> None:
        async for raw in stream:
            text = raw.decode(errors="replace")
            self._written.append(text)
            with suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict):
                    self.lines.append(line)
            async with self._news:
                self._news.notify_all()

    def _tail(self) -> str:
        return self.logs[-4_000:]


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End what is left of the process and its children; the group is its own."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _fits(line: Line, name: str, match: Mapping[str, object]) -> bool:
    return line.get("event") == name and all(line.get(key) == value for key, value in match.items())


def _key(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def _toml(value: object) -> str:
    """`value` as TOML writes it; JSON's texts, numbers and booleans are TOML's too."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(str(key))} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
