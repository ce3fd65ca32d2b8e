"""Standard error, where people read what went wrong: each sentence is one line, and no text can steer the terminal."""

import logging
import sys
from contextlib import suppress

from daemon.domain.visible import visible


def say(*sentences: str) -> None:
    """Each of `sentences` on a line of its own, whatever characters it holds. Where standard error can't be written, the
    exit code has to do.
    """
    with suppress(OSError):
        sys.stderr.writelines(f"{visible(sentence)}\n" for sentence in sentences)
        sys.stderr.flush()


class Said(logging.Handler):
    """What libraries log while a command runs, if nothing else has been set up for that."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # a library's own formatting mistake
            message = str(record.msg)
        say(f"{record.name}: {message}")
