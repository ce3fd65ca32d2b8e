"""Each request has its own time limit, although all of them share a timer."""

import asyncio
from datetime import timedelta

import pytest

from daemon.adapters.token_endpoint.deadlines import Deadlines

SHORT = timedelta(milliseconds=20)
LONG = timedelta(hours=1)


async def limited(deadlines: Deadlines, ended: asyncio.Event) -> float:
    """Return how long it took until `ended`. Raises TimeoutError at the limit."""
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(None) as limit:
        deadlines.begin(limit)
        try:
            await ended.wait()
        finally:
            deadlines.end(limit)
    return asyncio.get_running_loop().time() - began


async def test_a_request_that_does_not_end_is_cancelled_at_its_limit():
    """Not before, and as by a timeout of its own."""
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError):
            await limited(Deadlines(SHORT), asyncio.Event())
    assert asyncio.get_running_loop().time() - began >= SHORT.total_seconds()


async def test_each_of_several_has_a_limit_of_its_own():
    """One that begins later ends later, also if the first one has ended by itself or has expired."""
    deadlines, never, ended = Deadlines(SHORT), asyncio.Event(), asyncio.Event()
    ended.set()
    async with asyncio.timeout(5):
        first = asyncio.create_task(limited(deadlines, never))
        await asyncio.sleep(SHORT.total_seconds() / 2)
        began = asyncio.get_running_loop().time()
        second = asyncio.create_task(limited(deadlines, never))
        await limited(deadlines, ended)
        with pytest.raises(TimeoutError):
            await first
        with pytest.raises(TimeoutError):
            await second
    assert asyncio.get_running_loop().time() - began >= SHORT.total_seconds()
    assert not deadlines._ends


async def test_after_one_that_has_ended_by_itself_the_next_one_is_limited():
    """The timer was set for the first one, and waits on for whatever follows."""
    deadlines, ended = Deadlines(SHORT), asyncio.Event()
    ended.set()
    async with asyncio.timeout(5):
        await limited(deadlines, ended)
        await asyncio.sleep(2 * SHORT.total_seconds())  # its timer finds nothing
        with pytest.raises(TimeoutError):
            await limited(deadlines, asyncio.Event())


async def test_a_request_that_is_slow_to_give_up_holds_up_no_other():
    """It is cancelled once. The limit of the next one comes while it still cleans up."""
    deadlines, never, cleaned = Deadlines(SHORT), asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with asyncio.timeout(None) as limit:
            deadlines.begin(limit)
            try:
                await never.wait()
            finally:
                await cleaned.wait()
                deadlines.end(limit)

    async with asyncio.timeout(5):
        first = asyncio.create_task(slow())
        await asyncio.sleep(SHORT.total_seconds() / 2)
        with pytest.raises(TimeoutError):
            await limited(deadlines, never)
        cleaned.set()
        with pytest.raises(TimeoutError):
            await first


async def test_requests_that_end_in_time_leave_nothing_behind():
    """Neither an entry for each, nor a timer for each."""
    deadlines, ended = Deadlines(LONG), asyncio.Event()
    ended.set()
    scheduled = len(asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]
    for _ in range(1000):
        await limited(deadlines, ended)
    assert not deadlines._ends
    assert len(asyncio.get_running_loop()._scheduled) == scheduled + 1  # type: ignore[attr-defined]
    assert deadlines._timer is not None
    deadlines._timer.cancel()
