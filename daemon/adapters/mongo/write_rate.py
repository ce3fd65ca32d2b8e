"""Whether this process writes so much that waiting for a change costs more than looking for one."""

from datetime import timedelta

MEASURED_OVER = timedelta(milliseconds=500)  # less than a wait takes, which ends after a second

# Writes a second. A wait costs MongoDB some 40 microseconds a write, a look about 500 in both processes: two looks a
# second cost as much as 25 writes.
HIGH = 200
LOW = 100  # below it, the rate is no longer high; so a rate in between changes nothing


class WriteRate:
    """The rate of a counter that only rises, high or not. It was not high before the first measurement."""

    def __init__(self) -> None:
        self._high = False
        self._since: timedelta | None = None
        self._written = 0

    def is_high(self, written: int, *, now: timedelta) -> bool:
        """Return whether the rate is high. `written`: the counter, `now`: by the boot clock."""
        if self._since is None:
            self._since, self._written = now, written
        over, more = now - self._since, written - self._written
        if over >= MEASURED_OVER or more >= HIGH:  # so many are a high rate before the time is over, too
            self._high = more >= (LOW if self._high else HIGH) * max(over, MEASURED_OVER).total_seconds()
            self._since, self._written = now, written
        return self._high
