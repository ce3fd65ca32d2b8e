"""Replies that take much work, and the turns that the others get in between."""

import asyncio
from collections.abc import Callable
from typing import Any

from daemon.adapters.token_endpoint.protocol import ProviderProtocol, Turns
from daemon.adapters.token_endpoint.response_parser import PORTION

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = 1_000  # of one byte, each of which takes three steps


class Later:
    """The part of an event loop that `Turns` uses: what it has to call later, until the test does."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def call_later(self, _seconds: float, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def call(self) -> None:
        self.calls.pop(0)()


class Line(asyncio.Transport):
    """Receives nothing by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


async def test_a_reply_that_takes_much_work_is_read_in_turns():
    """One portion now. The rest comes portion by portion, in turn with others, and nothing more is received meanwhile."""
    loop, later, line = asyncio.get_running_loop(), Later(), Line()
    turns: Any = Turns(later)  # type: ignore[arg-type]
    protocol = ProviderProtocol(loop, turns)
    protocol.connection_made(line)
    response = protocol.listen()
    protocol.data_received(HEAD + b"1\r\nx\r\n" * CHUNKS + b"0\r\n\r\n")
    read = [len(response.body)]
    assert line.paused
    other: list[str] = []
    turns.wait(lambda: other.append("had its turn"))
    while later.calls:
        later.call()
        read.append(len(response.body))
    assert all(after - before <= PORTION for before, after in zip([0, *read], read, strict=False))
    assert other == ["had its turn"]
    assert response.complete
    assert bytes(response.body) == b"x" * CHUNKS
    assert not line.paused
