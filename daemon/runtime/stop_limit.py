"""The longest that a stop may take, whatever hangs.

A disk that never answers, a pipe that nobody reads or a library that waits without a limit can stop the event loop, or
the end of the interpreter, which waits for every thread. So a thread of its own counts the signals and ends the process
when the time is over. Nothing is lost then that a kill would not lose: each reply in the journal is on the disk.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import FrameType

GRACE = timedelta(seconds=30)  # for what follows the drain: connections, the journal, refreshd's own MongoDB
AFTER_SECOND = timedelta(seconds=10)  # the operator does not want to wait
REPORT = timedelta(seconds=1)  # for the log line: the log itself may be what hangs
MOST_NAMED = 20  # threads and tasks in the log line
CUT_OFF = 1  # the exit code, as of a drain that was not finished

_PACKAGE = str(Path(__file__).parents[1])


class StopLimit:
    """Ends the process `first` after a signal to stop, or `second` after the second one, if it still runs.

    `report` receives what still ran.
    """

    def __init__(
        self,
        first: timedelta,
        report: Callable[[Sequence[str]], None],
        *,
        second: timedelta = AFTER_SECOND,
    ) -> None:
        self._first, self._second = first.total_seconds(), second.total_seconds()
        self._report = report
        self._loop: asyncio.AbstractEventLoop | None = None

    def listen(self, signals: Collection[int] = (signal.SIGTERM, signal.SIGINT)) -> None:
        """Count `signals` from now on. The running loop must have its handlers for them, which go on to work.

        Python's C handler writes the number of each signal into the wake-up socket, whatever the main thread does. A handler
        in Python can miss one: a signal between the check for handlers and a system call does not interrupt that call.
        """
        self._loop = asyncio.get_running_loop()
        received, written = socket.socketpair()
        written.setblocking(False)
        # A copy: the loop closes its own, and the number may name another file then.
        loops = socket.socket(fileno=os.dup(signal.set_wakeup_fd(written.fileno())))
        passing = _Passing(received, loops, written, frozenset(signals))
        threading.Thread(target=self._watch, args=(passing,), name="stop limit", daemon=True).start()

    def _watch(self, passing: "_Passing") -> None:
        end: float | None = None
        with suppress(TimeoutError):
            while True:
                for at in passing.wait(until=end):
                    end = at + self._first if end is None else min(end, at + self._second)
        reporting = threading.Thread(target=self._report_rest, name="stop report", daemon=True)
        reporting.start()
        reporting.join(REPORT.total_seconds())
        os._exit(CUT_OFF)  # it does not wait for threads

    def _report_rest(self) -> None:
        named = [*_threads(), *_tasks(self._loop)]
        left = len(named) - MOST_NAMED
        self._report([*named[:MOST_NAMED], f"{left} more"] if left > 0 else named)


class _Passing:
    """Signals on their way to the event loop."""

    def __init__(
        self,
        received: socket.socket,
        loops: socket.socket,
        written: socket.socket,
        counted: frozenset[int],
    ) -> None:
        self._received, self._loops, self._counted = received, loops, counted
        self._written = written  # kept open: its number is the process's wake-up descriptor

    def wait(self, *, until: float | None) -> list[float]:
        """Pass on what comes. Returns when each counted signal of it came. Raises TimeoutError at `until`, by the monotonic
        clock.
        """
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        self._received.settimeout(left)
        numbers = self._received.recv(64)
        with suppress(OSError):  # full, so that the loop is awake, or closed
            self._loops.send(numbers)
        return [time.monotonic() for number in numbers if number in self._counted]


def _threads() -> list[str]:
    """Each thread but those of this module, with the function that it is in."""
    frames = sys._current_frames()  # noqa: SLF001  documented, and the only way to it
    return [
        f"thread {one.name} in {_place(frames[one.ident])}"
        for one in threading.enumerate()
        if one.ident in frames and not one.name.startswith("stop ")
    ]


def _place(frame: FrameType) -> str:
    """The innermost function of refreshd in a thread; if there is none, the innermost of all."""
    innermost, at = frame, frame.f_back
    if not innermost.f_code.co_filename.startswith(_PACKAGE):
        while at is not None and not at.f_code.co_filename.startswith(_PACKAGE):
            at = at.f_back
        innermost = at or frame
    code = innermost.f_code
    return f"{Path(code.co_filename).name}:{innermost.f_lineno} {code.co_qualname}"


def _tasks(loop: asyncio.AbstractEventLoop | None) -> list[str]:
    """The names of the loop's tasks that have not ended."""
    if loop is None:
        return []
    with suppress(RuntimeError):  # they changed meanwhile, again and again
        return sorted(f"task {task.get_name()}" for task in asyncio.all_tasks(loop))
    return []
