"""What a client can't make the health server do: wait for ever, hold every connection, or work without a pause."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import timedelta

import pytest

from daemon.runtime.web.client_limits import REQUEST_LIMIT, Limits
from daemon.runtime.web.server import CHECKS, SECURITY_HEADERS, HealthServer

LIMIT = 30  # seconds that a test waits at most for what must happen
SOON = timedelta(milliseconds=300)
NEVER = timedelta(hours=1)
ASK = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Source:
    """`waiting` counts the status requests that wait until `go`."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.waiting = asyncio.Semaphore(0)
        self.cancelled = asyncio.Event()

    def liveness(self) -> tuple[bool, str]:
        return True, "fine"

    async def readiness(self) -> Mapping[str, tuple[bool, str]]:
        return dict.fromkeys(CHECKS, (True, "fine"))

    async def status(self) -> Mapping[str, object]:
        self.waiting.release()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return {"ready": True}

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        return b"#" * 40_000_000, "text/plain"


Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Opens = Callable[..., Awaitable[Client]]


@pytest.fixture
async def source() -> Source:
    return Source()


@pytest.fixture
async def opens(source: Source) -> AsyncIterator[Opens]:
    """Connects to a server with the given limits, the first call starts it: `await opens(b"GET ...", of=2)`."""
    async with AsyncExitStack() as closing:
        servers: list[HealthServer] = []

        async def opened(said: bytes = b"", *, address: str = "127.0.0.1", **limits: object) -> Client:
            if not servers:
                patience = {"asked_within": NEVER, "taken_within": NEVER, **limits}
                server = HealthServer(
                    source, host="127.0.0.1", port=0, limits=Limits(**patience), check_timeout=NEVER
                )
                await server.start()
                closing.push_async_callback(server.stop)
                servers.append(server)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", servers[0].port, local_addr=(address, 0)
            )
            closing.callback(writer.close)
            writer.write(said)
            return reader, writer

        yield opened


async def ends(client: Client) -> bytes:
    """What the client hears until the server ends the connection, gracefully or not."""
    heard = b""
    async with asyncio.timeout(LIMIT):
        with suppress(ConnectionError):
            while part := await client[0].read(65536):
                heard += part
    return heard


async def answered(client: Client) -> bytes:
    async with asyncio.timeout(LIMIT):
        return await client[0].readuntil(b"\r\n\r\n")


@pytest.mark.parametrize("said", [b"", b"GET /livez HTTP/1.1\r\nHost: local", ASK])
async def test_who_says_nothing_more_is_cut_off(said: bytes, opens: Opens) -> None:
    """Silence from the start, half a request, and idleness after an answer."""
    heard = await ends(await opens(said, asked_within=SOON))
    assert heard.startswith(b"HTTP/1.1 200" if said == ASK else b"")
    assert bool(heard) == (said == ASK)


async def test_a_byte_now_and_then_buys_no_time(opens: Opens) -> None:
    """The whole request is awaited, not its next byte."""
    client = await opens(b"GET /livez HTTP/1.1\r\nX: ", asked_within=SOON)

    async def trickle() -> None:
        while True:
            client[1].write(b"x")
            await asyncio.sleep(0.02)

    trickling = asyncio.create_task(trickle())
    try:
        assert await ends(client) == b""
    finally:
        trickling.cancel()


