"""A bulkhead limits the requests in flight to one provider, so that a provider that hangs takes no capacity
from the others.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine

from daemon.domain.claim import Batch, Claim, SetAside, StoreLost
from daemon.domain.event import InFlight
from daemon.domain.provider import Provider
from daemon.refreshing.ports import Observe, Store
from daemon.refreshing.provider_health import ProviderHealth
from daemon.refreshing.reporting import report
from daemon.refreshing.spare import Spare
from daemon.refreshing.wish_quota import WishQuota

Refresh = Callable[[Claim], Coroutine[None, None, None]]


class Bulkhead:
    """Holds the claims that wait for their start, and the requests in flight: up to `provider.share`, plus
    the capacity that `spare` lends. Claims of wishes start first, up to their quota.

    `may_start` returns whether anything may start at all. While the circuit breaker is open, only `start`
    starts a claim.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        health: ProviderHealth,
        spare: Spare,
        refresh: Refresh,
        may_start: Callable[[], bool],
        observe: Observe,
    ) -> None:
        self.provider = provider
        self.waiting: deque[Claim] = deque()
        self.wished: deque[Claim] = deque()
        self.quota = WishQuota()
        self.in_flight: dict[str, asyncio.Task[None]] = {}
        self._health = health
        self._spare = spare
        self._refresh = refresh
        self._may_start = may_start
        self._observe = observe
        self._wishes_in_flight: set[str] = set()
        self._freed = asyncio.Event()
        self._reporting = False

    @property
    def limit(self) -> int:
        """The limit of requests in flight. A provider borrows more only while its last answer was a grant."""
        if self._health.slow_start.alone:
            return 1
        limit = max(self.provider.share, len(self.in_flight))
        if self._health.granting:
            limit += self._spare.free
        return limit if self.provider.most is None else min(limit, self.provider.most)

    @property
    def held(self) -> int:
        return len(self.in_flight) + len(self.waiting) + len(self.wished)

    @property
    def wishes_left(self) -> int:
        """Return how many more wishes may be claimed now."""
        held = len(self._wishes_in_flight) + len(self.wished)
        return self.quota.left(share=self.provider.share, held=held)

    @property
    def may_fill(self) -> bool:
        """Whether a waiting claim may start. While the provider is paused, no claim starts automatically."""
        return self._may_start() and not ((self.waiting or self.wished) and self._health.breaker.is_open)

    def take(self, batch: Batch) -> int:
        """Queue the claims of a batch, and report its unusable documents. Returns the number of claims."""
        claims = self._claims_of(batch)
        self.waiting += claims
        return len(claims)

    def take_wished(self, batch: Batch) -> int:
        """Do the same with a batch of wishes, which start before the others."""
        claims = self._claims_of(batch)
        self.wished += claims
        self.quota.claimed(len(claims), share=self.provider.share)
        return len(claims)

    def _claims_of(self, batch: Batch) -> list[Claim]:
        for item in batch.items:
            if isinstance(item, SetAside):
                report(item, self._observe)
        return [item for item in batch.items if isinstance(item, Claim)]

    def fill(self) -> None:
        """Start waiting claims until the capacity is used."""
        room = self.limit - len(self.in_flight)  # each start takes one, whether of the share or of the spare
        while room > 0 and (self.wished or self.waiting) and self.may_fill:
            room -= 1
            if self.wished:
                self._start_wished()
            else:
                self.start()

    def start(self) -> None:
        """Start the claim that has waited longest."""
        self.quota.other_started()
        self._start(self.waiting.popleft())

    def _start_wished(self) -> None:
        claim = self.wished.popleft()
        self._wishes_in_flight.add(claim.token.id)
        self._start(claim)

    def _start(self, claim: Claim) -> None:
        self.in_flight[claim.token.id] = asyncio.create_task(self._run(claim), name=claim.token.id)
        self._changed()

    async def started(self) -> None:
        """Wait until every waiting claim has been started, or must not start."""
        self.fill()  # if that was impossible when the last token ended, nothing else wakes this lane
        while self.waiting and self.may_fill:
            await self.one_freed()

    async def first_answered(self) -> None:
        """Wait for the first answer of a slow start, at most for its time limit."""
        slow_start = self._health.slow_start
        if slow_start.alone and self.in_flight:
            left = slow_start.left(self._health.now)
            await asyncio.wait(self.in_flight.values(), timeout=left.total_seconds())
            if not slow_start.left(self._health.now) and not self._health.breaker.is_open:
                slow_start.end()

    async def one_freed(self) -> None:
        """Wait until a request has ended or `wake` was called."""
        self._freed.clear()
        await self._freed.wait()
        self.fill()

    def wake(self) -> None:
        """End the current wait."""
        self._freed.set()

    async def give_back(self, store: Store) -> int:
        """Release the waiting claims. Returns their number. Raises StoreLost."""
        return await _given_back(self.waiting, store)

    async def give_back_wished(self, store: Store) -> int:
        """Release the waiting claims of wishes. Returns their number. Raises StoreLost."""
        return await _given_back(self.wished, store)

    async def _run(self, claim: Claim) -> None:
        try:
            await self._refresh(claim)
        finally:
            del self.in_flight[claim.token.id]
            self._wishes_in_flight.discard(claim.token.id)
            self._changed()
            self.fill()
            self._freed.set()

    @property
    def _borrowed(self) -> int:
        return max(0, len(self.in_flight) - self.provider.share)

    def _changed(self) -> None:
        """Update the borrowed capacity, and report the number in flight once for all changes in one turn of
        the loop.
        """
        self._spare.lend(self.provider.name, self._borrowed)
        if not self._reporting:
            self._reporting = True
            asyncio.get_running_loop().call_soon(self._report)

    def _report(self) -> None:
        self._reporting = False
        self._observe(InFlight(provider=self.provider.name, count=len(self.in_flight)))


async def _given_back(waiting: deque[Claim], store: Store) -> int:
    """Release all of `waiting`. Returns their number.

    Tries all of them before it raises the first loss of the store. The store releases the others later.
    """
    claims = list(waiting)
    waiting.clear()
    losses: list[StoreLost] = []
    for claim_id in dict.fromkeys(claim.id for claim in claims):
        try:
            await store.release([claim for claim in claims if claim.id == claim_id])
        except StoreLost as lost:
            losses.append(lost)
    if losses:
        raise losses[0]
    return len(claims)
