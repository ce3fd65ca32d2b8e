"""Tokens that met a bug of refreshd's, or whose document can't be written: left alone for a while, longer each time.

Not for good: a new consent, a corrected key or another version of what they met may have ended the trouble.
"""

from datetime import timedelta

FIRST = timedelta(minutes=5)
LAST = timedelta(hours=6)


class Quarantine:
    """Which tokens one lane must not claim now. Instants are boot times."""

    def __init__(self) -> None:
        self._until: dict[str, tuple[timedelta, timedelta]] = {}  # id -> when it ends, and how long it lasts

    def put(self, token: str, now: timedelta) -> None:
        """Leave `token` alone from `now` on: five minutes, and twice as long each time up to six hours."""
        _, before = self._until.get(token, (now, FIRST / 2))
        span = min(2 * before, LAST)
        self._until[token] = now + span, span

    def held(self, now: timedelta) -> set[str]:
        return {token for token, (until, _) in self._until.items() if now < until}

    def release(self, token: str) -> None:
        """It went well this time."""
        self._until.pop(token, None)

    def clear(self) -> None:
        self._until.clear()
