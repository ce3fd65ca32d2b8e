"""The protocol of one connection to a provider. It keeps replies apart, and no reply can delay other
connections.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import timedelta

from aiohttp.client_proto import ResponseHandler

from daemon.adapters.token_endpoint.response_parser import ResponseParser

TURN = timedelta(milliseconds=2)  # a portion takes a quarter of it


class Turns:
    """Schedule replies that need more work than a real one: one portion of one of them at a time, so that all
    together use only a part of the event loop's time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()

    def wait(self, go_on: Callable[[], None]) -> None:
        self._waiting.append(go_on)
        if len(self._waiting) == 1:
            self._loop.call_later(TURN.total_seconds(), self._next)

    def _next(self) -> None:
        go_on = self._waiting.popleft()
        if self._waiting:
            self._loop.call_later(TURN.total_seconds(), self._next)
        go_on()


class ProviderProtocol(ResponseHandler):
    """The protocol that aiohttp's connector makes, keeps and uses for proxies. This code reads the replies
    itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, turns: Turns) -> None:
        super().__init__(loop)
        self._turns = turns
        self._response: ResponseParser | None = None
        self._resting = False

    def listen(self) -> ResponseParser:
        """Read data from now on as the reply."""
        self._response, self._resting = ResponseParser(), False
        return self._response

    def rest(self) -> None:
        """Stop reading until the next request: unsolicited data would be read as its answer."""
        self._response, self._resting = None, True

    def data_received(self, data: bytes) -> None:
        if self._response is not None:
            self._response.feed(data)
            if self._response.greedy and self.transport is not None:
                self.transport.pause_reading()  # data that arrives now stays in the kernel
                self._turns.wait(self._go_on)
        elif self._resting:
            self.abort()
        else:
            super().data_received(data)

    def _go_on(self) -> None:
        response = self._response
        if response is not None and response.behind:
            response.go_on()
        if self.transport is None:
            return
        if response is not None and response.behind:
            self._turns.wait(self._go_on)
        else:
            self.transport.resume_reading()

    async def turn(self) -> None:
        """Wait for one."""
        mine = asyncio.Event()
        self._turns.wait(mine.set)
        await mine.wait()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._response is not None:
            self._response.lost(exc)
        super().connection_lost(exc)
