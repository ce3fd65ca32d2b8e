"""Revocation without I/O: the request that ends a grant at its provider (RFC 7009 and the changes that a definition
makes), the meaning of the reply, and the effect on the stored token.

A revocation may be repeated without harm, so its reply needs no journal. It contains no secret either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import quote, urlsplit

from daemon.domain.change import Change, Retired, RevocationPostponed, Revoked
from daemon.domain.provider import BodyFormat, ClientAuth, Definition, ErrorPattern, Provider
from daemon.domain.refusal import refusal_of
from daemon.domain.reply import NoReply, Reply, retry_after
from daemon.domain.reply_body import Body, parse
from daemon.domain.request import Request, client_request
from daemon.domain.secret import Secret
from daemon.domain.sign import shown
from daemon.domain.token import Failure, FailureKind, Token
from daemon.domain.token_url import NotSendable, checked_url, fills_host, is_allowed

# A grant that is not revoked after this time needs an operator. refreshd goes on trying, once a day.
FAILED_AFTER = timedelta(days=7)
FIRST_RETRY, LONGEST_RETRY, RETRY_AFTER_FAILURE = timedelta(seconds=30), timedelta(hours=6), timedelta(days=1)
# A doubt is settled before the revocation, but not longer than this.
SETTLED_WITHIN = timedelta(days=1)
TOMBSTONE_LIFETIME = timedelta(days=30)
# More tokens than this wait for UNDO_WITHIN before their first request.
MANY, UNDO_WITHIN = 100, timedelta(minutes=10)

_TOKEN, _CLIENT_ID = "${token}", "${client_id}"
# The provider has no such grant (any more). RFC 7009 §2.2 wants status 200 for it, but many answer with an error.
_UNKNOWN_TOKEN = frozenset(
    {"invalid_token", "invalid_grant", "token_revoked", "token_not_found", "token_expired", "unknown_token"}
)
_UNSUPPORTED = frozenset({"unsupported_token_type"})  # RFC 7009 §2.2.1
_CLIENT = frozenset({"invalid_client", "unauthorized_client"})


class RevocationMethod(StrEnum):
    POST = "POST"
    GET = "GET"
    DELETE = "DELETE"


class RevocationAuth(StrEnum):
    """How a revocation is authenticated, if not as the token request is."""

    BEARER = "bearer"  # with the presented token itself (RFC 6750 §2.1)
    NONE = "none"


class PresentedToken(StrEnum):
    REFRESH = "refresh"
    ACCESS = "access"


class RevocationEnds(StrEnum):
    """The extent of a revocation."""

    GRANT = "grant"  # the whole consent, perhaps with the tokens of other consents of the same account
    TOKEN = "token"  # noqa: S105  the presented token only


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """The form of a provider's revocation request. `url`: None stands for the definition's `revoke_url`. It may contain
    ${token} and ${client_id}. `auth`: None stands for the definition's `client_auth`. `success`: the signs of a
    success. Without a sign that fits a status of 200 to 299, such a status is the success. `parameter`: empty if no
    parameter has the token.
    """

    method: RevocationMethod = RevocationMethod.POST
    url: str | None = None
    parameter: str = "token"
    hint: bool = False  # send token_type_hint (RFC 7009 §2.1)
    auth: ClientAuth | RevocationAuth | None = None
    token: PresentedToken = PresentedToken.REFRESH
    success: tuple[ErrorPattern, ...] = ()
    ends: RevocationEnds = RevocationEnds.GRANT


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """A token to be revoked."""

    secret: Secret
    kind: PresentedToken


def revocation_of(definition: Definition) -> Revocation | None:
    """Return how the provider revokes, or None if it has no revocation."""
    revocation = definition.revoke or Revocation()
    return None if (revocation.url or definition.revoke_url) is None else revocation


# ---------------------------------------------------------------- the request


def is_settled(token: Token, *, now: datetime) -> bool:
    """Return whether no successor of the stored refresh token may exist, as far as one more refresh could show it.

    After a request without a reply, the provider may hold a successor. The retry that any token has (I5) brings it, and
    then the successor is revoked.
    """
    doubt, order = token.doubt, token.revocation
    if doubt is None or doubt.tries > 1 or token.refresh_token is None:
        return True
    return order is None or now >= order.since + SETTLED_WITHIN


def presented(provider: Provider, token: Token) -> Sequence[Presented]:
    """Return the tokens to revoke, in their order. Raises NotSendable if there is none, or no revocation."""
    revocation = revocation_of(provider.definition)
    if revocation is None:
        raise NotSendable(f"{provider.name} has no revocation, so the grant stays valid there")
    return to_present(revocation, refresh=token.refresh_token, access=token.access_token)


def to_present(
    revocation: Revocation, *, refresh: Secret | None, access: Secret | None
) -> Sequence[Presented]:
    """Return those of a grant's tokens that the provider has to revoke. Raises NotSendable if there is none."""
    found = [
        Presented(secret=secret, kind=kind)
        for secret, kind in ((refresh, PresentedToken.REFRESH), (access, PresentedToken.ACCESS))
        if secret is not None
    ]
    if not found:
        raise NotSendable("no token is stored, so refreshd has nothing to revoke")
    if revocation.ends is RevocationEnds.TOKEN:
        return found
    wanted = [one for one in found if one.kind is revocation.token]
    return (wanted or found)[:1]


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
        body_format=_body_format(definition.body, revocation.method),
        public_only=outside and not provider.allow_private,
        now=now,
    )


