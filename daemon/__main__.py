"""Argv in, exit code out. Expected failures become sentences here; a bug becomes one line, or a trace with --debug."""

import logging
import sys

from daemon.commands.app import NAME, invoke
from daemon.commands.support.failure import Exit, explained, in_json, unexpected
from daemon.commands.support.streams import prepare_streams
from daemon.commands.support.terminal import Said, say


def main() -> int:
    """The command `refreshd`. Returns its exit code."""
    arguments = sys.argv[1:]
    prepare_streams()
    logging.lastResort = Said(logging.WARNING)
    try:
        code = invoke(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = None  # its reader has had enough; there is nothing to flush at exit
        return Exit.FAILED
    except Exception as error:  # noqa: BLE001  the last resort: no exception may print itself
        code, sentences = explained(error) or (Exit.FAILED, [unexpected(error)])
        if "--debug" in arguments:
            _trace(error)
        if "--json" in arguments:
            say(in_json(error, code, sentences))
        else:
            say(*(f"{NAME}: {sentence}" for sentence in sentences))
    return code


def _trace(error: Exception) -> None:
    """Print the origin of `error`, masked like a log line: exceptions quote what they choke on."""
    from daemon.adapters.telemetry.redaction import Redaction  # noqa: PLC0415  bugs only

    say(*Redaction().exception(error).splitlines())


if __name__ == "__main__":
    sys.exit(main())
