"""Why a process that runs on could not start: on standard error, as sentences or as lines of a log that is JSON."""

import sys
from collections.abc import Sequence

from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import configure
from daemon.commands.support.failure import Exit, in_parts
from daemon.commands.support.terminal import say


def report(why: Exception, code: Exit, sentences: Sequence[str], *, as_json: bool) -> None:
    if not as_json:
        say(*(f"refreshd: {sentence}" for sentence in sentences))
        return
    log = configure(format="json", level="error", stream=sys.stderr)
    parts = in_parts(why, sentences)
    log.register_places(part["where"] or "" for part in parts)
    for part in parts:
        log.log(log_lines.DAEMON_FAILED, **part, code=int(code))
