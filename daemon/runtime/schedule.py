"""When things happen, on APScheduler. It plans by the wall clock; a jump of that clock is seen here and planned over."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

HEARTBEAT = timedelta(seconds=1)  # set back by an hour, the wall clock holds nothing up for longer than this
JUMP = timedelta(seconds=1)
SPREAD = 0.25  # of a period: by as much as this a time comes early, so that replicas fall out of step

Job = Callable[[], Awaitable[None]]


class _Every(BaseTrigger):  # type: ignore[misc]
    """Next time is one period from now, or a little less. APScheduler's own interval counts up from the last time, run by run: over a
    clock that was years behind at boot, that holds the process up for minutes.
    """

    def __init__(self, period: timedelta, chance: Callable[[], float]) -> None:
        self._period = period
        self._chance = chance

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
        return now + self._period * (1 - SPREAD * self._chance())


class Schedule:
    """Runs jobs from `start()` to `stop()`. A job that is still running when its time comes is not run twice."""

    def __init__(self, *, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"max_instances": 1, "misfire_grace_time": None}
        )
        self._heartbeat: asyncio.TimerHandle | None = None
        self._drift = self._wall_minus_monotonic()

    def every(self, period: timedelta, job: Job, *, name: str) -> None:
        """Run `job` now and then every `period`, a little sooner by chance."""
        self._scheduler.add_job(job, _Every(period, self._chance), id=name, next_run_time=datetime.now(UTC))

    def once(self, after: timedelta, job: Job, *, name: str) -> None:
        """Run `job` once, `after` from now; one that waits under the same name is replaced."""
        self._scheduler.add_job(
            job, "date", run_date=datetime.now(UTC) + after, id=name, replace_existing=True, max_instances=2
        )

    def start(self) -> None:
        self._scheduler.start()
        self._beat()

    def stop(self) -> None:
        """Start nothing more. What runs goes on: APScheduler would cancel it, so waiting is the drain's."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self._scheduler.pause()

    def close(self) -> None:
        """End the scheduler, once nothing runs any more."""
        self._scheduler.shutdown(wait=False)

    def _beat(self) -> None:
        drift = self._wall_minus_monotonic()
        if abs(drift - self._drift) > JUMP:
            for job in self._scheduler.get_jobs():
                job.modify(next_run_time=datetime.now(UTC))
        self._drift = drift
        self._heartbeat = asyncio.get_running_loop().call_later(HEARTBEAT.total_seconds(), self._beat)

    @staticmethod
    def _wall_minus_monotonic() -> timedelta:
        return timedelta(seconds=time.time() - time.monotonic())
