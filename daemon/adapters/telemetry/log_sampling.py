"""Sampling of `token.renewed` lines: a large store would write more lines than operators read or pay for.

No other line is ever left out, and the metrics count every renewal.
"""

from collections.abc import Callable
from datetime import timedelta

from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.event import Event, TokenRenewed

LINES_A_SECOND = 100
AT_ONCE = 1000  # a small store that is due as a whole is logged as a whole


class SampledLog:
    """An observer that passes events on to the log. `boot`: time since boot. At level `debug` every line is
    logged.
    """

    def __init__(self, log: EventLog, *, boot: Callable[[], timedelta]) -> None:
        self._log = log
        self._boot = boot
        self._at = boot()
        self._credit = float(AT_ONCE)
        self._left_out = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, TokenRenewed) and not self._log.is_verbose and not self._has_credit():
            self._left_out += 1
        else:
            self._log(event)

    def tell(self) -> None:
        """Log how many lines were left out since the last call, if any."""
        if self._left_out:
            self._log.log(log_lines.LOG_LEFT_OUT, of=log_lines.TOKEN_RENEWED.event, count=self._left_out)
            self._left_out = 0

    def _has_credit(self) -> bool:
        now = self._boot()
        self._credit = min(AT_ONCE, self._credit + (now - self._at).total_seconds() * LINES_A_SECOND)
        self._at = now
        if self._credit < 1:
            return False
        self._credit -= 1
        return True
