"""The schedule keeps its beat: at once, again, once, and over a jump of the wall clock."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from daemon.runtime.schedule import Schedule
from tests.support import wall_clock


async def test_a_job_runs_at_once_and_again():
    """The first run needs no waiting for a period."""
    schedule, runs = Schedule(), asyncio.Semaphore(0)

    async def job() -> None:
        runs.release()

    schedule.every(timedelta(milliseconds=100), job, name="job")
    schedule.start()
    async with asyncio.timeout(5):
        for _ in range(3):
            await runs.acquire()
    schedule.stop()
    schedule.close()


async def test_a_period_is_shortened_by_chance():
    """By at most a quarter: replicas that were started together don't stay together."""
    schedule, ran = Schedule(chance=lambda: 1.0), asyncio.Event()

    async def job() -> None:
        ran.set()

    schedule.every(timedelta(minutes=1), job, name="job")
    schedule.start()
    async with asyncio.timeout(5):
        await ran.wait()
    left = schedule._scheduler.get_job("job").next_run_time - wall_clock.now()
    schedule.close()
    assert timedelta(seconds=40) < left <= timedelta(seconds=45)


async def test_once_is_once_and_the_last_word_counts():
    """A job that is put in again under its name replaces the one that waits."""
    schedule, ran = Schedule(), []
    done = asyncio.Event()

    async def first() -> None:
        ran.append("first")

    async def second() -> None:
        ran.append("second")
        done.set()

    schedule.start()
    schedule.once(timedelta(milliseconds=150), first, name="x")
    schedule.once(timedelta(milliseconds=100), second, name="x")
    async with asyncio.timeout(5):
        await done.wait()
    schedule.stop()
    schedule.close()
    assert ran == ["second"]


async def test_what_runs_when_it_stops_goes_on_to_its_end():
    """APScheduler's own shutdown would cancel it, between an answer and its record; nothing new starts."""
    schedule, gate, started, ended = Schedule(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def job() -> None:
        started.set()
        await gate.wait()
        ended.set()

    schedule.every(timedelta(hours=1), job, name="job")
    schedule.start()
    async with asyncio.timeout(5):
        await started.wait()
        schedule.stop()
        gate.set()
        await ended.wait()
    schedule.close()


async def test_a_jump_of_the_wall_clock_stalls_nothing():
    """APScheduler plans by the wall clock. Set back by an hour, its next run would be an hour away; we plan anew."""
    schedule, runs = Schedule(), asyncio.Semaphore(0)

    async def job() -> None:
        runs.release()

    schedule.every(timedelta(milliseconds=100), job, name="job")
    schedule.start()
    async with asyncio.timeout(5):
        await runs.acquire()
    schedule._scheduler.get_job("job").modify(next_run_time=wall_clock.now() + timedelta(hours=1))
    schedule._drift += timedelta(hours=1)  # as it looks when the wall clock was set back by an hour
    schedule._beat()
    async with asyncio.timeout(5):
        await runs.acquire()
    schedule.stop()
    schedule.close()


async def test_a_clock_that_was_decades_behind_at_boot_is_set_in_one_run():
    """Without a battery the wall clock starts in 1970. What was planned then is not made up for, run by run."""
    schedule, runs = Schedule(), []
    ran = asyncio.Event()

    async def job() -> None:
        runs.append(1)
        ran.set()

    schedule.every(timedelta(minutes=1), job, name="job")
    schedule._scheduler.get_job("job").modify(next_run_time=datetime(1970, 1, 1, tzinfo=UTC))
    begun = time.monotonic()
    schedule.start()
    async with asyncio.timeout(5):
        await ran.wait()
    schedule.stop()
    schedule.close()
    assert runs == [1]
    assert time.monotonic() - begun < 2
