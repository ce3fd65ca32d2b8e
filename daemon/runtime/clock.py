"""The only clock: boot time, which continues during suspension and never jumps, and the store's wall clock
based on it.

Stored times are the store's time. It is kept as an offset to boot time, so that a jump of this machine's wall
clock has no effect. The skew is the distance of this machine's wall clock from the store's.
"""

import time
from datetime import UTC, datetime, timedelta

from daemon.domain.claim import StoreLost

QUICK = timedelta(seconds=1)  # a slower answer is used only if there is none better

_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """Implements `refreshing.ports.Clock`."""

    def __init__(self) -> None:
        self._store_zero: datetime | None = None  # the store's time when this machine booted
        self._error = timedelta(0)  # at most so far off that is

    def boot(self) -> timedelta:
        """Return the time since boot. Each renewal asks for it about ten times: without a name, the seconds take a third
        less.
        """
        return timedelta(0, time.clock_gettime(_BOOT_CLOCK))

    def now(self) -> datetime:
        """Return the store's time. Raises StoreLost before the store's first answer."""
        if self._store_zero is None:
            raise StoreLost("the store's clock is not yet known")
        return self._store_zero + self.boot()

    def set_store_time(self, local_time: datetime, *, asked: timedelta, answered: timedelta) -> None:
        """Set the time that the store returned for a question sent and answered at these boot times.

        The store read its clock between these two times, so half of their distance is the error. After a long
        one, for example because one of the machines slept, the known time is kept unless the answer
        contradicts it.
        """
        error = (answered - asked) / 2
        zero = local_time - (asked + answered) / 2
        if (
            self._store_zero is not None
            and error > max(QUICK / 2, self._error)
            and abs(zero - self._store_zero) <= error + self._error + QUICK  # a sleep is counted no better
        ):
            return
        self._store_zero, self._error = zero, error

    @property
    def skew(self) -> timedelta | None:
        """Return how far this machine's wall clock is ahead of the store's; None if not yet known."""
        return None if self._store_zero is None else datetime.now(UTC) - self.now()
