"""The request that revokes a grant at its provider, without I/O: RFC 7009 and the changes that a definition makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import quote

from daemon.domain.provider import BodyFormat, ClientAuth, Definition, Provider
from daemon.domain.request import Request, client_request
from daemon.domain.revocation import (
    CLIENT_ID_PLACE,
    TOKEN_PLACE,
    PresentedToken,
    Revocation,
    RevocationAuth,
    RevocationEnds,
    RevocationMethod,
)
from daemon.domain.secret import Secret
from daemon.domain.token import Token
from daemon.domain.token_url import NotSendable, completed_url, fills_host, is_allowed

_TOKEN, _CLIENT_ID = f"${{{TOKEN_PLACE}}}", f"${{{CLIENT_ID_PLACE}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """A token to be revoked."""

    secret: Secret
    kind: PresentedToken


def revocation_of(definition: Definition) -> Revocation | None:
    """Return how the provider revokes, or None if it has no revocation."""
    revocation = definition.revoke or Revocation()
    return None if (revocation.url or definition.revoke_url) is None else revocation


def presented(provider: Provider, token: Token) -> Sequence[Presented]:
    """Return the tokens to revoke, in their order. Raises NotSendable if there is none, or no revocation."""
    revocation = revocation_of(provider.definition)
    if revocation is None:
        raise NotSendable(f"{provider.name} has no revocation, so the grant stays valid there")
    return to_present(revocation, refresh=token.refresh_token, access=token.access_token)


def to_present(
    revocation: Revocation, *, refresh: Secret | None, access: Secret | None
) -> Sequence[Presented]:
    """Return those of a grant's tokens that the provider has to revoke. Raises NotSendable if there is none.

    A refresh token never stands in for an access token: a provider that takes access tokens only calls it unknown, and
    the grant lives on. The other way round, no refresh token is left to live on.
    """
    found = [
        Presented(secret=secret, kind=kind)
        for secret, kind in ((refresh, PresentedToken.REFRESH), (access, PresentedToken.ACCESS))
        if secret is not None
    ]
    if not found:
        raise NotSendable("no token is stored, so refreshd has nothing to revoke")
    if revocation.token is PresentedToken.ACCESS and access is None:
        raise NotSendable("no access token is stored, and this provider revokes by access tokens only")
    if revocation.token is PresentedToken.ACCESS:
        return found[-1:]
    both = revocation.ends is RevocationEnds.TOKEN and revocation.auth is not RevocationAuth.BEARER
    return found if both else found[:1]


def revocation_request(
    provider: Provider, presented: Presented, variables: Mapping[str, str], *, now: datetime
) -> Request:
    """Return the request that revokes `presented`. Raises NotSendable if it can't be completed safely."""
    revocation, definition = revocation_of(provider.definition), provider.definition
    template = None if revocation is None else revocation.url or definition.revoke_url
    if revocation is None or template is None:
        raise NotSendable(f"{provider.name} has no revocation")
    url = _url(provider, template, presented.secret, variables)
    outside = fills_host(template.replace(_TOKEN, "").replace(_CLIENT_ID, "")) and not is_allowed(
        provider, url
    )
    by_client = not isinstance(revocation.auth, RevocationAuth)
    sender = (
        replace(provider, definition=replace(definition, client_auth=revocation.auth))
        if isinstance(revocation.auth, ClientAuth)
        else provider
    )
    bearer = revocation.auth is RevocationAuth.BEARER
    return client_request(
        sender,
        method=revocation.method.value,
        url=url,
        fields=_fields(revocation, presented, in_url=_TOKEN in template),
        more_headers={"Authorization": f"Bearer {presented.secret.reveal()}"} if bearer else {},
        with_client=by_client,
        body_format=_body_format(revocation.body or definition.body, revocation.method),
        public_only=outside and not provider.allow_private,
        variables=variables,
        now=now,
    )


def _url(provider: Provider, template: str, secret: Secret, variables: Mapping[str, str]) -> str:
    """Return the URL with its variables, and with the token and the client's id in their places. Raises NotSendable."""
    places = {_TOKEN[1:]: secret.reveal(), _CLIENT_ID[1:]: provider.client_id}
    for place in places:
        template = template.replace(f"${place}", place)  # a variable's place no more
    url = completed_url(provider, template, variables, name="revocation URL")
    for place, text in places.items():
        if url.count(place) != template.count(place):
            raise NotSendable(f"a variable of the token contains {place}")
        url = url.replace(place, quote(text, safe=""))
    return url


def _fields(revocation: Revocation, presented: Presented, *, in_url: bool) -> dict[str, str]:
    if in_url or not revocation.parameter:
        return {}
    hint = {"token_type_hint": f"{presented.kind}_token"} if revocation.hint else {}
    return {revocation.parameter: presented.secret.reveal(), **hint}


def _body_format(usual: BodyFormat, method: RevocationMethod) -> BodyFormat:
    """Return where the parameters are written: a body of GET has no meaning (RFC 9110 §9.3.1)."""
    return BodyFormat.QUERY if method is RevocationMethod.GET else usual


def has_token_in_url(provider: Provider, revocation: Revocation) -> bool:
    return _TOKEN in (revocation.url or provider.definition.revoke_url or "")
