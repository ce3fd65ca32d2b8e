"""The demo's access service: its key, its environment, the line for curl, and what its failures do."""

import asyncio
import os
import shlex
import stat
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.adapters.door_keys import parse_readers, parse_writers
from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.admin.access_keys import Issued, NoSuchKey
from daemon.adapters.telemetry.log_lines import LogLine
from daemon.adapters.trusted_files import write_own
from daemon.domain.access_key import AccessKey, Verb, new_key, secret_hash
from daemon.domain.claim import StoreLost
from daemon.runtime.demo import access as demo_access
from daemon.runtime.demo.access import DemoAccess, child_environment, curl_line
from tests.support.waiting import until

NOW = datetime(2026, 11, 21, tzinfo=UTC)
OLD, NEW = os.urandom(32), os.urandom(32)
RING = KeyRing({"old": OLD, "new": NEW}, active="new")
EVERY = timedelta(milliseconds=20)

# A child that reports where it listens, as `refreshd serve` does, and ends when it is asked to.
SERVES = """
import os, signal, socket
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.sendto(b"READY=1\\nSTATUS=serving\\nX_REFRESHD_URL=http://127.0.0.1:9465", os.environ["NOTIFY_SOCKET"])
signal.signal(signal.SIGTERM, {})
while True:
    signal.pause()
"""


class Keys:
    """Access keys in memory, one for each name."""

    def __init__(self, *, lost: bool = False) -> None:
        self.stored: list[AccessKey] = []
        self.revoked: list[str] = []
        self._lost = lost

    async def all(self) -> AsyncIterator[AccessKey]:
        for key in self.stored:
            yield key

    async def create(self, name: str, *, tokens: list[str], can: tuple[Verb, ...]) -> Issued:
        if self._lost:
            raise StoreLost("MongoDB is away")
        assert not any(key.name == name for key in self.stored)
        text, presented = new_key()
        key = AccessKey(
            id=presented.id,
            name=name,
            secret_hash=secret_hash(presented.secret),
            tokens=tuple(tokens),
            can=frozenset(can),
        )
        self.stored.append(key)
        return Issued(text, key)

    async def revoke(self, name: str) -> int:
        if not any(key.name == name for key in self.stored):
            raise NoSuchKey(name)
        self.revoked.append(name)
        self.stored = [key for key in self.stored if key.name != name]
        return 1


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, Mapping[str, object]]] = []

    def log(self, line: LogLine, **fields: object) -> None:
        self.lines.append((line.event, fields))


class Demo:
    """A DemoAccess over `keys`, with `program` in the place of `refreshd serve`."""

    def __init__(self, directory: Path, keys: Keys, program: str) -> None:
        self.log, self.ready = Log(), list[str]()
        self.keys = keys
        self.filled = asyncio.Event()
        self.access = DemoAccess(
            [sys.executable, "-S", "-c", program], directory=directory, log=self.log, ready=self.ready.append
        )
        self.access.start(keys, lambda: RING, now=lambda: NOW, filled=self.filled)

    async def begun(self) -> None:
        self.filled.set()
        await until(lambda: bool(self.ready or self.log.lines), every=EVERY, within=timedelta(seconds=20))


def serving(on_term: str = "lambda *_: os._exit(0)") -> str:
    return SERVES.format(on_term)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (directory := tmp_path / "state").mkdir(mode=0o700)
    return directory


async def test_it_starts_after_the_tokens_are_stored_and_shows_a_line(state: Path):
    """Its files are closed to others, its keys are those of the ring, and its access key may read demo tokens alone."""
    demo = Demo(state, Keys(), serving())
    await asyncio.sleep(0)
    assert not demo.keys.stored
    await demo.begun()
    header = state / "demo-access.header"
    assert demo.ready == [f"curl -H @{header} http://127.0.0.1:9465/v1/tokens/sandbox/demo-1"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in state.iterdir()} == {0o600}
    assert list(parse_readers((state / "demo-readers.jsonl").read_text())) == ["new", "old"]
    assert list(parse_writers((state / "demo-writer.jsonl").read_text())) == ["new", "old"]
    (key,) = demo.keys.stored
    assert (key.tokens, key.can) == (("sandbox:*",), {Verb.READ, Verb.REFUSE, Verb.LIST})
    await demo.access.stop()
    assert demo.log.lines == []


async def test_the_key_is_made_once(state: Path):
    keys = Keys()
    for _ in range(2):
        demo = Demo(state, keys, serving())
        await demo.begun()
        await demo.access.stop()
    assert len(keys.stored) == 1
    assert not keys.revoked


