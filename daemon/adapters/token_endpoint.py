"""Providers' token endpoints, over aiohttp: pooled sessions, one request a call, nothing repeated by itself.

What makes it fit for rotating tokens: it knows whether a request may have reached the provider. The body, even an
empty one, is written by `_Guarded` together with the headers. It checks at the last moment, with nothing awaited
between check and write, that the claim still holds and that the answer can be kept.

What makes it fit for hosts that come from a database: such a request has a session of its own, which connects to
public addresses only. That is checked on the very addresses that are connected to, after every look-up, so a name that
changes its mind gains nothing; and a connection that the operator's word opened to a private address is in the other
session's pool, never reused here.

No text of a failure is the library's: it would quote the URL, whose query may hold the refresh token.
"""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Protocol
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from daemon.adapters.connector import PrivateAddress, connector
from daemon.adapters.public_addresses import is_private_literal, is_public
from daemon.adapters.unanswered import failed
from daemon.domain.answer import Concern
from daemon.domain.dialect import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.secret import Secret
from daemon.domain.target import is_loopback

MOMENT = timedelta(milliseconds=200)  # to read what has come already, when the time is over
LARGEST_REPLY = 256 * 1024  # bytes; a token reply has one to four thousand

_Told = tuple[str, str]  # a code, and the same for people
_TOO_LATE = ("too_late", "the claim ran out before the connection was up; nothing was sent")
_NOT_KEPT = ("not_kept", "the journal can't be written, so the answer could not be kept; nothing was sent")


class BootClock(Protocol):
    def boot(self) -> timedelta: ...
    def now(self) -> datetime: ...


class _Held(Exception):
    """The body is not written."""


class _Guarded(aiohttp.BytesPayload):
    """A body that is written at most once, while nothing stands in the way, and remembers that it was."""

    def __init__(
        self, body: bytes, *, content_type: str | None, obstacle: Callable[[], _Told | None]
    ) -> None:
        super().__init__(body, content_type=content_type)
        self.sent = False
        self.held: _Told | None = None
        self._obstacle = obstacle

    @property
    def consumed(self) -> bool:
        """Once sent it is spent: aiohttp repeats a GET by itself on a dropped connection, unless this says so."""
        return self.sent

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if self.sent:
            raise _Held
        self.held = self._obstacle()
        if self.held is not None:
            raise _Held
        self.sent = True
        await super().write_with_length(writer, content_length)


class TokenEndpoint:
    """Fits `refreshing.ports.Endpoint`."""

    def __init__(
        self,
        *,
        clock: BootClock,
        timeout: timedelta,
        connections: int,
        may_start: Callable[[], bool],
        proxy: Secret | None = None,
    ) -> None:
        """`may_start`: whether an answer could be kept now. `proxy`: an http or https URL, perhaps with a user and a
        password; what is not on this machine is asked through it. The proxy then looks the host up, so a request that
        must stay public can only be kept from literal addresses: what names lead to is the proxy's business.
        """
        self._clock = clock
        self._timeout = timeout
        self._may_start = may_start
        self._proxy, self._proxy_headers = _proxy(proxy)
        tls = ssl.create_default_context()
        tls.set_alpn_protocols(["http/1.1"])

        def session(allows: Callable[[str], bool] | None) -> aiohttp.ClientSession:
            return aiohttp.ClientSession(
                connector=connector(timeout=timeout, limit=connections, tls=tls, allows=allows),
                timeout=aiohttp.ClientTimeout(total=None),  # `_Until` is the limit
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("Accept-Encoding", "Content-Type"),
                headers={"User-Agent": "refreshd", "Accept-Encoding": "identity"},
            )

        self._anywhere = session(None)
        self._public = session(is_public)

    async def close(self) -> None:
        await self._anywhere.close()
        await self._public.close()

    async def send(self, request: Request, *, deadline: timedelta) -> Reply | NoReply:
        """Send `request` once and return what came back, or why nothing did."""
        asked_at = self._clock.now()
        body = _Guarded(
            request.body,
            content_type=request.headers.get("Content-Type"),
            obstacle=lambda: self._obstacle(deadline),
        )
        incoming = _Incoming()
        try:
            local = is_loopback(request.url)
            if not local and not request.url.startswith("https://"):
                return NoReply(
                    code="not_https",
                    message="the token URL is not https; plain http is for this machine alone",
                    sent=False,
                    concerns=Concern.PROVIDER,
                    asked_at=asked_at,
                )
            async with _Until(self._timeout):
                await incoming.take(await self._asked(request, body, local=local))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if body.held is not None:
                code, message = body.held
                return NoReply(code=code, message=message, sent=False, asked_at=asked_at)
            if incoming.response is None:
                return failed(error, sent=body.sent, asked_at=asked_at)
        finally:
            incoming.end()
        return incoming.reply(asked_at)

    def _obstacle(self, deadline: timedelta) -> _Told | None:
        if self._clock.boot() >= deadline:
            return _TOO_LATE
        return None if self._may_start() else _NOT_KEPT

    def _asked(self, request: Request, body: _Guarded, *, local: bool) -> Awaitable[aiohttp.ClientResponse]:
        through = None if local else self._proxy
        if through and request.public_only and is_private_literal(urlsplit(request.url).hostname or ""):
            raise PrivateAddress
        session = self._public if request.public_only and not through else self._anywhere
        return session.request(
            request.method,
            URL(request.url, encoded=True),  # what was checked is what is sent
            data=body,
            headers=request.headers,
            allow_redirects=False,
            proxy=through,
            proxy_headers=self._proxy_headers if through else None,
        )


