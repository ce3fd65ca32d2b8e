"""Periodic jobs on APScheduler, which plans by the wall clock. `Schedule` notices a jump of that clock and
plans again.

No job ends with an exception: the schedule catches and reports it.
"""

import asyncio
import heapq
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

HEARTBEAT = timedelta(seconds=1)  # set back by an hour, the wall clock holds nothing up for longer than this
JUMP = timedelta(seconds=1)
SPREAD = 0.25  # of a period: by as much as this a time comes early, so that replicas fall out of step
APART = timedelta(seconds=1)  # between two runs of one name's many times: those in between share a run
OVERLAPPING = 1 << 16  # no limit: a run that is skipped because an earlier one goes on would be lost

Job = Callable[[], Awaitable[None]]
Failed = Callable[[str, Exception], None]


class _Every(BaseTrigger):  # type: ignore[misc]
    """A trigger whose next time is one period from now, minus a random part.

    APScheduler's own interval counts up from the last time, run by run. With a clock that was years behind at
    boot, that blocks the process for minutes.
    """

    def __init__(self, period: timedelta, chance: Callable[[], float]) -> None:
        self._period = period
        self._chance = chance

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
        return now + self._period * (1 - SPREAD * self._chance())


def _raised_in_the_loop(name: str, error: Exception) -> None:
    context = {"message": f"the job {name} failed unexpectedly", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)


class Schedule:
    """Runs jobs from `start()` to `stop()`. `failed` receives the name of a job and its exception."""

    def __init__(
        self, *, failed: Failed = _raised_in_the_loop, chance: Callable[[], float] = random.random
    ) -> None:
        self._failed = failed
        self._chance = chance
        self._scheduler = AsyncIOScheduler(timezone=UTC, job_defaults={"misfire_grace_time": None})
        self._closed = False
        self._heartbeat: asyncio.TimerHandle | None = None
        self._drift = self._wall_minus_monotonic()
        self._times: dict[
            str, list[timedelta]
        ] = {}  # by the monotonic clock: heaps of the times that `also` planned
        self._last: dict[str, timedelta] = {}  # when each of these was last run

    def every(self, period: timedelta, job: Job, *, name: str) -> None:
        """Run `job` now and then every `period`, minus a random part. Runs that would overlap are skipped."""
        self._scheduler.add_job(
            self._guarded(job, name),
            _Every(period, self._chance),
            id=name,
            next_run_time=datetime.now(UTC),
            max_instances=1,
        )

    def once(self, after: timedelta, job: Job, *, name: str) -> None:
        """Run `job` once, `after` from now. Of two waiting runs with the same name the earlier one
        remains.
        """
        at = datetime.now(UTC) + after
        if (waiting := self._scheduler.get_job(name)) is not None:
            if waiting.next_run_time <= at:
                return
            waiting.remove()
        self._scheduler.add_job(
            self._guarded(job, name),
            "date",
            run_date=at,
            id=name,
            next_run_time=at,
            max_instances=OVERLAPPING,
        )

    def also(self, after: timedelta, job: Job, *, name: str) -> None:
        """Run `job` `after` from now, in addition to the other times planned under this name.

        Times less than APART after a run share the next run.
        """
        heapq.heappush(self._times.setdefault(name, []), self._monotonic() + after)
        self._plan_next(job, name)

    def start(self) -> None:
        self._scheduler.start()
        self._beat()

    def stop(self) -> None:
        """Start nothing more. Running jobs continue: APScheduler would cancel them, so the drain waits for
        them.
        """
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self._scheduler.pause()

    def close(self) -> None:
        """End the scheduler. Running jobs are cancelled, which is not reported as a failure."""
        self._closed = True
        self._scheduler.shutdown(wait=False)

    def _guarded(self, job: Job, name: str) -> Job:
        async def run() -> None:
            try:
                await job()
            except asyncio.CancelledError:
                if not self._closed:
                    raise
            except Exception as error:  # noqa: BLE001  whatever it is, the job's next time must come
                self._failed(name, error)

        return run

    def _plan_next(self, job: Job, name: str) -> None:
        times = self._times[name]
        if not times:
            return
        now = self._monotonic()

        async def run() -> None:
            self._last[name] = begun = self._monotonic()
            while times and times[0] <= begun:
                heapq.heappop(times)
            self._plan_next(job, name)
            await job()

        free = self._last[name] + APART if name in self._last else now
        self.once(max(times[0], free, now) - now, run, name=name)

    def _beat(self) -> None:
        drift = self._wall_minus_monotonic()
        if abs(drift - self._drift) > JUMP:
            for job in self._scheduler.get_jobs():
                job.modify(next_run_time=datetime.now(UTC))
        self._drift = drift
        self._heartbeat = asyncio.get_running_loop().call_later(HEARTBEAT.total_seconds(), self._beat)

    @staticmethod
    def _monotonic() -> timedelta:
        return timedelta(seconds=time.monotonic())

    @staticmethod
    def _wall_minus_monotonic() -> timedelta:
        return timedelta(seconds=time.time() - time.monotonic())
