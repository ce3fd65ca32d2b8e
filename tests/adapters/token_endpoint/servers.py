"""Servers and endpoints of the tests, on real sockets."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.adapters.token_endpoint.endpoint import TokenEndpoint
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.secret import Secret
from tests.certificates import Certified
from tests.support.clocks import SetClock

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


NEVER = timedelta(days=1)


CANARY = "canary-7c1f09ab5d3e86f2"


NEXT = b'{"refresh_token": "next"}'


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Wire:
    """A server that sees every byte, and answers as the test wants."""

    def __init__(
        self, answer: Callable[["Wire", Streams], Awaitable[None]], *, tls: ssl.SSLContext | None
    ) -> None:
        self.seen = b""
        self.connections = 0
        self.requests = 0
        self.asked = asyncio.Event()
        self.ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self._tls = tls
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self.port}/token"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._answer(self, (reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def request(self, streams: Streams) -> None:
        """Read one whole request."""
        head = await streams[0].readuntil(b"\r\n\r\n")
        lengths = [line for line in head.splitlines() if line.lower().startswith(b"content-length")]
        self.seen += head + await streams[0].readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
        self.requests += 1
        self.asked.set()

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def reply(body: bytes, *, status: str = "200 OK", length: int | None = None, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def answering(*pieces: bytes, close: bool = False) -> Callable[[Wire, Streams], Awaitable[None]]:
    """Answers each request on a connection with the next of `pieces`."""

    async def answer(wire: Wire, streams: Streams) -> None:
        for piece in pieces:
            await wire.request(streams)
            streams[1].write(piece)
            await streams[1].drain()
        if not close:
            await streams[0].read()

    return answer


def reset(streams: Streams) -> None:
    """End the connection with an RST."""
    made = streams[1].get_extra_info("socket")
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    streams[1].transport.abort()


async def silent(wire: Wire, streams: Streams) -> None:
    """Takes the request and says nothing; keeps how the connection ended."""
    await wire.request(streams)
    try:
        await streams[0].read()
    except ConnectionError as error:
        wire.ended.set_result(error)
    else:
        wire.ended.set_result(None)


class Site:
    """Servers and endpoints of one test."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.clock = SetClock(NOON)
        self.writable = True  # the journal
        self._stack = stack

    async def serve(
        self, answer: Callable[[Wire, Streams], Awaitable[None]], *, tls: ssl.SSLContext | None = None
    ) -> Wire:
        wire = Wire(answer, tls=tls)
        await wire.start()
        self._stack.push_async_callback(wire.close)
        return wire

    async def proxy(
        self, target: int, *, status: str = "200 OK", tls: ssl.SSLContext | None = None
    ) -> "Proxy":
        proxy = Proxy(target, status=status, tls=tls)
        await proxy.start()
        self._stack.push_async_callback(proxy.close)
        return proxy

    def endpoint(
        self,
        *,
        timeout: timedelta = timedelta(seconds=5),
        connections: int = 10,
        proxy: str | None = None,
    ) -> TokenEndpoint:
        endpoint = TokenEndpoint(
            clock=self.clock,
            timeout=timeout,
            connections=connections,
            may_start=lambda: self.writable,
            proxy=Secret(proxy) if proxy else None,
        )
        self._stack.push_async_callback(endpoint.close)
        return endpoint


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        yield Site(stack)


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """A certificate that nobody has signed but itself; `trusted` makes it good."""
    made = Certified.made("sso.example.com")
    pem = tmp_path / "server.pem"
    pem.write_bytes(made.key + made.public)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@pytest.fixture
def trusted(tls: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """`tls`, and this process trusts it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    return tls


def request(
    url: str, *, body: bytes = b"grant_type=refresh_token&refresh_token=" + CANARY.encode()
) -> Request:
    return Request(
        method="POST",
        url=url,
        headers={
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
            "Authorization": f"Basic {CANARY}",
        },
        body=body,
    )


QUERY = f"grant_type=refresh_token&access_token=sh0rt%2B%2F%3D+%26&client_secret={CANARY}"


def queried(url: str, *, method: str = "GET", public_only: bool = False) -> Request:
    """Everything in the URL, and nothing in the body."""
    return Request(
        method=method,
        url=f"{url}?{QUERY}",
        headers={"Accept": "application/json"},
        body=b"",
        public_only=public_only,
    )


def shows_no_query(got: Reply | NoReply) -> None:
    assert isinstance(got, NoReply)
    assert got.message
    for secret in ("sh0rt", CANARY, "grant_type", "access_token"):
        assert secret not in repr(got)


class Proxy(Wire):
    """A proxy that tunnels to `target`, whatever host is named, once `gate` is open."""

    def __init__(self, target: int, *, status: str = "200 OK", tls: ssl.SSLContext | None = None) -> None:
        super().__init__(Proxy.tunnel, tls=tls)
        self.gate = asyncio.Event()
        self.gate.set()
        self._target = target
        self._status = status

    async def tunnel(self, streams: Streams) -> None:
        self.seen += await streams[0].readuntil(b"\r\n\r\n")
        self.requests += 1
        self.asked.set()
        await self.gate.wait()
        streams[1].write(f"HTTP/1.1 {self._status}\r\n\r\n".encode())
        if not self._status.startswith("200"):
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.gather(pumped(streams[0], writer), pumped(reader, streams[1]))
        finally:
            writer.close()


async def pumped(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while piece := await source.read(65_536):
        sink.write(piece)
        await sink.drain()
    sink.close()
