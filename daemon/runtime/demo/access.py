"""The demo's access service: `refreshd serve` as a child process, which has reader and writer keys and no key ring.

An access key is made once. Its text stands in the state directory, as the header that curl sends.
"""

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory

from daemon.adapters.door_keys import reader_line, writer_lines
from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.admin.access_keys import AccessKeys, KeyRefused, NoSuchKey
from daemon.adapters.mongo.embedded_mongod import dying_with_parent
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.adapters.trusted_files import Untrusted, read_own, write_own
from daemon.domain.access_key import AccessKey, Verb, parse_key, secret_hash
from daemon.domain.claim import StoreLost
from daemon.runtime.confinement import forgetting
from daemon.runtime.demo.provider import PROVIDER
from daemon.runtime.service_manager import URL_FIELD
from daemon.runtime.tasks import end

KEY_NAME = "demo"
HEADER_FILE, READERS_FILE, WRITER_FILE = "demo-access.header", "demo-readers.jsonl", "demo-writer.jsonl"
STOP_LIMIT = timedelta(seconds=12)  # above the 10 s in which it answers open requests
_HEADER = "Authorization: Bearer "
_SHOWN = f"/v1/tokens/{PROVIDER}/demo-1"
# Of the daemon alone: its service manager, and keys that open refresh tokens.
_NOT_FOR_THE_CHILD = ("WATCHDOG_", "LISTEN_", "NODE_CHANNEL_", "REFRESHD_KEYS__RING")


class DemoAccess:
    """The access service, from `start()` to `stop()`. `command` is that of `refreshd serve`; `ready` receives a line for
    curl that works. A failure is logged, and never the daemon's.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        directory: Path,
        log: EventLog,
        ready: Callable[[str], None],
    ) -> None:
        self._command = command
        self._directory = directory.absolute()
        self._log = log
        self._ready = ready
        self._child: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._now: Callable[[], datetime]
        self._task: asyncio.Task[None]

    def start(
        self,
        keys: AccessKeys,
        ring: Callable[[], KeyRing],
        *,
        now: Callable[[], datetime],
        filled: asyncio.Event,
    ) -> None:
        """Start it as soon as the demo's tokens are stored. `now`: by the store's clock."""
        self._now = now
        self._task = asyncio.create_task(self._run(keys, ring, filled), name="demo access")

    async def stop(self) -> None:
        self._stopping = True
        if self._child is not None and self._child.returncode is None:
            with suppress(ProcessLookupError):
                self._child.terminate()
            try:
                await asyncio.wait_for(self._child.wait(), STOP_LIMIT.total_seconds())
            except TimeoutError:
                with suppress(ProcessLookupError):
                    self._child.kill()
                await self._child.wait()
        await end(self._task)

    async def _run(self, keys: AccessKeys, ring: Callable[[], KeyRing], filled: asyncio.Event) -> None:
        await filled.wait()
        try:
            header = await self._header_file(keys)
            self._write_door_keys(ring())
            code = await self._serve(header)
        except (StoreLost, KeyRefused, OSError, Untrusted) as why:
            self._failed(str(why))
        else:
            self._failed(f"it ended with code {code}")

    def _failed(self, why: str) -> None:
        if not self._stopping:
            self._log.log(log_lines.DEMO_ACCESS_FAILED, message=why)

    async def _header_file(self, keys: AccessKeys) -> Path:
        """Return the file with the header of a valid access key, which is made if there is none."""
        file = self._directory / HEADER_FILE
        with suppress(FileNotFoundError):
            if await _is_valid(read_own(file), keys, self._now()):
                return file
        with suppress(NoSuchKey):  # one whose text is lost
            await keys.revoke(KEY_NAME)
        verbs = (Verb.READ, Verb.REFUSE, Verb.LIST)
        issued = await keys.create(KEY_NAME, tokens=[f"{PROVIDER}:*"], can=verbs)
        write_own(file, f"{_HEADER}{issued.text.reveal()}\n")
        return file

    def _write_door_keys(self, ring: KeyRing) -> None:
        """Write what `keys reader --all` and `keys writer --all` print."""
        ids = sorted(ring.ids, key=lambda one: (one != ring.active, one))
        readers = [reader_line(ring, one) for one in ids]
        writers = [line for one in ids for line in writer_lines(ring, one)]
        for name, lines in ((READERS_FILE, readers), (WRITER_FILE, writers)):
            write_own(self._directory / name, "".join(json.dumps(line) + "\n" for line in lines))

    async def _serve(self, header: Path) -> int:
        """Return the exit code."""
        with _notify_socket() as channel:
            self._child = await asyncio.create_subprocess_exec(
                *dying_with_parent(self._command),
                env=child_environment(os.environ, self._directory, notify=channel.getsockname()),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # the terminal's Ctrl-C is the daemon's, which ends it
            )
            ended = asyncio.create_task(self._child.wait())
            listening = asyncio.create_task(_url(channel))
            await asyncio.wait({ended, listening}, return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                self._ready(curl_line(listening.result(), header))
            await end(listening)
        return await ended


async def _is_valid(header: str, keys: AccessKeys, now: datetime) -> bool:
    """Return whether the header has a stored access key that may be used."""
    presented = parse_key(header.strip().removeprefix(_HEADER))
    if presented is None:
        return False
    hashed = secret_hash(presented.secret)
    return any(
        [
            isinstance(key, AccessKey)
            and (key.id, key.secret_hash) == (presented.id, hashed)
            and key.is_valid(now)
            async for key in keys.all()
        ]
    )


def child_environment(environment: Mapping[str, str], directory: Path, *, notify: str) -> dict[str, str]:
    """Return the environment of the access service. `directory` has its keys, `notify` is the address to which it reports its URL."""
    inherited = {
        name: value for name, value in environment.items() if not name.startswith(_NOT_FOR_THE_CHILD)
    }
    own = {
        "NOTIFY_SOCKET": notify,
        "REFRESHD_KEYS__READERS__FILE": str(directory / READERS_FILE),
        "REFRESHD_KEYS__WRITER__FILE": str(directory / WRITER_FILE),
    }
    return forgetting(inherited | own) or inherited | own


@contextmanager
def _notify_socket() -> Iterator[socket.socket]:
    """Yield a socket at which only this user's processes can report."""
    with (
        TemporaryDirectory(prefix="refreshd-") as directory,
        socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        ) as channel,
    ):
        channel.bind(f"{directory}/notify")
        yield channel


async def _url(channel: socket.socket) -> str:
    """Return the URL of the access service when it listens."""
    while True:
        message = await asyncio.get_running_loop().sock_recv(channel, 1 << 16)
        for line in message.decode(errors="replace").splitlines():
            name, _, value = line.partition("=")
            if name == URL_FIELD:
                return value


def curl_line(url: str, header: Path) -> str:
    """Return a command that gets an access token. The key is in neither the command nor the shell's history."""
    kind, _, path = url.partition(":")
    where = f"--unix-socket {quote(path)} http://localhost{_SHOWN}" if kind == "unix" else f"{url}{_SHOWN}"
    return f"curl -H {quote(f'@{header}')} {where}"
