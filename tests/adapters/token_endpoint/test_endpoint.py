"""One request, sent once or not at all, on real sockets; and never a doubt about whether it was sent."""

import asyncio
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import pytest
from aiohttp.connector import Connection

from daemon.adapters.egress.names import PLACES, Names
from daemon.adapters.token_endpoint.connector import Connector, PrivateAddress
from daemon.adapters.token_endpoint.endpoint import TokenEndpoint
from daemon.adapters.token_endpoint.exchange import Exchange
from daemon.adapters.token_endpoint.protocol import TURN
from daemon.adapters.token_endpoint.response_parser import LARGEST_REPLY
from daemon.domain.answer import Concern
from daemon.domain.provider import ClientAuth, Definition, Provider
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request, refresh_request
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from daemon.sandbox import Sandbox, SandboxOptions
from tests.adapters.token_endpoint import flood as flood_program
from tests.adapters.token_endpoint.flood import FLOODS
from tests.certificates import Certified

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
NEVER = timedelta(days=1)
CANARY = "canary-7c1f09ab5d3e86f2"
NEXT = b'{"refresh_token": "next"}'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class SetClock:
    def __init__(self) -> None:
        self.booted = timedelta(hours=1)

    def boot(self) -> timedelta:
        return self.booted

    def now(self) -> datetime:
        return NOON


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
        self.clock = SetClock()
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


# ---------------------------------------------------------------- what is sent and what comes back


async def test_a_refresh_works_against_a_real_server(site):
    """The domain's request through the wire to the sandbox, and its reply back with the time of asking."""
    async with Sandbox(SandboxOptions()) as sandbox:
        [consent] = sandbox.consent()
        provider = Provider(
            definition=Definition(
                name="sandbox", title="Sandbox", token_url=sandbox.token_url, client_auth=ClientAuth.BASIC
            ),
            client_id=sandbox.client_id,
            client_secret=Secret(sandbox.client_secret),
        )
        token = Token(
            id="sandbox:1",
            provider="sandbox",
            account="1",
            state=State.ACTIVE,
            refresh_token=Secret(str(consent["refresh_token"])),
        )
        got = await site.endpoint().send(refresh_request(provider, token, now=NOON), deadline=NEVER)
        assert isinstance(got, Reply)
        assert (got.status, got.whole, got.content_type) == (200, True, "application/json")
        assert got.asked_at == NOON
        assert b'"refresh_token"' in got.body
        [grant] = sandbox.ledger()
        assert [one["outcome"] for one in grant["presented"]] == ["granted"]


async def test_the_request_goes_out_as_it_was_built(site):
    """Method, path, headers and body; no compression asked for, no cookies, no waiting for a 100 Continue."""
    wire = await site.serve(
        answering(reply(b"{}", headers="Set-Cookie: a=b\r\nRetry-After: 7\r\n"), reply(b"{}"))
    )
    endpoint = site.endpoint()
    first = await endpoint.send(request(wire.url), deadline=NEVER)
    assert isinstance(first, Reply)
    assert (first.retry_after, first.body, first.whole) == ("7", b"{}", True)
    await endpoint.send(request(wire.url), deadline=NEVER)
    head, body = wire.seen.split(b"\r\n\r\n", 1)
    assert head.startswith(b"POST /token HTTP/1.1\r\n")
    assert f"authorization: basic {CANARY}".encode() in head.lower()
    assert b"content-type: application/x-www-form-urlencoded" in head.lower()
    assert b"accept-encoding: identity" in head.lower()
    assert b"expect:" not in wire.seen.lower()
    assert b"cookie" not in wire.seen.lower()
    assert body.startswith(b"grant_type=refresh_token&refresh_token=" + CANARY.encode())
    assert wire.connections == 1


async def test_what_comes_before_the_answer_is_not_the_answer(site):
    """An interim status (RFC 9110 §15.2), though nobody asked for one; the connection serves the next request too."""
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    wire = await site.serve(answering(interim + reply(b'{"n": 1}'), interim + reply(b'{"n": 2}')))
    endpoint = site.endpoint()
    for number in (1, 2):
        got = await endpoint.send(request(wire.url), deadline=NEVER)
        assert isinstance(got, Reply)
        assert (got.status, got.body) == (200, b'{"n": %d}' % number)
    assert wire.connections == 1


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
)
async def test_no_redirect_is_followed(site, status):
    """It would carry the refresh token and the client secret to wherever a header says."""
    elsewhere = await site.serve(answering(reply(b"{}")))
    wire = await site.serve(answering(reply(b"", status=status, headers=f"Location: {elsewhere.url}\r\n")))
    got = await site.endpoint().send(request(wire.url), deadline=NEVER)
    assert isinstance(got, Reply)
    assert got.status == int(status[:3])
    assert got.location == elsewhere.url
    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    ("headers", "location"),
    [
        ("", None),
        ("Location:\r\n", None),
        ("location: ../v2?a=b c\r\nLocation: /other\r\n", "../v2?a=b c"),
        (f"Location: /{'x' * 9_000}\r\n", f"/{'x' * 1_999}"),
    ],
)
async def test_where_a_redirect_leads_is_kept_as_it_came(site, headers, location):
    """Its beginning, at most; it may quote the request, so it does not print itself."""
    wire = await site.serve(answering(reply(b"", status="302 Found", headers=headers)))
    got = await site.endpoint().send(request(wire.url), deadline=NEVER)
    assert isinstance(got, Reply)
    assert got.location == location
    assert "location" not in repr(got)


@pytest.mark.parametrize(
    "url",
    [
        "http://sso.example.com/token",
        "http://127.0.0.1.example.com/token",
        "http://localhost@192.0.2.1/token",
        "http://192.0.2.1:80/token?127.0.0.1",
        "ftp://127.0.0.1/token",
        "HTTP://192.0.2.1/token",
    ],
)
async def test_plain_http_is_for_this_machine_alone(site, url):
    """Nothing is looked up, connected to or sent; it is the operator's to mend."""
    got = await asyncio.wait_for(site.endpoint().send(request(url), deadline=NEVER), 1)
    assert isinstance(got, NoReply)
    assert (got.sent, got.concerns) == (False, Concern.PROVIDER)


