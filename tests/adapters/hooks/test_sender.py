"""Requests to receivers that misbehave: each ends in one of the known outcomes, within its bounds."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult

from daemon.adapters.egress.names import Names
from daemon.adapters.egress.tls import client_context
from daemon.adapters.hooks.sender import HookSender
from daemon.domain.hook import Attempt, Outcome
from daemon.domain.hook_message import Message
from tests.certificates import Certified

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
SOON = timedelta(milliseconds=500)
TLS = client_context()  # takes long to make
MESSAGE = Message(
    headers={"content-type": "application/json", "webhook-id": "evt_1"}, body=b"{}", sent_at=NOON
)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Receiver:
    """A server on this machine that answers as the test says."""

    def __init__(self) -> None:
        self.answer: Answer = _ok
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.connections: set[Any] = set()
        self.over = asyncio.Event()
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0)

    async def start(self, tls: ssl.SSLContext | None = None) -> "Receiver":
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/hook"
        return self

    async def stop(self) -> None:
        self.over.set()
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append((dict(request.headers), await request.read()))
        self.connections.add(request.transport)
        return await self.answer(request)  # type: ignore[arg-type]


async def _ok(_request: web.Request) -> web.StreamResponse:
    return web.Response(text="thanks")


def status(code: int, **headers: str) -> Answer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    one = await Receiver().start()
    yield one
    await one.stop()


Send = Callable[..., Awaitable[Attempt]]


@pytest.fixture
async def send() -> AsyncIterator[Send]:
    """Send MESSAGE to a URL, as often as asked, with one sender for each URL."""
    senders: dict[tuple[str, bool], HookSender] = {}

    async def sent(
        url: str, *, private: bool = True, names: Names | None = None, tls: ssl.SSLContext = TLS
    ) -> Attempt:
        key = (url, private)
        if key not in senders:
            senders[key] = HookSender(
                url, names=names or Names(), tls=tls, allow_private=private, connections=2, limit=SOON
            )
        return await senders[key].send(MESSAGE)

    yield sent
    for one in senders.values():
        await one.close()


async def test_a_message_arrives_as_it_was_signed(receiver: Receiver, send: Send):
    assert await send(receiver.url) == Attempt(outcome=Outcome.DELIVERED, status=200)
    [(headers, body)] = receiver.requests
    assert (headers["webhook-id"], headers["Content-Type"], body) == ("evt_1", "application/json", b"{}")
    assert headers["User-Agent"].startswith("refreshd/")


async def test_one_connection_serves_many_messages(receiver: Receiver, send: Send):
    for _ in range(5):
        await send(receiver.url)
    assert len(receiver.connections) == 1


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (204, Outcome.DELIVERED),
        (400, Outcome.REFUSED),
        (404, Outcome.REFUSED),
        (410, Outcome.GONE),
        (429, Outcome.THROTTLED),
        (500, Outcome.REFUSED),
        (503, Outcome.REFUSED),
    ],
)
async def test_the_status_is_the_answer(receiver: Receiver, send: Send, code: int, outcome: Outcome):
    receiver.answer = status(code)
    assert await send(receiver.url) == Attempt(outcome=outcome, status=code)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(receiver: Receiver, send: Send, code: int):
    """It could lead into the network, with the event in the request."""
    receiver.answer = status(code, Location=receiver.url)
    assert await send(receiver.url) == Attempt(outcome=Outcome.REDIRECTED, status=code)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry_After": "120"}, 120),
        ({"Retry_After": "999999999999"}, 86_400),
        (
            {"Retry_After": "Mon, 02 Nov 2026 12:10:00 GMT", "Date": "Mon, 02 Nov 2026 12:00:00 GMT"},
            600,
        ),
        (  # a receiver whose clock is years behind means the same
            {"Retry_After": "Sun, 01 Jan 2006 00:01:00 GMT", "Date": "Sun, 01 Jan 2006 00:00:00 GMT"},
            60,
        ),
    ],
)
async def test_a_receiver_can_ask_for_a_wait(
    receiver: Receiver, send: Send, code: int, headers: dict[str, str], wait: int
):
    receiver.answer = status(code, **headers)
    assert await send(receiver.url) == Attempt(
        outcome=Outcome.THROTTLED, status=code, retry_after=timedelta(seconds=wait)
    )


async def test_a_wait_that_is_no_time_is_ignored(receiver: Receiver, send: Send):
    receiver.answer = status(429, Retry_After="soon")
    assert await send(receiver.url) == Attempt(outcome=Outcome.THROTTLED, status=429)


async def test_a_huge_answer_is_broken_off_and_counts(receiver: Receiver, send: Send):
    """The event has arrived: its status says so. The rest of the answer is nobody's business."""
    written = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal written
        stream = web.StreamResponse()
        await stream.prepare(request)
        for _ in range(160):
            await stream.write(b" " * 65536)
            written += 65536
        return stream

    receiver.answer = answer
    assert await send(receiver.url) == Attempt(outcome=Outcome.DELIVERED, status=200)
    await asyncio.sleep(0.05)
    assert written < 10 * 1024 * 1024


