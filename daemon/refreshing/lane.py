"""A lane does the work of one provider: it claims its due tokens in passes, and takes each to its result.

Lanes isolate providers from each other. Each has a bulkhead, so a provider that hangs fills its own lane
only. The circuit breaker decides from the answers when the provider is paused. The lane of a paused provider
sends probes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from daemon.domain.claim import Claim, StoreLost
from daemon.domain.provider import Provider
from daemon.refreshing.bulkhead import Bulkhead
from daemon.refreshing.claiming import ClaimingPass
from daemon.refreshing.contained_refresh import ContainedRefresh
from daemon.refreshing.ports import Clock, Journal, Observe, Pauses, RateLimiter, Store
from daemon.refreshing.prefetch import Prefetch
from daemon.refreshing.presenter import Presenter
from daemon.refreshing.prober import Prober
from daemon.refreshing.provider_health import ProviderHealth
from daemon.refreshing.rate_gate import RateGate
from daemon.refreshing.refresher import Refresher
from daemon.refreshing.spare import Spare
from daemon.refreshing.wishes import Wishes


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
        self._journal = journal
        self._contained = ContainedRefresh(
            refresher, health=self.health, journal=journal, clock=clock, observe=observe
        )
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
        self._prefetch = Prefetch()
        self._pass = ClaimingPass(
            self._bulkhead,
            store=store,
            health=self.health,
            rate=self._rate,
            prober=self._prober,
            prefetch=self._prefetch,
            busy=self._busy,
            goes_on=self._works,
            may_probe=lambda: not self._stopping,
            clock=clock,
        )
        self._wishes = Wishes(
            self._bulkhead,
            store=store,
            health=self.health,
            rate=self._rate,
            busy=self._busy,
            may_start=self._serves_wishes,
            observe=observe,
        )
        self._presenter = Presenter(self._rate, may_present=self.may_present, goes_on=self._works)
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
        self._contained.forget()
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
        claimed = await self._pass.run()
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

    def _busy(self) -> set[str]:
        """Return the tokens that must not be claimed: they are waiting or in flight here, have a reply in the
        journal, or are in quarantine.
        """
        waiting = (claim.token.id for claim in (*self._bulkhead.waiting, *self._bulkhead.wished))
        return {*self.in_flight, *waiting, *self._journal.tokens, *self._contained.quarantined}

    async def _refresh(self, claim: Claim) -> None:
        """Renew one token. A lost store ends the pass."""
        try:
            await self._contained.refresh(claim)
        except StoreLost:
            self._lost = True  # its reply, if one came, is in the journal; the next sweep replays it
        finally:
            self._prefetch.finished()
