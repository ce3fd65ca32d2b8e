"""One request, sent once or not at all, on real sockets; and never a doubt about whether it was sent."""

import asyncio
import gc
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp.connector import Connection

from daemon.adapters.egress.names import PLACES
from daemon.domain.answer import Concern
from daemon.domain.provider import ClientAuth, Definition, Provider
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request, refresh_request
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from daemon.sandbox import Sandbox, SandboxOptions
from tests.adapters.token_endpoint.servers import (
    CANARY,
    NEVER,
    NOON,
    Streams,
    Wire,
    answering,
    reply,
    request,
    silent,
)
from tests.support.waiting import CLOSELY, until


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


async def test_a_request_leaves_nothing_for_the_garbage_collector(site):
    """A reference cycle for each request keeps its memory until the collector comes, which then costs more than the reply's
    parsing.
    """
    count = 20
    wire = await site.serve(answering(*[reply(b"{}")] * (count + 1)))
    endpoint = site.endpoint()
    assert isinstance(await asyncio.create_task(endpoint.send(request(wire.url), deadline=NEVER)), Reply)
    gc.collect()
    gc.disable()
    try:
        for _ in range(count):
            await asyncio.create_task(endpoint.send(request(wire.url), deadline=NEVER))
        assert gc.collect() < count
    finally:
        gc.enable()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
async def test_plain_http_reaches_this_machine_by_each_of_its_names(site, host):
    """A definition may spell the name as it likes, and the check of the URL has accepted it."""
    wire = await site.serve(answering(reply(b"{}")))
    got = await site.endpoint().send(request(wire.url.replace("127.0.0.1", host)), deadline=NEVER)
    assert isinstance(got, Reply), got


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


async def test_a_date_to_come_back_is_a_wait_by_the_providers_clock(site):
    """The reply is kept with seconds, so a replay hours later means the same."""
    headers = "Date: Sun, 01 Nov 2026 12:00:00 GMT\r\nRetry-After: Sun, 01 Nov 2026 12:01:30 GMT\r\n"
    wire = await site.serve(answering(reply(b"{}", status="429 Too Many Requests", headers=headers)))
    got = await site.endpoint().send(request(wire.url), deadline=NEVER)
    assert isinstance(got, Reply)
    assert got.retry_after == "90"


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


async def test_a_process_that_slept_gets_the_time_back_that_it_slept_through(site, monkeypatch):
    """It slept behind its request until the time was up. The reply comes after it woke, and is read."""
    awake = asyncio.Event()

    async def late(wire: Wire, streams: Streams) -> None:
        await wire.request(streams)
        await awake.wait()
        streams[1].write(reply(b'{"late": true}'))
        await streams[0].read()

    wire = await site.serve(late)
    sending = asyncio.create_task(site.endpoint().send(request(wire.url), deadline=NEVER))
    await wire.asked.wait()
    loop = asyncio.get_running_loop()
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + 3_600)
    for _ in range(10):  # the time limit is noticed
        await asyncio.sleep(0)
    assert not sending.done()
    awake.set()
    got = await asyncio.wait_for(sending, 5)
    assert isinstance(got, Reply)
    assert got.body == b'{"late": true}'


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
    site.clock.passed += timedelta(seconds=2)
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
    await until(lambda: wire.requests >= 3, every=CLOSELY)
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
    await until(lambda: resolver.asked >= PLACES // 2, every=CLOSELY)
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
    await until(lambda: resolver.asked >= PLACES // 2, every=CLOSELY)
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
