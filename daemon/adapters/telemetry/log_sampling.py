"""Sampling of the lines whose number others decide: renewals in a large store, and what a program with write access to the
database can store any number of. That is documents that can't be read, and events in a wrong form.

No other line is ever left out. The metrics count every renewal and every event, and `refreshd check` names the documents.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.adapters.telemetry.log_lines import LogLine
from daemon.domain.event import Event, HookCounted, OwnerEventsLost, TokenRenewed, TokenUnreadable
from daemon.domain.hook import Outcome

LINES_A_SECOND = 100
AT_ONCE = 1000  # a small store that is due as a whole is logged as a whole
LOST_EACH = timedelta(minutes=1)  # a program that writes wrong events goes on until somebody stops it
LOST_AT_ONCE = 20  # enough tokens to find that program, or what a stop of all daemons has cost


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rate:
    """At most `at_once` lines in a row, and one `each` after that."""

    at_once: int
    each: timedelta


_MANY = _Rate(at_once=AT_ONCE, each=timedelta(seconds=1) / LINES_A_SECOND)
_FEW = _Rate(at_once=LOST_AT_ONCE, each=LOST_EACH)
_Cause = tuple[LogLine, _Rate, str]


def _cause(event: Event) -> _Cause | None:
    """Return the line of an event of a sampled kind, its rate, and who or what has caused it. Each cause has a rate of its
    own, so that a flood of one does not hide another.
    """
    match event:
        case TokenRenewed():
            return log_lines.TOKEN_RENEWED, _MANY, ""
        case TokenUnreadable():
            return log_lines.TOKEN_UNREADABLE, _MANY, ""
        case OwnerEventsLost():
            return log_lines.EVENTS_LOST, _FEW, "pushed out" if event.pushed_out else "malformed"
        case HookCounted(outcome=Outcome.MALFORMED):
            return log_lines.HOOK_MALFORMED, _FEW, event.hook
        case _:
            return None


class SampledLog:
    """An observer that passes events on to the log. `boot`: time since boot. At level `debug` every line is
    logged.
    """

    def __init__(self, log: EventLog, *, boot: Callable[[], timedelta]) -> None:
        self._log = log
        self._boot = boot
        self._samples: dict[_Cause, _Sample] = {}

    def __call__(self, event: Event) -> None:
        cause = _cause(event)
        if cause is None or self._log.is_verbose or self._sample(cause).takes():
            self._log(event)

    def report_left_out(self) -> None:
        """Log how many lines were left out since the last call, if any."""
        for (line, _, _), sample in self._samples.items():
            if sample.left_out:
                self._log.log(log_lines.LOG_LEFT_OUT, of=line.event, count=sample.left_out)
                sample.left_out = 0

    def _sample(self, cause: _Cause) -> "_Sample":
        if cause not in self._samples:
            self._samples[cause] = _Sample(cause[1], self._boot)
        return self._samples[cause]


class _Sample:
    """A token bucket."""

    def __init__(self, rate: _Rate, boot: Callable[[], timedelta]) -> None:
        self._rate = rate
        self._boot = boot
        self._at = boot()
        self._credit = float(rate.at_once)
        self.left_out = 0

    def takes(self) -> bool:
        """Return whether one more line is logged. It is counted if not."""
        now = self._boot()
        self._credit = min(self._rate.at_once, self._credit + (now - self._at) / self._rate.each)
        self._at = now
        if self._credit < 1:
            self.left_out += 1
            return False
        self._credit -= 1
        return True
