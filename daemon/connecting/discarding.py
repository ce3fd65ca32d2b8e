"""The care for a grant that is not stored: it is revoked, unless that could end a stored one.

A revocation may be repeated without harm, so the grant stays sealed in its consent until the provider has accepted it.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta

from daemon.connecting.binding import same_client
from daemon.connecting.ports import Clock, Consents, Deeds, Endpoint, Observe, Tokens
from daemon.domain.consent_request import LEASE, ConsentRequest, Malformed
from daemon.domain.discard import Discard, Harm, LeftAlive, decided, next_try
from daemon.domain.event import ProviderAnswered
from daemon.domain.held_grant import DiscardedGrant, NotReadable, TakenGrant, discarded_grant
from daemon.domain.provider import Provider
from daemon.domain.revocation import PresentedToken, Revocation, RevocationEnds
from daemon.domain.revocation_outcome import Again, Cannot, Done, Outcome, outcome_of
from daemon.domain.revocation_request import Presented, revocation_of, revocation_request, to_present
from daemon.domain.token import State, Token
from daemon.domain.token_url import NotSendable

LATER = timedelta(minutes=1)  # until another grant of the same account has been stored or given up


class Discarder:
    """Revokes grants that are not stored."""

    def __init__(
        self,
        *,
        providers: Mapping[str, Provider],
        consents: Consents,
        tokens: Tokens,
        deeds: Deeds,
        endpoint: Endpoint,
        clock: Clock,
        chance: Callable[[], float],
        observe: Observe,
    ) -> None:
        self._providers = providers
        self._consents = consents
        self._tokens = tokens
        self._deeds = deeds
        self._endpoint = endpoint
        self._clock = clock
        self._chance = chance
        self._observe = observe

    async def discarded(self, taken: TakenGrant) -> None:
        """Revoke the grant of a consent that has ended, leave it alive, or try again later. It runs in the provider's
        lane. Raises StoreLost.
        """
        request, now = taken.request, self._clock.now()
        if isinstance(request, Malformed):  # not even its provider is certain
            await self._leave(taken, LeftAlive.UNREADABLE)
            return
        is_over = taken.until is None or now >= taken.until
        if taken.text is None:
            await (self._leave(taken, LeftAlive.UNREADABLE) if is_over else self._again(taken))
            return
        try:
            grant = discarded_grant(taken.text)
        except NotReadable:
            await self._leave(taken, LeftAlive.UNREADABLE)
            return
        decision = await self._decided(request, grant)
        if isinstance(decision, LeftAlive):
            await self._leave(taken, decision)
        elif is_over:
            await self._leave(taken, LeftAlive.NOT_ANSWERED)
        elif decision is Discard.LATER:
            await self._consents.postpone(request.id, due_at=now + LATER, tries=taken.tries)
        else:
            await self._deeds.revoking(request.token, request.id)
            outcome = await self._revoked(request, grant)
            if isinstance(outcome, Done):
                await self._consents.forget_grant(request.id)
            else:
                await self._again(taken, outcome)

    async def _decided(self, request: ConsentRequest, grant: DiscardedGrant) -> Discard | LeftAlive:
        provider = self._providers[request.provider]
        revocation = revocation_of(provider.definition)
        if revocation is None:
            return LeftAlive.NO_REVOCATION
        names = same_client(self._providers, provider)
        harm = await self._tokens.harm(names, grant)
        alone = revocation.ends is RevocationEnds.TOKEN and grant.account is None
        if (
            harm is Harm.NONE
            and not alone
            and await self._consents.holds_account(request.id, names, grant.account)
        ):
            harm = Harm.SOON
        return decided(revocation, grant, harm)

    async def _leave(self, taken: TakenGrant, why: LeftAlive) -> None:
        """Forget the grant, with a record of it."""
        request = taken.request
        provider = self._providers.get(taken.due.provider)
        page = None if provider is None else provider.definition.manage_url
        target = taken.due.id if isinstance(request, Malformed) else request.token
        await self._deeds.left_alive(target, taken.due.id, why=why.value, manage_url=page)
        await self._consents.forget_grant(taken.due.id)

    async def _again(self, taken: TakenGrant, outcome: Again | Cannot | None = None) -> None:
        tries = taken.tries + 1
        due_at = self._clock.now() + next_try(tries, outcome, chance=self._chance())
        await self._consents.postpone(taken.due.id, due_at=due_at, tries=tries)

    async def _revoked(self, request: ConsentRequest, grant: DiscardedGrant) -> Outcome:
        """Present the tokens that have to be revoked, one after the other. The first failure is the outcome."""
        provider = self._providers[request.provider]
        revocation = revocation_of(provider.definition) or Revocation()
        deadline = self._clock.boot() + LEASE / 2
        try:
            found = to_present(revocation, refresh=grant.refresh_token, access=grant.access_token)
        except NotSendable as why:
            return Cannot(code="not_sendable", message=str(why))
        for one in found:
            outcome = await self._asked(request, provider, grant, one, deadline=deadline)
            if not isinstance(outcome, Done):
                return outcome
        return Done()

    async def _asked(
        self,
        request: ConsentRequest,
        provider: Provider,
        grant: DiscardedGrant,
        one: Presented,
        *,
        deadline: timedelta,
    ) -> Outcome:
        started = self._clock.boot()
        try:
            asked = revocation_request(provider, one, request.vars, now=self._clock.now())
        except NotSendable as why:
            return Cannot(code="not_sendable", message=str(why))
        reply = await self._endpoint.send(asked, deadline=deadline)
        self._observe(ProviderAnswered(provider=provider.name, duration=self._clock.boot() - started))
        proof = self._is_proof(provider, grant)
        return outcome_of(provider, _masked_in_messages(request, grant), reply, proof=proof)

    def _is_proof(self, provider: Provider, grant: DiscardedGrant) -> bool:
        """Return whether the grant has ended if the provider calls the presented token unknown. An access token that is
        over is unknown too, while its refresh token lives.
        """
        revocation = revocation_of(provider.definition) or Revocation()
        by_access = revocation.token is PresentedToken.ACCESS and grant.refresh_token is not None
        return not by_access or grant.expires_at is None or self._clock.now() < grant.expires_at


def _masked_in_messages(request: ConsentRequest, grant: DiscardedGrant) -> Token:
    """Return a token with the secrets that a provider's message may repeat."""
    return Token(
        id=request.token,
        provider=request.provider,
        account=request.account,
        state=State.ACTIVE,
        refresh_token=grant.refresh_token,
        access_token=grant.access_token,
    )