def _url(provider: Provider, template: str, secret: Secret, variables: Mapping[str, str]) -> str:
    """Return the URL with its variables, and with the token and the client's id in their places. Raises NotSendable."""
    places = {"{token}": secret.reveal(), "{client_id}": provider.client_id}
    for place in places:
        template = template.replace(f"${place}", place)
    url = checked_url(provider, template, variables)
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


# ---------------------------------------------------------------- the reply


@dataclass(frozen=True, slots=True)
class Done:
    """The provider accepts the token no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """The token may still be valid. `wait`: the shortest wait that the provider asks for."""

    code: str
    message: str
    wait: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cannot:
    """The provider or the configuration does not allow the revocation, so an operator must act."""

    code: str
    message: str


Outcome = Done | Again | Cannot


def outcome_of(provider: Provider, token: Token, reply: Reply | NoReply) -> Outcome:
    """Return the meaning of the reply to a revocation. Total: every reply has one."""
    if isinstance(reply, NoReply):
        kind = Again if reply.concerns is None else Cannot
        return kind(code=reply.code, message=reply.message)
    revocation = revocation_of(provider.definition) or Revocation()
    parsed = parse(reply.body, content_type=reply.content_type, whole=reply.whole)
    bodies: Sequence[Body] = parsed.objects or ({},)
    refused = refusal_of(provider, token, reply.status, parsed, bodies[0])
    success = 200 <= reply.status < 300
    other = parsed.is_page or refused.name or bodies[0].get("error")  # a page may stand before an endpoint that is down
    fine = success and not _names_success(revocation) and not other
    if fine or any(shown(revocation.success, reply.status, body) is not None for body in bodies):
        return Done()
    wait = retry_after(reply.retry_after, now=reply.asked_at)
    if wait is None and reply.status < 500 and reply.status != 429:
        known_dead = refused.name in _UNKNOWN_TOKEN and (success or reply.status in {400, 401, 404})
        if known_dead or (reply.status in {404, 410} and _has_token_in_path(provider, revocation)):
            return Done()
        if refused.name in _UNSUPPORTED | _CLIENT or 300 <= reply.status < 400:
            return Cannot(code=refused.code, message=refused.message)
    return Again(code=refused.code, message=refused.message, wait=wait)


def _names_success(revocation: Revocation) -> bool:
    """Return whether a sign of the definition decides about a status of 200 to 299."""
    return any(
        not sign.status or any(200 <= status < 300 for status in sign.status) for sign in revocation.success
    )


def _has_token_in_path(provider: Provider, revocation: Revocation) -> bool:
    return _TOKEN in urlsplit(revocation.url or provider.definition.revoke_url or "").path


# ---------------------------------------------------------------- the effect


def decided(token: Token, outcome: Outcome, *, now: datetime, chance: float) -> Revoked | RevocationPostponed:
    """Return the effect of `outcome` on the stored token: a tombstone, or another request later."""
    if isinstance(outcome, Done):
        return Revoked(revoked_at=now, forget_at=now + TOMBSTONE_LIFETIME)
    order = token.revocation
    tries = (order.tries if order else 0) + 1
    over = order is not None and now >= order.since + FAILED_AFTER
    failed = over or isinstance(outcome, Cannot)
    wait = (
        RETRY_AFTER_FAILURE
        if failed
        else min(FIRST_RETRY * 2 ** min(tries - 1, 20), LONGEST_RETRY) * (0.75 + chance / 2)
    )
    if isinstance(outcome, Again) and outcome.wait is not None:
        wait = max(wait, outcome.wait)
    kind = FailureKind.MISCONFIGURED if isinstance(outcome, Cannot) else FailureKind.UNAVAILABLE
    return RevocationPostponed(
        failure=Failure(kind=kind, code=outcome.code, message=outcome.message, at=now),
        tries=tries,
        due_at=now + wait,
        failed=failed,
    )


def of_revoking(token: Token, change: Change, *, now: datetime) -> Change:
    """Return the effect of a refresh that settled a doubt before a revocation. A rejected refresh token is revoked too:
    its successor may be alive, and many providers end it together with its predecessor.
    """
    if token.revocation is None or not isinstance(change, Retired):
        return change
    return RevocationPostponed(failure=change.failure, tries=token.revocation.tries, due_at=now)
