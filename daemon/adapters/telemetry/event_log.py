"""The log: one line per event, JSON for machines, coloured text on a terminal.

It subscribes to events like the metrics. Messages of libraries go through the same pipeline, but only at
WARNING and above, because PyMongo's debug lines contain whole commands. Every line is redacted. A line that
can't be written is lost: a full disk or a closed terminal must not stop a renewal.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Literal, TextIO, assert_never

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.console import rendered
from daemon.adapters.telemetry.log_lines import Level, LogLine
from daemon.adapters.telemetry.redaction import Redaction, rfc3339
from daemon.domain.event import (
    AnomalyDetected,
    ConsentFailed,
    Event,
    HookBack,
    HookCounted,
    HookDisabled,
    InFlight,
    InternalError,
    JournalReplayed,
    LaneFailed,
    LateReplyRevoked,
    MirrorBack,
    MirrorFailed,
    MirrorRefused,
    OwnerEventsLost,
    ProviderAnswered,
    ProviderDrifted,
    ProviderPaused,
    ProviderResumed,
    ProviderThrottled,
    SweepFailed,
    SweepFinished,
    TokenConnected,
    TokenEnding,
    TokenHeld,
    TokenInDoubt,
    TokenNeedsReauth,
    TokenPostponed,
    TokenRenewed,
    TokenRevocationFailed,
    TokenRevocationPostponed,
    TokenRevoked,
    TokenScheduled,
    TokenStuck,
    TokenSuperseded,
    TokenUnparsed,
    TokenUnreadable,
)
from daemon.domain.hook import Outcome
from daemon.domain.secret import Secret, masked
from daemon.domain.store_event import StoreBack, StoreLost

Format = Literal["json", "console", "auto"]

_NUMBERS: dict[Level, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_MILLISECOND = timedelta(milliseconds=1)
_PLAIN = frozenset({bool, int, type(None)})  # types that never need redaction
_TRUSTED = frozenset(
    {"token", "provider", "expires_at", "due_at"}
)  # refreshd's own texts in the line of every token
_TOKEN_LIMIT = 1_000  # an `_id` that another writer made can be of any length


def configure(*, format: Format, level: Level, stream: TextIO | None = None) -> "EventLog":  # noqa: A002  the key's own name
    """Set up the process's one log, on `stream` (standard output), and route library loggers into it."""
    stream = stream or sys.stdout
    render = _json() if is_json(format, stream) else _console(colors=stream.isatty())
    log = EventLog(stream, level, render)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Libraries)]:
        root.removeHandler(handler)
    root.addHandler(_Libraries(log))
    root.setLevel(logging.WARNING)
    logging.getLogger("pymongo").setLevel(logging.WARNING)  # explicitly: its debug lines hold commands
    logging.getLogger("aiohttp.access").setLevel(logging.CRITICAL)
    logging.getLogger("apscheduler.scheduler").addFilter(_is_news)
    return log


def is_json(format: Format, stream: TextIO) -> bool:  # noqa: A002  the key's own name
    """Return whether a log on `stream` is written as JSON."""
    return format == "json" or (format == "auto" and not stream.isatty())


def loop_errors(
    observe: Callable[[Event], None],
) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """Return the event loop's exception handler, which reports every uncaught exception as a bug."""

    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error, message = context.get("exception"), context["message"]
        if error is None:
            error = RuntimeError(message)
        else:
            error.add_note(message)
        observe(InternalError(where="loop", error=error))

    return handle


