"""Prefetch: the number of tokens that a lane claims ahead of its capacity, so that its provider never waits
for a claim.
"""

from datetime import timedelta

AHEAD = timedelta(milliseconds=300)  # of work at the lane's current speed
MOST_AHEAD = 3  # shares


class Prefetch:
    """Measures the speed of one pass. A slow lane claims nothing ahead, because other instances can't take
    its claims.
    """

    def __init__(self) -> None:
        self.count = 0  # an estimate
        self._finished, self._since = 0, timedelta(0)

    def begin(self, now: timedelta) -> None:
        """Begin a pass, whose speed is not measured yet."""
        self.count, self._finished, self._since = 0, 0, now

    def finished(self) -> None:
        """Count one finished token."""
        self._finished += 1

    def measure(self, now: timedelta, *, share: int) -> None:
        """Measure the speed again, unless that was done a moment ago. `now`: by a clock that never jumps."""
        if now - self._since >= AHEAD:
            self.count = min(MOST_AHEAD * share, int(self._finished * (AHEAD / (now - self._since))))
            self._finished, self._since = 0, now
