"""Sampling of the lines whose number others decide: renewals in a large store, and documents that can't be read, of which
a program with write access to the database can store any number.

No other line is ever left out. The metrics count every renewal, and `refreshd check` names the documents.
"""

from collections.abc import Callable
from datetime import timedelta

from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.event import Event, TokenRenewed, TokenUnreadable

LINES_A_SECOND = 100
AT_ONCE = 1000  # a small store that is due as a whole is logged as a whole

_SAMPLED = {TokenRenewed: log_lines.TOKEN_RENEWED, TokenUnreadable: log_lines.TOKEN_UNREADABLE}


class SampledLog:
    """An observer that passes events on to the log. `boot`: time since boot. At level `debug` every line is
    logged.
    """

    def __init__(self, log: EventLog, *, boot: Callable[[], timedelta]) -> None:
        self._log = log
        self._samples = {event: _Sample(boot) for event in _SAMPLED}

    def __call__(self, event: Event) -> None:
        sample = self._samples.get(type(event))
        if sample is None or self._log.is_verbose or sample.takes():
            self._log(event)

    def report_left_out(self) -> None:
        """Log how many lines were left out since the last call, if any."""
        for event, sample in self._samples.items():
            if sample.left_out:
                self._log.log(log_lines.LOG_LEFT_OUT, of=_SAMPLED[event].event, count=sample.left_out)
                sample.left_out = 0


class _Sample:
    """A token bucket."""

    def __init__(self, boot: Callable[[], timedelta]) -> None:
        self._boot = boot
        self._at = boot()
        self._credit = float(AT_ONCE)
        self.left_out = 0

    def takes(self) -> bool:
        """Return whether one more line is logged. It is counted if not."""
        now = self._boot()
        self._credit = min(AT_ONCE, self._credit + (now - self._at).total_seconds() * LINES_A_SECOND)
        self._at = now
        if self._credit < 1:
            self.left_out += 1
            return False
        self._credit -= 1
        return True
