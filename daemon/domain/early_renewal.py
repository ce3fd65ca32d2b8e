"""Early renewals that applications ask for, and their bounds: a provider must see no flood, however many ask."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from daemon.domain.provider import Definition
from daemon.domain.served_token import Refusals, ServedToken

LEAST_APART = timedelta(seconds=10)  # of two renewals of one token
REFUSALS_APART = timedelta(seconds=60)  # of two early renewals of one token for a refused access token
MOST_IN_A_ROW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew:
    """An early renewal may be asked for. `refusals`: what is stored with the wish, if it is for a refused token."""

    refusals: Refusals | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Underway:
    """The renewal is due already, so that nothing has to be asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotBefore:
    """No renewal may be asked for before `at`. None: its time is unknown."""

    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TooOften:
    """Several versions in a row were refused, so that the token is renewed at its usual time only."""

    usual: datetime | None


Answer = Renew | Underway | NotBefore | TooOften


def bounded(fresh_for: timedelta, token: ServedToken, definition: Definition) -> timedelta:
    """Return how long the access token must still live, at most: a third of its lifetime, and no longer than the
    provider renews it before its end.
    """
    bounds = [fresh_for]
    if token.lifetime is not None:
        bounds.append(token.lifetime / 3)
    if definition.earliest is not None:
        bounds.append(definition.earliest)
    return max(min(bounds), timedelta(0))


def is_fresh(token: ServedToken, fresh_for: timedelta, now: datetime) -> bool:
    """Return whether the access token lives for at least `fresh_for`."""
    return token.is_usable(now) and (token.expires_at is None or token.expires_at - now >= fresh_for)


def for_freshness(token: ServedToken, definition: Definition, now: datetime) -> Answer:
    """Return whether an early renewal may be asked for."""
    if token.due_at is None:
        return NotBefore(at=None)
    if token.failures:
        return NotBefore(at=token.due_at)
    if token.due_at <= now:
        return Underway()
    if token.refreshed_at is not None:
        free = token.refreshed_at + max(LEAST_APART, definition.min_interval or timedelta(0))
        if now < free:
            return NotBefore(at=free)
    return Renew()


def for_refused(token: ServedToken, definition: Definition, now: datetime) -> Answer:
    """Return whether an early renewal may be asked for because the provider refuses the current access token."""
    before = token.refusals
    answer = for_freshness(token, definition, now)
    if isinstance(answer, NotBefore) and _is_for_its_age(token) and before is not None:
        return NotBefore(at=max(answer.at or now, _free_after(before, token)))
    if not isinstance(answer, Renew) or token.version is None:
        return answer
    if before is not None and before.version == token.version:
        return Underway()
    count = before.count + 1 if before is not None and _came_early(token, before) else 1
    if count > MOST_IN_A_ROW:
        return TooOften(usual=token.due_at)
    if before is not None and now < (free := _free_after(before, token)):
        return NotBefore(at=free)
    return replace(answer, refusals=Refusals(version=token.version, at=now, count=count, usual=token.due_at))


def _is_for_its_age(token: ServedToken) -> bool:
    """Return whether nothing but the age of a healthy token forbids its early renewal."""
    return token.due_at is not None and not token.failures


def _free_after(before: Refusals, token: ServedToken) -> datetime:
    """Return when the token may be renewed early for a refusal again."""
    return before.at + max(REFUSALS_APART, (token.lifetime or timedelta(0)) / 10)


def _came_early(token: ServedToken, before: Refusals) -> bool:
    """Return whether the current access token was obtained for the refusal `before`, and not at its usual time."""
    if before.usual is None or token.refreshed_at is None:
        return True
    return token.refreshed_at < before.usual
