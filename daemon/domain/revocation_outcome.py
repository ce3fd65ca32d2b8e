"""What a revocation brings, without I/O: the meaning of the provider's reply, and the effect on the stored token.

A revocation may be repeated without harm, so its reply needs no journal. It contains no secret either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.domain.change import Change, Retired, RevocationPostponed, Revoked
from daemon.domain.provider import Provider
from daemon.domain.refusal import refusal_of
from daemon.domain.reply import NoReply, Reply, retry_after
from daemon.domain.reply_body import Body, parse
from daemon.domain.revocation import Revocation
from daemon.domain.revocation_request import has_token_in_url, revocation_of
from daemon.domain.sign import shown
from daemon.domain.token import Failure, FailureKind, Token

# A grant that is not revoked after this time needs an operator. refreshd goes on trying, once a day.
FAILED_AFTER = timedelta(days=7)
FIRST_RETRY, LONGEST_RETRY, RETRY_AFTER_FAILURE = timedelta(seconds=30), timedelta(hours=6), timedelta(days=1)
# A doubt is settled before the revocation, but not longer than this.
SETTLED_WITHIN = timedelta(days=1)
TOMBSTONE_LIFETIME = timedelta(days=30)
# More tokens than MANY wait for UNDO_WITHIN before their first request.
MANY, UNDO_WITHIN = 100, timedelta(minutes=10)

# The provider has no such grant (any more). RFC 7009 §2.2 wants status 200 for it, but many answer with an error.
_UNKNOWN_TOKEN = frozenset(
    {"invalid_token", "invalid_grant", "token_revoked", "token_not_found", "token_expired", "unknown_token"}
)
_UNSUPPORTED = frozenset({"unsupported_token_type"})  # RFC 7009 §2.2.1
_CLIENT = frozenset({"invalid_client", "unauthorized_client"})


def is_settled(token: Token, *, now: datetime) -> bool:
    """Return whether no successor of the stored refresh token may exist, as far as one more refresh could show it.

    After a request without a reply, the provider may hold a successor. The retry that any token has (I5) brings it, and
    then the successor is revoked.
    """
    doubt, order = token.doubt, token.revocation
    if doubt is None or doubt.tries > 1 or token.refresh_token is None:
        return True
    return order is None or now >= order.since + SETTLED_WITHIN


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
    other = (
        parsed.is_page or refused.name or bodies[0].get("error")
    )  # a page may stand before an endpoint that is down
    fine = success and not _names_success(revocation) and not other
    if fine or any(shown(revocation.success, reply.status, body) is not None for body in bodies):
        return Done()
    wait = retry_after(reply.retry_after, now=reply.asked_at)
    if wait is None and reply.status < 500 and reply.status != 429:
        known_dead = refused.name in _UNKNOWN_TOKEN and (success or reply.status in {400, 401, 404})
        if known_dead or (reply.status in {404, 410} and has_token_in_url(provider, revocation)):
            return Done()
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
    """Return the effect of a refresh that settled a doubt before a revocation. A rejected refresh token is revoked too:
    its successor may be alive, and many providers end it together with its predecessor.
    """
    if token.revocation is None or not isinstance(change, Retired):
        return change
    return RevocationPostponed(failure=change.failure, tries=token.revocation.tries, due_at=now)