async def test_proxies_of_the_environment_are_ignored(site, monkeypatch):
    """A variable that somebody set does not decide where a refresh token goes."""
    proxy = await site.serve(answering(reply(b"{}")))
    wire = await site.serve(answering(reply(b'{"direct": true}')))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.setenv("no_proxy", "")
    got = await site.endpoint().send(request(wire.url), deadline=NEVER)
    assert isinstance(got, Reply)
    assert got.body == b'{"direct": true}'
    assert proxy.connections == 0


# ---------------------------------------------------------------- sent, or not


async def test_a_refused_connection_was_not_sent(site):
    """Nobody listens: certainly not presented."""
    wire = await site.serve(silent)
    url = wire.url
    await wire.close()
    got = await site.endpoint().send(request(url), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent, got.concerns) == ("connection", False, None)


async def test_a_timeout_after_sending_may_have_been_processed(site):
    """The provider has the request and is silent: in doubt."""
    wire = await site.serve(silent)
    got = await site.endpoint(timeout=timedelta(milliseconds=200)).send(request(wire.url), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent) == ("timeout", True)
    assert "may have been processed" in got.message
    assert wire.asked.is_set()


async def test_a_process_that_slept_reads_on_no_longer_than_a_request_may_take(site, monkeypatch):
    """It slept for an hour behind its request: what it slept through is given back, but not the whole hour."""
    wire = await site.serve(silent)
    sending = asyncio.create_task(
        site.endpoint(timeout=timedelta(milliseconds=300)).send(request(wire.url), deadline=NEVER)
    )
    await wire.asked.wait()
    loop = asyncio.get_running_loop()
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + 3_600)
    got = await asyncio.wait_for(sending, 5)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent) == ("timeout", True)


@pytest.mark.parametrize("over_tls", [False, True])
async def test_after_a_timeout_nothing_is_sent_behind_our_back(site, trusted, over_tls):
    """The connection is torn down and not closed politely: what we and the kernel still hold is dropped. A polite end
    of TLS would wait for the other side, and send the rest meanwhile.
    """
    wire = await site.serve(silent, tls=trusted if over_tls else None)
    await site.endpoint(timeout=timedelta(milliseconds=500)).send(request(wire.url), deadline=NEVER)
    assert wire.requests == 1
    assert isinstance(await asyncio.wait_for(wire.ended, 5), ConnectionResetError)


async def test_the_keys_of_a_session_are_written_to_no_file(site, trusted, tmp_path, monkeypatch):
    """$SSLKEYLOGFILE is a debugging aid of OpenSSL's users, and would give the traffic away."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    wire = await site.serve(answering(reply(b"{}")), tls=trusted)
    assert isinstance(await site.endpoint().send(request(wire.url), deadline=NEVER), Reply)
    assert not (tmp_path / "keys.log").exists()
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "nowhere" / "keys.log"))
    assert isinstance(await site.endpoint().send(request(wire.url), deadline=NEVER), Reply)


async def test_a_timeout_before_the_connection_is_up_was_not_sent(site):
    """A server that takes connections and never shakes hands."""

    async def mute(_: Wire, streams: Streams) -> None:
        await streams[0].read()
        await asyncio.Event().wait()

    wire = await site.serve(mute)
    endpoint = site.endpoint(timeout=timedelta(milliseconds=200))
    got = await endpoint.send(request(wire.url.replace("http:", "https:")), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent, got.message) == ("timeout", False, "no connection in time")


async def test_a_reset_after_the_request_may_have_been_processed(site):
    """The sandbox has spent the token and drops the connection."""
    async with Sandbox(SandboxOptions()) as sandbox:
        sandbox.add_fault({"kind": "reset", "after_processing": True})
        got = await site.endpoint().send(request(sandbox.token_url), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent) == ("connection", True)


async def test_garbage_instead_of_http_may_have_been_processed(site):
    """Something answered that speaks no HTTP; what it said is in no message."""
    wire = await site.serve(answering(CANARY.encode() + b" is no protocol\r\n\r\n", close=True))
    got = await site.endpoint().send(request(wire.url), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert got.sent
    assert CANARY not in repr(got)


async def test_what_is_lost_before_the_write_was_not_sent(site):
    """The connection goes while the last check runs."""
    wire = await site.serve(silent)

    def lose_it() -> bool:
        for protocol in endpoint._anywhere._acquired:
            protocol.transport.abort()
        return True

    endpoint = site.endpoint()
    endpoint._may_start = lose_it
    got = await endpoint.send(request(wire.url), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent) == ("connection", False)
    assert wire.seen == b""


async def test_past_its_deadline_nothing_is_sent(site):
    """The claim ran out while the connection was being made: not one byte of the request leaves."""
    wire = await site.serve(silent)
    got = await site.endpoint().send(request(wire.url), deadline=site.clock.boot())
    assert isinstance(got, NoReply)
    assert (got.code, got.sent, got.ours) == ("too_late", False, True)
    assert wire.seen == b""
    assert wire.requests == 0


async def test_a_deadline_that_passes_while_waiting_for_a_connection_counts(site):
    """What was in time when it was handed over is too late when a connection is free at last: not sent."""
    gate = asyncio.Event()

    async def slow(wire: Wire, streams: Streams) -> None:
        await wire.request(streams)
        await gate.wait()
        streams[1].write(reply(b"{}"))
        await wire.request(streams)

    wire = await site.serve(slow)
    endpoint = site.endpoint(connections=1)
    deadline = site.clock.boot() + timedelta(seconds=1)
    first = asyncio.create_task(endpoint.send(request(wire.url), deadline=deadline))
    await wire.asked.wait()
    second = asyncio.create_task(endpoint.send(request(wire.url), deadline=deadline))
    await asyncio.sleep(0)
    site.clock.booted += timedelta(seconds=2)
    gate.set()
    assert isinstance(await first, Reply)
    got = await second
    assert isinstance(got, NoReply)
    assert (got.code, got.sent) == ("too_late", False)
    assert wire.requests == 1


def one_after_another(gate: asyncio.Event) -> Callable[[Wire, Streams], Awaitable[None]]:
    """Answers each request once `gate` is open."""

    async def slow(wire: Wire, streams: Streams) -> None:
        while True:
            await wire.request(streams)
            await gate.wait()
            streams[1].write(reply(b"{}"))

    return slow


async def test_a_request_that_waits_for_a_connection_does_not_fail_for_it(site):
    """Its own time begins with its own connecting: a provider that hangs costs the next one no failure."""
    hanging, healthy = await site.serve(silent), await site.serve(answering(reply(b"{}")))
    endpoint = site.endpoint(connections=1, timeout=timedelta(milliseconds=200))
    first = asyncio.create_task(endpoint.send(request(hanging.url), deadline=NEVER))
    await hanging.asked.wait()
    waited = asyncio.get_running_loop().time()
    got = await endpoint.send(request(healthy.url), deadline=NEVER)
    assert isinstance(got, Reply)
    assert asyncio.get_running_loop().time() - waited > 0.15
    assert (await first).code == "timeout"


async def test_a_claim_that_ends_while_waiting_for_a_connection_is_our_own_trouble(site):
    """It waits no longer than its claim lasts, and says nothing about the provider."""
    gate = asyncio.Event()
    wire = await site.serve(one_after_another(gate))
    endpoint = site.endpoint(connections=1)
    first = asyncio.create_task(endpoint.send(request(wire.url), deadline=NEVER))
    await wire.asked.wait()
    soon = site.clock.boot() + timedelta(milliseconds=100)
    got = await asyncio.wait_for(endpoint.send(request(wire.url), deadline=soon), 3)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent, got.ours) == ("too_late", False, True)
    gate.set()
    assert isinstance(await first, Reply)
    assert wire.requests == 1


async def test_more_connections_can_be_allowed_and_none_is_taken_back(site):
    """After a reload there may be more providers."""
    gate = asyncio.Event()
    wire = await site.serve(one_after_another(gate))
    endpoint = site.endpoint(connections=1)
    endpoint.allow(3)
    endpoint.allow(2)
    sending = [asyncio.create_task(endpoint.send(request(wire.url), deadline=NEVER)) for _ in range(4)]
    async with asyncio.timeout(5):
        while wire.requests < 3:
            await asyncio.sleep(0.001)
    assert wire.connections == 3
    gate.set()
    assert all(isinstance(got, Reply) for got in await asyncio.gather(*sending))


class Resolver:
    """The system's, where every name of dead.test hangs until `gate` opens, and every other name is this machine's."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked = 0
        self._real = socket.getaddrinfo

    def __call__(self, host: str, *more: Any, **named: Any) -> Any:
        self.asked += 1
        if host.endswith("dead.test"):
            self.gate.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return self._real("127.0.0.1", *more, **named)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.gate.set()