async def test_who_does_not_take_the_answer_is_cut_off(opens: Opens) -> None:
    """Our memory is not a client's buffer: an answer that is not read ends with the connection."""
    client = await opens(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", taken_within=SOON)
    client[1].transport.pause_reading()
    other = await opens(ASK)
    assert (await answered(other)).startswith(b"HTTP/1.1 200")
    await asyncio.sleep(2 * SOON.total_seconds())
    client[1].transport.resume_reading()
    assert 0 < len(await ends(client)) < 40_000_000


async def test_a_request_without_end_is_a_431(opens: Opens) -> None:
    """Many short lines, each allowed: the sum is not. The refusal is hardened like every answer."""
    lines = b"".join(b"X-%d: %s\r\n" % (n, b"y" * 2000) for n in range(REQUEST_LIMIT // 2000 + 1))
    heard = await ends(await opens(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + lines))
    assert heard.startswith(b"HTTP/1.1 431 ")
    for name, value in SECURITY_HEADERS.items():
        assert f"{name}: {value}\r\n".encode() in heard


async def test_many_requests_in_one_breath_are_answered_up_to_the_limit(opens: Opens) -> None:
    """Pipelining is not refused, but bounded."""
    few = await opens(ASK * 5, asked_within=SOON, each=timedelta(milliseconds=1))
    assert (await ends(few)).count(b"HTTP/1.1 200") == 5
    many = await opens(ASK * (5 * REQUEST_LIMIT // len(ASK)))
    assert (await ends(many)).count(b"HTTP/1.1 200") <= 1 + REQUEST_LIMIT // len(ASK)


async def test_one_address_makes_room_for_its_own(opens: Opens) -> None:
    """Of too many connections the first of the address with the most goes; another address notices nothing."""
    other = await opens(address="127.0.0.2", connections=3)
    first, second, third = [await opens() for _ in range(3)]
    assert await ends(first) == b""
    for client in (second, third, other):
        client[1].write(ASK)
        assert (await answered(client)).startswith(b"HTTP/1.1 200")


async def test_a_full_house_makes_room_for_a_newcomer(opens: Opens) -> None:
    """Whoever asks is let in before whoever only waits."""
    clients = [await opens(address=f"127.0.0.{n}", connections=3) for n in (2, 3, 4)]
    newcomer = await opens(ASK)
    assert (await answered(newcomer)).startswith(b"HTTP/1.1 200")
    assert await ends(clients[0]) == b""
    clients[1][1].write(ASK)
    assert (await answered(clients[1])).startswith(b"HTTP/1.1 200")


async def test_a_probe_gets_in_where_everybody_is_being_answered(opens: Opens, source: Source) -> None:
    """However many ask and keep asking, from however many addresses: the first of them makes room."""
    status = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"
    clients = [await opens(status, address=f"127.0.0.{n}", connections=2) for n in (2, 3)]
    async with asyncio.timeout(LIMIT):
        for _ in clients:
            await source.waiting.acquire()
    assert (await answered(await opens(ASK))).startswith(b"HTTP/1.1 200")
    assert await ends(clients[0]) == b""
    source.go.set()
    assert (await answered(clients[1])).startswith(b"HTTP/1.1 200")


async def test_a_new_connections_probe_waits_for_no_other_answer(opens: Opens) -> None:
    """Others may have filled the queue for an hour; its second question waits like any."""
    page = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert await answered(await opens(page, at_once=1, each=NEVER))
    await opens(page)
    probe = await opens(ASK)
    assert (await answered(probe)).startswith(b"HTTP/1.1 200")
    probe[1].write(ASK)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await probe[0].readuntil(b"\r\n\r\n{")


async def test_connections_are_accepted_at_a_pace(opens: Opens) -> None:
    """As many as there are places come in freely, then one after another."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for _ in range(12):
        await answered(await opens(ASK, connections=2, accepted_each=timedelta(milliseconds=50)))
    assert loop.time() - begun >= 0.45


async def test_who_hangs_up_is_not_worked_for(opens: Opens, source: Source) -> None:
    """Its question is dropped, so that those who ask and run can't fill the queue."""
    _, writer = await opens(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(LIMIT):
        await source.waiting.acquire()
        writer.transport.abort()
        await source.cancelled.wait()


@pytest.mark.parametrize("said", [ASK.replace(b"livez", b"x"), b"nonsense\r\n\r\n"])
async def test_answers_have_a_pace(said: bytes, opens: Opens) -> None:
    """Some at once, then one after another, refusals too: the rest of the loop's time is the tokens'."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for _ in range(12):
        assert await answered(await opens(said, at_once=2, each=timedelta(milliseconds=50)))
    assert loop.time() - begun >= 0.45


def test_nobody_opens_more_than_the_house_holds() -> None:
    """By default a client can't use up what the tokens need: file descriptors, 1024 where nobody raised them."""
    assert Limits().connections <= 128
