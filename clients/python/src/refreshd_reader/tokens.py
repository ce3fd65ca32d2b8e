"""`Tokens`: access tokens for programs with threads."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from refreshd_reader.cache import Cache, Key
from refreshd_reader.consent import Consent, Link, Wish
from refreshd_reader.core import Core, Flight
from refreshd_reader.environment import transport_from_env
from refreshd_reader.errors import Ending, Expired, NeedsReauth, NotConnected, Paused
from refreshd_reader.token import Token
from refreshd_reader.transport import Grant, Transport

UNUSABLE = (NeedsReauth, NotConnected, Paused, Expired)


class Source:
    """How an instance is made. One instance serves the whole program and may be used by many threads."""

    def __init__(self, transport: Transport, *, cache: Cache | None = None) -> None:
        self._core = Core(transport, cache)

    @classmethod
    def from_env(cls) -> Self:
        """Use REFRESHD_URL and REFRESHD_ACCESS_KEY, or else MONGODB_URI and REFRESHD_READERS."""
        return cls(transport_from_env())

    @classmethod
    def over_http(cls, url: str, access_key: str, *, wait: float = 10.0, timeout: float = 10.0) -> Self:
        """Ask `refreshd serve` at `url`: https://…, http://… or unix:/path.

        `wait`: the seconds for which refreshd may wait for a renewal before it answers. `timeout`: the seconds
        that everything else may take.
        """
        from refreshd_reader.http_transport import HttpTransport

        return cls(HttpTransport(url, access_key, wait=wait, timeout=timeout))

    @classmethod
    def over_mongodb(
        cls,
        uri: str,
        readers: str | Path,
        *,
        database: str | None = None,
        collection: str = "tokens",
        wait: float = 20.0,
        timeout: float = 10.0,
    ) -> Self:
        """Read MongoDB with the reader keys in the file `readers`, as `refreshd keys reader --all` prints them.

        `database`: as `store.database` in refreshd's configuration. By default the one in the URI's path, else
        `refreshd`. `wait`: the seconds for which `refused` waits for a renewal. Needs the extra `mongodb`.
        """
        from refreshd_reader.mongo_transport import MongoTransport

        return cls(
            MongoTransport(
                uri, Path(readers), database=database, collection=collection, wait=wait, timeout=timeout
            )
        )

    def auth(self, provider: str, account: str) -> Any:
        """Return what `auth=` of httpx takes, and with `Tokens` also requests.

        It sends the token. On a 401 it asks for a renewal and sends the request once more, if the body can be
        sent twice.
        """
        from refreshd_reader.auth import auth_for

        return auth_for(self, provider, account)


class Tokens(Source):
    """Access tokens by provider and account, for programs with threads.

    tokens = Tokens.from_env()
    httpx.get(url, auth=tokens.auth("xero", "company-7"))
    """

    def get(self, provider: str, account: str) -> Token:
        """Return a token that may be used now. Raises ReaderError."""
        key = (provider, account)
        return self._core.cache.get(key) or self._fetch(key)

    def is_valid(self, provider: str, account: str) -> bool:
        """Return whether `get` returns a token. Raises Unavailable or Rejected if that can't be found out."""
        try:
            self.get(provider, account)
        except UNUSABLE:
            return False
        return True

    def refused(self, token: Token) -> Token:
        """Return the token that replaces `token`, which got a 401 from the provider. Raises ReaderError.

        refreshd renews early once for each version of a token, however many callers ask for it.
        """
        core = self._core
        newer = core.newer_than(token)
        if newer is not None:
            return newer
        flight = (token.provider, token.account, token.version)
        future, first = core.board(flight)
        if first:
            core.fly(flight, flight[:2], future, lambda: core.transport.refused(token))
        return future.result()

    def store(
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
        try:
            return self._core.transport.store(provider, account, grant)
        finally:
            self._core.forget((provider, account))

    def remove(self, provider: str, account: str, *, revoke: bool = True) -> Ending:
        """Remove the token; with `revoke` the daemon first revokes the grant at the provider. HTTP only."""
        try:
            return self._core.transport.remove(provider, account, revoke=revoke)
        finally:
            self._core.forget((provider, account))

    def remove_all(self, subject: str, *, revoke: bool = True) -> list[Ending]:
        """Remove all tokens of one user that this access key may see. HTTP only."""
        try:
            return self._core.transport.remove_all(subject, revoke=revoke)
        finally:
            self._core.forget()

    def connect(
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
        return self._core.transport.connect(wish)

    def complete(self, consent: str, connect_code: str, verifier: str) -> Consent:
        """Complete a consent with the `connect_code` that the browser has brought, and the verifier of its session.

        The token is stored if the result is done. Otherwise a daemon is still busy: ask `consent` later. Raises
        ConsentFailed or another ReaderError.
        """
        try:
            return self._core.transport.complete(consent, connect_code, verifier)
        finally:
            self._core.forget()

    def consent(self, consent: str) -> Consent:
        """Return what has become of a consent. Raises ReaderError."""
        return self._core.transport.consent(consent)

    def close(self) -> None:
        """Close the connections. The instance can be used again, and opens new ones."""
        self._core.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fetch(self, key: Key) -> Token:
        core = self._core
        request = core.reading_of(key)
        flight: Flight = key
        future: Future[Token]
        future, first = core.board(flight)
        if first:
            core.fly(flight, key, future, request)
        return future.result()
