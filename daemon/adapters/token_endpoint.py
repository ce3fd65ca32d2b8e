"""Providers' token endpoints, over aiohttp: one pooled session, one request a call, nothing repeated by itself.

What makes it fit for rotating tokens: it knows whether a request may have reached the provider. The body is written by
`_Guarded`, which checks the claim's deadline at the last moment, with nothing awaited between check and write.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from typing import Protocol

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from daemon.domain.dialect import NoReply, Reply
from daemon.domain.request import Request, is_loopback
from daemon.domain.secret import masked

MOMENT = timedelta(milliseconds=200)  # to read what has come already, when the time is over
LARGEST_REPLY = 256 * 1024  # bytes; a token reply has one to four thousand


class BootClock(Protocol):
    def boot(self) -> timedelta: ...
    def now(self) -> datetime: ...


class _TooLate(Exception):
    """The claim's deadline had passed when the connection was up."""


class _Guarded(aiohttp.BytesPayload):
    """A body that is written only while the claim allows it, and remembers that it was."""

    def __init__(self, body: bytes, *, content_type: str, may_start: Callable[[], bool]) -> None:
        super().__init__(body, content_type=content_type)
        self.sent = False
        self.late = False
        self._may_start = may_start

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if not self._may_start():
            self.late = True
            raise _TooLate
        self.sent = True
        await super().write_with_length(writer, content_length)


class TokenEndpoint:
    """Fits `refreshing.ports.Endpoint`."""

    def __init__(self, *, clock: BootClock, timeout: timedelta, connections: int) -> None:
        self._clock = clock
        self._timeout = timeout
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections,
                ttl_dns_cache=60,
                socket_factory=lambda address: _socket(address, timeout=timeout),
            ),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding",),
            headers={"User-Agent": "refreshd", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        await self._session.close()

    async def send(self, request: Request, *, deadline: timedelta) -> Reply | NoReply:
        """Send `request` once and return what came back, or why nothing did."""
        asked_at = self._clock.now()
        if not request.url.startswith("https://") and not is_loopback(request.url):
            return NoReply(
                code="not_https",
                message="the token URL is not https; plain http is for this machine alone",
                sent=False,
                trust=True,
                asked_at=asked_at,
            )
        body = _Guarded(
            request.body,
            content_type=request.headers["Content-Type"],
            may_start=lambda: self._clock.boot() < deadline,
        )
        end = asyncio.get_running_loop().time() + self._timeout.total_seconds()
        try:
            async with _until(end, spare=self._timeout):
                response = await self._session.request(
                    request.method, request.url, data=body, headers=request.headers, allow_redirects=False
                )
            async with response:
                return await _reply(response, until=_until(end, spare=self._timeout), asked_at=asked_at)
        except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError, ValueError) as error:
            return _no_reply(error, body, asked_at=asked_at)


@asynccontextmanager
async def _until(end: float, *, spare: timedelta) -> AsyncIterator[None]:
    """Ends with TimeoutError a moment after `end`, by the loop's time. A process that slept finds its time over and the
    reply in the socket, perhaps the only copy: it reads before it gives up. Or it had just checked its deadline and
    writes the request only now: the time that it slept through is given back, at most `spare`.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:

        def end_soon() -> None:
            slept = min(loop.time() - end, spare.total_seconds())
            limit.reschedule(loop.time() + max(slept, MOMENT.total_seconds()))

        over = loop.call_at(end, end_soon)
        try:
            yield
        finally:
            over.cancel()


async def _reply(
    response: aiohttp.ClientResponse, *, until: AbstractAsyncContextManager[None], asked_at: datetime
) -> Reply:
    """The reply as far as it came: a body that breaks off is still the body of a reply."""
    chunks: list[bytes] = []
    size, whole = 0, True
    try:
        async with until:
            async for chunk in response.content.iter_any():
                chunks.append(chunk[: LARGEST_REPLY - size])
                size += len(chunk)
                if size > LARGEST_REPLY:
                    whole = False
                    break
    except (aiohttp.ClientError, TimeoutError, OSError):
        whole = False
    if not whole:
        response.close()
    return Reply(
        status=response.status,
        content_type=response.headers.get("Content-Type", ""),
        retry_after=response.headers.get("Retry-After"),
        body=b"".join(chunks),
        whole=whole,
        asked_at=asked_at,
    )


def _socket(address: aiohttp.AddrInfoType, *, timeout: timedelta) -> socket.socket:
    """A socket that delivers nothing behind our back: once we have given up on a request, what is left of it in the
    kernel is dropped (linger: none) and not sent when the network comes back.
    """
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout // timedelta(milliseconds=1))
    return made


def _no_reply(error: Exception, body: _Guarded, *, asked_at: datetime) -> NoReply:
    if body.late:
        code, message = "too_late", "the claim ran out before the connection was up; nothing was sent"
    elif isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return NoReply(code="tls", message=_said(error), sent=False, trust=True, asked_at=asked_at)
    elif isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return NoReply(code="bad_url", message=_said(error), sent=False, trust=True, asked_at=asked_at)
    elif isinstance(error, TimeoutError | asyncio.TimeoutError):
        code, message = "timeout", "no answer in time" if body.sent else "no connection in time"
    else:
        code, message = "connection", _said(error)
    if body.sent:
        message += "; the request was sent, so it may have been processed"
    return NoReply(code=code, message=message, sent=body.sent, asked_at=asked_at)


def _said(error: Exception) -> str:
    return masked(str(error), limit=200) or type(error).__name__
