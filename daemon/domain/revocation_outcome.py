"""What a revocation brings, without I/O: the meaning of the provider's reply, and the effect on the stored token.

A revocation may be repeated without harm, so its reply needs no journal. It contains no secret either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.domain.answer import Answer, Granted
from daemon.domain.change import Change, Postponed, Retired, RevocationPostponed, Revoked
from daemon.domain.provider import Grant, Provider
from daemon.domain.refusal import refusal_of
from daemon.domain.reply import NoReply, Reply, retry_after
from daemon.domain.reply_body import Body, parse
from daemon.domain.revocation import PresentedToken, Revocation
from daemon.domain.revocation_request import has_token_in_url, revocation_of
from daemon.domain.sign import shown
from daemon.domain.token import Failure, FailureKind, Token

# A grant that is not revoked after this time needs an operator. refreshd goes on trying, once a day.
FAILED_AFTER = timedelta(days=7)
FIRST_RETRY, LONGEST_RETRY, RETRY_AFTER_FAILURE = timedelta(seconds=30), timedelta(hours=6), timedelta(days=1)
# A doubt is settled before the revocation, but not longer than this, and not with more requests.
SETTLED_WITHIN, MOST_TRIES = timedelta(days=1), 5
# An access token that is presented lives at least this much longer.
ACCESS_MARGIN = timedelta(minutes=1)
TOMBSTONE_LIFETIME = timedelta(days=30)
# More tokens than MANY wait for UNDO_WITHIN before their first request.
MANY, UNDO_WITHIN = 100, timedelta(minutes=10)

# The provider has no such grant (any more). RFC 7009 §2.2 wants status 200 for it, but many answer with an error.
_UNKNOWN_TOKEN = frozenset(
    {"invalid_token", "invalid_grant", "token_revoked", "token_not_found", "token_expired", "unknown_token"}
)
_UNSUPPORTED = frozenset({"unsupported_token_type"})  # RFC 7009 §2.2.1
_CLIENT = frozenset({"invalid_client", "unauthorized_client"})
UNKNOWN_ACCESS = "access_token_unknown"  # the code of a failure


def is_settled(token: Token, *, now: datetime) -> bool:
    """Return whether no successor of the stored refresh token may exist, as far as one more refresh could show it.

    After a request without a reply, the provider may hold a successor. A retry brings it, and then the successor is
    revoked. A crash may come before a retry was sent, so that one is not always enough: the count is of claims. One too
    many does no harm, since a provider that takes it for reuse ends the grant.
    """
    doubt, order = token.doubt, token.revocation
    if doubt is None or doubt.tries > MOST_TRIES or token.refresh_token is None:
        return True
    return order is None or now >= order.since + SETTLED_WITHIN


def is_early(token: Token, *, now: datetime) -> bool:
    """Return whether the order may still be taken back, so that no request is sent."""
    order = token.revocation
    return order is not None and order.not_before is not None and now < order.not_before


def is_ready(provider: Provider, token: Token, *, now: datetime) -> bool:
    """Return whether the revocation can be asked for now, and not a refresh before it.

    A refresh settles a doubt. It also brings the living access token that some providers revoke by: an access token that
    is over is unknown to them, like one whose grant was ended.
    """
    if not is_settled(token, now=now):
        return False
    if token.doubt is not None or is_early(token, now=now) or not _has_grant_beside(provider, token):
        return True
    failure, end = token.last_failure, token.expires_at
    if failure is not None and failure.kind in {FailureKind.REJECTED, FailureKind.UNPARSED}:
        return True  # another refresh brings no access token
    if token.access_token is None or (failure is not None and failure.code == UNKNOWN_ACCESS):
        return False
    return end is None or now < end - ACCESS_MARGIN


def proves_the_end(provider: Provider, token: Token) -> bool:
    """Return whether the grant of `token` has ended if the provider calls the presented token unknown. An unknown access
    token proves nothing about the refresh token beside it, unless that one was rejected.
    """
    rejected = token.last_failure is not None and token.last_failure.kind is FailureKind.REJECTED
    return rejected or not _has_grant_beside(provider, token)


def is_new_grant(token: Token, answer: Answer) -> bool:
    """Return whether a reply for a removed token has brought what the removal did not leave: a successor of the presented
    secret, which nothing else holds.
    """
    if not isinstance(answer, Granted):
        return False
    if token.refresh_token is None:
        return answer.access_token != token.access_token
    return answer.refresh_token is not None and answer.refresh_token != token.refresh_token


def _has_grant_beside(provider: Provider, token: Token) -> bool:
    """Return whether the provider revokes by an access token, and a refresh token stands behind it."""
    revocation = revocation_of(provider.definition)
    by_access = revocation is not None and revocation.token is PresentedToken.ACCESS
    renews = provider.definition.grant_of(token.grant) is Grant.REFRESH_TOKEN
    return by_access and renews and token.refresh_token is not None


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


def outcome_of(provider: Provider, token: Token, reply: Reply | NoReply, *, proof: bool = True) -> Outcome:
    """Return the meaning of the reply to a revocation. Total: every reply has one. `proof`: the grant has ended if the
    provider calls the presented token unknown.
    """
    if isinstance(reply, NoReply):
        kind = Again if reply.concerns is None else Cannot
        return kind(code=reply.code, message=reply.message)
    revocation = revocation_of(provider.definition) or Revocation()
    parsed = parse(reply.body, content_type=reply.content_type, whole=reply.whole)
    bodies: Sequence[Body] = parsed.objects or ({},)
    refused = refusal_of(provider, token, reply.status, parsed, bodies[0])
    success = 200 <= reply.status < 300
    # A page may stand before an endpoint that is down
    other = parsed.is_page or refused.name or bodies[0].get("error")
    fine = success and not _names_success(revocation) and not other
    if fine or any(shown(revocation.success, reply.status, body) is not None for body in bodies):
        return Done()
    wait = retry_after(reply.retry_after, now=reply.asked_at)
    if wait is None and reply.status < 500 and reply.status != 429:
        named = refused.name in _UNKNOWN_TOKEN and (success or reply.status in {400, 401, 404})
        known_dead = named or any(
            shown(revocation.unknown, reply.status, body) is not None for body in bodies
        )
        if known_dead or (reply.status in {404, 410} and has_token_in_url(provider, revocation)):
            return Done() if proof else Again(code=UNKNOWN_ACCESS, message=refused.message)
        if refused.name in _UNSUPPORTED | _CLIENT or 300 <= reply.status < 400:
            return Cannot(code=refused.code, message=refused.message)
    return Again(code=refused.code, message=refused.message, wait=wait)


def _names_success(revocation: Revocation) -> bool:
    """Return whether a sign of the definition decides about a status of 200 to 299."""
    return any(
        not sign.status or any(200 <= status < 300 for status in sign.status) for sign in revocation.success
    )


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
    """Return the effect of a refresh before a revocation. A rejected refresh token is revoked too: its successor may be
    alive, and many providers end it together with its predecessor. After FAILED_AFTER, a refresh that brings nothing is
    a failed revocation.
    """
    if token.revocation is None or not isinstance(change, Retired | Postponed):
        return change
    if isinstance(change, Postponed):
        if now < token.revocation.since + FAILED_AFTER:
            return change
        due_at = max(change.due_at, now + RETRY_AFTER_FAILURE)
        tries = token.revocation.tries
        return RevocationPostponed(failure=change.failure, tries=tries, due_at=due_at, failed=True)
    return RevocationPostponed(failure=change.failure, tries=token.revocation.tries, due_at=now)