class EventLog:
    """Writes events and other messages of the daemon as lines."""

    def __init__(self, stream: TextIO, level: Level, render: Processor) -> None:
        self._redaction = Redaction()
        self._stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        self._lines = _Lines(stream)
        self._render = render
        self.set_level(level)

    def set_level(self, level: Level) -> None:
        self._threshold = _NUMBERS[level]
        self._logger: FilteringBoundLogger = structlog.wrap_logger(
            self._lines,
            processors=[self._prepared, self._render],
            wrapper_class=structlog.make_filtering_bound_logger(self._threshold),
            context_class=dict,
        ).bind()

    @property
    def is_verbose(self) -> bool:
        return self._threshold <= logging.DEBUG

    def register_secrets(self, secrets: Iterable[Secret]) -> None:
        """Register the secrets of this process's configuration, replacing those registered before."""
        self._redaction.register(secrets)

    def log(self, line: LogLine, /, **fields: object) -> None:
        """Log a message that is not a domain event. `exc_info` may hold an exception."""
        if line.do is not None:
            fields["do"] = line.do
        self._logger.log(_NUMBERS[line.level], line.event, **fields)

    def __call__(self, event: Event) -> None:
        described = _described(event)
        if described is not None:
            line, fields = described
            self.log(line, **fields)

    def _prepared(self, _logger: object, level: str, said: EventDict) -> EventDict:
        """Order the line: event, timestamp, level, then the fields, redacted."""
        line: EventDict = {"event": said.pop("event"), "timestamp": "", "level": level}
        self._stamp(None, level, line)
        error = said.pop("exc_info", None)
        for name, value in said.items():
            plain = type(value) in _PLAIN or name in _TRUSTED
            line[name] = value if plain else self._redaction.value(name, value)
        if isinstance(error, BaseException):
            line["exception"] = self._redaction.exception(error)
        return line


