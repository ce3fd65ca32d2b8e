"""Requests over HTTP/1.1 as a load: little work for each, so that a generator on the same machine takes little of it."""

import asyncio
import random
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple


class Load(NamedTuple):
    """What came of it: seconds of each answered request, and how many had another status than 200."""

    seconds: Sequence[float]
    failed: int
    took: float

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.took

    def percentile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


class _Connection:
    """One connection that is kept open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, request: bytes) -> int:
        """Send a whole request. Returns the status, when the body has come too."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        await self._reader.readexactly(int(length))
        return int(head[9:12])

    def close(self) -> None:
        self._writer.close()


async def _connected(host: str, port: int, count: int) -> list[_Connection]:
    return [_Connection(*await asyncio.open_connection(host, port)) for _ in range(count)]


async def closed_loop(
    host: str, port: int, request: Callable[[], bytes], *, clients: int, seconds: float
) -> Load:
    """Each client sends its next request when the answer to the last one has come."""
    connections = await _connected(host, port, clients)
    found: list[float] = []
    failed = 0
    began = perf_counter()

    async def client(connection: _Connection) -> None:
        nonlocal failed
        while (asked := perf_counter()) - began < seconds:
            failed += await connection.ask(request()) != 200
            found.append(perf_counter() - asked)

    await asyncio.gather(*map(client, connections))
    took = perf_counter() - began
    for connection in connections:
        connection.close()
    return Load(found, failed, took)


async def open_loop(
    host: str, port: int, request: Callable[[], bytes], *, connections: int, rate: float, seconds: float
) -> Load:
    """Requests begin at random moments, `rate` a second, whether earlier ones are answered or not. Each counts from the
    moment at which it should have begun, so that waiting for a free connection counts too.
    """
    free: asyncio.Queue[_Connection] = asyncio.Queue()
    every = await _connected(host, port, connections)
    for connection in every:
        free.put_nowait(connection)
    chance = random.Random(1)
    found: list[float] = []
    failed = 0
    began = perf_counter()

    async def one(due: float) -> None:
        nonlocal failed
        connection = await free.get()
        failed += await connection.ask(request()) != 200
        found.append(perf_counter() - due)
        free.put_nowait(connection)

    due = began
    async with asyncio.TaskGroup() as group:
        while (due := due + chance.expovariate(rate)) < began + seconds:
            await asyncio.sleep(max(due - perf_counter(), 0))
            group.create_task(one(due))
    took = perf_counter() - began
    for connection in every:
        connection.close()
    return Load(found, failed, took)
