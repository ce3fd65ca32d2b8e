"""The effect of an answer on the token, and the backoff. Time and chance are arguments.

While its access token lives, a failing token is tried again within five minutes. After that the waits grow,
so a token that is refused for days costs a few requests a day. While the whole provider is in trouble, no
wait grows.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from daemon.domain.answer import Answer, Cause, Granted, Misconfigured, Rejected, Unavailable, Unparsed
from daemon.domain.change import Change, Postponed, Renewed, Retired, Withheld
from daemon.domain.due import Moment, before_the_end, due_at
from daemon.domain.expiry import jwt_end
from daemon.domain.provider import Definition, Grant, IdleFrom, Provider
from daemon.domain.token import Doubt, Failure, FailureKind, Token

BACKOFF_FIRST = timedelta(seconds=5)
BACKOFF_LAST = timedelta(minutes=5)
BACKOFF_STUCK = timedelta(hours=6)  # the longest wait for a token that is past its end
STUCK_AFTER = timedelta(hours=2)  # refused so long after its end, a token is stuck
IN_DOUBT_RETRY = timedelta(seconds=2)  # soon: inside a provider's grace, if it has one
DOUBTED_RETRY = timedelta(minutes=1)  # a rejection that is not believed is asked about again after this long
# Past the end of the access token, the longest wait is this part of the time since then.
_REFUSED_PART = 2  # half: the token's own trouble, which only a person ends
_OUTAGE_PART = 16  # a sixteenth: an outage ends by itself, and its end must be seen soon


def backoff(failures: int, *, chance: float, longest: timedelta = BACKOFF_LAST) -> timedelta:
    """Return a wait with full jitter: uniform between zero and 5 s * 2^failures, at most `longest`.
    `failures` counts from 0.
    """
    ceiling: timedelta = BACKOFF_FIRST * (1 << min(failures, 16))
    return chance * min(longest, ceiling)


def longest_wait(token: Token, answer: Answer, *, now: datetime, doubted: bool = False) -> timedelta:
    """Return the ceiling of the backoff: five minutes while the access token lives, growing to six hours
    after its end. A rejection that waits for its repetition does not wait longer, because the owner must hear of a
    dead grant.
    """
    if doubted or token.expires_at is None or isinstance(answer, Rejected) or _is_rejected(token):
        return BACKOFF_LAST
    part = _REFUSED_PART if is_refusal(answer) else _OUTAGE_PART
    return min(max((now - token.expires_at) / part, BACKOFF_LAST), BACKOFF_STUCK)


def is_refusal(answer: Answer) -> bool:
    """Return whether the answer refuses this token, its tenant or the client. Otherwise it is an outage."""
    match answer:
        case Unavailable(cause=cause):
            return cause is Cause.REFUSAL
        case _:
            return isinstance(answer, Misconfigured | Rejected)


def _is_rejected(token: Token) -> bool:
    return token.last_failure is not None and token.last_failure.kind is FailureKind.REJECTED


def decide(
    provider: Provider,
    token: Token,
    answer: Answer,
    *,
    asked_at: datetime,
    moment: Moment,
    doubted: bool = False,
) -> Change:
    """Return the change of `token` that `answer` causes. `asked_at`: when the request was sent.

    `doubted`: the provider seems to give every token this answer. Then a rejection is not final, and no wait
    grows.
    """
    definition = provider.definition
    match answer:
        case Granted():
            return _renewed(provider, token, answer, asked_at=asked_at, moment=moment)
        case Unparsed(granted=granted):
            failure = _failure(FailureKind.UNPARSED, answer, moment)
            if granted is None:
                return Withheld(failure=failure)
            part = _renewed(provider, token, granted, asked_at=asked_at, moment=moment)
            return Withheld(failure=failure, renewed=part)
        case Rejected():
            return _rejected(definition, token, answer, moment=moment, doubted=doubted)
        case Unavailable(in_doubt=True):
            return _in_doubt(definition, token, answer, asked_at=asked_at, moment=moment)
        case Unavailable(cause=Cause.OURS):
            return _not_asked(definition, token, answer, moment=moment)
        case Misconfigured() | Unavailable():
            return _postponed(definition, token, answer, moment=moment, doubted=doubted)
        case _:
            assert_never(answer)


def _renewed(
    provider: Provider,
    token: Token,
    granted: Granted,
    *,
    asked_at: datetime,
    moment: Moment,
) -> Renewed:
    ends = granted.expires_at
    came = granted.refresh_token
    consent_ends, refresh_ends = _ends(provider.definition, token, granted, asked_at=asked_at)
    due: datetime | None = None
    if ends is not None:
        due = due_at(
            provider,
            ends,
            issued_at=asked_at,
            moment=moment,
            refresh_expires_at=refresh_ends,
        )
        due = max(due, moment.now + _rested(provider.definition, timedelta(0)))
    return Renewed(
        granted=granted,
        successor=None if came == token.refresh_token else came,
        issued_at=asked_at,
        refreshed_at=moment.now,
        due_at=due,
        refresh_expires_at=refresh_ends,
        consent_ends_at=consent_ends,
    )


def _ends(
    definition: Definition, token: Token, granted: Granted, *, asked_at: datetime
) -> tuple[datetime | None, datetime | None]:
    """Return when the consent and the refresh token end; None for both if no refresh token is presented."""
    if definition.grant_of(token.grant) is not Grant.REFRESH_TOKEN:
        return None, None
    consent_ends = granted.consent_ends_at or _consent_end(definition, token)
    return consent_ends, _refresh_end(definition, token, granted, consent_ends, asked_at=asked_at)


def _consent_end(definition: Definition, token: Token) -> datetime | None:
    """Return when the consent itself ends, if the definition or an earlier reply states it.

    An application that writes a new consent does not set refreshd's field. A token that was issued after
    refreshd's last renewal shows that there is a new consent.
    """
    renewed, reconsented = token.refreshed_at, _is_reconsented(token)
    if definition.refresh_lifetime is None:
        return None if reconsented else token.consent_ends_at
    if renewed is None or reconsented:
        return token.issued_at + definition.refresh_lifetime if token.issued_at else token.refresh_expires_at
    return token.consent_ends_at or token.refresh_expires_at


def _is_reconsented(token: Token) -> bool:
    """Return whether an application has written a new consent since refreshd's last renewal."""
    renewed = token.refreshed_at
    return renewed is not None and token.issued_at is not None and token.issued_at > renewed


