"""One text of the metrics for all who ask within a second, written in pieces.

With 500 providers, the text takes tens of milliseconds of CPU. Renewals go on between its pieces, and a client that asks
all the time costs no more than one that asks each second.
"""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta

KEPT = timedelta(seconds=1)

Pieces = Callable[[str], tuple[Iterator[bytes], str]]


class Scrape:
    """`pieces`: starts a new text for an `Accept` header, and returns its content type with it. Both depend on nothing of
    the header but the format.
    """

    def __init__(self, pieces: Pieces, *, kept: timedelta = KEPT) -> None:
        self._pieces = pieces
        self._kept = kept.total_seconds()
        self._texts: dict[str, tuple[float, asyncio.Task[bytes]]] = {}

    async def text(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition, at most a second old, and its content type."""
        pieces, content_type = self._pieces(accept)
        now = asyncio.get_running_loop().time()
        begun, task = self._texts.get(content_type, (0.0, None))
        if task is None or (task.done() and (now - begun > self._kept or _failed(task))):
            task = asyncio.create_task(_joined(pieces), name="metrics")
            self._texts[content_type] = now, task
        return await asyncio.shield(task), content_type


def _failed(task: asyncio.Task[bytes]) -> bool:
    return task.cancelled() or task.exception() is not None


async def _joined(pieces: Iterator[bytes]) -> bytes:
    parts = []
    for piece in pieces:
        parts.append(piece)
        await asyncio.sleep(0)
    return b"".join(parts)
