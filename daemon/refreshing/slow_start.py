"""Slow start: one request first, in case the client is refused; many once it was granted, or got no answer for a while."""

from datetime import timedelta

# How long the first answer is waited for before many more are asked.
FIRST_WAIT = timedelta(milliseconds=500)


class SlowStart:
    """Whether one request goes alone. Pure: its user gives the time, by the boot clock."""

    def __init__(self) -> None:
        self.alone = True
        self._until = timedelta(0)

    def begin_pass(self, now: timedelta) -> None:
        """From now on the first answer of this pass is waited for."""
        self._until = now + FIRST_WAIT

    def restart(self) -> None:
        """Ask one at a time again."""
        self.alone = True

    def end(self) -> None:
        """A grant came."""
        self.alone = False

    def left(self, now: timedelta) -> timedelta:
        """How long the first answer is still waited for; zero when the wait is over."""
        return max(self._until - now, timedelta(0))
