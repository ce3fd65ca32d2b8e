"""A stop has an end, whatever hangs: two signals end the real process within the limit, and no kept reply is lost."""

import asyncio
import fcntl
import os
import re
import signal
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

from daemon.adapters.mongo.embedded_mongod import find_mongod
from daemon.runtime.stop_limit import AFTER_SECOND
from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import DaemonProcess, Installation
from tests.faults.conftest import MakeStage
from tests.faults.mongod import Mongod
from tests.faults.stage import Stage

MONGOD = os.fsencode(find_mongod())
F_SETPIPE_SZ = 1031  # linux/fcntl.h
AT_LATEST = AFTER_SECOND + timedelta(seconds=20)  # the limit, and room for a busy machine


@asynccontextmanager
async def unread(place: Installation) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """`refreshd run`, and the pipe of its log that nobody reads: it holds one page."""
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(writing, F_SETPIPE_SZ, 4096)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "daemon", "--config", str(place.config), "run"),
            cwd=place.directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=writing,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    finally:
        os.close(writing)
    try:
        yield process, reading
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        os.close(reading)


async def fed(pipe: int) -> None:
    """Write into a pipe that its reader gives up after ten seconds of silence."""
    while True:
        await asyncio.sleep(2)
        os.write(pipe, b"#")


def unread_bytes(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def mongods_of(daemon: DaemonProcess) -> list[int]:
    """The process's children that have become a mongod."""
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    return [
        int(child) for child in children if Path(f"/proc/{child}/cmdline").read_bytes().startswith(MONGOD)
    ]


async def asked_twice(daemon: DaemonProcess) -> int:
    """Send two signals to stop. Returns the exit code of a process that ends at the limit, at the latest."""
    daemon.send_signal(signal.SIGTERM)
    daemon.send_signal(signal.SIGINT)  # two equal ones could arrive as one
    return await daemon.ended(within=AT_LATEST)


async def blocked_in_a_write(process: asyncio.subprocess.Process) -> None:
    """Wait until the main thread sleeps in the kernel, in a write to a full pipe."""
    async with asyncio.timeout(60):
        while "pipe" not in Path(f"/proc/{process.pid}/wchan").read_text():
            await asyncio.sleep(0.05)


async def test_a_log_that_nobody_reads_does_not_hold_up_two_signals(stage: MakeStage) -> None:
    """The event loop stands still in the write of a log line, so that none of its own handlers runs."""
    made = await stage()
    place = made.install(concurrency=4)
    place.configure({**place.tables, "log": {"format": "json", "level": "debug"}})
    await made.consent(40)  # enough renewals to fill the pipe
    async with unread(place) as (process, _log):
        await blocked_in_a_write(process)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        code = await asyncio.wait_for(process.wait(), AT_LATEST.total_seconds())
    assert code == 1


async def test_a_frozen_mongodb_costs_no_reply_and_holds_up_no_second_signal(tmp_path: Path) -> None:
    """Replies that wait in the journal are there after the end, and recorded once MongoDB works again."""
    count = 8
    own = Mongod(tmp_path / "own-mongod")
    try:
        async with Sandbox(SandboxOptions(latency=timedelta(seconds=2))) as sandbox:
            patient = {"request_timeout": "20s", "lease": "60s", "drain": "25s"}
            made = Stage(tmp_path, uri=own.uri, database="stops", sandbox=sandbox, **patient)
            place = made.install(concurrency=count)
            await made.consent(count)
            async with made.running(place) as daemon:
                await made.until(lambda: made.refreshes() == count, of=daemon)
                own.freeze()
                await made.until(lambda: len(made.journal(place)) == count, of=daemon)
                assert await asked_twice(daemon) == 1
            assert len(made.journal(place)) == count
            own.thaw()
            async with made.running(place):
                await made.settled(lambda one: one.get("revision", 0) > 0, within=timedelta(seconds=60))
            assert await made.differing() == []
            assert made.presented_twice() == set()
            await made.close()
    finally:
        own.thaw()
        own.remove()


async def test_a_frozen_mongodb_of_its_own_does_not_hold_up_two_signals(tmp_path: Path) -> None:
    """It would have 15 seconds to end after SIGTERM, and PyMongo would wait for its last answer before that."""
    place = Installation(tmp_path, uri="embedded", database="stops", providers={})
    async with place.running() as daemon:
        await daemon.ready()
        own = int((place.directory / "state" / "mongodb" / "db" / "mongod.lock").read_text())
        try:
            os.kill(own, signal.SIGSTOP)
            assert await asked_twice(daemon) == 1
        finally:
            os.kill(own, signal.SIGKILL)
        [line] = daemon.seen("daemon.cut_off")
        assert re.search("thread MainThread", str(line["running"]))


async def test_a_stop_while_its_own_mongodb_is_restarted_ends_it_once(tmp_path: Path) -> None:
    """The task that restarts it ends it too. Both together would release its lock twice."""
    place = Installation(tmp_path, uri="embedded", database="stops", providers={})
    async with place.running() as daemon:
        await daemon.ready()
        [before] = mongods_of(daemon)
        os.kill(before, signal.SIGKILL)
        async with asyncio.timeout(30):
            while not (again := mongods_of(daemon)) or again == [before]:
                await asyncio.sleep(0.01)
        os.kill(again[0], signal.SIGSTOP)  # it will never say that it is ready
        try:
            assert await daemon.stop() == 0, daemon.logs[-2000:]
            assert not Path(f"/proc/{again[0]}").exists()
        finally:
            with suppress(ProcessLookupError):
                os.kill(again[0], signal.SIGKILL)


async def test_a_thread_that_hangs_does_not_hold_up_two_signals(stage: MakeStage) -> None:
    """A reload reads a pipe whose writer never closes it, in a thread, and the end of the event loop waits for it."""
    made = await stage()
    place = made.install(concurrency=4)
    async with made.running(place) as daemon:
        await daemon.ready()
        place.config.unlink()
        os.mkfifo(place.config, 0o600)
        writing = os.open(place.config, os.O_RDWR | os.O_NONBLOCK)
        os.write(writing, b"#")
        feeding = asyncio.create_task(fed(writing))
        try:
            daemon.send_signal(signal.SIGHUP)
            async with asyncio.timeout(30):
                while unread_bytes(writing):
                    await asyncio.sleep(0.1)
            assert await asked_twice(daemon) == 1
        finally:
            feeding.cancel()
            os.close(writing)
        [line] = daemon.seen("daemon.cut_off")
        assert "_from_pipe" in str(line["running"])
