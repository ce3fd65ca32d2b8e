"""Detection of steps of MongoDB's clock, for example when a member with a different time becomes primary.

After a step, times that others have written by the former clock have another meaning: a hold that still lasts
may seem to be over.
"""

from datetime import datetime, timedelta

from daemon.adapters.mongo.connection import StoreClock
from daemon.domain.claim import StoreLost

STEP = timedelta(seconds=5)
DISTRUSTED_FOR = timedelta(minutes=15)  # then MongoDB's time is taken as it is: tokens would expire unasked


class ClockSteps:
    """`tolerated`: the permitted distance between MongoDB's clock and this machine's."""

    def __init__(self, clock: StoreClock, *, tolerated: timedelta) -> None:
        self._clock = clock
        self._tolerated = tolerated
        self._size = timedelta(0)
        self._seen_at: timedelta | None = None  # by the boot clock
        self._zero = self._boot_date()

    def steady_for(self, span: timedelta) -> bool:
        """Return whether no step was seen within the last `span`."""
        self._look()
        return self._seen_at is None or self._clock.boot() - self._seen_at >= span

    def distrust(self) -> str | None:
        """Return why nothing should be claimed by MongoDB's clock now, because it jumped and disagrees with
        this machine's; else None.
        """
        if self.steady_for(DISTRUSTED_FOR) or abs(self._size) <= self._tolerated:
            return None
        skew = self._clock.skew
        if skew is None or abs(skew) <= self._tolerated:
            return None
        return (
            f"MongoDB's clock jumped by {self._size.total_seconds():+.0f} s, and this machine's is"
            f" {skew.total_seconds():+.0f} s off it. No token is claimed until they agree, for at most 15 minutes"
        )

    def _look(self) -> None:
        zero = self._boot_date()
        if zero is None:
            return
        if self._zero is not None and abs(zero - self._zero) > STEP:
            self._size, self._seen_at = zero - self._zero, self._clock.boot()
        self._zero = zero

    def _boot_date(self) -> datetime | None:
        """Return the time on MongoDB's clock when this machine booted."""
        try:
            return self._clock.now() - self._clock.boot()
        except StoreLost:
            return None
