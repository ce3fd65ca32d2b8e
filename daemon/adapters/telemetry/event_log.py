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
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.console import rendered
from daemon.adapters.telemetry.event_lines import described
from daemon.adapters.telemetry.log_lines import Level, LogLine
from daemon.adapters.telemetry.redaction import Redaction
from daemon.domain.event import Event, InternalError
from daemon.domain.secret import Secret

Format = Literal["json", "console", "auto"]

_NUMBERS: dict[Level, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_PLAIN = frozenset({bool, int, type(None)})  # types that never need redaction
_TRUSTED = frozenset(
    {"token", "provider", "expires_at", "due_at"}
)  # refreshd's own texts in the line of every token


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

    def register_places(self, places: Iterable[str]) -> None:
        """Register files and keys of the configuration, which stay readable, replacing those registered before."""
        self._redaction.register_places(places)

    def log(self, line: LogLine, /, **fields: object) -> None:
        """Log a message that is not a domain event. `exc_info` may hold an exception."""
        if line.do is not None:
            fields["do"] = line.do
        self._logger.log(_NUMBERS[line.level], line.event, **fields)

    def __call__(self, event: Event) -> None:
        said = described(event)
        if said is not None:
            line, fields = said
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
