"""How fast a provider may be asked: never more than its limit, in any stretch of time."""

import asyncio
from datetime import timedelta

import pytest

from daemon.adapters.token_endpoint.rate_limiter import LeakyBucket
from daemon.domain.provider import Rate


async def test_without_a_limit_all_may_go():
    """And nothing is waited for."""
    pace = LeakyBucket()
    await pace.ready()
    assert pace.available(256) == 256
    await pace.acquire(256)
    assert pace.available(256) == 256


@pytest.mark.parametrize("count", [1, 5, 10, 200])
async def test_in_no_stretch_of_time_more_than_the_limit_go(count):
    """Asked for as fast as it allows, for three periods: counted in a window that slides."""
    per = timedelta(milliseconds=300)
    pace, loop = LeakyBucket(Rate(count=count, per=per)), asyncio.get_running_loop()
    went: list[float] = []
    end = loop.time() + 3 * per.total_seconds()
    while loop.time() < end:
        await pace.ready()
        going = pace.available(1000)
        assert going >= 1
        await pace.acquire(going)
        went += [loop.time()] * going
    window = per.total_seconds() * 0.98  # a timer may be early by its resolution
    busiest = max(sum(start <= at < start + window for at in went) for start in went)
    assert busiest <= count
    assert len(went) >= 1.5 * count


async def test_what_was_waited_for_and_not_spent_is_not_lost():
    """Nothing was due after all: the turn is still there, and not a second one beside it."""
    pace = LeakyBucket(Rate(count=10, per=timedelta(minutes=10)))
    for _ in range(3):
        await asyncio.wait_for(pace.ready(), 1)
        assert pace.available(100) == 1
    await pace.acquire(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pace.ready(), 0.05)


async def test_of_two_rates_each_holds():
    """The burst of the one is not a way around the other."""
    pace = LeakyBucket(Rate(count=100, per=timedelta(seconds=1)), Rate(count=1, per=timedelta(minutes=10)))
    await asyncio.wait_for(pace.ready(), 1)
    assert pace.available(100) == 1
    await pace.acquire(1)
    assert pace.available(100) == 0
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pace.ready(), 0.05)
