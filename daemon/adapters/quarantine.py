"""Documents that are left alone for a while though they are due, kept in memory: those that MongoDB lets nobody change."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta

FIRST_REST = timedelta(seconds=10)
LONGEST_REST = timedelta(hours=1)
MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rest:
    until: timedelta  # by the boot clock
    length: timedelta
    why: str


class Quarantine:
    """Each rest of a document is twice as long as the one before, until it could be used again."""

    def __init__(self, boot: Callable[[], timedelta]) -> None:
        self._boot = boot
        self._rests: dict[str, _Rest] = {}

    def put(self, name: str, why: str) -> bool:
        """Leave `name` alone for a while. Returns whether that is news: it did not rest for the same reason before."""
        before = self._rests.pop(name, None)
        length = min(2 * before.length, LONGEST_REST) if before else FIRST_REST
        if len(self._rests) >= MOST:
            del self._rests[next(iter(self._rests))]
        self._rests[name] = _Rest(until=self._boot() + length, length=length, why=why)
        return before is None or before.why != why

    def release(self, names: Collection[str]) -> None:
        """They could be used."""
        if self._rests:
            for name in names:
                self._rests.pop(name, None)

    @property
    def names(self) -> set[str]:
        """What is to be left alone now."""
        now = self._boot()
        return {name for name, rest in self._rests.items() if now < rest.until}

    @property
    def full(self) -> bool:
        """Whether more documents may be unfit than can be remembered here."""
        return len(self._rests) >= MOST
