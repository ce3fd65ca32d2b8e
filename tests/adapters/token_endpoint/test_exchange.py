"""Replies that end badly, or never."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.adapters.token_endpoint.exchange import Exchange
from daemon.adapters.token_endpoint.protocol import TURN
from daemon.adapters.token_endpoint.response_parser import LARGEST_REPLY
from daemon.domain.reply import NoReply, Reply
from daemon.sandbox import Sandbox, SandboxOptions
from tests.adapters.token_endpoint import flood as flood_program
from tests.adapters.token_endpoint.flood import FLOODS
from tests.adapters.token_endpoint.servers import (
    CANARY,
    CHUNKED,
    NEVER,
    NEXT,
    Streams,
    Wire,
    answering,
    reply,
    request,
    reset,
)
from tests.support.waiting import CLOSELY


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


@pytest.mark.alone
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
    """Thirty-two at a time, each begun anew when it was ended; and the event loop never stands still for long. Beside other
    tests the floods take more than a core, and so alone.
    """
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
                await asyncio.sleep(CLOSELY.total_seconds())  # a fast machine would use all replies up
        finally:
            for task in (*floods, beating):
                task.cancel()
            await asyncio.wait((*floods, beating))
    assert all(task.cancelled() for task in floods)
    assert beat.longest < 2  # it was 5 to 15 s; `bench/hostile.py` measures
