"""Who may come in to the health server, how many, how fast and for how long.

It runs in the loop that renews tokens, so what strangers can make it do is bounded: connections (memory and file
descriptors), bytes of a request, seconds until it is complete and until its answer is taken, answers a second (work).
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

LINE_LIMIT = 8190  # bytes of one line; a long bearer token fits
LINES = 64
REQUEST_LIMIT = 32 * 1024  # bytes in all: it has no body that we would read


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is allowed to clients: less than a tenth of a core, however many ask however often."""

    connections: int = 64
    connections_of_one: int = 32  # from one address, so that it alone can't keep the others out
    asked_within: timedelta = timedelta(
        seconds=10
    )  # a request is complete by then; nor may idleness last longer
    taken_within: timedelta = timedelta(seconds=10)  # ... and its answer taken
    at_once: int = 50  # answers without a wait ...
    each: timedelta = timedelta(milliseconds=10)  # ... then one in this time


LIMITS = Limits()
_TOO_LARGE = "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n"

Handler = Callable[[BaseRequest], Awaitable[web.StreamResponse]]


class Doorkeeper(web.Server):
    """An HTTP server that can't be made to do more than its share. `headers`: for the answers that it makes itself."""

    def __init__(
        self, handler: Handler, *, headers: Iterable[tuple[str, str]], limits: Limits, **options: Any
    ) -> None:
        self.limits = limits
        self.turn = _Turn(limits)
        self.too_large = "".join(
            [_TOO_LARGE, *(f"{name}: {value}\r\n" for name, value in headers), "\r\n"]
        ).encode()
        self._handler = handler
        super().__init__(
            self._in_turn,
            handler_cancellation=True,  # who has hung up waits for no turn
            access_log=None,
            keepalive_timeout=limits.asked_within.total_seconds(),
            max_line_size=LINE_LIMIT,
            max_field_size=LINE_LIMIT,
            max_headers=LINES,
            lingering_time=0.0,  # a body is never waited for
            read_bufsize=REQUEST_LIMIT,
            **options,
        )

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)

    async def _in_turn(self, request: BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, _Connection)  # noqa: S101  we made it
        await connection.await_turn()
        return await self._handler(request)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Let it in. Where there is no room, the one that has waited longest for its client makes some, else it goes itself."""
        super().connection_made(handler, transport)
        here = [one for one in self.connections if isinstance(one, _Connection) and one.is_open]
        crowd = Counter(one.address for one in here)
        mine = handler.address if isinstance(handler, _Connection) else ""
        if crowd[mine] > self.limits.connections_of_one:
            here = [one for one in here if one.address == mine]
        elif len(here) <= self.limits.connections:
            return
        idle = [one for one in here if one is not handler and not one.asked]
        leaving = min(idle, key=lambda one: one.since, default=handler)
        if leaving.transport is not None:
            leaving.transport.abort()


class _Turn:
    """A queue for answers: some at once, then one after another."""

    def __init__(self, limits: Limits) -> None:
        self._queue = asyncio.Lock()  # wakes its waiters in order
        self._next = 0.0
        self._each = limits.each.total_seconds()
        self._ahead = limits.at_once * self._each

    async def __call__(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._queue:
            if (wait := self._next - loop.time()) > 0:
                await asyncio.sleep(wait)
            self._next = max(self._next, loop.time() - self._ahead) + self._each


class _Connection(RequestHandler):
    """One client. `asked`: a request of it is being answered; else it is waited for, `since` then."""

    __slots__ = ("_heard", "_keeper", "address", "asked", "since")

    def __init__(self, keeper: Doorkeeper, **options: Any) -> None:
        super().__init__(keeper, **options)
        self._keeper = keeper
        self._heard = 0
        self.asked = False
        self.address = ""
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        self.since = asyncio.get_running_loop().time()
        if isinstance(transport, asyncio.Transport):
            transport.set_write_buffer_limits(high=0)  # taken is what the kernel has, not what our memory has
        super().connection_made(transport)

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def data_received(self, data: bytes) -> None:
        self._heard += len(data)
        if self._heard <= REQUEST_LIMIT:
            super().data_received(data)
        elif self.asked:
            self.close()  # after that answer: what else it sends is nothing that we would read
        elif self.transport is not None:
            self.transport.write(self._keeper.too_large)
            self.force_close()

    async def await_turn(self) -> None:
        self.asked = True
        await self._keeper.turn()

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer to a client that takes it in time. What aiohttp refuses by itself has had no turn yet."""
        if not self.asked:
            await self.await_turn()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._keeper.limits.taken_within.total_seconds()):
                done = await super().finish_response(request, resp, start_time)
                self.asked, self._heard = False, 0
                self.since = asyncio.get_running_loop().time()
                return done
        if self.transport is not None:
            self.transport.abort()
        return resp, True
