"""Probes: the few tokens that are presented to a paused provider to find out whether it works again."""

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime

from daemon.domain.circuit_breaker import Pause, Reason, is_healthy, is_probed, is_proven, probe_size
from daemon.domain.claim import Batch
from daemon.refreshing.bulkhead import Bulkhead
from daemon.refreshing.ports import Clock, Pauses, Store
from daemon.refreshing.rate_gate import RateGate

NOTHING = Batch(items=(), more=False)


class Prober:
    """Sends one provider's probes through `bulkhead`."""

    def __init__(
        self,
        bulkhead: Bulkhead,
        *,
        store: Store,
        pauses: Pauses,
        rate: RateGate,
        clock: Clock,
    ) -> None:
        self._bulkhead = bulkhead
        self._store = store
        self._pauses = pauses
        self._rate = rate
        self._clock = clock
        self._tried: datetime | None = None  # when the pause began that this client has already probed

    def forget(self) -> None:
        """Forget the last probe: the configuration has changed, and a new client has sent none."""
        self._tried = None

    async def probe(
        self,
        pause: Pause,
        *,
        busy: Collection[str],
        goes_on: Callable[[], bool],
    ) -> int:
        """Send a probe if it is due and this replica's turn. Between the probes of an outage, present the
        tokens in doubt.

        Returns the number of claims. Claims that must not start stay in the queue and are given back later.
        Raises StoreLost.
        """
        waiting, in_flight = self._bulkhead.waiting, self._bulkhead.in_flight
        probed = is_probed(self._bulkhead.provider, pause.reason)
        due = (probed and self._is_due(pause.next_probe_at)) or self._is_other_client(pause)
        batch = await (self._candidates(pause, busy) if due else self._doubtful(pause, busy))
        await self._rate.acquire(self._bulkhead.take(batch))
        if not waiting or (due and not await self._take_turn(pause)) or not goes_on():
            return len(batch.items)
        self._bulkhead.start()
        while waiting and (not due or is_healthy(waiting[0].token)):
            self._bulkhead.start()
        await asyncio.wait(in_flight.values())
        return len(batch.items)

    async def _take_turn(self, pause: Pause) -> bool:
        """Return whether this replica sends the probe."""
        proven = any(is_proven(claim.token) for claim in self._bulkhead.waiting)
        ours = await self._pauses.take_turn(self._bulkhead.provider, pause, proven)
        if ours:
            self._tried = pause.since
        return ours

    async def _candidates(self, pause: Pause, busy: Collection[str]) -> Batch:
        """Claim proven tokens that are due. If there are none, claim others: healthy ones first, else one
        that has failed.
        """
        size = probe_size(pause.reason, pause.probes)
        batch = await self._claimed(size, busy, proven=True)
        if not batch.items and (self._is_due(pause.next_retry_at) or self._is_other_client(pause)):
            size = probe_size(pause.reason, pause.probes + pause.retries)
            batch = await self._claimed(size, busy, proven=False)
        return batch

    async def _claimed(self, size: int, busy: Collection[str], *, proven: bool) -> Batch:
        limit = self._rate.available(min(size, self._bulkhead.provider.share))
        return await self._store.probe(self._bulkhead.provider, limit=limit, busy=busy, proven=proven)

    async def _doubtful(self, pause: Pause, busy: Collection[str]) -> Batch:
        """During an outage, claim the tokens that were asked for once without an answer. Invariant I5 grants
        each a second request.
        """
        limit = self._rate.available(self._bulkhead.provider.share - len(self._bulkhead.in_flight))
        if pause.reason is not Reason.OUTAGE or limit < 1:
            return NOTHING
        return await self._store.claim(self._bulkhead.provider, limit=limit, busy=busy, doubtful=True)

    def _is_due(self, at: datetime | None) -> bool:
        return at is None or at <= self._clock.now()

    def _is_other_client(self, pause: Pause) -> bool:
        """Return whether the pause is about another client than the configured one, which has not been tried
        yet.
        """
        return pause.client != self._pauses.client_of(self._bulkhead.provider) and self._tried != pause.since
