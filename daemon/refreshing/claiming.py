"""One pass of a lane: claims, and starts, while more is due and there is capacity for it."""

from collections.abc import Callable

from daemon.domain.circuit_breaker import Reason
from daemon.domain.claim import Batch
from daemon.refreshing.bulkhead import Bulkhead
from daemon.refreshing.ports import Clock, Store
from daemon.refreshing.prefetch import Prefetch
from daemon.refreshing.prober import Prober
from daemon.refreshing.provider_health import ProviderHealth
from daemon.refreshing.rate_gate import RateGate


class ClaimingPass:
    """Claims the due tokens of one provider for `bulkhead`, some ahead of its capacity.

    `busy` returns the tokens that must not be claimed. `goes_on`: whether anything may start. `may_probe`: whether a
    claimed probe may still be sent.
    """

    def __init__(
        self,
        bulkhead: Bulkhead,
        *,
        store: Store,
        health: ProviderHealth,
        rate: RateGate,
        prober: Prober,
        prefetch: Prefetch,
        busy: Callable[[], set[str]],
        goes_on: Callable[[], bool],
        may_probe: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._bulkhead = bulkhead
        self._store = store
        self._health = health
        self._rate = rate
        self._prober = prober
        self._prefetch = prefetch
        self._busy = busy
        self._goes_on = goes_on
        self._may_probe = may_probe
        self._clock = clock

    async def run(self) -> int:
        """Claim and start all due tokens. Returns the number of claims. Raises StoreLost."""
        self._health.slow_start.begin_pass(self._clock.boot())
        claimed, more = 0, True
        self._bulkhead.quota.competing = True
        try:
            if self._health.breaker.is_open:
                claimed = await self._probe()
            self._prefetch.begin(self._clock.boot())
            while more and await self._wait_for_capacity() and not self._health.breaker.is_open:
                async with self._rate.turn:
                    batch = await self._claim()
                claimed += len(batch.items)
                more = batch.more
            await self._bulkhead.started()
        finally:
            self._bulkhead.quota.competing = False
            self._bulkhead.wake()
            async with self._rate.turn:  # a token that is being released must not be claimed
                claimed -= await self._bulkhead.give_back(self._store)
        return claimed

    async def _claim(self) -> Batch:
        """Claim and start due tokens, as many as there is capacity for. Raises StoreLost."""
        await self._rate.ready(goes_on=self._goes_on)
        self._prefetch.measure(self._clock.boot(), share=self._bulkhead.limit)
        claimable = self._bulkhead.limit + self._prefetch.count - self._bulkhead.held
        limit = self._rate.available(claimable)
        if limit < 1 or not self._goes_on() or self._health.breaker.is_open:
            return Batch(items=(), more=True)
        batch = await self._store.claim(self._bulkhead.provider, limit=limit, busy=self._busy())
        await self._rate.acquire(self._bulkhead.take(batch))
        self._bulkhead.fill()
        return batch

    async def _probe(self) -> int:
        """Send the probe that the pause allows. Returns the number of claims."""
        pause = self._health.pause
        if pause is None or pause.reason is Reason.OPERATOR or not await self._wait_for_capacity():
            return 0
        async with self._rate.turn:
            await self._rate.ready(goes_on=self._goes_on)
            if not self._goes_on():
                return 0
            return await self._prober.probe(pause, busy=self._busy(), goes_on=self._may_probe)

    async def _wait_for_capacity(self) -> bool:
        """Wait until a good part of the capacity is free, so that claims come in batches. Returns whether
        anything may still start.
        """
        bulkhead = self._bulkhead
        await bulkhead.first_answered()
        bulkhead.fill()
        while bulkhead.may_fill and 2 * bulkhead.held > bulkhead.limit + self._prefetch.count:
            await bulkhead.one_freed()
        return self._goes_on()