class _Lines:
    """Writes finished lines to the stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        with suppress(OSError, ValueError):  # full, gone or closed
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = write


class _Libraries(logging.Handler):
    """Routes log records of libraries from the standard library into this log."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # a library's own formatting mistake
            message = str(record.msg)
        is_error = record.levelno >= logging.ERROR
        line = log_lines.LIBRARY_ERROR if is_error else log_lines.LIBRARY_WARNING
        error = record.exc_info[1] if record.exc_info else None
        self._log.log(line, logger=record.name, message=message, exc_info=error)


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether the scheduler's record is worth logging. Overlapping runs are skipped on purpose; don't
    log them.
    """
    return "maximum number of running instances" not in str(record.msg)


def _json() -> Processor:
    encode = json.JSONEncoder(check_circular=False).encode
    return lambda _logger, _level, line: encode(line)


def _console(*, colors: bool) -> Processor:
    return lambda _logger, _level, line: rendered(line, colors=colors)


def _described(event: Event) -> tuple[LogLine, Mapping[str, object]] | None:  # noqa: C901, PLR0911, PLR0912, PLR0915  one case per event; mypy checks that
    """Return the line of an event and its fields. None: the metrics count it, and the line of the token shows the rest."""
    match event:
        case InFlight() | ProviderAnswered() | ProviderThrottled() | TokenScheduled():
            return None
        case TokenRenewed():
            return log_lines.TOKEN_RENEWED, _renewed(event)
        case TokenPostponed():
            due_at = rfc3339(event.due_at)
            fields = _failed(event, with_kind=True, due_at=due_at, failures=event.failures)
            return log_lines.TOKEN_POSTPONED, fields
        case TokenNeedsReauth():
            return log_lines.TOKEN_NEEDS_REAUTH, _failed(event, with_kind=True, failures=event.failures)
        case TokenSuperseded():
            return log_lines.TOKEN_SUPERSEDED, _about(event, successor=event.successor)
        case TokenUnparsed():
            return log_lines.TOKEN_UNPARSED, _failed(event)
        case TokenStuck():
            due_at = rfc3339(event.due_at)
            return log_lines.TOKEN_STUCK, _failed(event, failures=event.failures, due_at=due_at)
        case TokenUnreadable():
            return log_lines.TOKEN_UNREADABLE, _unreadable(event)
        case TokenInDoubt():
            due_at = rfc3339(event.due_at)
            return log_lines.TOKEN_IN_DOUBT, _failed(event, tries=event.tries, due_at=due_at)
        case TokenEnding():
            return log_lines.TOKEN_ENDING, _about(event, ends_at=rfc3339(event.ends_at))
        case TokenRevoked():
            return log_lines.TOKEN_REVOKED, _about(event, revision=event.revision, tries=event.tries)
        case TokenRevocationPostponed() | TokenRevocationFailed():
            failed = isinstance(event, TokenRevocationFailed)
            line = log_lines.TOKEN_REVOCATION_FAILED if failed else log_lines.TOKEN_REVOCATION_POSTPONED
            return line, _failed(event, tries=event.tries, due_at=rfc3339(event.due_at))
        case LateReplyRevoked():
            return log_lines.TOKEN_LATE_REPLY_REVOKED, _about(event)
        case TokenHeld():
            return log_lines.TOKEN_HELD, _about(event, owner=event.owner, hold=rfc3339(event.hold))
        case ProviderPaused():
            probe = event.next_probe_at and rfc3339(event.next_probe_at)
            pause = {"provider": event.provider, "reason": event.reason, "next_probe_at": probe}
            return log_lines.PROVIDER_PAUSED, pause
        case ProviderResumed():
            return log_lines.PROVIDER_RESUMED, {"provider": event.provider}
        case ProviderDrifted():
            drift = {"provider": event.provider, "kind": event.kind.value, "message": event.message}
            return log_lines.PROVIDER_DRIFTED, {**drift, "change": event.change}
        case SweepFinished():
            swept = _swept(event)
            idle = not any(count for name, count in swept.items() if name != "duration_ms")
            return log_lines.SWEEP_IDLE if idle else log_lines.SWEEP_FINISHED, swept
        case SweepFailed():
            return log_lines.SWEEP_FAILED, {"message": event.message}
        case LaneFailed(failures=0):
            return log_lines.LANE_BACK, {"provider": event.provider}
        case LaneFailed():
            lane = {"provider": event.provider, "message": event.message, "failures": event.failures}
            return log_lines.LANE_FAILED, lane
        case InternalError():
            return log_lines.INTERNAL_ERROR, _bug(event)
        case JournalReplayed():
            return log_lines.JOURNAL_REPLAYED, {"token": event.token, "result": event.result}
        case TokenConnected():
            consent = {"consent": event.consent, "missing_scopes": list(event.missing_scopes)}
            return log_lines.TOKEN_CONNECTED, {"token": event.token, "provider": event.provider, **consent}
        case ConsentFailed():
            return log_lines.CONNECT_FAILED, _not_connected(event)
        case MirrorFailed():
            return log_lines.MIRROR_FAILED, {"mirror": event.mirror, "message": event.message}
        case MirrorBack():
            return log_lines.MIRROR_BACK, {"mirror": event.mirror}
        case MirrorRefused():
            row = {"mirror": event.mirror, "token": event.token, "message": event.message}
            return log_lines.MIRROR_REFUSED, row
        case HookCounted() | HookBack() | HookDisabled() | OwnerEventsLost():
            return _hook(event)
        case AnomalyDetected(repeated=True):
            return None
        case AnomalyDetected():
            return log_lines.ANOMALY_DETECTED, _anomaly(event)
        case StoreLost():
            return log_lines.STORE_LOST, {"message": event.message}
        case StoreBack():
            return log_lines.STORE_BACK, {}
        case _:
            assert_never(event)


def _hook(
    event: HookCounted | HookBack | HookDisabled | OwnerEventsLost,
) -> tuple[LogLine, dict[str, object]] | None:
    """Return the line about a hook, or about events that no hook gets. Of failures in a row, only the first one has a line."""
    match event:
        case OwnerEventsLost():
            lost = {"malformed": event.malformed, "pushed_out": event.pushed_out}
            return log_lines.EVENTS_LOST, {"token": event.token, **lost}
        case HookBack():
            return log_lines.HOOK_BACK, {"hook": event.hook, "failures": event.failures}
        case HookDisabled():
            return log_lines.HOOK_DISABLED, {"hook": event.hook}
        case HookCounted(outcome=Outcome.DELIVERED):
            return log_lines.HOOK_DELIVERED, {"hook": event.hook, "status": event.status}
        case HookCounted(outcome=Outcome.DROPPED):
            return log_lines.HOOK_DROPPED, {"hook": event.hook, "count": event.count}
        case HookCounted(outcome=Outcome.MALFORMED):
            return log_lines.HOOK_MALFORMED, {"hook": event.hook, "count": event.count}
        case HookCounted(failures=failures) if failures > 1:
            return None
    failed: dict[str, object] = {
        "hook": event.hook,
        "outcome": event.outcome.value,
        "status": event.status,
    }
    return log_lines.HOOK_FAILED, failed


def _renewed(event: TokenRenewed) -> dict[str, object]:
    return {
        "token": event.token,
        "provider": event.provider,
        "revision": event.revision,
        "duration_ms": None if event.duration is None else round(event.duration / _MILLISECOND, 1),
        "lead_s": None if event.lead is None else round(event.lead.total_seconds(), 1),
        "expires_at": None if event.expires_at is None else rfc3339(event.expires_at),
        "rotated": event.rotated,
    }


def _failed(
    event: TokenPostponed
    | TokenNeedsReauth
    | TokenUnparsed
    | TokenStuck
    | TokenInDoubt
    | TokenRevocationPostponed
    | TokenRevocationFailed,
    *,
    with_kind: bool = False,
    **more: object,
) -> dict[str, object]:
    """Return the fields of a failed refresh. Some events are of one kind only, and their lines leave it out."""
    failure = event.failure
    kind = {"kind": failure.kind.value} if with_kind else {}
    return _about(event, **kind, code=failure.code, message=failure.message, **more)


def _about(
    event: TokenPostponed
    | TokenNeedsReauth
    | TokenSuperseded
    | TokenUnparsed
    | TokenStuck
    | TokenInDoubt
    | TokenHeld
    | TokenEnding
    | TokenRevoked
    | TokenRevocationPostponed
    | TokenRevocationFailed
    | LateReplyRevoked,
    **more: object,
) -> dict[str, object]:
    return {"token": event.token, "provider": event.provider, **more}


def _bug(event: InternalError) -> dict[str, object]:
    """Return the fields of a bug, with its traceback, and with the token and the provider if it concerns
    one.
    """
    concerned = {"token": event.token, "provider": event.provider}
    return {
        "where": event.where,
        **{name: value for name, value in concerned.items() if value is not None},
        "error": event.error,
        "exc_info": event.error,
    }


def _not_connected(event: ConsentFailed) -> dict[str, object]:
    return {
        "token": event.token,
        "provider": event.provider,
        "consent": event.consent,
        "kind": event.kind,
        "code": event.code,
        "message": event.message,
    }


def _anomaly(event: AnomalyDetected) -> dict[str, object]:
    more = {"name": event.name, "token": event.token}
    return {
        "kind": event.kind.value,
        "key": event.key[:_TOKEN_LIMIT],
        **{name: text for name, text in more.items() if text is not None},
        "count": event.count,
        "message": event.message,
    }


def _unreadable(event: TokenUnreadable) -> dict[str, object]:
    """Return the fields of an unreadable document. Another writer stored both names: the id may have any
    length, and the provider may not be a valid name.
    """
    return {
        "token": event.token[:_TOKEN_LIMIT],
        "provider": masked(event.provider),
        "kind": event.kind.value,
        "code": event.code,
        "message": event.message,
    }


def _swept(event: SweepFinished) -> dict[str, object]:
    return {
        "claimed": event.claimed,
        "renewed": event.renewed,
        "postponed": event.postponed,
        "rejected": event.rejected,
        "scheduled": event.scheduled,
        "in_doubt": event.in_doubt,
        "duration_ms": round(event.duration / _MILLISECOND, 1),
    }
