"""Places for callers that wait for a renewal. They are limited, so that waiting costs little memory."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

MOST, MOST_OF_ONE_KEY = 1000, 50


class Seats:
    def __init__(self, *, most: int = MOST, most_of_one_key: int = MOST_OF_ONE_KEY) -> None:
        self._most, self._most_of_one_key = most, most_of_one_key
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, key_id: str) -> Iterator[bool]:
        """Return whether there was a place for a caller with this key. It is free again at the end."""
        free = self._taken.total() < self._most and self._taken[key_id] < self._most_of_one_key
        if not free:
            yield False
            return
        self._taken[key_id] += 1
        try:
            yield True
        finally:
            self._taken[key_id] -= 1
            if not self._taken[key_id]:
                del self._taken[key_id]
