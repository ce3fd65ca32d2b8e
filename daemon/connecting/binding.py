"""The last step of a consent: its grant becomes the stored token."""

from collections.abc import Callable, Mapping

from daemon.connecting.ports import Clock, Consents, Observe, Tokens
from daemon.domain.consent_request import (
    Binding,
    Bound,
    ConsentFailure,
    ConsentFailureKind,
    ConsentRequest,
    ConsentResult,
)
from daemon.domain.due import Moment, Timing
from daemon.domain.event import ConsentFailed, TokenConnected
from daemon.domain.held_grant import HeldGrant
from daemon.domain.new_token import new_token
from daemon.domain.provider import Provider

_SUPERSEDED = ConsentFailure(
    kind=ConsentFailureKind.SUPERSEDED, message="a newer consent of this account was stored first"
)


class Binder:
    """`provider` returns the configuration of a provider by its name."""

    def __init__(
        self,
        *,
        provider: Callable[[str], Provider],
        consents: Consents,
        tokens: Tokens,
        clock: Clock,
        chance: Callable[[], float],
        timing: Timing,
        observe: Observe,
    ) -> None:
        self._provider = provider
        self._consents = consents
        self._tokens = tokens
        self._clock = clock
        self._chance = chance
        self._timing = timing
        self._observe = observe

    async def bind(self, request: ConsentRequest, grant: HeldGrant) -> ConsentFailure | None:
        """Store the grant and end the request. Returns why the grant must not be stored; the request is still asked then.

        Repeating it changes nothing. Raises StoreLost or Unusable.
        """
        token = new_token(
            request.token,
            self._provider(request.provider),
            grant.consent,
            variables=request.vars,
            moment=Moment(self._clock.now(), self._chance(), self._timing),
        )
        bound = await self._tokens.bind(token, _binding(request, grant))
        if bound is not Bound.STORED:
            return _SUPERSEDED if isinstance(bound, Bound) else bound
        result = ConsentResult(
            scope=token.scope, missing_scopes=grant.missing_scopes, expires_at=token.expires_at
        )
        await self._consents.done(request.id, result)
        self._observe(
            TokenConnected(
                token=request.token,
                provider=request.provider,
                consent=request.id,
                missing_scopes=grant.missing_scopes,
            )
        )
        return None


def _binding(request: ConsentRequest, grant: HeldGrant) -> Binding:
    return Binding(
        consent=request.id,
        asked_at=grant.asked_at,
        account=grant.account,
        missing_scopes=grant.missing_scopes,
        subject=request.subject,
        meta=request.meta,
        extra=grant.consent.extra,
        replace=request.replace,
    )


def not_connected(request: ConsentRequest, failure: ConsentFailure) -> ConsentFailed:
    """Return the event of a consent that has led to no token."""
    return ConsentFailed(
        token=request.token,
        provider=request.provider,
        consent=request.id,
        kind=failure.kind.value,
        code=failure.named,
        message=failure.message,
    )


def same_client(providers: Mapping[str, Provider], provider: Provider) -> list[str]:
    """Return the names of the providers that use the client of `provider`. A revocation may end the grants of all."""
    return [
        name
        for name, one in providers.items()
        if one.client_id == provider.client_id or name == provider.name
    ]
