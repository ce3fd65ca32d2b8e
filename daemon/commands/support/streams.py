"""The standard streams as a command finds them: closed, or on a full disk."""

import io
import os
import sys


class OutputUnwritable(OSError):
    """Standard output could not be written."""


class _StandardOutput(io.FileIO):
    """Standard output, whose failures have a class of their own."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            raise
        except OSError as error:
            with open(os.devnull, "wb") as nothing:  # noqa: PTH123  what is still buffered is written there at exit
                os.dup2(nothing.fileno(), self.fileno())
            raise OutputUnwritable(error.errno, error.strerror) from None


def prepare_streams() -> None:
    """Open the standard streams that the caller has closed, and recognise the failures of standard output.

    Without the former, the next file or connection would take the number of a stream, and whatever is printed would
    be written into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # in this order, each takes its own number
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    if (before := sys.stdout) is sys.__stdout__ and isinstance(before, io.TextIOWrapper):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_StandardOutput(before.fileno(), "w", closefd=False)),
            encoding=before.encoding,
            errors=before.errors,
            line_buffering=before.line_buffering,
            write_through=before.write_through,
        )
