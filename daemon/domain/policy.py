"""What an answer changes, and how long to back off. Time and chance are arguments."""

from datetime import datetime, timedelta
from typing import assert_never

from daemon.domain.answer import Answer, Granted, Misconfigured, Rejected, Unavailable, Unread
from daemon.domain.change import Change, Postponed, Renewed, Retired, Withheld
from daemon.domain.due import Timing, before_the_end, due_at
from daemon.domain.provider import Definition, Grant, Provider
from daemon.domain.token import Doubt, Failure, FailureKind, Token

BACKOFF_FIRST = timedelta(seconds=5)
BACKOFF_LAST = timedelta(minutes=5)
IN_DOUBT_RETRY = timedelta(seconds=2)  # soon: inside a provider's grace where it has one


def backoff(failures: int, *, chance: float) -> timedelta:
    """Full jitter: uniform between nothing and 5 s * 2^failures, at most 5 min. `failures` counts from 0."""
    ceiling: timedelta = BACKOFF_FIRST * (1 << min(failures, 16))
    return chance * min(BACKOFF_LAST, ceiling)


def decide(
    provider: Provider,
    token: Token,
    answer: Answer,
    *,
    asked_at: datetime,
    now: datetime,
    chance: float,
    timing: Timing,
) -> Change:
    """What `answer` changes about `token`. `asked_at`: when the provider was asked; `chance`: uniform in 0 to 1."""
    known = provider.definition
    match answer:
        case Granted():
            return _renewed(provider, token, answer, asked_at=asked_at, now=now, chance=chance, timing=timing)
        case Unread(granted=granted):
            failure = _failure(FailureKind.UNREAD, answer, now)
            if granted is None:
                return Withheld(failure=failure)
            part = _renewed(
                provider, token, granted, asked_at=asked_at, now=now, chance=chance, timing=timing
            )
            return Withheld(failure=failure, renewed=part)
        case Rejected():
            return _rejected(known, token, answer, now=now, chance=chance)
        case Misconfigured():
            return _postponed(known, token, FailureKind.MISCONFIGURED, answer, now=now, chance=chance)
        case Unavailable(in_doubt=True):
            return _in_doubt(known, token, answer, asked_at=asked_at, now=now, chance=chance)
        case Unavailable():
            return _postponed(
                known,
                token,
                FailureKind.UNAVAILABLE,
                answer,
                now=now,
                chance=chance,
                floor=answer.retry_after,
            )
        case _:
            assert_never(answer)


def _renewed(
    provider: Provider,
    token: Token,
    granted: Granted,
    *,
    asked_at: datetime,
    now: datetime,
    chance: float,
    timing: Timing,
) -> Renewed:
    ends = granted.expires_at
    came = granted.refresh_token
    consent_ends, refresh_ends = _ends(provider.definition, token, granted, asked_at=asked_at)
    due = ends and due_at(
        provider,
        ends,
        issued_at=asked_at,
        now=now,
        chance=chance,
        timing=timing,
        refresh_expires_at=refresh_ends,
    )
    return Renewed(
        granted=granted,
        successor=None if came == token.refresh_token else came,
        issued_at=asked_at,
        refreshed_at=now,
        due_at=due and max(due, now + _rested(provider.definition, timedelta(0))),
        refresh_expires_at=refresh_ends,
        consent_ends_at=consent_ends,
    )


def _ends(
    known: Definition, token: Token, granted: Granted, *, asked_at: datetime
) -> tuple[datetime | None, datetime | None]:
    """When the consent ends, and when the refresh token does; neither where no refresh token is presented."""
    if known.grant_of(token.grant) is not Grant.REFRESH_TOKEN:
        return None, None
    consent_ends = granted.consent_ends_at or _consent_end(known, token)
    return consent_ends, _refresh_end(known, token, granted, consent_ends, asked_at=asked_at)


