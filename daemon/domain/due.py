"""When a token is due, and what happens to a claimed token instead of a request. Time and chance are
arguments.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.domain.change import Scheduled
from daemon.domain.provider import Definition, Grant, Provider
from daemon.domain.token import FailureKind, State, Token
from daemon.domain.token_response import ASSUMED_LIFETIME

# At least this between two renewals, but never more than half a lifetime
MIN_RENEWAL_INTERVAL = timedelta(seconds=10)
SAME_MOMENT = timedelta(seconds=1)  # between an application's two looks at its clock
# Renewed earlier, a provider that ends the previous access token would take it from its readers.
ENDING_WINDOW = timedelta(minutes=1)
RETRY_MARGIN = timedelta(minutes=1)  # a retry comes this long before the refresh token's own end


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The operator's settings for due times: `[refresh] window` and `jitter`."""

    window: timedelta = timedelta(minutes=5)
    jitter: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Moment:
    """The arguments of a decision that belong neither to the token nor to its provider nor to an answer.

    `now`: the store's time (UTC). `chance`: uniform in 0 to 1, drawn once for each decision.
    """

    now: datetime
    chance: float
    timing: Timing


def first_look(provider: Provider, token: Token, *, moment: Moment) -> Scheduled | None:
    """Return the action for a claimed token instead of a request, or None to send the request.

    Only an active token with something to present is presented. Any other due token loses its `due_at`. If
    the definition says that a request too soon or long before the end is useless or harmful, the token waits;
    a doubt does not wait for that. Every token waits as long as the provider asked for. A document that an application inserted (no `revision`) and that expires beyond the
    window is scheduled, not refreshed, unless the application requests a renewal (`_is_wish`).
    """
    definition, now = provider.definition, moment.now
    if token.state is not State.ACTIVE or not _is_presentable(definition, token):
        return Scheduled(due_at=None)
    asked = token.last_failure.not_before if token.last_failure is not None else None
    if asked is not None and now < asked:
        return Scheduled(due_at=asked)
    if token.doubt is not None:
        return None
    again = _next_allowed(definition, token)
    if again is not None and now < again:
        return Scheduled(due_at=again)
    early = _is_too_early(definition, token, now)
    if early or (token.revision is None and not _is_wish(token, now)):
        due = _planned(provider, token, moment=moment)
        return Scheduled(due_at=due) if early or due > now + MIN_RENEWAL_INTERVAL else None
    return None


def first_due(provider: Provider, token: Token, *, moment: Moment) -> datetime | None:
    """Return when a token is due whose owner has just consented. None: nothing renews it, or it never ends."""
    if not _is_presentable(provider.definition, token):
        return None
    if token.access_token is None:
        return moment.now
    if token.expires_at is None:
        every = provider.definition.renew_every
        return None if every is None else _born(token, moment.now) + every
    return _planned(provider, token, moment=moment)


def _is_presentable(definition: Definition, token: Token) -> bool:
    match definition.grant_of(token.grant):
        case Grant.REFRESH_TOKEN:
            return token.refresh_token is not None
        case Grant.EXCHANGE:
            return token.access_token is not None
        case Grant.CLIENT_CREDENTIALS | Grant.JWT_BEARER:
            return True
        case Grant.NONE:
            return False


def _is_wish(token: Token, now: datetime) -> bool:
    """Return whether an application requests a renewal of a token that refreshd has not touched yet, for
    example after a 401.

    Such a date is later than the token's birth. An application that writes "now" into each new document
    requests nothing, because its date equals the birth. The same holds for any date before the birth.
    """
    return token.due_at is not None and _born(token, now) + SAME_MOMENT < token.due_at <= now


def _born(token: Token, now: datetime) -> datetime:
    """Return when the token was issued. If that is not stored, its lifetime is assumed, which makes the
    window a full one.
    """
    if token.issued_at is not None or token.expires_at is None:
        return token.issued_at or now
    return min(now, max(now, token.expires_at) - ASSUMED_LIFETIME)


