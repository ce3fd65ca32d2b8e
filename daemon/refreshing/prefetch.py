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
        self._measured = False

    def begin(self, now: timedelta) -> None:
        """Begin a pass, whose speed is not measured yet. Until it is, its estimate grows with each claim."""
        self.count, self._finished, self._since, self._measured = 0, 0, now, False

    def finished(self) -> None:
        """Count one finished token."""
        self._finished += 1

    def measure(self, now: timedelta, *, share: int) -> None:
        """Measure the speed again, unless that was done a moment ago. `now`: by a clock that never jumps."""
        past = now - self._since
        if past >= AHEAD or (past and not self._measured):
            self.count = min(MOST_AHEAD * share, int(self._finished * (AHEAD / past)))
        if past >= AHEAD:
            self._finished, self._since, self._measured = 0, now, True