async def test_an_answer_that_ends_in_the_middle_counts_by_its_status(receiver: Receiver, send: Send):
    async def answer(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Length": "1000"})
        await stream.prepare(request)
        await stream.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return stream

    receiver.answer = answer
    assert await send(receiver.url) == Attempt(outcome=Outcome.DELIVERED, status=200)


async def test_a_connection_that_ends_before_the_status_is_no_answer(receiver: Receiver, send: Send):
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    receiver.answer = answer
    assert await send(receiver.url) == Attempt(outcome=Outcome.UNREACHABLE)


async def test_a_receiver_that_hangs_is_given_up(receiver: Receiver, send: Send):
    async def answer(_request: web.Request) -> web.StreamResponse:
        await receiver.over.wait()
        return web.Response()

    receiver.answer = answer
    assert await send(receiver.url) == Attempt(outcome=Outcome.TIMEOUT)


async def test_a_receiver_that_never_ends_its_answer_has_answered(receiver: Receiver, send: Send):
    async def answer(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(status=500)
        await stream.prepare(request)
        await receiver.over.wait()
        return stream

    receiver.answer = answer
    assert await send(receiver.url) == Attempt(outcome=Outcome.REFUSED, status=500)


async def test_bytes_that_are_not_http_are_no_answer(send: Send):
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"\x00\xff what is this\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await send(f"http://127.0.0.1:{port}/") == Attempt(outcome=Outcome.UNREACHABLE)
    server.close()


async def test_nobody_listens(send: Send):
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    assert await send(f"http://127.0.0.1:{port}/") == Attempt(outcome=Outcome.UNREACHABLE)


def at(address: str) -> Names:
    def ask(host: str) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host=address, port=0, family=2, proto=6, flags=0)]

    return Names(ask)


async def test_inside_the_network_nobody_is_asked_without_leave(receiver: Receiver, send: Send):
    """The name is public; its address is not."""
    for url in (
        receiver.url.replace("http:", "https:"),
        f"https://hooks.example:{receiver.port}/",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/",
    ):
        assert await send(url, private=False, names=at("127.0.0.1")) == Attempt(outcome=Outcome.NOT_PERMITTED)
    assert receiver.requests == []


async def test_plain_http_never_leaves_the_network(send: Send):
    """allow_private is about the network: over the Internet an event is encrypted."""
    outside = await send("http://hooks.example/", private=True, names=at("93.184.215.14"))
    assert outside == Attempt(outcome=Outcome.NOT_PERMITTED)


def served(certified: Certified, tmp_path: Path) -> ssl.SSLContext:
    (tmp_path / "cert").write_bytes(certified.public)
    (tmp_path / "key").write_bytes(certified.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    return context


async def test_a_certificate_must_be_trusted(tmp_path: Path, send: Send):
    certified = Certified.made("localhost")
    receiver = await Receiver().start(served(certified, tmp_path))
    trusting = client_context()
    trusting.load_verify_locations(cadata=certified.public.decode())
    try:
        assert await send(receiver.url) == Attempt(outcome=Outcome.UNTRUSTED)
        assert receiver.requests == []
        other = receiver.url + "?trusted"
        assert await send(other, tls=trusting) == Attempt(outcome=Outcome.DELIVERED, status=200)
    finally:
        await receiver.stop()
