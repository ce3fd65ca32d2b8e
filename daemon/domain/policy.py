"""When a token is due, how long to back off, and what an answer changes. Time and chance are arguments."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from daemon.domain.answer import Answer, Granted, Misconfigured, Rejected, Unavailable, Unread
from daemon.domain.change import Change, Postponed, Renewed, Retired, Scheduled, Withheld
from daemon.domain.provider import Definition, Grant, Provider
from daemon.domain.token import Doubt, Failure, FailureKind, State, Token
from daemon.domain.token_response import ASSUMED_LIFETIME

BACKOFF_FIRST = timedelta(seconds=5)
BACKOFF_LAST = timedelta(minutes=5)
REST = timedelta(seconds=10)  # at least this between two renewals, but never more than half a lifetime
IN_DOUBT_RETRY = timedelta(seconds=2)  # soon: inside a provider's grace where it has one
RETRY_MARGIN = timedelta(minutes=1)  # a retry comes this long before the refresh token's own end


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The operator's part of when a token is due: `[refresh] window` and `jitter`."""

    window: timedelta = timedelta(minutes=5)
    jitter: timedelta = timedelta(seconds=30)


def first_look(
    provider: Provider, token: Token, *, now: datetime, chance: float, timing: Timing
) -> Scheduled | None:
    """What to do with a claimed token instead of asking the provider, or None: ask.

    Only an active token with something to present is presented; any other that is due is put back to rest. Asking
    again too soon, or long before the end, waits where the definition says that this is useless or harmful; a doubt
    does not wait. A document that an application inserted (no `revision`) and that expires beyond the window is
    scheduled, not refreshed.
    """
    known = provider.definition
    if token.state is not State.ACTIVE or not _is_presentable(known, token):
        return Scheduled(due_at=None)
    if token.doubt is not None:
        return None
    again = _next_allowed(known, token)
    if again is not None and now < again:
        return Scheduled(due_at=again)
    early = _is_too_early(known, token, now)
    if token.revision is None or early:
        due = _planned(provider, token, now=now, chance=chance, timing=timing)
        return Scheduled(due_at=due) if early or due > now + REST else None
    return None


def first_due(
    provider: Provider, token: Token, *, now: datetime, chance: float, timing: Timing
) -> datetime | None:
    """When a token is due whose owner has just consented; None: nothing renews it, or it never ends."""
    if not _is_presentable(provider.definition, token):
        return None
    if token.access_token is None:
        return now
    return (
        None if token.expires_at is None else _planned(provider, token, now=now, chance=chance, timing=timing)
    )


def _is_presentable(known: Definition, token: Token) -> bool:
    match known.grant_of(token.grant):
        case Grant.REFRESH_TOKEN:
            return token.refresh_token is not None
        case Grant.EXCHANGE:
            return token.access_token is not None
        case Grant.CLIENT_CREDENTIALS:
            return True
        case Grant.NONE:
            return False


def _next_allowed(known: Definition, token: Token) -> datetime | None:
    """When the provider may be asked for this token again, where it wants a rest between two requests, or a
    rejection counts only when it is repeated later. Whoever sets `due_at` to now knows of neither.
    """
    failure = token.last_failure
    failed = failure.at if failure is not None else None
    rejected = failed if failure is not None and failure.kind is FailureKind.REJECTED else None
    asked = max(filter(None, (token.refreshed_at, failed)), default=None)
    waits = ((asked, known.min_interval), (rejected, known.confirm_after))
    ends = (_before_the_end(known, token, at + wait, now=at) for at, wait in waits if at and wait)
    return max(ends, default=None)


def _is_too_early(known: Definition, token: Token, now: datetime) -> bool:
    """Whether the provider would give nothing new yet. A refresh token that ends first is not put off for that."""
    if known.earliest is None or token.expires_at is None:
        return False
    ends = token.refresh_expires_at
    outlived = ends is not None and now < ends < token.expires_at
    return not outlived and token.expires_at - known.earliest > now


def _planned(provider: Provider, token: Token, *, now: datetime, chance: float, timing: Timing) -> datetime:
    """When a token is due that we have not renewed yet; now, where nothing says when it ends. Where it doesn't say
    when it was issued, the assumed lifetime makes the window a whole one.
    """
    if token.expires_at is None:
        return now
    return due_at(
        provider,
        token.expires_at,
        issued_at=token.issued_at or min(now, max(now, token.expires_at) - ASSUMED_LIFETIME),
        now=now,
        chance=chance,
        timing=timing,
        refresh_expires_at=token.refresh_expires_at,
    )


