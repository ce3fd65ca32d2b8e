"""What a call costs, in CPU time of this process: other processes of the machine don't count."""

from collections.abc import Callable
from datetime import timedelta
from time import process_time
from typing import TypeVar

T = TypeVar("T")
REPLY = timedelta(milliseconds=100)  # of the event loop, for a reply of 256 KiB
PIECE = timedelta(microseconds=20)  # more, for each piece in which it came
_HOPELESS = 10  # times the limit: not worth another try
_TRIES = 4  # the garbage collector, and a neighbour that empties the caches, hit one of them


class TooSlow(AssertionError):
    """A call took more CPU time than it may."""


def bounded(call: Callable[[], T], limit: timedelta) -> T:
    """What `call` returns. Raises TooSlow if it costs more than `limit`, and does so each time."""
    best = float("inf")
    for _ in range(_TRIES):
        before = process_time()
        result = call()
        best = min(best, process_time() - before)
        if best <= limit.total_seconds():
            return result
        if best > _HOPELESS * limit.total_seconds():
            break
    raise TooSlow(f"{best * 1000:.0f} ms of CPU, {limit / timedelta(milliseconds=1):.0f} ms are allowed")
