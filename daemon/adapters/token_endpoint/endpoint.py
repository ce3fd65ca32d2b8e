"""Providers' token endpoints: pooled connections, one request per call, and no repeats.

For rotating tokens, the endpoint reports whether a request may have reached the provider. At the last moment,
with nothing awaited between check and write, it checks that the claim still holds and that the answer can be
kept.

Requests to hosts that come from a database use their own pool, which connects to public addresses only. Each
address is checked when it is connected to, after every look-up, so a name can't bypass the check by resolving
differently later. Connections that the operator has allowed to a private address are in the other pool and
never reused here.

A request's timeout starts when it starts to connect. Earlier waits, for one of the connections or for the
look-up of its host, are not the provider's fault and may last as long as the claim.

Failure messages never contain the library's text, which would quote the URL, whose query may hold the refresh
token.
"""

import asyncio
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Protocol, TypedDict
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from daemon.adapters.egress.names import Names
from daemon.adapters.egress.permitted import PrivateAddress
from daemon.adapters.egress.public_addresses import is_private_literal, is_public
from daemon.adapters.egress.tls import client_context
from daemon.adapters.token_endpoint.connector import Connector
from daemon.adapters.token_endpoint.deadlines import Deadlines
from daemon.adapters.token_endpoint.exchange import Exchange, message_of
from daemon.adapters.token_endpoint.no_reply import no_reply_for
from daemon.domain.answer import Concern
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.secret import Secret
from daemon.domain.token_url import is_loopback_host

MOMENT = timedelta(milliseconds=200)  # to read data that has already arrived at the time limit


class _NotSent(TypedDict):
    """The reason that nothing was sent, as a code and a sentence, and whether refreshd itself caused it."""

    code: str
    message: str
    ours: bool


_TOO_LATE = _NotSent(
    code="too_late",
    message="the claim expired before the connection was established; nothing was sent",
    ours=True,
)
_NOT_KEPT = _NotSent(
    code="not_kept",
    message="journal not writable, so the response could not be kept; nothing was sent",
    ours=True,
)
_NOT_HTTPS = _NotSent(
    code="not_https",
    message="the token URL is not https; plain http is allowed for this machine only",
    ours=False,
)


class BootClock(Protocol):
    def boot(self) -> timedelta: ...
    def now(self) -> datetime: ...


class _Timer:
    """Limits the time of the block that it surrounds: waits before the connection last as long as the claim, and from
    `begin` on the request has its own time limit. Raises TimeoutError.
    """

    def __init__(self, *, claim: Callable[[], timedelta], own: Deadlines) -> None:
        self._loop = asyncio.get_running_loop()
        self._claim, self._own = claim, own
        self.begun = False
        self.limit = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self.limit.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._own.end(self.limit)
        await self.limit.__aexit__(kind, error, traceback)

    def wait(self) -> None:
        """Something is about to be waited for."""
        self.limit.reschedule(self._loop.time() + self._claim().total_seconds())

    def begin(self) -> None:
        if not self.begun:
            self.begun = True
            if self.limit.when() is not None:
                self.limit.reschedule(None)
            self._own.begin(self.limit)

    @property
    def past(self) -> timedelta:
        """Return how long ago the time limit passed."""
        over = self.limit.when()
        return timedelta(0) if over is None else timedelta(seconds=self._loop.time() - over)