def due_at(
    provider: Provider,
    expires_at: datetime,
    *,
    issued_at: datetime,
    now: datetime,
    chance: float,
    timing: Timing,
    refresh_expires_at: datetime | None = None,
) -> datetime:
    """When a token that was issued at `issued_at` and ends at `expires_at` is to be renewed.

    `expires_at - window - jitter`, with `window = min(configured, lifetime / 3)` and `jitter` drawn once by `chance`
    (0 to 1) from at most a tenth of the lifetime; never before half the lifetime or before the definition's
    `earliest`, never within REST of now (half the lifetime where that is shorter). A refresh token that ends first
    is used before it ends: its end counts instead, but not within REST of it, where asking again and again would
    gain nothing.
    """
    if refresh_expires_at is not None and now + REST < refresh_expires_at < expires_at:
        expires_at = refresh_expires_at
    lifetime = max(expires_at - issued_at, timedelta(0))
    window = min(provider.window or provider.definition.window or timing.window, lifetime / 3)
    jitter = chance * min(timing.jitter, lifetime / 10)
    lead = min(window + jitter, provider.definition.earliest or lifetime)
    rest = min(REST, lifetime / 2) or REST  # what comes expired would otherwise be asked for without a pause
    return max(expires_at - lead, issued_at + lifetime / 2, now + rest)


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
    """What `answer` changes about `token`. `asked_at`: when the provider was asked; `chance`: uniform in 0 to 1.

    The definition's rest between two requests is a floor, but for the first retry in doubt: a lost reply may have
    been the only copy. And no wait outlives what is presented.
    """
    known = provider.definition
    rested = now + (known.min_interval or timedelta(0))
    change = _decided(provider, token, answer, asked_at=asked_at, now=now, chance=chance, timing=timing)
    match change:
        case Renewed(due_at=due) if due is not None:
            return replace(change, due_at=max(due, rested))
        case Postponed(due_at=due):
            wait = due if _is_first_doubt(change) else max(due, rested)
            return replace(change, due_at=_before_the_end(known, token, wait, now=now))
        case _:
            return change


def _is_first_doubt(change: Postponed) -> bool:
    in_doubt = change.failure.kind is FailureKind.IN_DOUBT
    return in_doubt and change.doubt is not None and change.doubt.tries == 1


def _decided(
    provider: Provider,
    token: Token,
    answer: Answer,
    *,
    asked_at: datetime,
    now: datetime,
    chance: float,
    timing: Timing,
) -> Change:
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
            return _rejected(provider.definition, token, answer, now=now, chance=chance)
        case Misconfigured():
            return _postponed(token, FailureKind.MISCONFIGURED, answer, now=now, chance=chance)
        case Unavailable(in_doubt=True):
            return _in_doubt(token, answer, asked_at=asked_at, now=now, chance=chance)
        case Unavailable():
            return _postponed(
                token, FailureKind.UNAVAILABLE, answer, now=now, chance=chance, floor=answer.retry_after
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
        due_at=due,
        refresh_expires_at=refresh_ends,
        consent_ends_at=consent_ends,
    )


def _ends(
    known: Definition, token: Token, granted: Granted, *, asked_at: datetime
) -> tuple[datetime | None, datetime | None]:
    """When the consent ends, and when the refresh token does; neither where no refresh token is presented."""
    if known.grant_of(token.grant) is not Grant.REFRESH_TOKEN:
        return None, None
    consent_ends = _consent_end(known, token)
    return consent_ends, _refresh_end(known, token, granted, consent_ends, asked_at=asked_at)


def _consent_end(known: Definition, token: Token) -> datetime | None:
    """When the consent itself ends, where the definition knows of such an end. An application that writes a new
    consent does not know our field: that it was issued after our last renewal tells.
    """
    if known.refresh_lifetime is None:
        return None
    renewed = token.refreshed_at
    if renewed is None or (token.issued_at is not None and token.issued_at > renewed):
        return token.issued_at + known.refresh_lifetime if token.issued_at else token.refresh_expires_at
    return token.consent_ends_at or token.refresh_expires_at


def _refresh_end(
    known: Definition, token: Token, granted: Granted, consent_ends: datetime | None, *, asked_at: datetime
) -> datetime | None:
    """The refresh token's own end: as the reply says; else the first of what idleness and the consent allow; else
    what was known before.
    """
    if granted.refresh_expires_at is not None:
        return granted.refresh_expires_at
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
            token, FailureKind.REJECTED, answer, now=now, chance=chance, floor=known.confirm_after
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
    token: Token, answer: Unavailable, *, asked_at: datetime, now: datetime, chance: float
) -> Postponed:
    """Present the same value once more, soon; if that brings no answer either, back off like any outage."""
    tries = token.doubt.tries + 1 if token.doubt else 1
    since = token.doubt.since if token.doubt else asked_at
    asker = token.doubt.asker if token.doubt else None
    wait = IN_DOUBT_RETRY if tries == 1 else backoff(token.failures, chance=chance)
    wait = max(wait, answer.retry_after or timedelta(0))
    return Postponed(
        failure=_failure(FailureKind.IN_DOUBT, answer, now),
        failures=token.failures + 1,
        due_at=now + wait,
        doubt=Doubt(since=since, tries=tries, asker=asker),
    )


def _postponed(
    token: Token,
    kind: FailureKind,
    answer: Rejected | Misconfigured | Unavailable,
    *,
    now: datetime,
    chance: float,
    floor: timedelta | None = None,
) -> Postponed:
    """Try again after a backoff. `floor`: the provider's own wish (Retry-After). An older doubt stays one."""
    wait = max(backoff(token.failures, chance=chance), floor or timedelta(0))
    return Postponed(
        failure=_failure(kind, answer, now),
        failures=token.failures + 1,
        due_at=now + wait,
        doubt=token.doubt,
    )


def _before_the_end(known: Definition, token: Token, due: datetime, *, now: datetime) -> datetime:
    """No wait outlives what is presented; close to its end, each takes half of what is left."""
    match known.grant_of(token.grant):
        case Grant.REFRESH_TOKEN:
            end = token.refresh_expires_at
        case Grant.EXCHANGE:
            end = token.expires_at
        case _:
            end = None
    if end is None or end <= now:
        return due
    return min(due, max(end - RETRY_MARGIN, now + (end - now) / 2))


def _failure(
    kind: FailureKind, answer: Unread | Rejected | Misconfigured | Unavailable, now: datetime
) -> Failure:
    return Failure(kind=kind, code=answer.code, message=answer.message, at=now)
