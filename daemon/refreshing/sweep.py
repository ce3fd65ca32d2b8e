"""Sweeps: each replays waiting replies first, then makes one pass over the due tokens, in one lane for each
provider.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from daemon.domain.circuit_breaker import Pause
from daemon.domain.claim import Claim, StoreLost
from daemon.domain.event import (
    Event,
    InternalError,
    JournalReplayed,
    LaneFailed,
    ProviderPaused,
    ProviderResumed,
    SweepFailed,
    SweepFinished,
    TokenInDoubt,
    TokenNeedsReauth,
    TokenPostponed,
    TokenRenewed,
    TokenScheduled,
    TokenStuck,
)
from daemon.domain.journal_entry import Entry, EntryState, ReplayResult
from daemon.domain.locked import is_overtaken
from daemon.domain.provider import Provider
from daemon.domain.providers import Providers
from daemon.domain.secret import masked
from daemon.refreshing.lane import Lane
from daemon.refreshing.ports import Clock, Journal, Observe, Store
from daemon.refreshing.refresher import Outcome, Refresher
from daemon.refreshing.replay import ConcludeConsent, Replayer
from daemon.refreshing.reporting import report, unexpected

STUCK_AFTER = timedelta(seconds=30)  # a command of MongoDB's has ended by then, if only by its timeout
PATIENCE = 0.7  # of its period: how long a sweep waits for what it started; the next one may come at 0.75


class Halted(Exception):
    """The sweep can't continue, although the store answers."""


@dataclass(slots=True)
class Tally:
    """An observer that counts the results between two sweeps."""

    counts: Counter[str] = field(default_factory=Counter)

    def __call__(self, event: Event) -> None:
        match event:
            case TokenRenewed():
                self.counts["renewed"] += 1
            case TokenPostponed() | TokenStuck():
                self.counts["postponed"] += 1
            case TokenInDoubt():
                self.counts["in_doubt"] += 1
            case TokenNeedsReauth():
                self.counts["rejected"] += 1
            case TokenScheduled():
                self.counts["scheduled"] += 1
            case _:
                pass

    def take(self) -> Counter[str]:
        """Return the counts so far, and start again at zero."""
        counts, self.counts = self.counts, Counter()
        return counts


