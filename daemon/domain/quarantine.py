"""Tokens in quarantine: due, but left alone for a while, because they met a bug or can't be changed.

The quarantine ends, because a new consent, a corrected key or a new version may have fixed the cause. It is
kept in memory, and instants are boot times.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rest:
    until: timedelta
    length: timedelta
    why: str


class Quarantine:
    """Doubles each quarantine of a token, from `first` up to `last`, until its next success."""

    def __init__(self, *, first: timedelta, last: timedelta) -> None:
        self._first, self._last = first, last
        self._rests: dict[str, _Rest] = {}

    def put(self, name: str, why: str, *, now: timedelta) -> bool:
        """Leave `name` alone for a while. Returns whether this is new: it was not in quarantine for the same
        reason before.
        """
        before = self._rests.pop(name, None)
        length = min(2 * before.length, self._last) if before else self._first
        if len(self._rests) >= MOST:
            del self._rests[next(iter(self._rests))]
        self._rests[name] = _Rest(until=now + length, length=length, why=why)
        return before is None or before.why != why

    def held(self, now: timedelta) -> set[str]:
        """Return the tokens to leave alone now."""
        return {name for name, rest in self._rests.items() if now < rest.until}

    def release(self, names: Iterable[str]) -> None:
        """Release these tokens after a success."""
        if self._rests:
            for name in names:
                self._rests.pop(name, None)

    def clear(self) -> None:
        self._rests.clear()

    @property
    def full(self) -> bool:
        """Whether older entries have to be dropped for new ones."""
        return len(self._rests) >= MOST