def _refresh_end(
    definition: Definition,
    token: Token,
    granted: Granted,
    consent_ends: datetime | None,
    *,
    asked_at: datetime,
) -> datetime | None:
    """Return the end of the refresh token: as the reply states it, else the earliest one of the ends that
    idleness, the consent and the token itself (NetSuite's is a JWT) allow, else the end that is stored.
    """
    if granted.refresh_expires_at is not None:
        return min(filter(None, (granted.refresh_expires_at, granted.consent_ends_at)))
    idle = _idle_end(definition, token, granted, asked_at=asked_at)
    refresh = granted.refresh_token or token.refresh_token
    own = None if refresh is None else jwt_end(refresh.reveal())
    own = own if own is not None and own > asked_at else None  # one that is over contradicts the grant
    return min(filter(None, (idle, consent_ends, own)), default=token.refresh_expires_at)


def _idle_end(
    definition: Definition, token: Token, granted: Granted, *, asked_at: datetime
) -> datetime | None:
    """Return the end that idleness allows. If only a replacement extends it, a renewal without one leaves the end that is
    stored, or the one that counts from the consent.
    """
    if definition.refresh_idle is None:
        return None
    stays = granted.refresh_token in (None, token.refresh_token)
    if definition.refresh_idle_from is IdleFrom.USE or not stays:
        return asked_at + definition.refresh_idle
    if token.refresh_expires_at is not None and not _is_reconsented(token):
        return token.refresh_expires_at
    return (token.issued_at or asked_at) + definition.refresh_idle


def _rejected(
    definition: Definition, token: Token, answer: Rejected, *, moment: Moment, doubted: bool
) -> Postponed | Retired:
    """Return the change after a rejection. If the definition requires it, only the second rejection is final.
    After a doubt the next one is final, because it is the second answer. No rejection is final while the
    provider rejects every token.
    """
    if doubted:
        return _postponed(definition, token, answer, moment=moment, floor=DOUBTED_RETRY, doubted=True)
    if definition.confirm_after is not None and token.doubt is None and not _is_rejected(token):
        return _postponed(definition, token, answer, moment=moment, floor=definition.confirm_after)
    failure = _failure(FailureKind.REJECTED, answer, moment)
    if token.doubt is not None:
        note = _what_may_have_been(token.doubt)
        message = answer.message[: 300 - len(note)] + note
        failure = replace(failure, message=message)
    return Retired(failure=failure, failures=token.failures + 1)


def _what_may_have_been(doubt: Doubt) -> str:
    if doubt.asker is None:
        return " (an earlier request got no response; the lost response may have contained the new refresh token)"
    return f" (instance {doubt.asker} sent an earlier request and is lost; its journal may contain the new refresh token)"