def _next_allowed(definition: Definition, token: Token) -> datetime | None:
    """Return when the provider accepts another request for this token: after the definition's minimum
    interval, or when a repeated rejection counts. Setting `due_at` to now overrides neither.
    """
    if not (definition.min_interval or definition.confirm_after):
        return None
    failure = token.last_failure
    failed = failure.at if failure is not None else None
    rejected = failed if failure is not None and failure.kind is FailureKind.REJECTED else None
    asked = max(filter(None, (token.refreshed_at, failed)), default=None)
    waits = ((asked, definition.min_interval), (rejected, definition.confirm_after))
    ends = (before_the_end(definition, token, at + wait, now=at) for at, wait in waits if at and wait)
    return max(ends, default=None)


def _is_too_early(definition: Definition, token: Token, now: datetime) -> bool:
    """Return whether the provider would return nothing new yet. A refresh token that ends first is not
    delayed for that.
    """
    if definition.earliest is None or token.expires_at is None:
        return False
    ends = token.refresh_expires_at
    outlived = ends is not None and now < ends < token.expires_at
    return not outlived and token.expires_at - definition.earliest > now


def _planned(provider: Provider, token: Token, *, moment: Moment) -> datetime:
    """Return when a token is due that refreshd has not renewed yet. Without a known end, that is now."""
    if token.expires_at is None:
        return moment.now
    return due_at(
        provider,
        token.expires_at,
        issued_at=_born(token, moment.now),
        moment=moment,
        refresh_expires_at=token.refresh_expires_at,
    )


def due_at(
    provider: Provider,
    expires_at: datetime,
    *,
    issued_at: datetime,
    moment: Moment,
    refresh_expires_at: datetime | None = None,
) -> datetime:
    """Return when to renew a token that was issued at `issued_at` and ends at `expires_at`.

    The time is `expires_at - window - jitter`, with `window = min(configured, lifetime / 3)`. `chance` (0 to
    1) draws `jitter` once, from at most a tenth of the lifetime. The time is never before half the lifetime,
    before the definition's `earliest`, or within MIN_RENEWAL_INTERVAL of now (half the lifetime if that is
    shorter).

    If the definition has `renew_every`, a token that reaches that age before is due then.

    A refresh token that ends first is used before it ends, so its end counts instead. That does not hold
    within MIN_RENEWAL_INTERVAL of its end, when repeated requests would gain nothing.
    """
    now, chance, timing = moment.now, moment.chance, moment.timing
    if refresh_expires_at is not None and now + MIN_RENEWAL_INTERVAL < refresh_expires_at < expires_at:
        expires_at = refresh_expires_at
    lifetime = max(expires_at - issued_at, timedelta(0))
    window = window_of(provider, lifetime, timing=timing)
    jitter = chance * min(timing.jitter, lifetime / 10)
    lead = min(window + jitter, provider.definition.earliest or lifetime)
    rest = min(MIN_RENEWAL_INTERVAL, lifetime / 2)
    if not lifetime:  # it came expired, and would otherwise be renewed without a pause
        rest = MIN_RENEWAL_INTERVAL
    due = max(expires_at - lead, issued_at + lifetime / 2)
    if (every := provider.definition.renew_every) is not None:
        due = min(due, issued_at + every - chance * min(timing.jitter, every / 10))
    return max(due, now + rest)


def window_of(provider: Provider, lifetime: timedelta, *, timing: Timing) -> timedelta:
    """Return how long before its end a token with this lifetime is due, without jitter."""
    definition = provider.definition
    usual = min(timing.window, ENDING_WINDOW) if definition.ends_previous else timing.window
    return min(provider.window or definition.window or usual, lifetime / 3)


def before_the_end(definition: Definition, token: Token, due: datetime, *, now: datetime) -> datetime:
    """Return `due`, moved forward if the presented secret would end during the wait. Close to its end, each
    wait takes half of the remaining time.
    """
    match definition.grant_of(token.grant):
        case Grant.REFRESH_TOKEN:
            end = token.refresh_expires_at
        case Grant.EXCHANGE:
            end = token.expires_at
        case _:
            end = None
    if end is None or end <= now:
        return due
    return min(due, max(end - RETRY_MARGIN, now + (end - now) / 2))
