"""A lane does the work of one provider: it claims as many tokens as it has capacity for, starts them, and
continues while more are due.

Lanes isolate providers from each other. Each has a bulkhead, so a provider that hangs fills its own lane
only. The circuit breaker decides from the answers when the provider is paused. The lane of a paused provider
sends probes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta

from daemon.domain.circuit_breaker import Reason
from daemon.domain.claim import Batch, Claim, StoreLost
from daemon.domain.provider import Provider
from daemon.domain.quarantine import Quarantine
from daemon.refreshing.bulkhead import Bulkhead
from daemon.refreshing.ports import Clock, Journal, Observe, Pauses, RateLimiter, Store
from daemon.refreshing.prefetch import Prefetch
from daemon.refreshing.presenter import Presenter
from daemon.refreshing.prober import Prober
from daemon.refreshing.provider_health import ProviderHealth
from daemon.refreshing.rate_gate import RateGate
from daemon.refreshing.refresher import Refresher
from daemon.refreshing.reporting import unexpected
from daemon.refreshing.spare import Spare
from daemon.refreshing.wishes import Wishes

BUG_REST, LONGEST_BUG_REST = timedelta(minutes=5), timedelta(hours=6)


class Lane:
    """Takes the tokens of one provider from their claims to their results."""

    def __init__(
        self,
        provider: Provider,
        *,
        store: Store,
        pauses: Pauses,
        rate_limiter: Callable[[Provider], RateLimiter],
        journal: Journal,
        refresher: Refresher,
        clock: Clock,
        observe: Observe,
        spare: Spare,
    ) -> None:
        self.health = ProviderHealth(provider, pauses=pauses, clock=clock, observe=observe)
        self._store = store
        self._journal = journal
        self._refresher = refresher
        self._clock = clock
        self._observe = observe
        self._bulkhead = Bulkhead(
            provider,
            health=self.health,
            spare=spare,
            refresh=self._refresh,
            may_start=self._works,
            observe=observe,
        )
        self._rate = RateGate(provider, rate_limiter)
        self._prober = Prober(self._bulkhead, store=store, pauses=pauses, rate=self._rate, clock=clock)
        self._claiming = asyncio.Lock()
        self._wishes = Wishes(
            self._bulkhead,
            store=store,
            health=self.health,
            rate=self._rate,
            claiming=self._claiming,
            busy=self._busy,
            may_start=self._serves_wishes,
            observe=observe,
        )
        self._presenter = Presenter(
            self._rate, claiming=self._claiming, may_present=self.may_present, goes_on=self._works
        )
        self._prefetch = Prefetch()
        self._quarantine = Quarantine(first=BUG_REST, last=LONGEST_BUG_REST)
        self._lost = False  # a result could not be stored: it is replayed before anything else is claimed
        self._stopping = False

    @property
    def provider(self) -> Provider:
        return self._bulkhead.provider

    @property
    def in_flight(self) -> dict[str, asyncio.Task[None]]:
        return self._bulkhead.in_flight

    @property
    def is_stuck(self) -> bool:
        """Whether a running pass waits for nothing: neither for a request nor for the rate limit."""
        return not self.in_flight and not self._rate.is_waiting

    def use(self, provider: Provider) -> None:
        """Use this configuration of the provider from now on. A changed one has to prove itself again, and
        tokens in quarantine are tried again.
        """
        self._quarantine.clear()
        if provider != self.provider:
            self._bulkhead.provider = provider
            self.health.use(provider)
            self._prober.forget()
            self._rate.use(provider)

    async def work(self) -> int:
        """Claim and start all due tokens. Returns the number of claims. Raises StoreLost."""
        self._lost = False
        if self.health.is_crowded(self._journal.crowded):
            return 0
        self.health.slow_start.begin_pass(self._clock.boot())
        claimed, more = 0, True
        self._bulkhead.quota.competing = True
        try:
            if self.health.breaker.is_open:
                claimed = await self._probe()
            self._prefetch.begin(self._clock.boot())
            while more and await self._wait_for_capacity() and not self.health.breaker.is_open:
                async with self._claiming:
                    batch = await self._claim()
                claimed += len(batch.items)
                more = batch.more
            await self._bulkhead.started()
        finally:
            self._bulkhead.quota.competing = False
            self._bulkhead.wake()
            async with self._claiming:  # a token that is being released must not be claimed
                claimed -= await self._bulkhead.give_back(self._store)
        if self._lost:
            raise StoreLost("a result could not be stored; its reply is kept in the journal")
        return claimed

    def wish(self, tokens: Collection[str]) -> None:
        """Renew these tokens soon, if they are due. What can't be done now is left to a sweep."""
        if self._serves_wishes():
            self._wishes.add(tokens)

    def may_present(self) -> bool:
        """Return whether something that no claim covers may be sent to the provider now."""
        return self._serves_wishes() and not self.health.breaker.is_open

    async def present(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Run `work`, which presents one secret that no claim covers. Returns False if nothing may be sent now."""
        return await self._presenter.present(work)

    def replayed(self) -> None:
        """Note that the replies of lost results have been replayed, so that wishes may be served again."""
        self._lost = False

    async def _claim(self) -> Batch:
        """Claim and start due tokens, as many as there is capacity for. Raises StoreLost."""
        await self._rate.ready(goes_on=self._works)
        self._prefetch.measure(self._clock.boot(), share=self._bulkhead.limit)
        claimable = self._bulkhead.limit + self._prefetch.count - self._bulkhead.held
        limit = self._rate.available(claimable)
        if limit < 1 or not self._works() or self.health.breaker.is_open:
            return Batch(items=(), more=True)
        batch = await self._store.claim(self.provider, limit=limit, busy=self._busy())
        await self._rate.acquire(self._bulkhead.take(batch))
        self._bulkhead.fill()
        return batch

    async def _probe(self) -> int:
        """Send the probe that the pause allows. Returns the number of claims."""
        pause = self.health.pause
        if pause is None or pause.reason is Reason.OPERATOR or not await self._wait_for_capacity():
            return 0
        async with self._claiming:
            await self._rate.ready(goes_on=self._works)
            if not self._works():
                return 0
            return await self._prober.probe(pause, busy=self._busy(), goes_on=lambda: not self._stopping)

    def stop(self) -> None:
        """Stop starting claims."""
        self._stopping = True
        self._bulkhead.wake()
        self._rate.interrupt()

    def resume(self) -> None:
        """Revoke the stop, because the provider is configured again."""
        self._stopping = False

    async def drain(self) -> None:
        """Stop starting claims, and wait until no request is in flight."""
        self.stop()
        await self._wishes.ended()
        while running := [*self.in_flight.values(), *self._presenter.running]:
            await asyncio.wait(running)

    def _works(self) -> bool:
        has_client = self.provider.lacking is None
        return has_client and not self._stopping and not self._lost and self._journal.writable

    def _serves_wishes(self) -> bool:
        return self._works() and self.provider.name not in self._journal.crowded

    async def _wait_for_capacity(self) -> bool:
        """Wait until a good part of the capacity is free, so that claims come in batches. Returns whether
        anything may still start.
        """
        bulkhead = self._bulkhead
        await bulkhead.first_answered()
        bulkhead.fill()
        while bulkhead.may_fill and 2 * bulkhead.held > bulkhead.limit + self._prefetch.count:
            await bulkhead.one_freed()
        return self._works()

    def _busy(self) -> set[str]:
        """Return the tokens that must not be claimed: they are waiting or in flight here, have a reply in the
        journal, or are in quarantine.
        """
        waiting = (claim.token.id for claim in (*self._bulkhead.waiting, *self._bulkhead.wished))
        return {*self.in_flight, *waiting, *self._journal.tokens, *self._quarantine.held(self._clock.boot())}

    async def _refresh(self, claim: Claim) -> None:
        """Renew one token. A lost store ends the pass. A bug must not reach the other tokens."""
        name = claim.token.id
        try:
            try:
                await self._refresher.refresh(claim, self.health.weigh)
            finally:
                await self.health.agree()
            self._quarantine.release([name])
        except StoreLost:
            self._lost = True  # its reply, if one came, is in the journal; the next sweep replays it
        except Exception as error:  # noqa: BLE001  one token's bug must not reach the others
            if name not in self._journal.tokens:  # a reply in the journal blocks the token anyway
                self._quarantine.put(name, type(error).__name__, now=self._clock.boot())
            self._observe(unexpected("refresh", name, claim.token.provider, error))
        finally:
            self._prefetch.finished()
