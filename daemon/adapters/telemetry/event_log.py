"""The log: one line per event, JSON for machines, coloured text on a terminal.

It subscribes to events like the metrics. Messages of libraries go through the same pipeline, but only at
WARNING and above, because PyMongo's debug lines contain whole commands. Every line is redacted. A line that
can't be written is lost: a full disk or a closed terminal must not stop a renewal.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any, Literal, TextIO, assert_never

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from daemon.adapters.telemetry.console import rendered
from daemon.adapters.telemetry.redaction import Redaction, rfc3339
from daemon.domain.event import (
    Event,
    InFlight,
    InternalError,
    JournalReplayed,
    LaneFailed,
    MirrorBack,
    MirrorFailed,
    MirrorRefused,
    ProviderAnswered,
    ProviderPaused,
    ProviderResumed,
    ProviderThrottled,
    StoreBack,
    StoreLost,
    SweepFailed,
    SweepFinished,
    TokenEnding,
    TokenHeld,
    TokenInDoubt,
    TokenNeedsReauth,
    TokenPostponed,
    TokenRenewed,
    TokenScheduled,
    TokenStuck,
    TokenSuperseded,
    TokenUnparsed,
    TokenUnreadable,
)
from daemon.domain.secret import Secret, masked

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["json", "console", "auto"]
_Line = tuple[Level, str, dict[str, object]]

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
_DO = {
    "token.stuck": "let the owner consent again, or remove the token if you no longer need it",
    "mirror.refused": "compare the two sides with `refreshd compare`, and correct the one that is wrong",
    "lane.failed": "report a bug with the internal.error line; a document that refreshd can't process is another cause",
    "internal.error": "report a bug of refreshd with this line; a restart is safe",
}


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

    def log(self, name: str, level: Level, /, **fields: object) -> None:
        """Log a message that is not a domain event. `exc_info` may hold an exception."""
        self._logger.log(_NUMBERS[level], name, **fields)

    def __call__(self, event: Event) -> None:
        line = _line(event)
        if line is not None:
            level, name, fields = line
            self._logger.log(_NUMBERS[level], name, **fields)

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
        level: Level = "error" if record.levelno >= logging.ERROR else "warning"
        error = record.exc_info[1] if record.exc_info else None
        self._log.log("library.message", level, logger=record.name, message=message, exc_info=error)


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


def _line(event: Event) -> _Line | None:  # noqa: C901, PLR0911, PLR0912  one case per event; mypy checks that
    match event:
        case InFlight() | ProviderAnswered() | ProviderThrottled() | TokenScheduled():
            return None  # counted; the line of the token says the rest
        case TokenRenewed():
            return "info", "token.renewed", _renewed(event)
        case TokenPostponed():
            due_at = rfc3339(event.due_at)
            return (
                "warning",
                "token.postponed",
                _failed(event, kind=True, due_at=due_at, failures=event.failures),
            )
        case TokenNeedsReauth():
            return "error", "token.needs_reauth", _failed(event, kind=True, failures=event.failures)
        case TokenSuperseded():
            return "warning", "token.superseded", _about(event, successor=event.successor)
        case TokenUnparsed():
            return "error", "token.unparsed", _failed(event)
        case TokenStuck():
            later = {"failures": event.failures, "due_at": rfc3339(event.due_at)}
            return "warning", "token.stuck", _failed(event, **later, do=_DO["token.stuck"])
        case TokenUnreadable():
            return "error", "token.unreadable", _unreadable(event)
        case TokenInDoubt():
            return (
                "warning",
                "token.in_doubt",
                _failed(event, tries=event.tries, due_at=rfc3339(event.due_at)),
            )
        case TokenEnding():
            return "warning", "token.ending", _about(event, ends_at=rfc3339(event.ends_at))
        case TokenHeld():
            return "warning", "token.held", _about(event, owner=event.owner, hold=rfc3339(event.hold))
        case ProviderPaused():
            probe = event.next_probe_at and rfc3339(event.next_probe_at)
            pause: dict[str, object] = {
                "provider": event.provider,
                "reason": event.reason,
                "next_probe_at": probe,
            }
            return "error", "provider.paused", pause
        case ProviderResumed():
            return "info", "provider.resumed", {"provider": event.provider}
        case SweepFinished():
            swept = _swept(event)
            idle = not any(count for name, count in swept.items() if name != "duration_ms")
            return "debug" if idle else "info", "sweep.finished", swept
        case SweepFailed():
            return "error", "sweep.failed", {"message": event.message}
        case LaneFailed(failures=0):
            return "info", "lane.back", {"provider": event.provider}
        case LaneFailed():
            lane = {"provider": event.provider, "message": event.message, "failures": event.failures}
            return "error", "lane.failed", {**lane, "do": _DO["lane.failed"]}
        case InternalError():
            return "error", "internal.error", _bug(event)
        case JournalReplayed():
            return "info", "journal.replayed", {"token": event.token, "result": event.result}
        case MirrorFailed():
            return "error", "mirror.failed", {"mirror": event.mirror, "message": event.message}
        case MirrorBack():
            return "info", "mirror.back", {"mirror": event.mirror}
        case MirrorRefused():
            row = {"mirror": event.mirror, "token": event.token, "message": event.message}
            return "warning", "mirror.refused", {**row, "do": _DO["mirror.refused"]}
        case StoreLost():
            return "error", "store.lost", {"message": event.message}
        case StoreBack():
            return "info", "store.back", {}
        case _:
            assert_never(event)


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
    event: TokenPostponed | TokenNeedsReauth | TokenUnparsed | TokenStuck | TokenInDoubt,
    *,
    kind: bool = False,
    **more: object,
) -> dict[str, object]:
    """Return the fields of a failed refresh. `kind`: with the failure's kind, if the event's name leaves it open."""
    failure = event.failure
    of_kind = {"kind": failure.kind.value} if kind else {}
    return _about(event, **of_kind, code=failure.code, message=failure.message, **more)


def _about(
    event: TokenPostponed
    | TokenNeedsReauth
    | TokenSuperseded
    | TokenUnparsed
    | TokenStuck
    | TokenInDoubt
    | TokenHeld
    | TokenEnding,
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
        "do": _DO["internal.error"],
        "exc_info": event.error,
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
