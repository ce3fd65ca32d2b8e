"""Events for observers: one for each recorded change, and one for each failure to process a token."""

from datetime import datetime, timedelta
from typing import assert_never

from daemon.domain.anomaly import AnomalyKind
from daemon.domain.answer import Answer, Rejected
from daemon.domain.change import (
    Change,
    Postponed,
    Renewed,
    Retired,
    RevocationPostponed,
    Revoked,
    Scheduled,
    Withheld,
)
from daemon.domain.claim import Recorded, SetAside, Unusable
from daemon.domain.deviation import Deviation
from daemon.domain.event import (
    AnomalyDetected,
    Event,
    InternalError,
    ProviderDrifted,
    TokenInDoubt,
    TokenNeedsReauth,
    TokenPostponed,
    TokenRenewed,
    TokenRevocationFailed,
    TokenRevocationPostponed,
    TokenRevoked,
    TokenStuck,
    TokenSuperseded,
    TokenUnparsed,
    TokenUnreadable,
)
from daemon.domain.reuse import is_unused
from daemon.domain.secret import masked
from daemon.domain.token import FailureKind, Token
from daemon.refreshing.ports import Observe


def event_for(
    token: Token,
    change: Change,
    recorded: Recorded,
    *,
    asked_at: datetime,
    now: datetime,
    window: timedelta | None,
) -> Event:
    """Return the one event that describes `change`. `window`: how long before its expiry the token was due."""
    name, provider = token.id, token.provider
    if recorded is Recorded.SUPERSEDED:
        return TokenSuperseded(token=name, provider=provider, successor=brings_successor(change))
    match change:
        case Renewed():
            return TokenRenewed(
                token=name,
                provider=provider,
                revision=(token.revision or 0) + 1,
                duration=now - asked_at,
                lead=None if token.expires_at is None else token.expires_at - now,
                expires_at=change.granted.expires_at,
                rotated=brings_successor(change),
                window=window,
            )
        case Postponed(failure=failure) if failure.kind is FailureKind.IN_DOUBT:
            tries = change.doubt.tries if change.doubt else 0
            return TokenInDoubt(
                token=name, provider=provider, failure=failure, tries=tries, due_at=change.due_at
            )
        case Postponed(failure=failure):
            stuck = failure.kind is FailureKind.STUCK
            return (TokenStuck if stuck else TokenPostponed)(
                token=name,
                provider=provider,
                failure=failure,
                due_at=change.due_at,
                failures=change.failures,
            )
        case Retired(failure=failure):
            return TokenNeedsReauth(token=name, provider=provider, failure=failure, failures=change.failures)
        case Withheld(failure=failure):
            return TokenUnparsed(token=name, provider=provider, failure=failure)
        case Revoked() | RevocationPostponed():
            return revocation_event(token, change)
        case Scheduled():
            raise ValueError("a token that was only scheduled is not reported")
        case _:
            assert_never(change)


def revocation_event(token: Token, change: Revoked | RevocationPostponed) -> Event:
    """Return the event of a revocation that is done, or not yet."""
    tries = token.revocation.tries if token.revocation else 0
    if isinstance(change, Revoked):
        return TokenRevoked(
            token=token.id,
            provider=token.provider,
            revision=(token.revision or 0) + 1,
            tries=tries + 1,
        )
    return (TokenRevocationFailed if change.failed else TokenRevocationPostponed)(
        token=token.id,
        provider=token.provider,
        failure=change.failure,
        tries=change.tries,
        due_at=change.due_at,
    )


def reuse_refused(token: Token, answer: Answer, *, now: datetime) -> Event | None:
    """Return the anomaly of a refresh token that is refused because it was used before, although no replica of refreshd
    has presented it before.
    """
    if not (isinstance(answer, Rejected) and answer.used_before and is_unused(token)):
        return None
    return AnomalyDetected(
        kind=AnomalyKind.REUSE_REFUSED,
        key=token.id,
        count=1,
        at=now,
        message="the provider says that the refresh token was used before, and refreshd has presented it only once",
    )


def drifted(provider: str, found: Deviation) -> Event:
    """Return the event of a provider whose behaviour has left its definition."""
    return ProviderDrifted(provider=provider, kind=found.kind, message=found.message, change=found.change)


def unexpected(where: str, token: str, provider: str, error: Exception) -> Event:
    """Return the event for an error with one token: a document that can't be used, or a bug."""
    if isinstance(error, Unusable):
        kind = FailureKind.UNREADABLE
        return TokenUnreadable(
            token=token, provider=provider, kind=kind, code="unusable", message=masked(str(error))
        )
    return InternalError(where=where, token=token, provider=provider, error=error)


def brings_successor(change: Change) -> bool:
    """Return whether `change` holds a new refresh token, perhaps its only copy."""
    return isinstance(change, Renewed) and change.successor is not None


def report(item: SetAside, observe: Observe) -> None:
    """Report a document that was set aside, once per change."""
    if item.new:
        observe(
            TokenUnreadable(
                token=item.token, provider=item.provider, kind=item.kind, code=item.code, message=item.message
            )
        )