class Sweeper:
    """Runs sweeps. A lane that is still busy with an earlier sweep continues beside the new one."""

    def __init__(
        self,
        *,
        providers: Providers,
        lane: Callable[[Provider], Lane],
        store: Store,
        journal: Journal,
        refresher: Refresher,
        clock: Clock,
        tally: Tally,
        observe: Observe,
        period: timedelta,
    ) -> None:
        self.lanes: dict[str, Lane] = {}  # of the configured providers
        self._lane = lane
        self._store = store
        self._journal = journal
        self._refresher = refresher
        self._clock = clock
        self._tally = tally
        self._observe = observe
        self._period = period
        self._passes: dict[str, asyncio.Task[int]] = {}
        self._claimed = 0  # by passes that have ended since the last sweep was reported
        self._leaving: dict[str, Lane] = {}  # not configured any more, but perhaps with something in flight
        # In a row, of each lane: passes that raised, and sweeps that found it stuck.
        self._failures: Counter[str] = Counter()
        self._stuck_since: dict[str, timedelta] = {}  # by the boot clock: lanes with nothing to wait for
        self._replayer = Replayer(
            store=store,
            journal=journal,
            conclude=self._conclude,
            report=self._report_replay,
            removed=refresher.conclude_removed,
        )
        self._unusable: set[int] = set()  # the entries that were reported to be so
        self.paused: Mapping[str, Pause] = {}
        self._beginning = asyncio.Lock()  # sweeps may overlap, their replays must not
        self._begun = False  # a sweep has found which providers are paused
        providers.follow(self._use)

    def conclude_consents(self, consent: ConcludeConsent) -> None:
        """Replay the replies to authorization codes with `consent`."""
        self._replayer.consent = consent

    def _use(self, providers: Mapping[str, Provider]) -> None:
        """Use these providers from now on. The lane of a removed provider finishes its requests in flight and
        claims nothing.
        """
        for name in self.lanes.keys() - providers.keys():
            self._failures.pop(name, None)
            self._leaving[name] = self.lanes.pop(name)
            self._leaving[name].stop()
        self.paused = {name: pause for name, pause in self.paused.items() if name in providers}
        for name, provider in providers.items():
            if name in self._leaving:
                self.lanes[name] = self._leaving.pop(name)
                self.lanes[name].resume()
            if name in self.lanes:
                self.lanes[name].use(provider)
            else:
                self.lanes[name] = self._lane(provider)

    async def sweep(self) -> SweepFinished | SweepFailed:
        """Replay, then claim and start due tokens, for as long as one period. Returns its end, which it has also
        reported. Never raises.
        """
        end = await self._swept()
        self._observe(end)
        return end

    async def _swept(self) -> SweepFinished | SweepFailed:
        started = self._clock.boot()
        try:
            async with self._beginning:
                await self._begin()
            await self._wait_for_passes()
        except (StoreLost, Halted) as why:
            return SweepFailed(message=str(why))
        except Exception as error:  # noqa: BLE001  the next sweep may fare better; a daemon that stops can't
            self._observe(InternalError(where="sweep", error=error))
            return SweepFailed(message=f"unexpected: {type(error).__name__}")
        counts = self._tally.take()
        claimed, self._claimed = self._claimed, 0
        return SweepFinished(
            claimed=claimed,
            renewed=counts["renewed"],
            postponed=counts["postponed"],
            rejected=counts["rejected"],
            scheduled=counts["scheduled"],
            in_doubt=counts["in_doubt"],
            duration=self._clock.boot() - started,
            at=self._clock.now(),
        )

    def wish(self, tokens: Collection[str]) -> None:
        """Renew these tokens soon, as applications ask for, if they are due. Before the first sweep, leave them to it."""
        for token in tokens:
            lane = self.lanes.get(token.partition(":")[0])
            if lane is not None and self._begun:
                lane.wish([token])

    async def drain(self) -> None:
        """Claim nothing more, and wait until the results of all requests in flight have been recorded."""
        await asyncio.gather(*(lane.drain() for lane in self._all()))
        await asyncio.gather(*self._passes.values(), return_exceptions=True)

    async def _begin(self) -> None:
        """Look at the store, replay, and start a pass of each lane with due tokens. Raises StoreLost or Halted."""
        survey = await self._store.survey(self.lanes.keys())
        for item in survey.set_aside:
            report(item, self._observe)
        self._report_pauses(survey.paused)
        await self.replay()
        if not self._journal.writable:
            raise Halted("journal not writable; refreshing is suspended")
        self._harvest()  # passes that ended between two sweeps may start again
        due = await self._store.due(self.lanes.keys() - self._passes.keys())
        for name, lane in self.lanes.items():
            lane.health.follow(survey.paused.get(name))
            if name in self._passes:
                self._watch(lane)
            elif name in due or self._failures[name]:  # only a pass shows that a lane works again
                self._passes[name] = asyncio.create_task(lane.work(), name=f"lane {name}")
            else:
                lane.replayed()
        self._begun = True

    def _report_pauses(self, paused: Mapping[str, Pause]) -> None:
        """Report the changes since the last sweep, for configured providers."""
        now = {name: pause for name, pause in paused.items() if name in self.lanes}
        for name, pause in now.items():
            if name not in self.paused or self.paused[name].since != pause.since:
                self._observe(
                    ProviderPaused(provider=name, reason=pause.reason, next_probe_at=pause.next_probe_at)
                )
        for name in self.paused.keys() - now.keys():
            self._observe(ProviderResumed(provider=name))
        self.paused = now

    async def _wait_for_passes(self) -> None:
        """Wait for the lanes and for their requests, at most for this sweep's period. The next sweep waits
        for the rest.

        Raises StoreLost if a lane met that, and Halted if every lane failed.
        """
        deadline = self._clock.boot() + self._period * PATIENCE
        await self._wait_for(list(self._passes.values()), deadline)
        if (lost := self._harvest()) is not None:
            raise lost
        if self.lanes and all(self._failures[name] for name in self.lanes):
            raise Halted("no provider's tokens can be claimed: every lane failed")
        resting = [lane for name, lane in self.lanes.items() if name not in self._passes]
        await self._wait_for([task for lane in resting for task in lane.in_flight.values()], deadline)

    def _harvest(self) -> StoreLost | None:
        """Remove the passes that have ended from the list. Returns the loss of the store, if there was one."""
        lost = None
        for name, task in list(self._passes.items()):
            if not task.done():
                continue
            del self._passes[name]
            self._stuck_since.pop(name, None)
            error = None if task.cancelled() else task.exception()
            if isinstance(error, StoreLost):
                lost = error
            elif error is not None:
                self._failures[name] += 1
                self._observe(InternalError(where="lane", provider=name, error=error))
                self._report_lane(name, f"{type(error).__name__}: {error}")
            elif not task.cancelled():
                self._claimed += task.result()
                if self._failures.pop(name, 0):
                    self._report_lane(name, "it works again")
        return lost

    def _watch(self, lane: Lane) -> None:
        """Count the sweeps that find the lane's pass stuck for longer than any MongoDB command may take."""
        name, now = lane.provider.name, self._clock.boot()
        if not lane.is_stuck:
            self._stuck_since.pop(name, None)
        elif now - self._stuck_since.setdefault(name, now) >= STUCK_AFTER:
            self._failures[name] += 1
            self._report_lane(name, "its pass is stuck: it does not end, although no request is in flight")

    def _report_lane(self, name: str, message: str) -> None:
        self._observe(LaneFailed(provider=name, message=masked(message), failures=self._failures[name]))

    async def _wait_for(self, tasks: Collection[asyncio.Task[Any]], deadline: timedelta) -> None:
        """Wait until `tasks` have ended, at most until `deadline` on the boot clock."""
        if tasks:
            left = max(deadline - self._clock.boot(), timedelta(0))
            await asyncio.wait(tasks, timeout=left.total_seconds())

    def _all(self) -> list[Lane]:
        return [*self.lanes.values(), *self._leaving.values()]

    async def replay(self) -> None:
        """Replay the replies in the journal. Raises StoreLost."""
        await self._journal.probe()
        await self._free_overtaken()
        in_flight = {token for lane in self._all() for token in lane.in_flight}
        await self._replayer.replay(
            entry
            for entry in self._journal.entries()
            if entry.token not in in_flight and entry.provider in self.lanes
        )

    async def _free_overtaken(self) -> None:
        """Free tokens that are blocked by a reply that can't be opened, if a newer grant is stored. Raises
        StoreLost.
        """
        locked = self._journal.locked
        if not locked:
            return
        standings = await self._store.standings({one.token for one in locked})
        for one in locked:
            if is_overtaken(one, standings.get(one.token)):
                self._journal.park(one, EntryState.SUPERSEDED)

    async def _conclude(self, claim: Claim, entry: Entry) -> Outcome:
        health = self.lanes[entry.provider].health
        outcome = await self._refresher.conclude(claim, entry, health.weigh)
        await health.agree()
        return outcome

    def _report_replay(self, entry: Entry, result: ReplayResult | Exception) -> None:
        if not isinstance(result, Exception):
            self._observe(JournalReplayed(token=entry.token, result=result))
        elif entry.key not in self._unusable:
            self._unusable.add(entry.key)
            self._observe(unexpected("replay", entry.token, entry.provider, result))
