"""Which stored tokens and audit records a caller of the access service asks for, within what its key may see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from daemon.domain.access_key import ANY
from daemon.domain.audit_position import Position
from daemon.domain.served_token import ServedToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """`selectors` and `limits`: of the access key, its `tokens` and `where`. The rest is the caller's wish. `after`: an
    id, of which only later ones are meant.
    """

    selectors: tuple[str, ...]
    limits: Mapping[str, str] = field(default_factory=dict)
    provider: str | None = None
    state: str | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSelection:
    """`key`, `selectors` and `limits`: of the access key, its id and what it may see. `actor`: the name of a key, or a
    user. `after`: the record behind which the page begins.
    """

    key: str
    selectors: tuple[str, ...]
    limits: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None
    actor: str | None = None
    since: datetime | None = None
    after: Position | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPage:
    """Audit records, newest first. `end`: the position of the next page, or None if there is no further record. A page
    may hold fewer records than were requested, or none, and still not be the last one.
    """

    items: Sequence[Mapping[str, object]]
    end: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A token in a list, without any secret, not even a sealed one."""

    token: ServedToken
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """How many tokens of a provider are in a state. `expired`: their access token has ended."""

    provider: str
    state: str
    count: int
    expired: int


@dataclass(frozen=True, slots=True)
class Ids:
    """A set of ids: single ones, and those from a text on (included) up to another (excluded; None: no end)."""

    exact: frozenset[str]
    ranges: tuple[tuple[str, str | None], ...]

    @property
    def is_empty(self) -> bool:
        return not self.exact and not self.ranges


def ids_of(selectors: Sequence[str], *, beginning: str = "", after: str | None = None) -> Ids:
    """Return the ids that a selector names, of those that start with `beginning` and come behind `after`.

    In UTF-8, the order of bytes is that of characters.
    """
    lowest = beginning if after is None else max(beginning, f"{after}\x00")
    highest = end_of_range(beginning)
    exact = {one for one in selectors if not one.endswith(ANY)}
    ranges = set()
    for one in selectors:
        if one.endswith(ANY):
            prefix = one.removesuffix(ANY)
            start, end = max(lowest, prefix), _lower(highest, end_of_range(prefix))
            if end is None or start < end:
                ranges.add((start, end))
    named = (one for one in exact if one >= lowest and (highest is None or one < highest))
    return Ids(frozenset(named), tuple(sorted(ranges, key=lambda pair: (pair[0], pair[1] or ""))))


def end_of_range(beginning: str) -> str | None:
    """Return the first text behind all those that start with `beginning`, or None if there is none."""
    text = beginning.rstrip("\U0010ffff")
    if not text:
        return None
    following = ord(text[-1]) + 1
    return text[:-1] + chr(0xE000 if following == 0xD800 else following)  # no character is a surrogate


def _lower(one: str | None, other: str | None) -> str | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
