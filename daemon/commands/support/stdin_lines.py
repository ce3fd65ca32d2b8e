"""Lines of standard input, for a command that waits for something else at the same time."""

import asyncio
import io
import os
import sys

_LONGEST = 32 * 1024  # bytes of one line


class Lines:
    """Reads line by line without a thread: one that waits for a terminal would hold up the end of the process."""

    def __init__(self) -> None:
        self._read = b""
        self._ended = False
        try:
            self._fd: int | None = sys.stdin.fileno()
        except (io.UnsupportedOperation, ValueError):
            self._fd = None

    async def next(self) -> str:
        """Return the next line, or an empty text at the end. What exceeds the longest line is cut."""
        if self._fd is None:
            return sys.stdin.readline(_LONGEST)
        while b"\n" not in self._read and not self._ended and len(self._read) < _LONGEST:
            await _readable(self._fd)
            found = os.read(self._fd, _LONGEST)
            self._ended = not found
            self._read += found
        line, end, self._read = self._read.partition(b"\n")
        return (line[:_LONGEST] + end).decode(errors="replace")


async def _readable(fd: int) -> None:
    """Wait until there is something to read, or the end. A file always has one of them."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(fd, ready.set)
    except PermissionError:  # a file
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
