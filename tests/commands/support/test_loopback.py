"""The listener for a callback: who may end the wait, and what a page shows."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from daemon.commands.support.loopback import CallbackListener, listening, redirect_uri
from daemon.domain.authorization import Authorization, Code, Denied, read_callback
from daemon.domain.secret import Secret
from tests.support.ports import free_port

STATE = "s" * 43
OURS = f"/callback?state={STATE}&code=4711"


class Owner:
    """A browser, and everything else that can reach the port."""

    def __init__(self, listener: CallbackListener, port: int) -> None:
        self.listener = listener
        self.port = port

    async def send(self, raw: bytes) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(raw)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer.decode()

    async def get(self, target: str, *, host: str | None = None, method: str = "GET") -> str:
        name = f"127.0.0.1:{self.port}" if host is None else host
        return await self.send(f"{method} {target} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())


@pytest.fixture
async def owner() -> AsyncIterator[Owner]:
    port = free_port()
    ours = Authorization(state=Secret(STATE), redirect_uri=redirect_uri(port))
    async with listening(lambda query: read_callback(query, ours), port) as listener:
        yield Owner(listener, port)


def status(answer: str) -> int:
    return int(answer.split(" ", 2)[1])


async def test_the_owners_callback_ends_the_wait(owner: Owner) -> None:
    """The page shows nothing of it."""
    answer = await owner.get(OURS)
    assert status(answer) == 200
    found = await asyncio.wait_for(owner.listener.answer, 5)
    assert isinstance(found, Code)
    assert found.code.reveal() == "4711"
    assert "4711" not in answer
    assert STATE not in answer


async def test_a_page_loads_and_frames_nothing_and_sends_no_referrer(owner: Owner) -> None:
    """The code is in its address."""
    answer = await owner.get(OURS)
    assert "default-src 'none'" in answer
    assert "frame-ancestors 'none'" in answer
    assert "Referrer-Policy: no-referrer" in answer
    assert "no-store" in answer
    assert "<script" not in answer


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/callback", 400),
        (f"/callback?state={'x' * 43}&code=1", 400),
        (f"/callback?state={STATE}&state={STATE}&code=1", 400),
        (f"/callback?state={STATE}&code=%ff", 400),
        ("/", 404),
        ("/favicon.ico", 404),
        (f"/callback/?state={STATE}&code=1", 404),
        (f"/CALLBACK?state={STATE}&code=1", 404),
        (f"http://evil.test/callback?state={STATE}&code=1", 404),
        (f"//evil.test/callback?state={STATE}&code=1", 404),
        ("http://[", 400),
    ],
)
async def test_any_other_address_changes_nothing(owner: Owner, target: str, code: int) -> None:
    """A page in the owner's browser can make it send such requests."""
    assert status(await owner.get(target)) == code
    assert not owner.listener.answer.done()
    assert status(await owner.get(OURS)) == 200


@pytest.mark.parametrize("host", ["evil.test", "evil.test:8917", "", "127.0.0.1", "127.0.0.1:1"])
async def test_another_host_is_refused(owner: Owner, host: str) -> None:
    """A name that resolves to this machine (DNS rebinding)."""
    assert status(await owner.get(OURS, host=host)) == 421
    assert not owner.listener.answer.done()


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "get"])
async def test_another_method_is_refused(owner: Owner, method: str) -> None:
    """The callback is a GET."""
    assert status(await owner.get(OURS, method=method)) == 405
    assert not owner.listener.answer.done()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /callback SPDY/3\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        "GET /callback?state=ü HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    ],
)
async def test_what_is_no_request_changes_nothing(owner: Owner, raw: bytes) -> None:
    """Too long, not HTTP, or not text: the listener goes on."""
    try:
        answer = await owner.send(raw)
    except OSError:  # the listener has closed the connection before all was sent
        answer = ""
    assert "200" not in answer[:20]
    assert not owner.listener.answer.done()
    assert status(await owner.get(OURS)) == 200


async def test_a_second_callback_is_refused(owner: Owner) -> None:
    """The first one counts: a reload of the page, or a replay."""
    await owner.get(OURS)
    assert status(await owner.get(OURS)) == 409
    assert status(await owner.get(f"/callback?state={STATE}&code=4712")) == 409
    found = await owner.listener.answer
    assert isinstance(found, Code)
    assert found.code.reveal() == "4711"


async def test_a_refusal_ends_the_wait_too(owner: Owner) -> None:
    """No word of the provider is on the page."""
    answer = await owner.get(f"/callback?state={STATE}&error=access_denied&error_description=%3Cb%3Eno")
    assert status(answer) == 200
    assert "access_denied" not in answer
    assert "<b>" not in answer
    assert await owner.listener.answer == Denied(code="access_denied", message="<b>no")


async def test_a_silent_client_holds_up_no_other(owner: Owner) -> None:
    """Many may connect and send nothing."""
    silent = [await asyncio.open_connection("127.0.0.1", owner.port) for _ in range(10)]
    assert status(await owner.get(OURS)) == 200
    for _, writer in silent:
        writer.close()


async def test_a_taken_port_is_an_error_of_the_system() -> None:
    """The command names another."""
    port = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(OSError):
            async with listening(lambda _query: Denied(code="x"), port):
                pass
