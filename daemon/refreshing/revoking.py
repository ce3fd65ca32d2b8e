"""The end of one token: wait for its lease, ask the provider, decide, record.

A revocation runs in the provider's lane and under a lease, as a refresh does. So no refresh of this token is running,
and the presented token is the newest one that is stored.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta

from daemon.domain.answer import Answer, Granted
from daemon.domain.change import Scheduled
from daemon.domain.claim import Claim, Recorded, Unusable
from daemon.domain.event import LateReplyRevoked, ProviderAnswered, TokenScheduled
from daemon.domain.journal_entry import Entry
from daemon.domain.provider import Provider
from daemon.domain.revocation_outcome import (
    UNKNOWN_ACCESS,
    Again,
    Cannot,
    Done,
    Outcome,
    decided,
    is_early,
    outcome_of,
    proves_the_end,
)
from daemon.domain.revocation_request import (
    Presented,
    presented,
    revocation_of,
    revocation_request,
    to_present,
)
from daemon.domain.token import Token
from daemon.domain.token_url import NotSendable
from daemon.refreshing.ports import Chance, Clock, Endpoint, Observe, Store
from daemon.refreshing.reporting import revocation_event

LATE_RETRY = timedelta(minutes=5)  # between two attempts to revoke the tokens of one late reply
LATE_TIME = timedelta(seconds=90)  # within it, such an attempt starts


class LateReplyAlive(Unusable):
    """The tokens of a late reply are not revoked yet, so the journal keeps it."""


class Revoker:
    """`provider` returns the configuration of a provider by its name."""

    def __init__(
        self,
        *,
        provider: Callable[[str], Provider],
        store: Store,
        endpoint: Endpoint,
        clock: Clock,
        chance: Chance,
        observe: Observe,
    ) -> None:
        self._provider = provider
        self._store = store
        self._endpoint = endpoint
        self._clock = clock
        self._chance = chance
        self._observe = observe
        self._late: dict[
            int, timedelta
        ] = {}  # entries with a failed attempt, and when the next one may begin

    async def revoke(self, claim: Claim) -> None:
        """Revoke the claimed token, or store why that failed and when to try again. Raises StoreLost."""
        token, order = claim.token, claim.token.revocation
        if order is not None and is_early(token, now=self._clock.now()):
            await self._store.record(claim, Scheduled(due_at=order.not_before))
            self._observe(TokenScheduled(token=token.id, provider=token.provider))
            return
        outcome = await self._asked(token, deadline=claim.deadline)
        change = decided(token, outcome, now=self._clock.now(), chance=self._chance())
        if await self._store.record(claim, change) is Recorded.STORED:
            self._observe(revocation_event(token, change))

    async def revoke_late(self, claim: Claim, entry: Entry, answer: Answer) -> bool:
        """Revoke the tokens that a reply has brought for a token which is revoked, or which is being revoked with another
        refresh token. Returns False if the provider does not allow it. Raises LateReplyAlive if it has to be tried
        again.
        """
        now = self._clock.boot()
        if now < self._late.get(entry.key, now):
            raise LateReplyAlive(f"the tokens of a late reply for {entry.token} wait for their revocation")
        provider = self._provider(entry.provider)
        revocation = revocation_of(provider.definition)
        if revocation is None or not isinstance(answer, Granted):
            return False
        found = to_present(revocation, refresh=answer.refresh_token, access=answer.access_token)
        end = answer.expires_at
        lives = end is None or self._clock.now() < end
        outcome = await self._all_asked(claim.token, provider, found, deadline=now + LATE_TIME, proof=lives)
        if isinstance(outcome, Again) and outcome.code != UNKNOWN_ACCESS:
            self._late[entry.key] = now + LATE_RETRY
            raise LateReplyAlive(f"the tokens of a late reply for {entry.token} are alive: {outcome.message}")
        self._late.pop(entry.key, None)
        if isinstance(outcome, Done):
            self._observe(LateReplyRevoked(token=entry.token, provider=entry.provider))
        return isinstance(outcome, Done)

    async def _asked(self, token: Token, *, deadline: timedelta) -> Outcome:
        provider = self._provider(token.provider)
        try:
            found = presented(provider, token)
        except NotSendable as why:
            return Cannot(code="no_revocation", message=str(why))
        proof = proves_the_end(provider, token)
        return await self._all_asked(token, provider, found, deadline=deadline, proof=proof)

    async def _all_asked(
        self,
        token: Token,
        provider: Provider,
        found: Sequence[Presented],
        *,
        deadline: timedelta,
        proof: bool,
    ) -> Outcome:
        """Present all of `found`, one after the other. The first failure is the outcome."""
        for one in found:
            outcome = await self._asked_once(token, provider, one, deadline=deadline, proof=proof)
            if not isinstance(outcome, Done):
                return outcome
        return Done()

    async def _asked_once(
        self, token: Token, provider: Provider, one: Presented, *, deadline: timedelta, proof: bool
    ) -> Outcome:
        started = self._clock.boot()
        try:
            request = revocation_request(provider, one, token.vars, now=self._clock.now())
        except NotSendable as why:
            return Cannot(code="not_sendable", message=str(why))
        reply = await self._endpoint.send(request, deadline=deadline)
        self._observe(ProviderAnswered(provider=provider.name, duration=self._clock.boot() - started))
        return outcome_of(provider, token, reply, proof=proof)
