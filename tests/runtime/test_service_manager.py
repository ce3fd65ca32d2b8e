"""What systemd and PM2 are told, over the channels they really use."""

import asyncio
import itertools
import os
import select
import socket
import time
from contextlib import asynccontextmanager, suppress

import pytest

from daemon.runtime.service_manager import ServiceManager


@pytest.fixture
def systemd(tmp_path):
    """The socket that $NOTIFY_SOCKET names, and what it is told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        yield listening


@pytest.fixture
def manager(systemd):
    """Makes one, in an environment as systemd gives it."""
    return lambda **env: ServiceManager({"NOTIFY_SOCKET": systemd.getsockname(), **env})


def test_systemd_hears_ready_status_and_stopping(systemd, manager):
    """One datagram each; a status that stays the same is said once, and none comes after the last."""
    ours = manager()
    ours.ready("waiting for MongoDB")
    assert systemd.recv(1000) == b"READY=1\nSTATUS=waiting for MongoDB"
    for text in ("sweeping", "sweeping", "waiting: two\nlines"):
        ours.status(text)
    ours.stopping()
    ours.status("sweeping")
    assert systemd.recv(1000) == b"STATUS=sweeping"
    assert systemd.recv(1000) == b"STATUS=waiting: two\\u000alines"
    assert systemd.recv(1000) == b"STOPPING=1\nSTATUS=draining"
    assert nothing_more(systemd)


def test_systemd_hears_when_a_reload_begins_and_ends(systemd, manager):
    """It ends also where reading the configuration fails."""
    ours = manager()
    ours.ready("sweeping")
    systemd.recv(1000)
    with suppress(ZeroDivisionError), ours.reloading():
        assert systemd.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert nothing_more(systemd)
        raise ZeroDivisionError
    assert systemd.recv(1000) == b"READY=1"


def test_a_reload_during_the_start_does_not_say_ready(systemd, manager):
    """SIGHUP may come at any time; systemd would take READY=1 for the end of the start."""
    with manager().reloading():
        pass
    assert nothing_more(systemd)


async def test_the_watchdog_is_fed_three_times_in_its_time_while_sweeps_start(systemd, manager):
    """The third ping comes before systemd's time has passed once."""
    ours = manager(WATCHDOG_USEC="600000", WATCHDOG_PID=str(os.getpid()))
    begun = time.monotonic()
    async with feeding(ours, lambda: (True, "")):
        for _ in range(4):
            assert await heard(systemd) == b"WATCHDOG=1"
    assert time.monotonic() - begun >= 0.6 * 0.99


async def test_a_sweep_that_no_longer_starts_stops_the_pings_and_is_told_once(systemd, manager):
    """Should one start after all, the pings go on."""
    ours = manager(WATCHDOG_USEC="30000")
    answers = itertools.chain([(True, ""), *3 * [(False, "no sweep for 80 s")]], itertools.repeat((True, "")))
    asked, told = [], []

    def liveness():
        asked.append(next(answers))
        return asked[-1]

    async with feeding(ours, liveness, told.append):
        assert await heard(systemd) == b"WATCHDOG=1"
        assert await heard(systemd) == b"WATCHDOG=1"
    assert [live for live, _ in asked[:5]] == [True, False, False, False, True]
    assert told == ["no sweep for 80 s"]


async def test_a_blocked_event_loop_sends_no_ping(systemd, manager):
    """Pings come from the loop itself, not from a thread that would go on without it."""
    ours = manager(WATCHDOG_USEC="30000")
    async with feeding(ours, lambda: (True, "")):
        assert await heard(systemd) == b"WATCHDOG=1"
        while not nothing_more(systemd):
            systemd.recv(1000)
        time.sleep(0.2)
        assert nothing_more(systemd)
        assert await heard(systemd) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "30000", "WATCHDOG_PID": "1"},
    ],
    ids=["none", "off", "damaged", "for another process"],
)
async def test_without_a_watchdog_nothing_is_fed(systemd, manager, env):
    """$WATCHDOG_PID may name another process: then the variables were only inherited."""
    await manager(**env).feed_watchdog(lambda: (True, ""), starved=lambda _why: None)
    assert nothing_more(systemd)


def test_an_abstract_socket_is_understood():
    """A name that begins with @ has no file."""
    name = f"refreshd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name)
        systemd.settimeout(5)
        ServiceManager({"NOTIFY_SOCKET": "@" + name}).ready("x")
        assert systemd.recv(1000) == b"READY=1\nSTATUS=x"


def test_pm2_hears_ready_as_a_line_of_json():
    """PM2 reads JSON lines from the descriptor in $NODE_CHANNEL_FD."""
    ours, theirs = os.pipe()
    ServiceManager({"NODE_CHANNEL_FD": str(theirs)}).ready("up")
    assert os.read(ours, 100) == b'"ready"\n'
    os.close(ours)
    os.close(theirs)


def test_nobody_listening_is_no_error(tmp_path):
    """Without a service manager, or with one that is gone, nothing is raised."""
    for env in (
        {},
        {"NOTIFY_SOCKET": str(tmp_path / "gone")},
        {"NODE_CHANNEL_FD": "987"},
        {"NODE_CHANNEL_FD": "x"},
    ):
        manager = ServiceManager(env)
        manager.ready("up")
        manager.stopping()
    assert not (tmp_path / "gone").exists()


@asynccontextmanager
async def feeding(manager, liveness, starved=lambda _why: None):
    """Feed the watchdog as long as the block lasts."""
    task = asyncio.create_task(manager.feed_watchdog(liveness, starved=starved))
    try:
        yield
    finally:
        task.cancel()


async def heard(systemd):
    """The next datagram, while the loop turns."""
    return await asyncio.to_thread(systemd.recv, 1000)


def nothing_more(systemd):
    return not select.select([systemd], [], [], 0)[0]