@pytest.mark.parametrize("lost", ["no file", "nonsense", "another secret", "expired"])
async def test_a_key_that_does_not_work_is_replaced(state: Path, lost: str):
    """Its file is gone or damaged, or the key has ended."""
    keys = Keys()
    issued = await keys.create("demo", tokens=["sandbox:*"], can=(Verb.READ,))
    text = {
        "no file": None,
        "nonsense": "nonsense",
        "another secret": f"Authorization: Bearer {issued.text.reveal()}",
        "expired": f"Authorization: Bearer {issued.text.reveal()}",
    }[lost]
    if text is not None:
        write_own(state / "demo-access.header", text)
    changed = {"expired": {"expires_at": NOW}, "another secret": {"secret_hash": "0" * 64}}
    keys.stored = [replace(issued.key, **changed.get(lost, {}))]
    demo = Demo(state, keys, serving())
    await demo.begun()
    assert keys.revoked == ["demo"]
    assert (state / "demo-access.header").read_text().startswith("Authorization: Bearer rfk_")
    assert demo.ready
    await demo.access.stop()


async def test_its_end_is_a_line_in_the_log(state: Path):
    """With the exit code. Nothing is raised, and `stop` has nothing to do."""
    demo = Demo(state, Keys(), "raise SystemExit(75)")
    await demo.begun()
    ((event, fields),) = demo.log.lines
    assert (event, fields) == ("demo.access_failed", {"message": "it ended with code 75"})
    assert not demo.ready
    await demo.access.stop()


async def test_an_end_after_it_listened_is_a_line_too(state: Path):
    demo = Demo(state, Keys(), serving().replace("while True:\n    signal.pause()", "raise SystemExit(1)"))
    await demo.begun()
    await until(lambda: bool(demo.log.lines), every=EVERY, within=timedelta(seconds=20))
    assert demo.log.lines[0][1]["message"] == "it ended with code 1"
    await demo.access.stop()


@pytest.mark.parametrize("fault", ["store", "mode", "no directory", "no program"])
async def test_what_it_needs_and_lacks_is_a_line(state: Path, fault: str):
    """MongoDB is away; others can read the key's file; the files can't be written; the program is missing."""
    header = state / "demo-access.header"
    if fault == "mode":
        write_own(header, "Authorization: Bearer x")
        header.chmod(0o644)
    directory = state / "missing" if fault == "no directory" else state
    demo = Demo(directory, Keys(lost=fault == "store"), serving())
    if fault == "no program":
        demo.access._command = ["/nowhere/refreshd"]
    await demo.begun()
    ((event, fields),) = demo.log.lines
    assert event == "demo.access_failed"
    wanted = {
        "store": "MongoDB is away",
        "mode": str(header),
        "no directory": "No such file",
        "no program": "code 1",
    }
    assert wanted[fault] in str(fields["message"])
    await demo.access.stop()


async def test_a_stop_before_the_tokens_are_stored_starts_nothing(state: Path):
    demo = Demo(state, Keys(), serving())
    await demo.access.stop()
    demo.filled.set()
    await asyncio.sleep(0)
    assert not list(state.iterdir())


async def test_a_child_that_does_not_stop_is_killed(state: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo_access, "STOP_LIMIT", timedelta(milliseconds=100))
    demo = Demo(state, Keys(), serving("signal.SIG_IGN"))
    await demo.begun()
    child = demo.access._child
    await demo.access.stop()
    assert child.returncode == -9
    assert demo.log.lines == []


def test_the_child_gets_neither_the_ring_nor_the_service_manager(tmp_path: Path):
    given = {
        "PATH": "/bin",
        "REFRESHD_ACCESS__PORT": "1",
        "REFRESHD_KEYS__RING__DEMO": "secret",
        "REFRESHD_KEYS__RING__DEMO__FILE": "demo.key",
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": "1",
        "WATCHDOG_PID": "1",
        "LISTEN_FDS": "1",
        "NODE_CHANNEL_FD": "3",
    }
    child = child_environment(given, tmp_path, notify="/tmp/here")
    assert (child["PATH"], child["REFRESHD_ACCESS__PORT"], child["NOTIFY_SOCKET"]) == (
        "/bin",
        "1",
        "/tmp/here",
    )
    assert child["REFRESHD_KEYS__READERS__FILE"] == f"{tmp_path}/demo-readers.jsonl"
    assert child["REFRESHD_KEYS__WRITER__FILE"] == f"{tmp_path}/demo-writer.jsonl"
    assert child["PYTHONMALLOC"] == "malloc"
    assert not {
        name for name in child if name.startswith(("WATCHDOG_", "LISTEN_", "NODE_", "REFRESHD_KEYS__RING"))
    }


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("http://[::1]:1", ["http://[::1]:1/v1/tokens/sandbox/demo-1"]),
        ("unix:/a b/c", ["--unix-socket", "/a b/c", "http://localhost/v1/tokens/sandbox/demo-1"]),
    ],
)
def test_the_line_is_quoted_for_a_shell(url: str, where: list[str]):
    """Whatever the directory is called."""
    line = curl_line(url, Path("/it's $HOME/header"))
    assert shlex.split(line) == ["curl", "-H", "@/it's $HOME/header", *where]