def _proxy(proxy: Secret | None) -> tuple[str | None, dict[str, str]]:
    """The proxy's URL without its user, and the header that proves us to it: so no message can hold the password."""
    if proxy is None:
        return None, {}
    parts = urlsplit(proxy.reveal())
    user, _, place = parts.netloc.rpartition("@")
    known = b64encode(":".join(map(unquote, user.split(":", 1))).encode()).decode()
    return f"{parts.scheme}://{place}", {"Proxy-Authorization": f"Basic {known}"} if user else {}


class _Until:
    """Ends with TimeoutError a moment after `limit` has passed. A process that slept finds its time over and the reply
    in the socket, perhaps the only copy: it reads before it gives up. Or it had just checked its deadline and writes
    the request only now: the time that it slept through is given back, at most `limit`.
    """

    __slots__ = ("_end", "_limit", "_over", "_seconds")

    def __init__(self, limit: timedelta) -> None:
        self._seconds = limit.total_seconds()
        self._limit = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._end = loop.time() + self._seconds
        self._over = loop.call_at(self._end, self._end_soon)
        await self._limit.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.cancel()
        await self._limit.__aexit__(
            kind, error, trace
        )  # never swallows: it makes a TimeoutError of its cancelling

    def _end_soon(self) -> None:
        now = asyncio.get_running_loop().time()
        slept = min(now - self._end, self._seconds)
        self._limit.reschedule(now + max(slept, MOMENT.total_seconds()))


class _Incoming:
    """A reply as far as it has come: a body that breaks off is still the body of a reply."""

    __slots__ = ("_chunks", "_size", "_whole", "response")

    def __init__(self) -> None:
        self.response: aiohttp.ClientResponse | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._whole = False

    async def take(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        async for chunk in response.content.iter_any():
            self._chunks.append(chunk[: LARGEST_REPLY - self._size])
            self._size += len(chunk)
            if self._size > LARGEST_REPLY:
                return
        self._whole = True

    def end(self) -> None:
        """The connection is used again only behind a reply that ended as announced."""
        if self.response is None:
            return
        if self._whole:
            self.response.release()
        else:
            self.response.close()

    def reply(self, asked_at: datetime) -> Reply:
        if self.response is None:
            raise RuntimeError("no reply has come")
        return Reply(
            status=self.response.status,
            content_type=self.response.headers.get("Content-Type", ""),
            retry_after=self.response.headers.get("Retry-After"),
            body=b"".join(self._chunks),
            whole=self._whole,
            asked_at=asked_at,
        )
