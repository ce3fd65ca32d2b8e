"""The only clock: boot time, which counts through suspension and never jumps, and the store's wall clock upon it.

What is stored is the store's time. It is kept as an offset to boot time, so that a jump of this machine's wall clock
moves nothing; how far that wall clock is off is known as the skew.
"""

import time
from datetime import UTC, datetime, timedelta

from daemon.domain.claim import StoreLost

QUICK = timedelta(seconds=1)  # a question that took longer is used only where nothing better is known

_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """Fits `refreshing.ports.Clock`."""

    def __init__(self) -> None:
        self._store_zero: datetime | None = None  # the store's time when this machine booted
        self._error = timedelta(0)  # at most so far off that is

    def boot(self) -> timedelta:
        """Time since boot."""
        return timedelta(seconds=time.clock_gettime(_BOOT_CLOCK))

    def now(self) -> datetime:
        """The store's time. Raises StoreLost before the store was first asked."""
        if self._store_zero is None:
            raise StoreLost("the store's clock is not yet known")
        return self._store_zero + self.boot()

    def set_store_time(self, told: datetime, *, asked: timedelta, answered: timedelta) -> None:
        """The store said `told` to a question that was asked and answered at these boot times.

        It looked at its clock somewhere between them: half of that time is the error. Where it took long, as where
        one of the two machines slept meanwhile, what is known already is kept, unless the answer contradicts it.
        """
        error = (answered - asked) / 2
        zero = told - (asked + answered) / 2
        if (
            self._store_zero is not None
            and error > max(QUICK / 2, self._error)
            and abs(zero - self._store_zero) <= error + self._error + QUICK  # a sleep is counted no better
        ):
            return
        self._store_zero, self._error = zero, error

    @property
    def skew(self) -> timedelta | None:
        """How far this machine's wall clock is ahead of the store's; None: not known yet."""
        return None if self._store_zero is None else datetime.now(UTC) - self.now()
