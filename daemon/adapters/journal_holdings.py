"""What the journal's entries take of its file, kept as sums: by state, by the key that sealed them, by provider.

What is kept for people to look at is never deleted to make room: an unread reply may hold the only copy of a refresh
token, and which of its bytes don't is just what nobody could read. So the bound is on the other side. A provider whose
kept replies take more than `LIMIT` is crowded, and is asked for nothing more until somebody has looked at them. Its
requests in flight may exceed that once. All other providers go on.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from daemon.adapters.journal_row import STATES, SUPERSEDED, UNREAD, Row, key_of

LIMIT = 16 << 20  # bytes of sealed replies: thousands of grants, or 36 of the largest replies that are read
_RETAINED = frozenset((UNREAD, SUPERSEDED))


class Holding(NamedTuple):
    """One entry's share of the file."""

    provider: str
    key_id: str
    size: int  # of the sealed reply


def holding_of(row: Row) -> Holding:
    return share_of(row[2], row[6], len(row[6]))


def share_of(provider: str, beginning: str, size: int) -> Holding:
    """The same, from the beginning of the sealed reply."""
    return Holding(provider, key_of(beginning), size)


class Holdings:
    """Sums of holdings, in which each entry is in one state at a time."""

    def __init__(self) -> None:
        self.crowded: set[str] = set()  # providers whose kept replies take more than the limit
        self._bytes: Counter[str] = Counter()  # by state
        self._keys: Counter[tuple[str, bool]] = Counter()  # entries by key id and whether they are retained
        self._retained: Counter[str] = Counter()  # bytes by provider

    def add(self, state: str, held: Holding) -> None:
        self._add(state, held, 1)

    def remove(self, state: str, held: Holding) -> None:
        self._add(state, held, -1)

    def _add(self, state: str, held: Holding, times: int) -> None:
        retained = state in _RETAINED
        self._bytes[state] += times * held.size
        self._keys[held.key_id, retained] += times
        if retained:
            self._retained[held.provider] += times * held.size
            full = self._retained[held.provider] > LIMIT
            (self.crowded.add if full else self.crowded.discard)(held.provider)

    @property
    def bytes_by_state(self) -> Mapping[str, int]:
        """Sealed bytes; each state is named."""
        return {state: self._bytes[state] for state in STATES}

    @property
    def sealed_with(self) -> Mapping[str, tuple[int, int]]:
        """By key id: how many entries wait, unusable ones included, and how many are retained for people."""
        ids = {key_id for (key_id, _), count in self._keys.items() if count and key_id}
        return {key_id: (self._keys[key_id, False], self._keys[key_id, True]) for key_id in ids}