def _in_doubt(
    definition: Definition,
    token: Token,
    answer: Unavailable,
    *,
    asked_at: datetime,
    moment: Moment,
) -> Postponed:
    """Present the same value once more, soon, even if the definition requires a longer interval, because a
    lost reply may have been the only copy. If there is no answer either, back off as for any outage.
    """
    tries = token.doubt.tries + 1 if token.doubt else 1
    since = token.doubt.since if token.doubt else asked_at
    asker = token.doubt.asker if token.doubt else None
    wait = IN_DOUBT_RETRY
    if tries > 1:
        longest = longest_wait(token, answer, now=moment.now)
        wait = backoff(token.failures, chance=moment.chance, longest=longest)
        wait = _rested(definition, _until_the_end(token, wait, now=moment.now))
    wait = max(wait, _asked_for(answer))
    return Postponed(
        failure=_waiting(definition, token, _failure(FailureKind.IN_DOUBT, answer, moment), answer),
        failures=token.failures + 1,
        due_at=before_the_end(definition, token, moment.now + wait, now=moment.now),
        doubt=Doubt(since=since, tries=tries, asker=asker),
    )


def _postponed(
    definition: Definition,
    token: Token,
    answer: Rejected | Misconfigured | Unavailable,
    *,
    moment: Moment,
    floor: timedelta = timedelta(0),
    doubted: bool = False,
) -> Postponed:
    """Try again after a backoff, no later than the access token's end. `floor`, Retry-After and the
    definition's minimum interval are waited for in any case. An earlier doubt remains.
    """
    floor = _rested(definition, max(floor, _asked_for(answer)))
    now = moment.now
    longest = longest_wait(token, answer, now=now, doubted=doubted)
    wait = max(backoff(token.failures, chance=moment.chance, longest=longest), _own_rest(answer))
    wait = _until_the_end(token, wait, now=now)
    failure = _failure(_kind_of(token, answer, now=now, doubted=doubted), answer, moment)
    return Postponed(
        failure=_waiting(definition, token, failure, answer),
        failures=token.failures + 1,
        due_at=before_the_end(definition, token, now + max(wait, floor), now=now),
        doubt=token.doubt,
    )


def _not_asked(definition: Definition, token: Token, answer: Unavailable, *, moment: Moment) -> Postponed:
    """Try again soon, because trouble of refreshd itself prevented the request. It does not count as a
    failure of the token.
    """
    wait = backoff(0, chance=moment.chance)
    return Postponed(
        failure=_failure(FailureKind.UNAVAILABLE, answer, moment),
        failures=token.failures,
        due_at=before_the_end(definition, token, moment.now + wait, now=moment.now),
        doubt=token.doubt,
    )


def _kind_of(
    token: Token, answer: Rejected | Misconfigured | Unavailable, *, now: datetime, doubted: bool
) -> FailureKind:
    match answer:
        case Rejected():
            return FailureKind.REJECTED
        case _ if not doubted and is_refusal(answer) and _ended(token, now - STUCK_AFTER):
            return FailureKind.STUCK
        case Misconfigured():
            return FailureKind.MISCONFIGURED
        case _:
            return FailureKind.UNAVAILABLE


def _ended(token: Token, at: datetime) -> bool:
    return token.expires_at is not None and token.expires_at <= at


def _asked_for(answer: Rejected | Misconfigured | Unavailable) -> timedelta:
    """Return the wait that the provider asks for (Retry-After)."""
    wait = answer.retry_after if isinstance(answer, Unavailable) else None
    return wait or timedelta(0)


def _waiting(
    definition: Definition, token: Token, failure: Failure, answer: Rejected | Misconfigured | Unavailable
) -> Failure:
    """Return `failure` with the time before which the provider wants no request, so that no wish for an early renewal
    shortens that.
    """
    wait = _asked_for(answer)
    if not wait:
        return failure
    return replace(failure, not_before=before_the_end(definition, token, failure.at + wait, now=failure.at))


def _until_the_end(token: Token, wait: timedelta, *, now: datetime) -> timedelta:
    """Return `wait`, shortened to the access token's end if that comes first: a provider may refuse to renew
    a token before its end.
    """
    ends = token.expires_at
    return wait if ends is None or ends <= now else min(wait, ends - now)


def _own_rest(answer: Rejected | Misconfigured | Unavailable) -> timedelta:
    return answer.rest if isinstance(answer, Unavailable) else timedelta(0)


def _rested(definition: Definition, wait: timedelta) -> timedelta:
    """Return `wait`, but at least the definition's minimum interval between two requests."""
    return max(wait, definition.min_interval or timedelta(0))


def _failure(
    kind: FailureKind, answer: Unparsed | Rejected | Misconfigured | Unavailable, moment: Moment
) -> Failure:
    return Failure(kind=kind, code=answer.code, message=answer.message, at=moment.now)
