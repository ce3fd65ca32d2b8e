"""Limits for clients of the health server: their number, rate, speed and time.

The server runs in the event loop that renews tokens, so the work for strangers is limited: connections
(memory and file descriptors) and new ones a second, bytes of a request, seconds until it is complete and
until its answer is taken, answers a second (work). Probes are always answered: the first one of a connection
waits for no other answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from daemon.runtime.web.admission import RateLimiter, most_present

LINE_LIMIT = 8190  # bytes of one line; a long bearer token fits
LINES = 64
DRAIN_LOOK = timedelta(milliseconds=20)
REQUEST_LIMIT = 32 * 1024  # bytes in all; the health server never reads a body


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits for all clients together."""

    connections: int = 64
    accepted_each: timedelta = timedelta(milliseconds=4)  # one new connection in this time, in the long run
    asked_within: timedelta = timedelta(
        seconds=10
    )  # a request is complete by then; nor may idleness last longer
    taken_within: timedelta = timedelta(seconds=10)  # ... and its answer taken
    at_once: int = 50  # answers without a wait ...
    each: timedelta = timedelta(milliseconds=10)  # ... then one in this time
    request_bytes: int = REQUEST_LIMIT


LIMITS = Limits()
_TOO_LARGE = "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n"

Handler = Callable[[BaseRequest], Awaitable[web.StreamResponse]]
Refusal = Callable[[], web.Response]


class LimitedServer(web.Server):
    """An HTTP server with limits. `headers`: for the answers that it makes itself; `probes`: the paths that
    are cheap and urgent to answer; `refusal`: makes the answer to a request that isn't HTTP, in the place of
    aiohttp's, which quotes the request.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        headers: Iterable[tuple[str, str]],
        probes: Collection[str],
        limits: Limits,
        refusal: Refusal | None = None,
        too_large: tuple[str, bytes] = (_TOO_LARGE, b""),
        **options: Any,
    ) -> None:
        """`too_large`: the head and the body of the answer to a request with too many bytes."""
        self.refusal = refusal
        self.limits = limits
        self.turn = RateLimiter(every=limits.each, burst=limits.at_once)
        self._probes = probes
        head, body = too_large
        self.too_large = (
            "".join([head, *(f"{name}: {value}\r\n" for name, value in headers), "\r\n"]).encode() + body
        )
        self._handler = handler
        super().__init__(
            self._in_turn,
            handler_cancellation=True,  # a disconnected client waits for no turn
            access_log=None,
            keepalive_timeout=limits.asked_within.total_seconds(),
            max_line_size=LINE_LIMIT,
            max_field_size=LINE_LIMIT,
            max_headers=LINES,
            lingering_time=0.0,  # a body is never waited for
            read_bufsize=limits.request_bytes,
            **options,
        )

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)

    @property
    def is_busy(self) -> bool:
        """Return whether a request is being answered."""
        return any(isinstance(one, _Connection) and one.asked for one in self.connections)

    async def drained(self, within: timedelta) -> bool:
        """Close idle connections, and the others after their answer. Return whether all were answered in time."""
        self.pre_shutdown()
        loop = asyncio.get_running_loop()
        end = loop.time() + within.total_seconds()
        while self.is_busy and loop.time() < end:  # noqa: ASYNC110  an event would cost each request
            await asyncio.sleep(DRAIN_LOOK.total_seconds())
        return not self.is_busy

    async def _in_turn(self, request: BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, _Connection)  # noqa: S101  we made it
        await connection.await_turn(urgent=request.path in self._probes)
        return await self._handler(request)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Accept a connection; at the limit, drop another one to make room."""
        super().connection_made(handler, transport)
        here = [one for one in self.connections if isinstance(one, _Connection) and one.is_open]
        if len(here) <= self.limits.connections:
            return
        leaving = here[most_present([one.address for one in here])]
        if leaving.transport is not None:
            leaving.transport.abort()


class _Connection(RequestHandler):
    """One client. `asked`: a request of it is being answered; otherwise the server waits for one."""

    __slots__ = ("_heard", "_is_new", "_keeper", "address", "asked")

    def __init__(self, keeper: LimitedServer, **options: Any) -> None:
        super().__init__(keeper, **options)
        self._keeper = keeper
        self._heard = 0
        self._is_new = True  # nothing was answered yet
        self.asked = False
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        if isinstance(transport, asyncio.Transport):
            transport.set_write_buffer_limits(
                high=0
            )  # bytes in the kernel are taken, bytes in this process are not
        super().connection_made(transport)

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def data_received(self, data: bytes) -> None:
        self._heard += len(data)
        if self._heard <= self._keeper.limits.request_bytes:
            super().data_received(data)
        elif self.asked:
            self.close()  # after that answer, nothing more is read
        elif self.transport is not None:
            self.transport.write(self._keeper.too_large)
            self.force_close()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that aiohttp could not parse."""
        answer = super().handle_error(request, status, exc, message)
        if self._keeper.refusal is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return answer
        refusal = self._keeper.refusal()
        refusal.force_close()
        return refusal

    async def await_turn(self, *, urgent: bool = False) -> None:
        self.asked = True
        if not (urgent and self._is_new):
            await self._keeper.turn()
        self._is_new = False

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer to a client that takes it in time. Refusals by aiohttp itself have not waited for
        their turn yet.
        """
        if not self.asked:
            await self.await_turn()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._keeper.limits.taken_within.total_seconds()):
                done = await super().finish_response(request, resp, start_time)
                self.asked, self._heard = False, 0
                return done
        if self.transport is not None:
            self.transport.abort()
        return resp, True
