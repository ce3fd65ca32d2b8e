"""Clocks that tests set."""

from datetime import datetime, timedelta


class SetClock:
    """Boot time and the store's time, as the test sets them. It ignores MongoDB's own time."""

    def __init__(self, start: datetime) -> None:
        self.start = start
        self.passed = timedelta(0)

    def boot(self) -> timedelta:
        return timedelta(hours=1) + self.passed

    def now(self) -> datetime:
        return self.start + self.passed

    def set_store_time(self, told: datetime, *, asked: timedelta, answered: timedelta) -> None:
        assert asked <= answered
