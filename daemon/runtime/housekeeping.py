"""What the daemon does beside renewals, again and again: count the store, repair tokens, delete removed ones, report itself."""

from collections.abc import Callable
from datetime import timedelta

from daemon.adapters.mongo.counting.statistics import repair_undated
from daemon.adapters.mongo.removals import delete_removed
from daemon.adapters.mongo.time_limit import TooSlow
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.claim import StoreLost
from daemon.domain.event import TokenEnding, TokenHeld
from daemon.domain.statistics import Statistics
from daemon.runtime.jobs.key_check import KeyCheck
from daemon.runtime.jobs.own_row import OwnRow
from daemon.runtime.jobs.owner_events import EventFollower
from daemon.runtime.parts import Parts
from daemon.runtime.schedule import Schedule
from daemon.runtime.web.status import DaemonStatus

REPAIR_EVERY = timedelta(hours=1)
REMOVE_EVERY = timedelta(minutes=1)
REPORT_EVERY = timedelta(minutes=1)
SOON = timedelta(milliseconds=50)
UNREADY_AGAIN = SOON * 10  # until the store was found
LEADING_AGAIN = timedelta(seconds=5)  # until this replica leads: it looks at a variable, and sends nothing


class Housekeeping:
    """Plans its own jobs. `ready`: whether the store was found; before that, nothing is done. `indexed`: whether its
    indexes were built; before that, no removed token is looked for.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        schedule: Schedule,
        view: DaemonStatus,
        instance: str,
        ready: Callable[[], bool],
        indexed: Callable[[], bool],
        events: EventFollower,
        keys: KeyCheck,
        row: OwnRow,
        log: EventLog,
    ) -> None:
        self._parts = parts
        self._schedule = schedule
        self._view = view
        self._instance = instance
        self._ready = ready
        self._indexed = indexed
        self._events = events
        self._keys = keys
        self._row = row
        self._log = log
        self._reported: set[TokenHeld | TokenEnding] = set()

    def plan(self) -> None:
        """Plan the first run of each job. Each plans its next one."""
        self._schedule.once(SOON, self._count, name="count")
        self._schedule.once(SOON, self._repair, name="repair")
        self._schedule.once(SOON, self._remove, name="remove")
        self._schedule.once(SOON, self._report, name="report")

    async def _count(self) -> None:
        """Continue the count of the store, or read the figures of another replica. The next step is always
        planned.
        """
        counter = self._parts.counter
        try:
            if self._ready() and (counted := await counter.step(self._parts.sweeper.lanes)) is not None:
                self._view.counted(counted)
                self._report_counted(counted)
        except StoreLost as lost:
            if self._parts.mongo.up:  # else the store has reported itself
                self._log.log(log_lines.COUNT_FAILED, message=str(lost))
        finally:
            pause = counter.pause if self._ready() else UNREADY_AGAIN
            self._schedule.once(pause, self._count, name="count")

    def _report_counted(self, counted: Statistics) -> None:
        """Report tokens that others hold or that end soon: once, until the facts change."""
        held = (one for one in counted.held_tokens if one.owner != self._instance)
        news: set[TokenHeld | TokenEnding] = {*held, *counted.ending_tokens}
        for event in news - self._reported:
            self._parts.observe(event)
        self._reported = news

    async def _repair(self) -> None:
        """Repair tokens without a date. One replica does it for all: soon after it leads, and then every hour."""
        pause = LEADING_AGAIN
        try:
            if self._ready() and self._parts.counter.leads:
                pause = REPAIR_EVERY
                await self._repair_undated()
        except StoreLost:
            pause = LEADING_AGAIN  # the store itself has reported it
        finally:
            self._schedule.once(pause, self._repair, name="repair")

    async def _repair_undated(self) -> None:
        try:
            repaired = await repair_undated(self._parts.mongo)
        except TooSlow as slow:
            self._log.log(log_lines.COUNT_FAILED, message=str(slow))
            return
        for token in repaired:
            self._log.log(log_lines.TOKEN_UNDATED, token=token)

    async def _remove(self) -> None:
        """Delete the tokens that applications have marked as removed. Every replica may: each deletion happens once."""
        try:
            if self._ready() and self._indexed():
                await self._events.look()  # a token whose event waits is not deleted
                for token in await delete_removed(self._parts.mongo):
                    self._log.log(log_lines.TOKEN_REMOVED, token=token)
        finally:
            pause = REMOVE_EVERY if self._ready() and self._indexed() else UNREADY_AGAIN
            self._schedule.once(pause, self._remove, name="remove")

    async def _report(self) -> None:
        """Write this instance's row for other processes, with the keys that it needs, and check that its keys
        are still right.
        """
        self._parts.log.report_left_out()
        try:
            if self._ready():
                await self._keys.look_again()
                await self._row.write()
                self._view.services = self._row.services
        except StoreLost:
            pass  # the store itself has reported it
        finally:
            pause = REPORT_EVERY if self._ready() else UNREADY_AGAIN
            self._schedule.once(pause, self._report, name="report")
