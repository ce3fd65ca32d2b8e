"""Slow start: send one request first, in case the client is refused. Send many after a grant, or if no answer
came for a while.
"""

from datetime import timedelta

# The longest wait for the first answer before many more requests are sent.
FIRST_WAIT = timedelta(milliseconds=500)


class SlowStart:
    """Whether one request goes alone. It has no clock of its own: the caller passes the boot time."""

    def __init__(self) -> None:
        self.alone = True
        self._until = timedelta(0)

    def begin_pass(self, now: timedelta) -> None:
        """Wait for the first answer of this pass from now on."""
        self._until = now + FIRST_WAIT

    def restart(self) -> None:
        """Send one request at a time again."""
        self.alone = True

    def end(self) -> None:
        """End the slow start after a grant."""
        self.alone = False

    def left(self, now: timedelta) -> timedelta:
        """Return how much longer to wait for the first answer; zero when the wait is over."""
        return max(self._until - now, timedelta(0))
