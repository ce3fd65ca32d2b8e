"""The way out, bent to this machine: what a definition asks for is sent by the daemon's own endpoint over a real socket,
only its host is ours. One that keeps what it hears stands here too.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from urllib.parse import urlsplit

from daemon.adapters.token_endpoint.endpoint import TokenEndpoint
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from tests.support import wall_clock


class WallClock:
    """The machine's clocks: the sandbox, which says when tokens end, goes by them too."""

    def now(self) -> datetime:
        return wall_clock.now()

    def boot(self) -> timedelta:
        return timedelta(seconds=monotonic())


CLOCK = WallClock()


@asynccontextmanager
async def endpoint(timeout: timedelta = timedelta(seconds=30)) -> AsyncIterator[TokenEndpoint]:
    opened = TokenEndpoint(clock=CLOCK, timeout=timeout, connections=100, may_start=lambda: True)
    try:
        yield opened
    finally:
        await opened.close()


async def send(through: TokenEndpoint, request: Request, *, to: str) -> Reply | NoReply:
    """Send `request` to the server at `to` instead of its own host, which may be private then."""
    parts = urlsplit(request.url)
    there = request.url.replace(f"{parts.scheme}://{parts.netloc}", to, 1)
    deadline = CLOCK.boot() + timedelta(hours=1)
    return await through.send(replace(request, url=there, public_only=False), deadline=deadline)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One request as it came in, byte for byte; the headers in their order."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


async def heard(through: TokenEndpoint, request: Request) -> Heard:
    """What reaches the provider when `request` is sent."""
    told: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            told.set_result(await _read(reader))
            writer.write(b"HTTP/1.1 503 Heard\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await send(through, request, to=f"http://127.0.0.1:{port}")
        return await told


async def _read(reader: asyncio.StreamReader) -> Heard:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
    start, *lines = head.strip().split("\r\n")
    method, target, _ = start.split(" ")
    headers = tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return Heard(method=method, target=target, headers=headers, body=await reader.readexactly(length))
