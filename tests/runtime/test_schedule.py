"""The schedule keeps its beat: at once, again, once, and over a jump of the wall clock."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

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


@pytest.mark.parametrize(
    ("first", "second", "left"), [(150, 100, ["second"]), (100, 60_000, ["first"]), (100, 100, ["first"])]
)
async def test_once_is_once_and_the_earlier_time_remains(first: int, second: int, left: list[str]):
    """An earlier wake-up is never replaced by a later one under its name."""
    schedule, ran = Schedule(), []
    done = asyncio.Event()

    def job(name: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            ran.append(name)
            done.set()

        return run

    schedule.start()
    schedule.once(timedelta(milliseconds=first), job("first"), name="x")
    schedule.once(timedelta(milliseconds=second), job("second"), name="x")
    async with asyncio.timeout(5):
        await done.wait()
    schedule.stop()
    schedule.close()
    assert ran == left


async def test_each_of_many_times_is_kept():
    """Neither a later nor an earlier one takes the place of another: three times, three runs, each soon after its time."""
    schedule, ran, third = Schedule(), [], asyncio.Event()
    begun = time.monotonic()

    async def job() -> None:
        ran.append(time.monotonic() - begun)
        if len(ran) == 3:
            third.set()

    schedule.start()
    for after in (1.2, 2.4, 0.1):
        schedule.also(timedelta(seconds=after), job, name="x")
    async with asyncio.timeout(10):
        await third.wait()
    schedule.stop()
    schedule.close()
    assert [at >= after for at, after in zip(ran, (0.1, 1.2, 2.4), strict=True)] == [True] * 3
    assert ran[0] < 1


async def test_times_that_come_close_together_share_a_run():
    """However many tokens are in doubt, one run a second is enough; the last of them is not forgotten."""
    schedule, ran, over = Schedule(), [], asyncio.Event()
    begun, last = time.monotonic(), 1.5

    async def job() -> None:
        ran.append(time.monotonic() - begun)
        if ran[-1] >= last:
            over.set()

    schedule.start()
    for number in range(151):
        schedule.also(timedelta(seconds=number / 100), job, name="x")
    async with asyncio.timeout(10):
        await over.wait()
    schedule.stop()
    left = schedule._scheduler.get_job("x")
    schedule.close()
    assert len(ran) <= 4
    assert left is None


async def test_a_time_is_kept_though_an_earlier_run_goes_on():
    """A sweep may wait for its requests for ten seconds; the next token in doubt does not wait for that sweep."""
    schedule, gate, both = Schedule(), asyncio.Event(), asyncio.Event()
    running = []

    async def job() -> None:
        running.append(1)
        if len(running) == 3:
            both.set()
        await gate.wait()

    schedule.start()
    for after in (0.01, 1.02, 2.04):
        schedule.also(timedelta(seconds=after), job, name="x")
    async with asyncio.timeout(10):
        await both.wait()
    schedule.stop()
    gate.set()
    schedule.close()


async def test_a_periodic_job_that_still_runs_is_not_run_twice():
    """The times that come meanwhile are skipped."""
    schedule, gate, started, seen = Schedule(), asyncio.Event(), [], asyncio.Semaphore(0)

    async def job() -> None:
        started.append(1)
        await gate.wait()

    async def beat() -> None:
        seen.release()

    schedule.every(timedelta(milliseconds=50), job, name="job")
    schedule.every(timedelta(milliseconds=50), beat, name="beat")
    schedule.start()
    async with asyncio.timeout(10):
        for _ in range(6):
            await seen.acquire()
    schedule.stop()
    gate.set()
    schedule.close()
    assert started == [1]


@pytest.mark.parametrize("kind", ["every", "once", "also"])
async def test_no_job_ends_by_an_exception(kind: str):
    """It is reported under the job's name, and the next time comes as if nothing had been."""
    failed: list[tuple[str, Exception]] = []
    schedule = Schedule(failed=lambda name, error: failed.append((name, error)))
    again = asyncio.Event()

    async def job() -> None:
        try:
            if not failed:
                raise RuntimeError("odd")
            again.set()
        finally:
            if plan is not None:  # as a job that plans its own next time
                plan(timedelta(milliseconds=20), job, name="job")

    plan = {"once": schedule.once, "also": schedule.also}.get(kind)
    begin = plan or schedule.every
    begin(timedelta(milliseconds=20), job, name="job")
    schedule.start()
    async with asyncio.timeout(5):
        await again.wait()
    schedule.stop()
    schedule.close()
    assert [(name, str(error)) for name, error in failed] == [("job", "odd")]


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


async def test_a_job_that_runs_at_the_end_is_cancelled_without_a_word(caplog):
    """APScheduler would log it as an error, at each stop that meets one."""
    schedule, begun, cancelled = Schedule(), asyncio.Event(), asyncio.Event()

    async def job() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    schedule.every(timedelta(minutes=1), job, name="job")
    schedule.start()
    async with asyncio.timeout(5):
        await begun.wait()
        schedule.stop()
        schedule.close()
        await cancelled.wait()
    await asyncio.sleep(0.01)  # the task's callbacks run
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