def dead(count: int) -> list[Request]:
    return [request(f"https://customer-{number}.dead.test/token") for number in range(count)]


async def test_names_that_hang_keep_no_other_provider_waiting(site, resolver, trusted):
    """A look-up of one's own, while three hundred others hang; each of these ends by itself, and was not sent."""
    wire = await site.serve(answering(reply(b"{}")), tls=trusted)
    endpoint = site.endpoint(connections=400)
    hanging = [asyncio.create_task(endpoint.send(one, deadline=NEVER)) for one in dead(300)]
    async with asyncio.timeout(5):
        while resolver.asked < PLACES // 2:
            await asyncio.sleep(0.001)
    got = await endpoint.send(request(f"https://sso.example.com:{wire.port}/token"), deadline=NEVER)
    assert isinstance(got, Reply)
    resolver.gate.set()
    ended = await asyncio.wait_for(asyncio.gather(*hanging), 10)
    assert {(got.code, got.sent, got.ours) for got in ended} == {("connection", False, False)}
    assert "name resolution" in ended[0].message


async def test_a_request_that_waits_for_its_look_up_does_not_fail_for_it(site, resolver):
    """Only one whose own look-up takes too long had no connection in time. The others wait, as long as their claims do."""
    endpoint = site.endpoint(connections=400, timeout=timedelta(milliseconds=200))
    first = [asyncio.create_task(endpoint.send(one, deadline=NEVER)) for one in dead(PLACES // 2)]
    async with asyncio.timeout(5):
        while resolver.asked < PLACES // 2:
            await asyncio.sleep(0.001)
    *_, patient, hasty = dead(PLACES // 2 + 2)
    waiting = asyncio.create_task(endpoint.send(patient, deadline=NEVER))
    soon = site.clock.boot() + timedelta(milliseconds=300)
    late = await endpoint.send(hasty, deadline=soon)
    assert (late.code, late.sent, late.ours) == ("too_late", False, True)
    assert {(got.code, got.message) for got in await asyncio.gather(*first)} == {
        ("timeout", "no connection in time")
    }
    assert not waiting.done()
    resolver.gate.set()
    got = await asyncio.wait_for(waiting, 5)
    assert (got.code, "name resolution" in got.message) == ("connection", True)


async def test_the_next_request_works_after_one_that_came_too_late(site):
    """The connection that was not used is of no harm to others."""
    wire = await site.serve(answering(reply(b'{"n": 1}')))
    endpoint = site.endpoint()
    await endpoint.send(request(wire.url), deadline=timedelta(0))
    got = await endpoint.send(request(wire.url), deadline=NEVER)
    assert isinstance(got, Reply)
    assert got.body == b'{"n": 1}'
    assert wire.requests == 1


async def test_a_request_is_never_repeated_on_a_dropped_connection(site):
    """A kept connection that the provider drops on the next request: presented once, and in doubt."""

    async def once(wire: Wire, streams: Streams) -> None:
        await wire.request(streams)
        streams[1].write(reply(b"{}"))
        await wire.request(streams)  # read, perhaps acted upon, and then dropped without a word

    wire = await site.serve(once)
    endpoint = site.endpoint()
    assert isinstance(await endpoint.send(request(wire.url), deadline=NEVER), Reply)
    got = await endpoint.send(request(wire.url), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert got.sent
    assert (wire.requests, wire.connections) == (2, 1)


@pytest.mark.parametrize(
    "words", [reply(b"", status="408 Request Timeout"), b"HTTP/1.1 200 OK\r\nContent-Le", b"H"]
)
async def test_what_came_unasked_is_nobodys_answer(site, words):
    """A kept connection on which the provider said something more, or began to: it would be taken for the next answer.
    Such a connection is not used again, and the next request has another.
    """

    async def unasked(wire: Wire, streams: Streams) -> None:
        await wire.request(streams)
        streams[1].write(reply(b'{"n": %d}' % wire.connections))
        await asyncio.sleep(0.05)
        streams[1].write(words)
        await streams[0].read()

    wire = await site.serve(unasked)
    endpoint = site.endpoint()
    for number in (1, 2):
        got = await endpoint.send(request(wire.url), deadline=NEVER)
        assert isinstance(got, Reply)
        assert (got.status, got.body) == (200, b'{"n": %d}' % number)
        await asyncio.sleep(0.1)
    assert wire.connections == 2


async def test_a_connection_that_its_reply_ends_is_not_used_again(site):
    """The provider said so, though it has not closed it yet."""
    last = reply(b"{}", headers="Connection: close\r\n")
    wire = await site.serve(answering(last, last))
    endpoint = site.endpoint()
    for _ in range(2):
        assert isinstance(await endpoint.send(request(wire.url), deadline=NEVER), Reply)
    assert wire.connections == 2


async def test_a_server_that_speaks_first_gets_no_request(site):
    """What it says would be taken for the answer."""

    async def greeting(wire: Wire, streams: Streams) -> None:
        streams[1].write(reply(b'{"n": 1}'))
        await wire.request(streams)

    wire = await site.serve(greeting)
    endpoint = site.endpoint()
    connected = endpoint._connected

    async def late(*args: Any, **kwargs: Any) -> Connection:
        made = await connected(*args, **kwargs)
        await asyncio.sleep(0.05)
        return made

    endpoint._connected = late
    got = await endpoint.send(request(wire.url), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent) == ("connection", False)
    assert wire.requests == 0


# ---------------------------------------------------------------- bodies that end badly


@pytest.mark.parametrize("fault", ["length", "chunked", "sandbox"])
async def test_a_cut_body_is_kept_as_far_as_it_came(site, fault):
    """Its bytes may hold the only copy of the next refresh token, whatever is missing after them."""
    if fault == "sandbox":
        async with Sandbox(SandboxOptions()) as sandbox:
            sandbox.add_fault({"kind": "cut"})
            got = await site.endpoint().send(request(sandbox.token_url), deadline=NEVER)
    else:
        whole = reply(b'{"refresh_token": "next"}', length=500)
        chunked = (
            b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n19\r\n{"refresh_token": "next"}\r\n5\r\nab'
        )
        wire = await site.serve(answering(whole if fault == "length" else chunked, close=True))
        got = await site.endpoint().send(request(wire.url), deadline=NEVER)
        assert isinstance(got, Reply)
        assert got.body.startswith(b'{"refresh_token": "next"}')
    assert isinstance(got, Reply)
    assert got.body
    assert not got.whole


async def test_a_body_that_is_reset_in_the_middle_is_kept_as_far_as_it_came(site):
    """An RST right behind the bytes takes none of them away."""

    async def cut(wire: Wire, streams: Streams) -> None:
        await wire.request(streams)
        streams[1].write(reply(b'{"refresh_token": "next"}', length=500))
        reset(streams)

    wire = await site.serve(cut)
    got = await site.endpoint().send(request(wire.url), deadline=NEVER)
    assert isinstance(got, Reply)
    assert (got.body, got.whole) == (b'{"refresh_token": "next"}', False)


@pytest.mark.parametrize("apart", [0, 0.1], ids=["at once", "in pieces"])
@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        pytest.param([reply(NEXT, length=20)[:-25], NEXT], NEXT, id="a length too short"),
        pytest.param([reply(NEXT, length=25), b"junk", b"and more"], NEXT, id="junk behind"),
        pytest.param(
            [CHUNKED, b"19\r\n" + NEXT, b"\r\nZZ", b"\r\n"], NEXT + b"ZZ\r\n", id="a chunk that is none"
        ),
        pytest.param([CHUNKED, NEXT], NEXT, id="no chunks"),
    ],
)
async def test_a_reply_in_faulty_http_is_kept(site, pieces, body, apart):
    """Whatever is wrong with its frame: it may hold the only copy of the next refresh token. Where its end can't be told
    it is over when nothing more comes, long before the time is up: until it is in the journal, a crash would lose it.
    """

    async def faulty(wire: Wire, streams: Streams) -> None:
        await wire.request(streams)
        for piece in pieces:
            streams[1].write(piece)
            await asyncio.sleep(apart)
        await streams[0].read()

    wire = await site.serve(faulty)
    began = asyncio.get_running_loop().time()
    got = await site.endpoint(timeout=timedelta(seconds=30)).send(request(wire.url), deadline=NEVER)
    assert isinstance(got, Reply)
    assert got.status == 200
    assert got.body.startswith(body)
    assert asyncio.get_running_loop().time() - began < 10


@pytest.mark.parametrize(
    "came", [b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 2x0 OK\r\n\r\n{}", b"\r\n\r\n"]
)
async def test_half_a_head_is_no_reply(site, came):
    """Nothing can be said of it but that the request was sent."""
    wire = await site.serve(answering(came, close=True))
    got = await site.endpoint().send(request(wire.url), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent) == ("connection", True)


@pytest.mark.parametrize(("headers", "whole"), [("", False), ("Content-Length: 25\r\n", True)])
async def test_a_reset_does_not_end_a_body_that_announced_no_end(site, monkeypatch, headers, whole):
    """A reset is not the end that such a body has; one whose end was announced is whole by then, though it was read
    only after the reset.
    """

    async def unannounced(wire: Wire, streams: Streams) -> None:
        await wire.request(streams)
        streams[1].write(f"HTTP/1.1 200 OK\r\n{headers}\r\n".encode() + NEXT)
        reset(streams)

    async def late(exchange: Exchange) -> None:
        await asyncio.sleep(0.05)
        await read(exchange)

    read = Exchange.read
    monkeypatch.setattr(Exchange, "read", late)
    wire = await site.serve(unannounced)
    got = await site.endpoint().send(request(wire.url), deadline=NEVER)
    assert isinstance(got, Reply)
    assert (got.body, got.whole) == (NEXT, whole)


async def test_a_slow_body_is_a_reply_in_part_when_the_time_is_up(site):
    """What came until then is kept; the connection is given up."""

    async def dribble(wire: Wire, streams: Streams) -> None:
        await wire.request(streams)
        streams[1].write(reply(b'{"access_', length=500))
        await streams[0].read()

    wire = await site.serve(dribble)
    endpoint = site.endpoint(timeout=timedelta(milliseconds=200))
    got = await endpoint.send(request(wire.url), deadline=NEVER)
    assert isinstance(got, Reply)
    assert (got.status, got.body, got.whole) == (200, b'{"access_', False)


async def test_a_body_of_no_announced_length_ends_with_its_connection(site):
    wire = await site.serve(answering(b'HTTP/1.1 200 OK\r\n\r\n{"a": 1}', close=True))
    got = await site.endpoint().send(request(wire.url), deadline=NEVER)
    assert isinstance(got, Reply)
    assert (got.body, got.whole) == (b'{"a": 1}', True)


async def test_a_huge_body_is_bounded(site):
    """No more than 256 KiB of it are kept, exactly its beginning, and it doesn't count as whole."""
    body = b'{"refresh_token": "next"}'.ljust(3 * LARGEST_REPLY, b"x")
    wire = await site.serve(answering(reply(body)))
    got = await site.endpoint().send(request(wire.url), deadline=NEVER)
    assert isinstance(got, Reply)
    assert (len(got.body), got.whole) == (LARGEST_REPLY, False)
    assert got.body == body[:LARGEST_REPLY]


async def test_a_body_of_just_the_limit_is_whole(site):
    """The bound itself is allowed."""
    wire = await site.serve(answering(reply(b"x" * LARGEST_REPLY)))
    got = await site.endpoint().send(request(wire.url), deadline=NEVER)
    assert isinstance(got, Reply)
    assert (len(got.body), got.whole) == (LARGEST_REPLY, True)


async def test_a_body_does_not_print_itself(site):
    """Neither the reply nor the request shows its secrets in a repr."""
    wire = await site.serve(answering(reply(CANARY.encode())))
    asked = request(wire.url)
    got = await site.endpoint().send(asked, deadline=NEVER)
    assert CANARY not in repr(got)
    assert CANARY not in repr(asked)


# ---------------------------------------------------------------- replies without end


class Beat:
    """How much CPU this thread takes at most between two turns of a timer: how long it keeps others waiting, whatever else
    the machine does.
    """

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self) -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            self.longest, before = max(self.longest, now - before), now


def in_tiny_chunks(body: bytes) -> bytes:
    return CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"


@pytest.mark.parametrize("over_tls", [False, True])
async def test_a_reply_that_takes_much_work_is_read_turn_by_turn(site, trusted, over_tls):
    """In three thousand chunks of one byte, and another one in as many pieces: both are whole, and the connection serves
    a third request.
    """
    grant = b'{"refresh_token": "' + b"n" * 3_000 + b'"}'

    async def tedious(wire: Wire, streams: Streams) -> None:
        await wire.request(streams)
        streams[1].write(in_tiny_chunks(grant))
        await wire.request(streams)
        for byte in reply(grant):
            streams[1].write(bytes([byte]))
            await asyncio.sleep(0)
        await wire.request(streams)
        streams[1].write(reply(grant))
        await streams[0].read()

    wire = await site.serve(tedious, tls=trusted if over_tls else None)
    endpoint = site.endpoint()
    for _ in range(3):
        got = await endpoint.send(request(wire.url), deadline=NEVER)
        assert isinstance(got, Reply)
        assert (got.body, got.whole) == (grant, True)
    assert wire.connections == 1


async def test_large_replies_are_handed_on_one_after_another(site):
    """To keep one of them takes milliseconds, in which nothing else is done."""
    everybody = asyncio.Event()

    async def together(wire: Wire, streams: Streams) -> None:
        await wire.request(streams)
        if wire.requests == 10:
            everybody.set()
        await everybody.wait()
        streams[1].write(reply(b"x" * 100_000))
        await streams[0].read()

    wire = await site.serve(together)
    endpoint = site.endpoint()
    loop = asyncio.get_running_loop()

    async def handed_on() -> float:
        assert isinstance(await endpoint.send(request(wire.url), deadline=NEVER), Reply)
        return loop.time()

    times = await asyncio.gather(*(handed_on() for _ in range(10)))
    assert max(times) - min(times) > 8 * TURN.total_seconds()


@contextmanager
def flood(kind: str, how: str, pem: Path | None = None) -> Iterator[str]:
    """The URL of a server whose replies never end."""
    command = [sys.executable, flood_program.__file__, kind, how, *([str(pem)] if pem else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"{'https' if pem else 'http'}://127.0.0.1:{int(process.stdout.readline())}/token"
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("kind", "how", "over_tls"),
    [
        *((kind, "fast", False) for kind in FLOODS),
        *((kind, "bytewise", False) for kind in ("line ends", "small chunks", "a body")),
        *((kind, "fast", True) for kind in ("interim replies", "small chunks", "a body")),
    ],
)
async def test_a_neighbours_requests_succeed_while_replies_come_without_end(
    site, trusted, tmp_path, kind, how, over_tls
):
    """Thirty-two at a time, each begun anew when it was ended; and the event loop never stands still for long."""
    good = await site.serve(answering(*[reply(NEXT)] * 10_000))
    endpoint = site.endpoint(connections=50, timeout=timedelta(seconds=1))
    asked = 0

    async def again_and_again(url: str) -> None:
        nonlocal asked
        while True:
            got = await endpoint.send(request(url), deadline=NEVER)
            assert isinstance(got, Reply) or got.sent or got.code == "timeout"
            asked += 1

    beat = Beat()
    with flood(kind, how, tmp_path / "server.pem" if over_tls else None) as url:
        floods = [asyncio.create_task(again_and_again(url)) for _ in range(32)]
        beating = asyncio.create_task(beat.run())
        try:
            while asked < 32 or good.requests < 10:
                got = await endpoint.send(request(good.url), deadline=NEVER)
                assert isinstance(got, Reply)
                assert got.body == NEXT
        finally:
            for task in (*floods, beating):
                task.cancel()
            await asyncio.wait((*floods, beating))
    assert all(task.cancelled() for task in floods)
    assert beat.longest < 2  # it was 5 to 15 s; `bench/hostile.py` measures


# ---------------------------------------------------------------- trust


async def test_a_certificate_that_nobody_signed_is_refused(site, tls):
    """Not sent, and the operator's to look at: somebody may be in between."""
    wire = await site.serve(silent, tls=tls)
    got = await site.endpoint().send(request(wire.url), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent, got.concerns) == ("tls", False, Concern.PROVIDER)
    assert "certificate" in got.message.lower()
    assert wire.seen == b""


async def test_a_server_that_speaks_no_tls_is_refused(site):
    """https to a plain server: nothing of the request is sent."""

    async def plain(_: Wire, streams: Streams) -> None:
        await streams[0].read(10)
        streams[1].write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    wire = await site.serve(plain)
    got = await site.endpoint().send(request(wire.url.replace("http:", "https:")), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent, got.concerns) == ("tls", False, Concern.PROVIDER)


@pytest.mark.parametrize(
    "url", ["https://", "https://[::1/token", "https://exa mple.com/token", "https://h:99999/"]
)
async def test_a_url_that_makes_no_sense_is_the_operators(site, url):
    """No exception: said, and nothing sent."""
    got = await site.endpoint().send(request(url), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert not got.sent


async def test_a_url_with_a_blank_writes_no_request_line_of_its_own(site):
    wire = await site.serve(silent)
    got = await site.endpoint().send(request(f"{wire.url}?a=b HTTP/1.1"), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent) == ("bad_url", False)
    assert wire.seen == b""


async def test_a_secret_that_can_not_stand_in_a_header_is_not_sent_and_not_shown(site):
    """A client secret with a line break in a Basic header: refused before it is sent, and not printed."""
    wire = await site.serve(silent)
    asked = Request(
        method="POST",
        url=wire.url,
        headers={"Content-Type": "text/plain", "Authorization": "Basic s3c\r\nX: y"},
        body=b"x",
    )
    got = await site.endpoint().send(asked, deadline=NEVER)
    assert isinstance(got, NoReply)
    assert not got.sent
    assert "s3c" not in got.message
    assert wire.seen == b""


# ---------------------------------------------------------------- the secrets in the query

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


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_without_a_body_goes_out_as_it_was_built(site, method):
    """The query arrives as it was meant, with no body and no type of one; the connection is used again."""
    wire = await site.serve(answering(reply(b'{"n": 1}'), reply(b'{"n": 2}')))
    endpoint = site.endpoint()
    for _ in range(2):
        got = await endpoint.send(queried(wire.url, method=method), deadline=NEVER)
        assert isinstance(got, Reply)
        assert got.whole
    line, *head = wire.seen.decode().split("\r\n\r\n")[0].split("\r\n")
    assert line.startswith(f"{method} /token?")
    assert parse_qsl(line.split("?")[1].split(" ")[0]) == parse_qsl(QUERY)
    assert "content-length: 0" in [one.lower() for one in head]
    assert not any(one.lower().startswith("content-type") for one in head)
    assert (wire.connections, wire.requests) == (1, 2)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_empty_body_is_guarded_like_any_other(site, method):
    """Past the deadline not one byte leaves: the URL is the secret."""
    wire = await site.serve(silent)
    got = await site.endpoint().send(queried(wire.url, method=method), deadline=site.clock.boot())
    assert isinstance(got, NoReply)
    assert (got.code, got.sent) == ("too_late", False)
    assert wire.seen == b""


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_silent_provider_leaves_an_empty_body_in_doubt(site, method):
    """The headers were all there was to send, and they were sent."""
    wire = await site.serve(silent)
    got = await site.endpoint(timeout=timedelta(milliseconds=200)).send(
        queried(wire.url, method=method), deadline=NEVER
    )
    assert isinstance(got, NoReply)
    assert (got.code, got.sent) == ("timeout", True)
    shows_no_query(got)


async def test_a_get_is_never_repeated_on_a_dropped_connection(site):
    """HTTP clients think that a GET may be: not one that presents a token."""

    async def once(wire: Wire, streams: Streams) -> None:
        await wire.request(streams)
        if wire.requests == 1:
            streams[1].write(reply(b"{}"))
            await wire.request(streams)

    wire = await site.serve(once)
    endpoint = site.endpoint()
    assert isinstance(await endpoint.send(queried(wire.url), deadline=NEVER), Reply)
    got = await endpoint.send(queried(wire.url), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent) == ("connection", True)
    shows_no_query(got)
    assert (wire.requests, wire.connections) == (2, 1)


async def test_no_failure_shows_the_query(site, tls):
    """Refused, not found, not a URL, not trusted, no TLS, reset, dropped, garbage, silent: none quotes the URL."""

    async def hang_up(wire: Wire, streams: Streams) -> None:
        await wire.request(streams)
        reset(streams)

    async def drop(wire: Wire, streams: Streams) -> None:
        await wire.request(streams)

    async def no_tls(_: Wire, streams: Streams) -> None:
        await streams[0].read(10)
        streams[1].write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    gone = await site.serve(silent)
    nobody = gone.url
    await gone.close()
    plain = await site.serve(no_tls)
    urls = {
        nobody: "connection",
        "https://sso.invalid/token": "connection",
        "https://[::1/token": "bad_url",
        "https:///token": "bad_url",
        "https://h:99999/token": "bad_url",
        f"https://{'x' * 70}.example.com/token": "bad_url",
        "ftp://127.0.0.1/token": "bad_url",
        "http://192.0.2.1/token": "not_https",
        (await site.serve(silent, tls=tls)).url: "tls",
        plain.url.replace("http:", "https:"): "tls",
        (await site.serve(hang_up)).url: "connection",
        (await site.serve(drop)).url: "connection",
        (await site.serve(answering(CANARY.encode() + b" sh0rt\r\n\r\n", close=True))).url: "connection",
        (await site.serve(silent)).url: "timeout",
    }
    patient, hasty = site.endpoint(), site.endpoint(timeout=timedelta(milliseconds=200))
    for url, code in urls.items():
        for method in ("GET", "POST"):
            endpoint = hasty if code == "timeout" else patient
            got = await endpoint.send(queried(url, method=method), deadline=NEVER)
            assert isinstance(got, NoReply)
            assert got.code == code, url
            shows_no_query(got)


# ---------------------------------------------------------------- only what can be kept


async def test_nothing_is_sent_while_the_answer_could_not_be_kept(site):
    """The journal failed while the connection was being made: not one byte leaves, and the next request works."""
    wire = await site.serve(answering(reply(b"{}")))
    endpoint = site.endpoint()
    site.writable = False
    got = await endpoint.send(request(wire.url), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent, got.concerns, got.ours) == ("not_kept", False, None, True)
    assert wire.seen == b""
    site.writable = True
    assert isinstance(await endpoint.send(request(wire.url), deadline=NEVER), Reply)
    assert wire.requests == 1


async def test_a_journal_that_fails_while_waiting_for_a_connection_counts(site):
    """What could be kept when it was handed over is not asked when a connection is free too late."""
    gate = asyncio.Event()

    async def slow(wire: Wire, streams: Streams) -> None:
        await wire.request(streams)
        await gate.wait()
        streams[1].write(reply(b"{}"))
        await wire.request(streams)

    wire = await site.serve(slow)
    endpoint = site.endpoint(connections=1)
    first = asyncio.create_task(endpoint.send(request(wire.url), deadline=NEVER))
    await wire.asked.wait()
    second = asyncio.create_task(endpoint.send(request(wire.url), deadline=NEVER))
    await asyncio.sleep(0)
    site.writable = False
    gate.set()
    assert isinstance(await first, Reply)
    got = await second
    assert isinstance(got, NoReply)
    assert (got.code, got.sent) == ("not_kept", False)
    assert wire.requests == 1


# ---------------------------------------------------------------- public addresses only


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_what_must_stay_public_is_not_sent_to_this_machine(site, host):
    """By name or by number: nobody is connected to, and it is that token's alone."""
    wire = await site.serve(silent)
    for scheme in ("http", "https"):
        url = wire.url.replace("127.0.0.1", host).replace("http:", f"{scheme}:")
        got = await site.endpoint().send(queried(url, public_only=True), deadline=NEVER)
        shows_no_query(got)
        assert (got.code, got.sent, got.concerns) == ("private_address", False, Concern.TOKEN)
    assert wire.connections == 0


@pytest.mark.parametrize(
    "host",
    ["10.0.0.1", "169.254.169.254", "[fd00::1]", "[64:ff9b::7f00:1]", "[::ffff:127.0.0.1]", "[fe80::1]"],
)
async def test_what_must_stay_public_is_not_sent_to_the_neighbourhood(site, host):
    """The addresses that a rogue document would love: refused before a packet leaves."""
    endpoint = site.endpoint()
    got = await asyncio.wait_for(
        endpoint.send(queried(f"https://{host}/token", public_only=True), deadline=NEVER), 2
    )
    assert isinstance(got, NoReply)
    assert (got.code, got.sent, got.concerns) == ("private_address", False, Concern.TOKEN)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.0.0.1."])
async def test_an_odd_spelling_of_an_address_leads_nowhere(site, host):
    """What some resolver takes for this machine is not connected to either."""
    wire = await site.serve(silent)
    got = await site.endpoint().send(
        queried(f"https://{host}:{wire.port}/token", public_only=True), deadline=NEVER
    )
    assert isinstance(got, NoReply)
    assert not got.sent
    assert wire.connections == 0


async def test_a_connection_to_a_private_address_is_not_used_again_by_what_must_stay_public(site):
    """The operator's word opened it, and it idles in the pool: not for a host that a document chose."""
    wire = await site.serve(answering(reply(b"{}"), reply(b"{}"), reply(b"{}")))
    endpoint = site.endpoint()
    for public_only in (False, True, False):
        got = await endpoint.send(queried(wire.url, public_only=public_only), deadline=NEVER)
        assert isinstance(got, NoReply if public_only else Reply)
    assert (wire.connections, wire.requests) == (1, 2)


class Gate:
    """Allows one address, the first `times` that it is asked about it."""

    def __init__(self, address: str, times: int) -> None:
        self.asked: list[str] = []
        self._address = address
        self._left = times

    def __call__(self, address: str) -> bool:
        self.asked.append(address)
        self._left -= address == self._address
        return address == self._address and self._left >= 0


@pytest.mark.parametrize(("times", "connected"), [(2, 1), (1, 0), (0, 0)])
async def test_the_address_is_checked_when_it_is_found_and_again_when_it_is_used(site, times, connected):
    """What a name leads to is filtered, and the very address that is connected to is checked once more."""
    wire = await site.serve(answering(reply(b"{}")))
    gate = Gate("127.0.0.1", times)
    only = Connector(
        timeout=timedelta(seconds=5), tls=ssl.create_default_context(), names=Names(), allows=gate
    )
    async with aiohttp.ClientSession(connector=only) as session:
        url = wire.url.replace("127.0.0.1", "localhost")
        if connected:
            async with session.get(url) as response:
                assert await response.read() == b"{}"
            assert gate.asked[-1] == "127.0.0.1"
        else:
            with pytest.raises(aiohttp.ClientConnectorError) as raised:
                await session.get(url)
            assert isinstance(raised.value.os_error, PrivateAddress)
    assert wire.connections == connected
    assert gate.asked.count("127.0.0.1") == min(times + 1, 2)


# ---------------------------------------------------------------- through a proxy


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


TARGET = "https://sso.example.com/token"


async def test_what_is_not_on_this_machine_is_asked_through_the_proxy(site, trusted):
    """CONNECT first, with the proxy's password and none of ours; then TLS to the provider, kept for the next one."""
    wire = await site.serve(answering(reply(b"{}"), reply(b"{}")), tls=trusted)
    proxy = await site.proxy(wire.port)
    address = proxy.url.removeprefix("http://").removesuffix("/token")
    endpoint = site.endpoint(proxy=f"http://us%40er:p%3Ass@{address}")
    for _ in range(2):
        got = await endpoint.send(request(TARGET), deadline=NEVER)
        assert isinstance(got, Reply), got
    assert (proxy.connections, proxy.requests, wire.requests) == (1, 1, 2)
    assert proxy.seen.startswith(b"CONNECT sso.example.com:443 HTTP/1.1\r\n")
    known = b64encode(b"us@er:p:ss")
    assert b"proxy-authorization: basic " + known.lower() in proxy.seen.lower()
    assert known in proxy.seen
    assert CANARY.encode() not in proxy.seen
    assert b"proxy-authorization" not in wire.seen.lower()
    assert wire.seen.startswith(b"POST /token HTTP/1.1\r\n")


async def test_a_proxy_can_be_spoken_to_in_tls(site, trusted):
    """TLS to the proxy, and TLS inside of it to the provider."""
    wire = await site.serve(answering(reply(b"{}")), tls=trusted)
    proxy = await site.proxy(wire.port, tls=trusted)
    got = await site.endpoint(proxy=proxy.url.removesuffix("/token")).send(request(TARGET), deadline=NEVER)
    assert isinstance(got, Reply), got
    assert proxy.requests == 1


async def test_this_machine_is_not_asked_through_the_proxy(site):
    """A provider on loopback is reached directly."""
    wire = await site.serve(answering(reply(b"{}")))
    proxy = await site.proxy(wire.port)
    got = await site.endpoint(proxy=proxy.url).send(request(wire.url), deadline=NEVER)
    assert isinstance(got, Reply)
    assert proxy.connections == 0


@pytest.mark.parametrize("what", ["deadline", "journal"])
async def test_what_changes_while_the_proxy_connects_counts(site, trusted, what):
    """The tunnel is up too late: the request is not sent, and the tunnel carried nothing of it."""
    wire = await site.serve(silent, tls=trusted)
    proxy = await site.proxy(wire.port)
    proxy.gate.clear()
    deadline = site.clock.boot() + timedelta(seconds=1)
    sending = asyncio.create_task(
        site.endpoint(proxy=proxy.url.removesuffix("/token")).send(queried(TARGET), deadline=deadline)
    )
    await proxy.asked.wait()
    if what == "deadline":
        site.clock.booted += timedelta(seconds=2)
    else:
        site.writable = False
    proxy.gate.set()
    got = await sending
    assert isinstance(got, NoReply)
    assert (got.code, got.sent) == ("too_late" if what == "deadline" else "not_kept", False)
    assert (proxy.requests, wire.requests, wire.seen) == (1, 0, b"")


@pytest.mark.parametrize(
    ("status", "concerns"),
    [
        ("407 Proxy Authentication Required", Concern.PROVIDER),
        ("403 Forbidden", Concern.PROVIDER),
        ("503 Busy", None),
    ],
)
async def test_a_proxy_that_refuses_is_told_apart_from_the_provider(site, status, concerns):
    """Its status is no reply of the provider's; neither its password nor our query is shown."""
    proxy = await site.proxy(0, status=status)
    url = proxy.url.removesuffix("/token").replace("//", "//me:passw0rd@")
    got = await site.endpoint(proxy=url).send(queried(TARGET), deadline=NEVER)
    shows_no_query(got)
    assert (got.code, got.sent, got.concerns) == ("proxy", False, concerns)
    assert status[:3] in got.message
    assert "passw0rd" not in repr(got)


async def test_a_proxy_that_is_away_is_times(site):
    """Nothing was sent, and its password is not shown."""
    proxy = await site.proxy(0)
    url = proxy.url.removesuffix("/token").replace("//", "//me:passw0rd@")
    await proxy.close()
    got = await site.endpoint(proxy=url).send(queried(TARGET), deadline=NEVER)
    shows_no_query(got)
    assert (got.code, got.sent, got.concerns) == ("proxy", False, None)
    assert "passw0rd" not in repr(got)


async def test_a_silent_proxy_is_given_up_in_time(site):
    """The time for a request covers the way to the provider: not sent."""
    proxy = await site.proxy(0)
    proxy.gate.clear()
    endpoint = site.endpoint(proxy=proxy.url.removesuffix("/token"), timeout=timedelta(milliseconds=200))
    got = await endpoint.send(queried(TARGET), deadline=NEVER)
    shows_no_query(got)
    assert (got.code, got.sent) == ("timeout", False)


async def test_a_certificate_that_nobody_signed_is_refused_behind_a_proxy_too(site, tls):
    """The proxy carries the bytes and is trusted with none of them."""
    wire = await site.serve(silent, tls=tls)
    proxy = await site.proxy(wire.port)
    got = await site.endpoint(proxy=proxy.url.removesuffix("/token")).send(queried(TARGET), deadline=NEVER)
    shows_no_query(got)
    assert (got.code, got.sent, got.concerns) == ("tls", False, Concern.PROVIDER)
    assert wire.seen == b""


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "[::ffff:10.0.0.1]", "169.254.169.254", "127.1", "0x7f.1", "10.0.0.1."]
)
async def test_a_proxy_is_not_asked_for_a_private_address_when_a_document_chose_it(site, host):
    """Names are the proxy's to look up, but a literal address is judged here; by the operator's word it may pass."""
    proxy = await site.proxy(0, status="503 Busy")
    endpoint = site.endpoint(proxy=proxy.url.removesuffix("/token"))
    got = await endpoint.send(queried(f"https://{host}/token", public_only=True), deadline=NEVER)
    shows_no_query(got)
    assert (got.code, got.sent, got.concerns) == ("private_address", False, Concern.TOKEN)
    assert proxy.connections == 0
    await endpoint.send(queried("https://10.0.0.1/token"), deadline=NEVER)
    assert proxy.connections == 1