class TokenEndpoint:
    """Implements `refreshing.ports.Endpoint`."""

    def __init__(
        self,
        *,
        clock: BootClock,
        timeout: timedelta,
        connections: int,
        may_start: Callable[[], bool],
        proxy: Secret | None = None,
    ) -> None:
        """Create the pools.

        `connections`: how many requests may be connecting or connected; more wait. `may_start`: whether an
        answer could be kept now. `proxy`: an http or https URL, perhaps with a user and a password, for all
        providers that are not on this machine. The proxy looks the host up, so a request that must stay
        public can only be kept from literal addresses.
        """
        self._clock = clock
        self._timeout = timeout
        self._deadlines = Deadlines(timeout)
        self._may_start = may_start
        self._proxy, self._proxy_headers = _proxy(proxy)
        tls = client_context()
        tls.set_alpn_protocols(["http/1.1"])
        self._names = Names()
        self._anywhere = Connector(timeout=timeout, tls=tls, names=self._names, allows=None)
        self._public = Connector(timeout=timeout, tls=tls, names=self._names, allows=is_public)
        self._connections = connections
        self._places = asyncio.Semaphore(connections)

    def allow(self, connections: int) -> None:
        """Allow this many connections from now on, but never fewer than before."""
        for _ in range(self._connections, connections):
            self._places.release()
        self._connections = max(self._connections, connections)

    async def close(self) -> None:
        await self._anywhere.close()
        await self._public.close()
        await self._names.close()

    async def send(self, request: Request, *, deadline: timedelta) -> Reply | NoReply:
        """Send `request` once. Returns the response, or the reason that there is none."""
        asked_at = self._clock.now()
        exchange = Exchange()
        error: Exception = aiohttp.ServerDisconnectedError()  # unless the request says otherwise
        try:
            url = URL(request.url, encoded=True)  # send exactly the checked text
            local = is_loopback_host((url.raw_host or "").lower())
            if not local and url.scheme != "https":
                return NoReply(asked_at=asked_at, sent=False, concerns=Concern.PROVIDER, **_NOT_HTTPS)
            message = message_of(request, url)
            timer = _Timer(claim=lambda: deadline - self._clock.boot(), own=self._deadlines)
            try:
                async with timer:
                    if self._places.locked():
                        timer.wait()
                    async with self._places:
                        exchange.connection = await self._connected(
                            url, local=local, public_only=request.public_only, timer=timer
                        )
                        timer.begin()
                        if (obstacle := self._obstacle(deadline)) is not None:
                            return NoReply(asked_at=asked_at, sent=False, **obstacle)
                        exchange.write(message)
                        await exchange.read()
            except TimeoutError:
                if not timer.begun:
                    return NoReply(asked_at=asked_at, sent=False, **_TOO_LATE)
                if not exchange.sent:
                    raise
                await self._read_on(exchange, timer.past)
        except (aiohttp.ClientError, OSError, ValueError) as why:
            error = why
        finally:
            exchange.end()
        return exchange.reply(asked_at) or no_reply_for(error, sent=exchange.sent, asked_at=asked_at)

    def _obstacle(self, deadline: timedelta) -> _NotSent | None:
        if self._clock.boot() >= deadline:
            return _TOO_LATE
        return None if self._may_start() else _NOT_KEPT

    async def _read_on(self, exchange: Exchange, slept: timedelta) -> None:
        """Read a reply that is already in the socket although the time limit passed `slept` ago.

        A process that slept finds the reply there, perhaps the only copy, so it reads before it gives up. If
        it had just checked its deadline and wrote the request only now, it gets the time back that it slept
        through, at most all of it.
        """
        async with asyncio.timeout(max(min(slept, self._timeout), MOMENT).total_seconds()):
            await exchange.read()

    async def _connected(self, url: URL, *, local: bool, public_only: bool, timer: _Timer) -> Connection:
        if url.scheme not in {"http", "https"}:
            raise aiohttp.NonHttpUrlClientError(url)
        proxy = None if local else self._proxy
        if proxy and public_only and is_private_literal(url.host or ""):
            raise PrivateAddress
        pool = self._public if public_only and not proxy else self._anywhere
        headers = self._proxy_headers if proxy else None
        return await pool.reach(url, timer=timer, proxy=proxy, proxy_headers=headers)


def _proxy(proxy: Secret | None) -> tuple[URL | None, dict[str, str]]:
    """Return the proxy's URL without its user, and the authentication header, so that no message can contain
    the password.
    """
    if proxy is None:
        return None, {}
    parts = urlsplit(proxy.reveal())
    user, _, host = parts.netloc.rpartition("@")
    credentials = b64encode(":".join(map(unquote, user.split(":", 1))).encode()).decode()
    return URL(f"{parts.scheme}://{host}"), {"Proxy-Authorization": f"Basic {credentials}"} if user else {}