def _consent_end(known: Definition, token: Token) -> datetime | None:
    """When the consent itself ends, where the definition or an earlier reply knows of such an end. An application that
    writes a new consent does not know our field: that it was issued after our last renewal tells.
    """
    renewed = token.refreshed_at
    reconsented = renewed is not None and token.issued_at is not None and token.issued_at > renewed
    if known.refresh_lifetime is None:
        return None if reconsented else token.consent_ends_at
    if renewed is None or reconsented:
        return token.issued_at + known.refresh_lifetime if token.issued_at else token.refresh_expires_at
    return token.consent_ends_at or token.refresh_expires_at


def _refresh_end(
    known: Definition, token: Token, granted: Granted, consent_ends: datetime | None, *, asked_at: datetime
) -> datetime | None:
    """The refresh token's own end: as the reply says; else the first of what idleness and the consent allow; else
    what was known before.
    """
    if granted.refresh_expires_at is not None:
        return min(filter(None, (granted.refresh_expires_at, granted.consent_ends_at)))
    idle = asked_at + known.refresh_idle if known.refresh_idle is not None else None
    return min(filter(None, (idle, consent_ends)), default=token.refresh_expires_at)


def _rejected(
    known: Definition, token: Token, answer: Rejected, *, now: datetime, chance: float
) -> Postponed | Retired:
    """Dead, once it was said twice where the definition wants that. After a doubt the next word is final: it was
    asked twice.
    """
    repeated = token.last_failure is not None and token.last_failure.kind is FailureKind.REJECTED
    if known.confirm_after is not None and token.doubt is None and not repeated:
        return _postponed(
            known, token, FailureKind.REJECTED, answer, now=now, chance=chance, floor=known.confirm_after
        )
    failure = _failure(FailureKind.REJECTED, answer, now)
    if token.doubt is not None:
        note = _what_may_have_been(token.doubt)
        told = answer.message[: 300 - len(note)] + note
        failure = Failure(kind=failure.kind, code=failure.code, message=told, at=now)
    return Retired(failure=failure, failures=token.failures + 1)


def _what_may_have_been(doubt: Doubt) -> str:
    if doubt.asker is None:
        return " (an earlier request had no answer: its reply may have held the successor)"
    return f" (instance {doubt.asker} asked before and is gone: its journal may hold the successor)"


def _in_doubt(
    known: Definition, token: Token, answer: Unavailable, *, asked_at: datetime, now: datetime, chance: float
) -> Postponed:
    """Present the same value once more, soon, whatever rest the definition wants: a lost reply may have been the only
    copy. If that brings no answer either, back off like any outage.
    """
    tries = token.doubt.tries + 1 if token.doubt else 1
    since = token.doubt.since if token.doubt else asked_at
    asker = token.doubt.asker if token.doubt else None
    wait = IN_DOUBT_RETRY if tries == 1 else _rested(known, backoff(token.failures, chance=chance))
    wait = max(wait, answer.retry_after or timedelta(0))
    return Postponed(
        failure=_failure(FailureKind.IN_DOUBT, answer, now),
        failures=token.failures + 1,
        due_at=before_the_end(known, token, now + wait, now=now),
        doubt=Doubt(since=since, tries=tries, asker=asker),
    )


def _postponed(
    known: Definition,
    token: Token,
    kind: FailureKind,
    answer: Rejected | Misconfigured | Unavailable,
    *,
    now: datetime,
    chance: float,
    floor: timedelta | None = None,
) -> Postponed:
    """Try again after a backoff. `floor`: the provider's own wish (Retry-After). An older doubt stays one."""
    wait = _rested(known, max(backoff(token.failures, chance=chance), floor or timedelta(0)))
    return Postponed(
        failure=_failure(kind, answer, now),
        failures=token.failures + 1,
        due_at=before_the_end(known, token, now + wait, now=now),
        doubt=token.doubt,
    )


def _rested(known: Definition, wait: timedelta) -> timedelta:
    """`wait`, and no less than the definition's rest between two requests."""
    return max(wait, known.min_interval or timedelta(0))


def _failure(
    kind: FailureKind, answer: Unread | Rejected | Misconfigured | Unavailable, now: datetime
) -> Failure:
    return Failure(kind=kind, code=answer.code, message=answer.message, at=now)
