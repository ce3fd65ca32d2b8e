"""Tokens in memory: the most recently used ones, each for a short time.

An OrderedDict is enough: every entry has an end of its own, so a cache with one time to live for all would not
fit, and a package would be the only dependency.
"""

import threading
import time
from collections import OrderedDict
from typing import NamedTuple

from refreshd_reader.token import Token

SIZE = 10_000
LONGEST = 300.0  # seconds. A token that was revoked or paused since is used for no longer than this
MARGIN = 30.0  # seconds before its end at which a token leaves, so that it doesn't expire on its way to the provider

Key = tuple[str, str]  # provider and account


class _Entry(NamedTuple):
    token: Token
    until: float  # by `clock`


def clock() -> float:
    """Return seconds of a clock that is never set, and goes on while the machine sleeps."""
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()


# Linux has a clock of its own for this; on macOS it is CLOCK_MONOTONIC, and Windows has no other.
_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


class Cache:
    """Thread-safe. Refuses tokens that would be past their margin immediately."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Token | None:
        """Return the token, unless its time here is over."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        token, until = entry
        if clock() >= until:
            self.drop(key, entry)
            return None
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
        return token

    def put(self, key: Key, token: Token, *, seconds_left: float | None, age: float) -> None:
        """Keep the token, which had `seconds_left` (None: no end) when it was requested, `age` seconds ago."""
        allowed = LONGEST if seconds_left is None else min(LONGEST, seconds_left - MARGIN)
        allowed -= age
        with self._lock:
            self._entries.pop(key, None)
            if allowed <= 0:
                return
            self._entries[key] = _Entry(token, clock() + allowed)
            if len(self._entries) > self._size:
                self._entries.popitem(last=False)

    def drop(self, key: Key, entry: _Entry | None = None) -> None:
        """Forget this token; with `entry` only if nothing newer has taken its place."""
        with self._lock:
            if entry is None or self._entries.get(key) is entry:
                self._entries.pop(key, None)

    def drop_version(self, token: Token) -> None:
        """Forget this very token."""
        key = (token.provider, token.account)
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.token.version == token.version:
                del self._entries[key]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()

    def forked(self) -> None:
        """Replace the lock: in a forked child another thread's lock would stay taken."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)
