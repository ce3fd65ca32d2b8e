"""How much of the journal's file the parked entries take: sums over the entries that wait for operators.

None of them is deleted to make room: an unparsed reply may hold the only copy of a refresh token, in bytes that could
not be understood. So the bound is on the other side. A provider whose parked replies take more than `LIMIT` is crowded:
nothing more is asked of it until an operator has dealt with them. Its requests in flight may exceed that once. All other
providers go on.
"""

from collections import Counter
from typing import NamedTuple

from daemon.adapters.journal.row import key_of
from daemon.domain.journal_entry import EntryState

LIMIT = 16 << 20  # bytes of sealed replies: thousands of grants, or 36 of the largest replies that are read


class Share(NamedTuple):
    """The part of the file that one entry takes."""

    provider: str
    key_id: str  # of the key that sealed it
    size: int  # bytes of the sealed reply


def share_of(provider: str, beginning: str, size: int) -> Share:
    """The share of a sealed reply, whose text starts with `beginning`."""
    return Share(provider, key_of(beginning), size)


class Parked:
    """Sums over the parked entries."""

    def __init__(self) -> None:
        self.crowded: set[str] = set()  # providers beyond the limit
        self.bytes: Counter[EntryState] = Counter()
        self.sealed_with: Counter[str] = Counter()  # entries by key id
        self._providers: Counter[str] = Counter()  # bytes

    def add(self, state: EntryState, one: Share) -> None:
        self._count(state, one, 1)

    def remove(self, state: EntryState, one: Share) -> None:
        self._count(state, one, -1)

    def _count(self, state: EntryState, one: Share, times: int) -> None:
        self.bytes[state] += times * one.size
        self.sealed_with[one.key_id] += times
        self._providers[one.provider] += times * one.size
        full = self._providers[one.provider] > LIMIT
        (self.crowded.add if full else self.crowded.discard)(one.provider)
