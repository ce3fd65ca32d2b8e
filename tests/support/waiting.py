"""Waiting for a condition that nothing announces."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

NO_TIME = timedelta(0)
CLOSELY = timedelta(milliseconds=1)


async def until(
    condition: Callable[[], bool], *, every: timedelta = NO_TIME, within: timedelta = timedelta(seconds=5)
) -> None:
    """Let the loop turn until `condition` holds. By default no time passes; `every` is for another process or socket."""
    async with asyncio.timeout(within.total_seconds()):
        while not condition():
            await asyncio.sleep(every.total_seconds())
