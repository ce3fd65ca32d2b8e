"""The limit of a stop: a process that hangs is ended by its own thread, and one that works never notices it."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

SECOND = timedelta(seconds=1)
LONGEST = timedelta(seconds=60)
PROGRAM = """
import asyncio, select, signal, sys, time
from datetime import timedelta
from daemon.runtime.stop_limit import StopLimit

def report(running):
    if {silent}:
        time.sleep(3600)
    print("cut off", *running, sep="|", flush=True)

def hanging_main():
    print("hangs", flush=True)
    select.select([], [], [])  # under a moved clock, `time.sleep` is a function in Python

async def hanging_task():
    await asyncio.Event().wait()

async def main():
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(one, lambda one=one: (print(one.name, flush=True), one is signal.SIGHUP or stop.set()))
    task = asyncio.create_task(hanging_task(), name="a task that hangs")
    limit = StopLimit(timedelta(seconds={first}), report, second=timedelta(seconds={second}))
    limit.listen()
    if {hangs}:
        hanging_main()
    print("works", flush=True)
    await stop.wait()
    return 7

sys.exit(asyncio.run(main()))
"""


@contextmanager
def started(
    *, first: float, second: float = 0.2, hangs: bool = True, silent: bool = False
) -> Iterator["subprocess.Popen[str]"]:
    """A process with a limit. It has printed that it hangs, or works."""
    program = PROGRAM.format(first=first, second=second, hangs=hangs, silent=silent)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        killer = threading.Timer(
            LONGEST.total_seconds(), process.kill
        )  # reading a line has no limit of its own
        killer.start()
        try:
            assert process.stdout.readline() == ("hangs\n" if hangs else "works\n")
            yield process
        finally:
            killer.cancel()
            process.kill()


def rest(process: "subprocess.Popen[str]") -> str:
    """What it prints until its end."""
    return process.communicate(timeout=60)[0]


def test_one_signal_ends_a_process_that_hangs_and_names_what_ran():
    """The function in which the main thread hangs, and the tasks: an operator looks for the cause by them."""
    with started(first=0.2) as process:
        process.send_signal(signal.SIGTERM)
        said = rest(process)
    assert process.returncode == 1
    assert said.startswith("cut off|")
    assert "thread MainThread in <string>:" in said
    assert "task a task that hangs" in said
    assert "stop limit" not in said


def test_a_second_signal_shortens_the_wait():
    """Whoever asks twice does not want to wait for the first limit."""
    with started(first=3600) as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        rest(process)
    assert process.returncode == 1


def test_a_second_signal_never_lengthens_the_wait():
    """Signals that are repeated for ever would otherwise keep the process alive."""
    with started(first=0.5, second=3600) as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        rest(process)
    assert process.returncode == 1


def test_a_report_that_hangs_does_not_hold_up_the_end():
    """The log itself may be what hangs."""
    with started(first=0.2, silent=True) as process:
        process.send_signal(signal.SIGTERM)
        assert rest(process) == ""
    assert process.returncode == 1


def test_every_signal_still_reaches_the_event_loop():
    """A reload and an orderly stop work as without the limit, and the exit code is the program's own."""
    with started(first=3600, hangs=False) as process:
        process.send_signal(signal.SIGHUP)
        assert process.stdout is not None
        assert process.stdout.readline() == "SIGHUP\n"
        process.send_signal(signal.SIGTERM)
        assert rest(process) == "SIGTERM\n"
    assert process.returncode == 7


def test_a_signal_to_reload_is_no_signal_to_stop():
    """Only the signals that end the daemon begin the limit."""
    with started(first=0.2, hangs=False) as process:
        process.send_signal(signal.SIGHUP)
        assert process.stdout is not None
        assert process.stdout.readline() == "SIGHUP\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=SECOND.total_seconds())
