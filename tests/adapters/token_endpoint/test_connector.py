"""What the sockets to providers are set to, where no test can wait for a network that is gone."""

import asyncio
import socket
import ssl
from base64 import b64encode
from datetime import timedelta

import aiohttp
import pytest
from yarl import URL

from daemon.adapters.egress.names import Names
from daemon.adapters.egress.permitted import PrivateAddress
from daemon.adapters.token_endpoint.connector import Connector, _socket
from daemon.domain.answer import Concern
from daemon.domain.reply import NoReply, Reply
from tests.adapters.token_endpoint.servers import (
    CANARY,
    NEVER,
    answering,
    queried,
    reply,
    request,
    shows_no_query,
    silent,
)
from tests.support.waiting import CLOSELY, until


def test_a_socket_gives_up_on_a_silent_network_with_its_request():
    """Once the request's time is over, the kernel sends nothing of it any more: not by a retry, and not at the close."""
    address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))
    with _socket(address, timeout=timedelta(seconds=30), allows=None) as made:
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == b"\x01\0\0\0\0\0\0\0"


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


class Untimed:
    """Limits nothing, and counts."""

    def __init__(self) -> None:
        self.waited = self.begun = 0

    def wait(self) -> None:
        self.waited += 1

    def begin(self) -> None:
        self.begun += 1


@pytest.mark.parametrize(("times", "connected"), [(2, 1), (1, 0), (0, 0)])
async def test_the_address_is_checked_when_it_is_found_and_again_when_it_is_used(site, times, connected):
    """What a name leads to is filtered, and the very address that is connected to is checked once more."""
    wire = await site.serve(answering(reply(b"{}")))
    gate = Gate("127.0.0.1", times)
    only = Connector(
        timeout=timedelta(seconds=5), tls=ssl.create_default_context(), names=Names(), allows=gate
    )
    async with only:
        url = URL(wire.url.replace("127.0.0.1", "localhost"))
        if connected:
            connection = await only.reach(url, timer=Untimed(), proxy=None, proxy_headers=None)
            await until(lambda: wire.connections == 1, every=CLOSELY)
            connection.close()
            assert gate.asked[-1] == "127.0.0.1"
        else:
            with pytest.raises(aiohttp.ClientConnectorError) as raised:
                await only.reach(url, timer=Untimed(), proxy=None, proxy_headers=None)
            assert isinstance(raised.value.os_error, PrivateAddress)
    assert wire.connections == connected
    assert gate.asked.count("127.0.0.1") == min(times + 1, 2)


async def test_requests_to_one_origin_share_its_destination_and_have_their_own_timers(site):
    """Whatever their paths and queries, which may hold a secret: only the origin is remembered."""
    wire = await site.serve(silent)
    anywhere = Connector(
        timeout=timedelta(seconds=5), tls=ssl.create_default_context(), names=Names(), allows=None
    )
    timers = [Untimed(), Untimed(), Untimed()]
    async with anywhere:
        url = URL(wire.url.replace("127.0.0.1", "localhost"))
        connections = await asyncio.gather(
            *(
                anywhere.reach(url.with_query(token=CANARY, n=n), timer=timer, proxy=None, proxy_headers=None)
                for n, timer in enumerate(timers)
            )
        )
        for connection in connections:
            connection.close()
        assert [(timer.waited, timer.begun) for timer in timers] == [(1, 1)] * 3
        assert anywhere._direct.cache_info().currsize == 1
        assert CANARY not in str(anywhere._direct(url.origin()).url)


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
        site.clock.passed += timedelta(seconds=2)
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
