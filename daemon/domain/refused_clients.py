"""The clients that their providers refuse, and when the source of their secrets is read again.

Clients whose secrets stand at one source share its readings. A provider may learn a new secret before its source
does, so one reading is not enough. A secret that is simply wrong must cost few readings, however many requests are
refused. Kept in memory; instants are boot times.
"""

from datetime import timedelta

FIRST_PAUSE = timedelta(seconds=5)  # after the first reading: a rotation writes to both sides within seconds
LONGEST_PAUSE = timedelta(minutes=5)  # 288 readings a day, a seventh of a cent in a cloud's secret store
HURRIED_PAUSE = timedelta(
    seconds=30
)  # if something has changed: another replica or an operator ended the pause
REFUSED_FOR = timedelta(
    hours=1
)  # since the last refusal; the probes of a refused client are half an hour apart
FORGOTTEN_AFTER = 2 * LONGEST_PAUSE  # without a reading: the next refusal is a new matter
_MOST_DOUBLINGS = 16


class RefusedClients:
    """The refused clients of one source. The pause between two readings is doubled each time.

    Neither a changed secret nor a grant shortens it: a source or a provider that gives another answer each time would
    be asked at each refusal. It is forgotten after ten minutes without a reading.
    """

    def __init__(self) -> None:
        self._refused: dict[str, timedelta] = {}
        self._readings = 0
        self._read_at = timedelta(0)
        self._hurried = False

    def refuse(self, provider: str, *, now: timedelta) -> None:
        """Note that `provider` has refused its client."""
        if now - self._read_at > FORGOTTEN_AFTER:
            self._readings = 0
        self._refused[provider] = now

    def accept(self, provider: str) -> None:
        """Note that `provider` has accepted its client, so that its secret is not read any more."""
        self._refused.pop(provider, None)

    def hurry(self, provider: str) -> None:
        """Note a sign that the right secret of `provider` may be there now. It shortens one pause."""
        self._hurried = self._hurried or provider in self._refused

    def read(self, *, now: timedelta) -> None:
        """Note the end of a reading, whatever it has found. A source that hangs has its pause after that."""
        self._readings += 1
        self._read_at = now
        self._hurried = False

    def refused(self, *, now: timedelta) -> list[str]:
        """Return the providers whose clients are refused now."""
        return [name for name, at in self._refused.items() if now - at <= REFUSED_FOR]

    def wait(self, *, now: timedelta) -> timedelta:
        """Return the time until the source may be read, zero if that is now."""
        if self._readings == 0:
            return timedelta(0)
        pause = min(FIRST_PAUSE * (1 << min(self._readings - 1, _MOST_DOUBLINGS)), LONGEST_PAUSE)
        if self._hurried:
            pause = min(pause, HURRIED_PAUSE)
        return max(self._read_at + pause - now, timedelta(0))
