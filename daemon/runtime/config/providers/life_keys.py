"""The keys of a definition about time: how long tokens live, when they are renewed, and how often the provider is asked."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from daemon.domain.provider import Grant, IdleFrom, Rate, Rotation
from daemon.runtime.config.fields import ARRAY, STRICT, Day, Flag, Read, Span, duration, one_of, whole
from daemon.runtime.config.problems import InvalidValue
from daemon.runtime.config.providers.url_rules import Fault

_RATE = re.compile(r"([0-9]{1,7})/([0-9]{0,6}(?:ms|s|m|h|d))")
_UNTIL_USED = "until_used"
_MOST_LIVE = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Grace:
    """How long a spent refresh token still works. `until_used`: until a new token is used, and no longer than `longest`
    if that isn't zero.
    """

    longest: timedelta = timedelta()
    until_used: bool = False


def grace_of(value: object) -> Grace:
    """Read a duration, "until_used", or "until_used" with the longest time behind it."""
    word, _, longest = value.partition(" ") if isinstance(value, str) else ("", "", "")
    if word != _UNTIL_USED:
        return Grace(longest=duration(value))
    span = duration(longest) if longest else timedelta()
    if longest and not span:
        raise InvalidValue(
            "is not a grace", 'Write "until_used" alone, or with a time like "until_used 60m".'
        )
    return Grace(longest=span, until_used=True)


def rate_of(value: object) -> Rate:
    """Parse a rate like "10/10m" or "5/s". Raises InvalidValue."""
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None or not int(found[1]):
        raise InvalidValue("is not a rate", 'Write a number of requests and a time, like "10/10m" or "5/s".')
    per = duration(found[2] if found[2][0].isdigit() else f"1{found[2]}")
    if not per:
        raise InvalidValue("is not a rate", "The time must be greater than zero.")
    return Rate(count=int(found[1]), per=per)


def rates_of(value: object) -> tuple[Rate, ...]:
    """Read one rate, or a list of rates that all hold."""
    if not isinstance(value, list):
        return (rate_of(value),)
    if not value:
        raise InvalidValue("is an empty list", 'Write rates like ["10/s", "200/15m"], or remove it.')
    return tuple(map(rate_of, value))


Rates = Annotated[tuple[Rate, ...], Read(rates_of), ARRAY]


@dataclass(
    frozen=True, kw_only=True
)  # no slots: a table inherits from two, and only one of them may have them
class LifeTable:
    """The keys about time; `domain.provider.Definition` explains each."""

    __pydantic_config__: ClassVar = STRICT

    refresh_idle: Span | None = None
    refresh_idle_from: Annotated[IdleFrom, Read(one_of(IdleFrom))] = IdleFrom.USE
    refresh_lifetime: Span | None = None
    grace: Annotated[Grace, Read(grace_of)] = Grace()
    ends_previous: Flag = False
    live_tokens: Annotated[int, Read(whole(1, _MOST_LIVE))] | None = None
    retires: Day | None = None
    window: Span | None = None
    renew_every: Span | None = None
    earliest: Span | None = None


def lives(table: LifeTable) -> dict[str, Any]:
    """Return those fields of a Definition that no key has under the same name."""
    return {"grace": table.grace.longest, "grace_until_used": table.grace.until_used}


def life_faults(table: LifeTable, grant: Grant, rotation: Rotation) -> Iterator[Fault]:
    if table.refresh_idle_from is IdleFrom.REPLACEMENT and table.refresh_idle is None:
        yield ("refresh_idle_from",), "is set without refresh_idle", "Add refresh_idle, or remove it."
    elif table.refresh_idle_from is IdleFrom.REPLACEMENT and rotation is Rotation.NEVER:
        do = "Write refresh_lifetime instead of refresh_idle: no renewal moves the end."
        yield ("refresh_idle_from",), "is for a refresh token that is replaced", do
    if table.renew_every is not None and table.earliest is not None:
        what = "is set beside earliest, before which the provider issues nothing new"
        yield ("renew_every",), what, "Remove one of the two."
    if grant is Grant.NONE:
        for key in ("renew_every", "ends_previous"):
            if getattr(table, key):
                yield (key,), "is set, but nothing renews these tokens", "Remove it."
