"""One timer for many requests that have the same time limit. Nearly all of them end long before it, and a timer of the
loop for each of them costs more than to parse its reply's head.
"""

import asyncio
from datetime import timedelta


class Deadlines:
    """The time limits of running requests, in the order in which they began."""

    def __init__(self, limit: timedelta) -> None:
        self._limit = limit.total_seconds()
        self._ends: dict[asyncio.Timeout, float] = {}  # by the loop's clock
        self._timer: asyncio.TimerHandle | None = (
            None  # for the first of them, or for an earlier one that is over
        )

    def begin(self, timeout: asyncio.Timeout) -> None:
        """Let `timeout`, which has been entered, expire when the limit is over."""
        loop = asyncio.get_running_loop()
        self._ends[timeout] = end = loop.time() + self._limit
        if self._timer is None:
            self._timer = loop.call_at(end, self._expire)

    def end(self, timeout: asyncio.Timeout) -> None:
        """Drop the limit of `timeout`, if it has one. Call it before `timeout` is left."""
        self._ends.pop(timeout, None)

    def _expire(self) -> None:
        """Expire what is over, and wait for the next one."""
        loop = asyncio.get_running_loop()
        self._timer = None
        for timeout, end in list(self._ends.items()):
            if end > loop.time():
                self._timer = loop.call_at(end, self._expire)
                return
            del self._ends[timeout]
            timeout.reschedule(end)
