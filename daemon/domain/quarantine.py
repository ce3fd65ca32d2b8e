"""What is left alone for a while though it is due, longer each time: it met a bug, or it can't be changed.

Not for good: a new consent, a corrected key or another version may have ended the trouble. It is kept in memory, and
instants are boot times.
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
    """Each rest of a token is twice as long as the one before, from `first` up to `last`, until it goes well again."""

    def __init__(self, *, first: timedelta, last: timedelta) -> None:
        self._first, self._last = first, last
        self._rests: dict[str, _Rest] = {}

    def put(self, name: str, why: str, *, now: timedelta) -> bool:
        """Leave `name` alone for a while. Returns whether that is news: it did not rest for the same reason before."""
        before = self._rests.pop(name, None)
        length = min(2 * before.length, self._last) if before else self._first
        if len(self._rests) >= MOST:
            del self._rests[next(iter(self._rests))]
        self._rests[name] = _Rest(until=now + length, length=length, why=why)
        return before is None or before.why != why

    def held(self, now: timedelta) -> set[str]:
        """What is to be left alone now."""
        return {name for name, rest in self._rests.items() if now < rest.until}

    def release(self, names: Iterable[str]) -> None:
        """It went well with these."""
        if self._rests:
            for name in names:
                self._rests.pop(name, None)

    def clear(self) -> None:
        self._rests.clear()

    @property
    def full(self) -> bool:
        """Whether there may be more than can be remembered here."""
        return len(self._rests) >= MOST
