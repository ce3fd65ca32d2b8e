"""One token's bug must not reach the others: its refresh ends with an event, and the token goes into quarantine."""

from datetime import timedelta

from daemon.domain.claim import Claim, StoreLost
from daemon.domain.quarantine import Quarantine
from daemon.refreshing.ports import Clock, Journal, Observe
from daemon.refreshing.provider_health import ProviderHealth
from daemon.refreshing.refresher import Refresher
from daemon.refreshing.reporting import unexpected

BUG_REST, LONGEST_BUG_REST = timedelta(minutes=5), timedelta(hours=6)


class ContainedRefresh:
    """Refreshes tokens of one provider, and keeps those that met a bug in quarantine."""

    def __init__(
        self,
        refresher: Refresher,
        *,
        health: ProviderHealth,
        journal: Journal,
        clock: Clock,
        observe: Observe,
    ) -> None:
        self._refresher = refresher
        self._health = health
        self._journal = journal
        self._clock = clock
        self._observe = observe
        self._quarantine = Quarantine(first=BUG_REST, last=LONGEST_BUG_REST)

    @property
    def quarantined(self) -> set[str]:
        """The tokens that must be left alone now."""
        return self._quarantine.held(self._clock.boot())

    def forget(self) -> None:
        """End all quarantines: the cause may be gone."""
        self._quarantine.clear()

    async def refresh(self, claim: Claim) -> None:
        """Renew one token. Raises StoreLost. Any other error is reported and puts the token into quarantine."""
        name = claim.token.id
        try:
            try:
                await self._refresher.refresh(claim, self._health.weigh)
            finally:
                await self._health.agree()
            self._quarantine.release([name])
        except StoreLost:
            raise
        except Exception as error:  # noqa: BLE001  one token's bug must not reach the others
            if name not in self._journal.tokens:  # a reply in the journal blocks the token anyway
                self._quarantine.put(name, type(error).__name__, now=self._clock.boot())
            self._observe(unexpected("refresh", name, claim.token.provider, error))
