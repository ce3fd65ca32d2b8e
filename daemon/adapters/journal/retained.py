"""Sums of the space that entries retained for operators take in the journal's file.

None of them is deleted to make room: an unparsed reply may hold the only copy of a refresh token, in bytes
that refreshd could not parse. So the limit applies to new requests. A provider whose retained replies take
more than `LIMIT` is crowded, and gets no further requests until an operator has discarded some of them. Its
requests in flight may exceed the limit once. All other providers go on.
"""

from collections import Counter
from typing import NamedTuple

from daemon.adapters.journal.row import key_of

LIMIT = 16 << 20  # bytes of sealed replies: thousands of grants, or 36 of the largest replies that are read


class Share(NamedTuple):
    """The part of the file that one entry takes."""

    provider: str
    key_id: str  # of the key that sealed it
    size: int  # bytes of the sealed reply


def share_of(provider: str, beginning: str, size: int) -> Share:
    """Return the share of a sealed reply that starts with this text."""
    return Share(provider, key_of(beginning), size)


class Retained:
    """Sums over the retained entries."""

    def __init__(self) -> None:
        self.crowded: set[str] = set()  # providers beyond the limit
        self.bytes: Counter[str] = Counter()  # by state
        self.sealed_with: Counter[str] = Counter()  # entries by key id
        self._providers: Counter[str] = Counter()  # bytes

    def add(self, state: str, one: Share) -> None:
        self._count(state, one, 1)

    def remove(self, state: str, one: Share) -> None:
        self._count(state, one, -1)

    def _count(self, state: str, one: Share, times: int) -> None:
        self.bytes[state] += times * one.size
        self.sealed_with[one.key_id] += times
        self._providers[one.provider] += times * one.size
        full = self._providers[one.provider] > LIMIT
        (self.crowded.add if full else self.crowded.discard)(one.provider)
