"""When the daemon sweeps: after each period, after a token in doubt, and sooner after a loss of MongoDB."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.claim import StoreLost
from daemon.domain.event import SweepFailed, SweepFinished
from daemon.runtime.jobs.key_check import KeyCheck
from daemon.runtime.parts import Parts
from daemon.runtime.preparation import prepare
from daemon.runtime.schedule import Schedule
from daemon.runtime.service_manager import ServiceManager
from daemon.runtime.web.status import DaemonStatus

LOST_RETRY = timedelta(seconds=1)  # after a loss of MongoDB, doubled each time
LOST_RETRY_LAST = timedelta(seconds=5)
SOON = timedelta(milliseconds=50)  # after a due time, so that it has surely come


class Sweeping:
    """Plans the sweeps. Nothing is claimed before the store was found and its keys are right.

    `every`: the period. `prepare_demo` stores the demo's tokens. `prepared` is called once, when the store was found.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        schedule: Schedule,
        every: timedelta,
        key_check: KeyCheck,
        prepare_demo: Callable[[], Awaitable[None]],
        prepared: Callable[[], None],
        view: DaemonStatus,
        manager: ServiceManager,
        log: EventLog,
    ) -> None:
        self.prepared = False
        self._parts = parts
        self._schedule = schedule
        self._every = every
        self._key_check = key_check
        self._prepare_demo = prepare_demo
        self._note_prepared = prepared
        self._view = view
        self._manager = manager
        self._log = log
        self._preparing = asyncio.Lock()
        self._failed = 0  # sweeps in a row

    @property
    def is_ready(self) -> bool:
        """Whether the store was found and its keys are right: before that, nothing is taken from it."""
        return self.prepared and self._parts.keys.wrong is None

    def plan(self) -> None:
        """Plan the periodic sweep."""
        self._schedule.every(self._every, self.sweep, name="sweep")

    def also(self, wait: timedelta, *, name: str) -> None:
        """Plan one more sweep, beside those of the same `name` that are planned already."""
        self._schedule.also(wait, self.sweep, name=name)

    def after_doubt(self, due_at: datetime) -> None:
        """Plan a sweep for a token in doubt, which may not wait for the next period."""
        self.also(max(due_at - self._parts.clock.now(), timedelta(0)) + SOON, name="in_doubt")

    def retry_soon(self, why: str) -> None:
        """Plan a sweep sooner than a whole period from now: the replies in the journal have waited long enough."""
        wait = min(LOST_RETRY * (1 << min(self._failed, 4)), LOST_RETRY_LAST, self._every)
        self._manager.status(f"waiting: {why}")
        self._schedule.once(wait, self.sweep, name="lost")

    async def sweep(self) -> None:
        """Sweep now. After a failure, the next sweep comes soon."""
        self._view.sweep_begins()
        match await self._swept():
            case SweepFinished():
                self._failed = 0
                self._manager.status("sweeping")
            case SweepFailed(message=message):
                self.retry_soon(message)
                self._failed += 1

    async def _swept(self) -> SweepFinished | SweepFailed:
        try:
            async with self._preparing:  # sweeps may overlap
                if not self.prepared:
                    await self._prepare()
                right = await self._key_check.settle()
        except StoreLost as lost:
            return self._no_sweep(str(lost))
        if not right:
            return self._no_sweep(str(self._parts.keys.wrong))
        return await self._parts.sweeper.sweep()

    def _no_sweep(self, why: str) -> SweepFailed:
        """Count a sweep that could not begin. It is not logged: its cause has a line of its own."""
        failed = SweepFailed(message=why)
        self._parts.metrics(failed)
        return failed

    async def _prepare(self) -> None:
        """Prepare for work at the first contact with MongoDB: its kind, the index, the demo's tokens."""
        await prepare(self._parts.mongo, self._log)
        if await self._key_check.settle():
            await self._prepare_demo()
        self.prepared = True
        self._note_prepared()
