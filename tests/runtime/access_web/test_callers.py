"""Who the caller is behind proxies, as the listener of the access service sees it over HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from ipaddress import ip_network

import aiohttp
import pytest
from aiohttp import web

from daemon.runtime.access_web.answers import json_answer
from daemon.runtime.access_web.asked import Asked
from daemon.runtime.access_web.server import AccessServer
from tests.domain.test_access_key import key

Ask = Callable[..., Awaitable[str]]


async def echo(asked: Asked) -> web.Response:
    return json_answer({"address": asked.address})


@pytest.fixture
async def seen() -> AsyncIterator[Ask]:
    """Asks a listener that trusts `proxies`, from this machine, and returns the address that it has seen."""
    async with AsyncExitStack() as running:
        session = await running.enter_async_context(aiohttp.ClientSession())

        async def ask(*forwarded: str, proxies: tuple[str, ...] = ("127.0.0.0/8", "10.0.0.0/8")) -> str:
            server = AccessServer(
                echo, host="127.0.0.1", port=0, trusted_proxies=[ip_network(one) for one in proxies]
            )
            await server.start()
            running.push_async_callback(server.stop)
            headers = [("X-Forwarded-For", one) for one in forwarded]
            async with session.get(server.url, headers=headers) as answer:
                return str((await answer.json())["address"])

        yield ask


@pytest.mark.parametrize(
    ("forwarded", "caller"),
    [
        ((), "127.0.0.1"),
        (("203.0.113.7",), "203.0.113.7"),
        (("203.0.113.7:50123",), "203.0.113.7"),  # Azure's gateways
        (("[2001:db8::7]:443",), "2001:db8::7"),
        (("[2001:DB8::7]",), "2001:db8::7"),
        (("fe80::7%eth0",), "fe80::7"),
        (("198.51.100.1, 203.0.113.7, 10.0.0.5",), "203.0.113.7"),
        (("198.51.100.1", "203.0.113.7", "10.0.0.5:80"), "203.0.113.7"),
        (("10.0.0.7, 10.0.0.5",), "10.0.0.7"),
        (("203.0.113.7, ,",), "203.0.113.7"),
    ],
)
async def test_the_caller_is_the_rightmost_address_that_is_no_proxy(seen: Ask, forwarded, caller):
    """Everything to its left may be forged."""
    assert await seen(*forwarded) == caller


@pytest.mark.parametrize(
    "forwarded",
    [
        "unknown",
        "_hidden",
        "203.0.113.7, unknown",
        "x, 10.0.0.5",
        "1.2.3.4.5",
        "10.0.0.5 10.0.0.6",
        "010.0.0.5",
    ],
)
async def test_a_caller_without_an_address_is_not_the_proxy(seen: Ask, forwarded):
    """A key that admits the proxies' network would admit everybody behind them."""
    found = await seen(forwarded)
    assert found == "unknown"
    assert key(networks=(ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"))).admits("127.0.0.1")
    assert not key(networks=(ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"))).admits(found)


async def test_a_peer_that_is_no_proxy_forges_nothing(seen: Ask):
    assert await seen("10.0.0.5", proxies=("10.0.0.0/8",)) == "127.0.0.1"
    assert await seen("10.0.0.5", proxies=()) == "127.0.0.1"
