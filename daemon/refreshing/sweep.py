"""Many tokens: one pass over what is due, in one lane for each provider. Replies that wait are replayed first."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from daemon.domain.claim import Entry, Recorded, StoreLost
from daemon.domain.event import (
    Event,
    JournalReplayed,
    SweepFailed,
    SweepFinished,
    TokenInDoubt,
    TokenNeedsReauth,
    TokenPostponed,
    TokenRenewed,
)
from daemon.domain.provider import Provider
from daemon.refreshing.lane import Lane, report
from daemon.refreshing.ports import Clock, Journal, Observe, Store
from daemon.refreshing.refresher import Refresher

REPLAYED_AT_ONCE = 256
PATIENCE = 0.8  # of its period: how long a sweep waits for what it started


@dataclass(slots=True)
class Tally:
    """Counts what ends between two sweeps. An observer."""

    renewed: int = 0
    postponed: int = 0
    rejected: int = 0

    def __call__(self, event: Event) -> None:
        match event:
            case TokenRenewed():
                self.renewed += 1
            case TokenPostponed() | TokenInDoubt():
                self.postponed += 1
            case TokenNeedsReauth():
                self.rejected += 1
            case _:
                pass

    def take(self) -> tuple[int, int, int]:
        """The counts so far; they start again at zero."""
        counts = (self.renewed, self.postponed, self.rejected)
        self.renewed = self.postponed = self.rejected = 0
        return counts


class Sweeper:
    """Runs sweeps. A lane that is still busy with an earlier sweep goes on with it, beside the new one."""

    def __init__(
        self,
        *,
        lanes: Iterable[Lane],
        store: Store,
        journal: Journal,
        refresher: Refresher,
        clock: Clock,
        tally: Tally,
        observe: Observe,
        period: timedelta,
    ) -> None:
        self.lanes: dict[str, Lane] = {lane.provider.name: lane for lane in lanes}
        self._store = store
        self._journal = journal
        self._refresher = refresher
        self._clock = clock
        self._tally = tally
        self._observe = observe
        self._period = period
        self._passes: dict[str, asyncio.Task[int]] = {}
        self._beginning = asyncio.Lock()  # sweeps may overlap, their replays must not

    def configure(self, providers: Mapping[str, Provider], make: Callable[[Provider], Lane]) -> None:
        """Go on with these providers. A lane that is gone finishes what it has in flight, and claims nothing."""
        for name in self.lanes.keys() - providers.keys():
            self.lanes.pop(name).stop()
        for name, provider in providers.items():
            if name in self.lanes:
                self.lanes[name].provider = provider
            else:
                self.lanes[name] = make(provider)

    async def sweep(self) -> None:
        """Replay, then claim and start what is due, for as long as one period. Never raises: failures are told."""
        started = self._clock.boot()
        try:
            async with self._beginning:
                await self._begin()
            claimed = await self._finished()
        except StoreLost as lost:
            self._observe(SweepFailed(message=str(lost)))
            return
        renewed, postponed, rejected = self._tally.take()
        self._observe(
            SweepFinished(
                claimed=claimed,
                renewed=renewed,
                postponed=postponed,
                rejected=rejected,
                duration=self._clock.boot() - started,
                at=self._clock.now(),
            )
        )

    async def drain(self) -> None:
        """Claim nothing more and wait until all that is in flight has been recorded."""
        await asyncio.gather(*(lane.drain() for lane in self.lanes.values()))
        await asyncio.gather(*self._passes.values(), return_exceptions=True)

    async def _begin(self) -> None:
        survey = await self._store.survey(self.lanes.keys())
        await self.replay()
        if not self._journal.writable:
            raise StoreLost("the journal can't be written, so no provider is asked")
        for item in survey.set_aside:
            report(item, self._observe)
        for name, lane in self.lanes.items():
            if name not in self._passes and name not in survey.paused:
                self._passes[name] = asyncio.create_task(lane.work(), name=f"lane {name}")

    async def _finished(self) -> int:
        """Wait for the lanes and for what they started, but not beyond this sweep's period: what goes on belongs to
        the next one. Raises StoreLost when a lane met that.
        """
        deadline = self._clock.boot() + self._period * PATIENCE
        done = await self._ended(list(self._passes.values()), deadline)
        mine = {name: task for name, task in self._passes.items() if task in done}
        for name in mine:  # another sweep that waited beside us may have taken the others
            del self._passes[name]
        claimed = sum(task.result() for task in mine.values())
        await self._ended([task for name in mine for task in self._in_flight(name)], deadline)
        return claimed

    async def _ended(
        self, tasks: Collection[asyncio.Task[Any]], deadline: timedelta
    ) -> set[asyncio.Task[Any]]:
        if not tasks:
            return set()
        left = max(deadline - self._clock.boot(), timedelta(0))
        done, _ = await asyncio.wait(tasks, timeout=left.total_seconds())
        return done

    def _in_flight(self, name: str) -> list[asyncio.Task[None]]:
        lane = self.lanes.get(name)
        return list(lane.in_flight.values()) if lane else []

    async def replay(self) -> None:
        """Deal with the replies that the journal still holds, as if they had just come. Raises StoreLost."""
        in_flight = {token for lane in self.lanes.values() for token in lane.in_flight}
        waiting = [entry for entry in await self._journal.entries() if entry.token not in in_flight]
        for start in range(0, len(waiting), REPLAYED_AT_ONCE):
            await asyncio.gather(*map(self._replay, waiting[start : start + REPLAYED_AT_ONCE]))

    async def _replay(self, entry: Entry) -> None:
        if entry.provider not in self.lanes:
            return  # its provider is not configured now: it waits
        try:
            result = await self._conclude(entry)
        except StoreLost:
            raise
        except Exception as error:  # noqa: BLE001  one entry that we can't replay must not hold up the others
            self._journal.retain(entry, "unusable")
            context = {
                "message": f"the journal's reply for {entry.token} can't be replayed",
                "exception": error,
            }
            asyncio.get_running_loop().call_exception_handler(context)
        else:
            self._observe(JournalReplayed(token=entry.token, result=_REPLAYED[result]))

    async def _conclude(self, entry: Entry) -> Recorded:
        claim = await self._store.recall(entry)
        if claim is not None:
            return await self._refresher.conclude(claim, entry)
        self._journal.retain(entry, "superseded")  # the document is gone
        return Recorded.SUPERSEDED


_REPLAYED = {Recorded.STORED: "recorded", Recorded.SUPERSEDED: "superseded"}
