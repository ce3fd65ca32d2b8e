"""`AsyncTokens`: the same for asyncio.

A cached token costs no thread. A request runs in a thread of its own pool: so the transports exist once, and an
instance is bound to no event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Any, Self, TypeVar

from refreshd_reader.cache import Cache, Key
from refreshd_reader.consent import Consent, Link, Wish
from refreshd_reader.core import Core, Flight
from refreshd_reader.errors import Ending
from refreshd_reader.token import Token
from refreshd_reader.tokens import UNUSABLE, Source
from refreshd_reader.transport import Grant, Reading, Transport

T = TypeVar("T")
READERS, REFUSERS = (
    16,
    32,
)  # threads. A refusal waits for its renewal, so it must not keep a reading from its turn


class AsyncTokens(Source):
    """Access tokens by provider and account, for asyncio.

    tokens = AsyncTokens.from_env()
    await client.get(url, auth=tokens.auth("xero", "company-7"))
    """

    def __init__(self, transport: Transport, *, cache: Cache | None = None) -> None:
        super().__init__(transport, cache=cache)
        self._threads = _Threads(self._core)

    async def get(self, provider: str, account: str) -> Token:
        """Return a token that may be used now. Raises ReaderError."""
        key = (provider, account)
        return self._core.cache.get(key) or await self._fetch(key)

    async def is_valid(self, provider: str, account: str) -> bool:
        """Return whether `get` returns a token. Raises Unavailable or Rejected if that can't be found out."""
        try:
            await self.get(provider, account)
        except UNUSABLE:
            return False
        return True

    async def refused(self, token: Token) -> Token:
        """Return the token that replaces `token`, which got a 401 from the provider. Raises ReaderError."""
        core = self._core
        newer = core.newer_than(token)
        if newer is not None:
            return newer
        flight = (token.provider, token.account, token.version)
        return await self._fly(
            self._threads.refusers, flight, flight[:2], lambda: core.transport.refused(token)
        )

    async def store(
        self,
        provider: str,
        account: str,
        response: Mapping[str, object],
        *,
        received_at: datetime | None = None,
        consented_at: datetime | None = None,
        vars: Mapping[str, str] | None = None,  # noqa: A002 - as refreshd's field is called
        meta: Mapping[str, object] | None = None,
        subject: str | None = None,
    ) -> bool:
        """Store the provider's token response after a consent. Return whether the token is new. HTTP only."""
        grant = Grant(
            response=response,
            received_at=received_at,
            consented_at=consented_at,
            vars=vars,
            meta=meta,
            subject=subject,
        )
        transport, key = self._core.transport, (provider, account)
        return await self._change(lambda: transport.store(provider, account, grant), key)

    async def remove(self, provider: str, account: str, *, revoke: bool = True) -> Ending:
        """Remove the token; with `revoke` the daemon first revokes the grant at the provider. HTTP only."""
        transport, key = self._core.transport, (provider, account)
        return await self._change(lambda: transport.remove(provider, account, revoke=revoke), key)

    async def remove_all(self, subject: str, *, revoke: bool = True) -> list[Ending]:
        """Remove all tokens of one user that this access key may see. HTTP only."""
        transport = self._core.transport
        return await self._change(lambda: transport.remove_all(subject, revoke=revoke), None)

    async def connect(
        self,
        provider: str,
        account: str,
        *,
        return_url: str,
        scopes: Sequence[str] | None = None,
        vars: Mapping[str, str] | None = None,  # noqa: A002 - as refreshd's field is called
        meta: Mapping[str, str] | None = None,
        subject: str | None = None,
        replace: bool = False,
    ) -> Link:
        """Begin a consent of the account's owner. Send the browser to the link's `url`. HTTP only.

        Keep `id` and `verifier` of the link in the session of the user. The browser returns to `return_url`, one of
        `access.return_urls`, with `connect` and `connect_code`, or with `connect` and `error`. Raises ReaderError.
        """
        wish = Wish(
            provider=provider,
            account=account,
            return_url=return_url,
            scopes=scopes,
            vars=vars,
            meta=meta,
            subject=subject,
            replace=replace,
        )
        transport = self._core.transport
        return await _result(self._threads.readers().submit(lambda: transport.connect(wish)))

    async def complete(self, consent: str, connect_code: str, verifier: str) -> Consent:
        """Complete a consent with the `connect_code` that the browser has brought, and the verifier of its session.

        The token is stored if the result is done. Otherwise a daemon is still busy: ask `consent` later. Raises
        ConsentFailed or another ReaderError.
        """
        transport = self._core.transport
        return await self._change(lambda: transport.complete(consent, connect_code, verifier), None)

    async def consent(self, consent: str) -> Consent:
        """Return what has become of a consent. Raises ReaderError."""
        transport = self._core.transport
        return await _result(self._threads.readers().submit(lambda: transport.consent(consent)))

    def middleware(self, provider: str, account: str, *, origins: tuple[str, ...] = ()) -> Any:
        """Return a client middleware of aiohttp, which sends the token.

        It sends the token to `origins` only, such as "https://api.xero.com". By default that is the origin of its
        first request: a redirect must not carry the token to another host.
        """
        from refreshd_reader.aiohttp_middleware import middleware_for  # noqa: PLC0415

        return middleware_for(self, provider, account, origins)

    async def aclose(self) -> None:
        """Close the connections and end the threads."""
        self._threads.close()
        self._core.transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _fetch(self, key: Key) -> Token:
        return await self._fly(self._threads.readers, key, key, self._core.reading_of(key))

    async def _fly(
        self,
        threads: Callable[[], ThreadPoolExecutor],
        flight: Flight,
        key: Key,
        request: Callable[[], Reading],
    ) -> Token:
        """Share the flight. A caller that is cancelled leaves it; the others still get the token."""
        future, first = self._core.board(flight)
        if first:
            threads().submit(self._core.fly, flight, key, future, request)
        return await _result(future)

    async def _change(self, request: Callable[[], T], key: Key | None) -> T:
        try:
            return await _result(self._threads.readers().submit(request))
        finally:
            self._core.forget(key)


class _Threads:
    """The pools, started when they are first needed: after a fork, in the child."""

    def __init__(self, core: Core) -> None:
        self._readers: ThreadPoolExecutor | None = None
        self._refusers: ThreadPoolExecutor | None = None
        core.on_fork = self._forked

    def readers(self) -> ThreadPoolExecutor:
        if self._readers is None:
            self._readers = ThreadPoolExecutor(READERS, "refreshd-reader")
        return self._readers

    def refusers(self) -> ThreadPoolExecutor:
        if self._refusers is None:
            self._refusers = ThreadPoolExecutor(REFUSERS, "refreshd-reader-401")
        return self._refusers

    def close(self) -> None:
        for pool in (self._readers, self._refusers):
            if pool is not None:
                pool.shutdown(wait=False)
        self._readers = self._refusers = None

    def _forked(self) -> None:
        self._readers = self._refusers = None


def _result(future: "Future[T]") -> Awaitable[T]:
    """Return the result in this event loop, and leave the future alone if the caller is cancelled."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[T] = loop.create_future()

    def settle(done: "Future[T]") -> None:
        if waiter.done():
            return
        error = done.exception()
        if error is None:
            waiter.set_result(done.result())
        else:
            waiter.set_exception(error)

    def ended(done: "Future[T]") -> None:
        with suppress(RuntimeError):  # the loop was closed in the meantime
            loop.call_soon_threadsafe(settle, done)

    future.add_done_callback(ended)
    return waiter
