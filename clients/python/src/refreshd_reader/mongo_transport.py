"""Tokens from refreshd's MongoDB collection. This needs the packages pymongo and cryptography (extra `mongodb`)."""

import base64
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote

import pymongo
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from pymongo import MongoClient, ReadPreference, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from refreshd_reader.errors import (
    Ending,
    Expired,
    NeedsReauth,
    NotConnected,
    NotSupported,
    Paused,
    Unavailable,
)
from refreshd_reader.sealing import ReaderKeys
from refreshd_reader.token import Token
from refreshd_reader.transport import Grant, Reading

Document = dict[str, Any]

DATABASE = "refreshd"
_MONGODBS_OWN = frozenset({"admin", "local", "config"})
_FIELDS = {
    "state": 1,
    "access_token": 1,
    "issued_at": 1,
    "expires_at": 1,
    "refreshed_at": 1,
    "due_at": 1,
    "token_type": 1,
    "scope": 1,
    "missing_scopes": 1,
    "extra": 1,
    "subject": 1,
    "now": "$$NOW",  # MongoDB's clock decides what is past, not this machine's
}
_SWEEP = 15.0  # seconds between two sweeps of the daemon, by default
_LOOK_AGAIN = 1.0  # seconds between two looks at a token that is being renewed
_SHORTEST_REFUSAL = timedelta(seconds=60)
_SETTLED = timedelta(seconds=10)  # a token this new isn't renewed again
_REFUSALS = 10_000  # of which this process remembers the last ones


class MongoTransport:
    """Reads sealed tokens, and requests early renewals. It can't store or remove tokens."""

    def __init__(
        self,
        uri: str,
        readers: Path,
        *,
        database: str | None = None,
        collection: str = "tokens",
        wait: float = 20.0,
        timeout: float = 10.0,
    ) -> None:
        self._uri, self._keys = uri, ReaderKeys(readers)
        self._database, self._collection = database or database_of(uri), collection
        self._wait, self._timeout = wait, timeout
        self._client: MongoClient[Document] | None = None
        self._lock = threading.Lock()
        self._refusals = _Refusals()

    def read(self, provider: str, account: str) -> Reading:
        """Return the stored token, if it may be used."""
        token_id = f"{provider}:{account}"
        return self._reading(provider, account, self._find(token_id))

    def refused(self, token: Token) -> Reading:
        """Make the token due now, at most as often as `refreshd serve` would, and wait for another version."""
        stored = self._find(token.id)
        reading = self._reading(token.provider, token.account, stored)
        if reading.token.version != token.version:
            return reading
        rest = self._refusals.rest(token.id, _gap(stored))
        if rest > 0:
            raise Expired(
                f"{token.id}: refused again soon after a renewal that was requested", retry_after=rest
            )
        if self._request_renewal(token.id, stored):
            self._refusals.note(token.id)
        return self._wait_for_another(token)

    def store(self, provider: str, account: str, grant: Grant) -> NoReturn:
        """MongoDB alone can't do this: it would need writer keys."""
        raise NotSupported(f"{provider}:{account}: to store a token, use refreshd serve (REFRESHD_URL)")

    def remove(self, provider: str, account: str, *, revoke: bool) -> NoReturn:
        """Only the daemon removes tokens."""
        raise NotSupported(f"{provider}:{account}: to remove a token, use refreshd serve (REFRESHD_URL)")

    def remove_all(self, subject: str, *, revoke: bool) -> list[Ending]:
        """Only the daemon removes tokens."""
        raise NotSupported(f"subject {subject!r}: to remove tokens, use refreshd serve (REFRESHD_URL)")

    def forked(self) -> None:
        """Leave the parent's client to the parent."""
        self._lock = threading.Lock()
        self._client = None
        self._keys.forked()
        self._refusals.forked()

    def close(self) -> None:
        """Close the client. The next request opens another one."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _tokens(self) -> Collection[Document]:
        with self._lock:
            if self._client is None:
                self._client = MongoClient(self._uri, appname="refreshd-reader")
            client = self._client
        return client[self._database].get_collection(
            self._collection,
            codec_options=CodecOptions(tz_aware=True),
            read_preference=ReadPreference.PRIMARY,  # a secondary may still hold the token of before
            write_concern=WriteConcern("majority"),
        )

    def _find(self, token_id: str) -> Document:
        try:
            with pymongo.timeout(self._timeout):
                found = self._tokens().find_one({"_id": token_id}, _FIELDS)
        except (PyMongoError, BSONError) as error:
            raise Unavailable(f"MongoDB: {type(error).__name__}") from None
        if found is None:
            raise NotConnected(f"{token_id}: not stored")
        return found

    def _reading(self, provider: str, account: str, stored: Mapping[str, Any]) -> Reading:
        token_id = f"{provider}:{account}"
        match stored.get("state"):
            case "active":
                pass
            case "needs_reauth":
                raise NeedsReauth(f"{token_id}: the customer has to connect again")
            case "paused":
                raise Paused(f"{token_id}: paused")
            case "revoking" | "revoked":
                raise NotConnected(f"{token_id}: removed")
            case _:
                raise Unavailable(f"{token_id}: its state is one that this version can't read")
        now, expires_at, sealed = stored["now"], stored.get("expires_at"), stored.get("access_token")
        if expires_at is not None and not isinstance(expires_at, datetime):
            raise Unavailable(f"{token_id}: its expires_at is no date")
        if expires_at is not None and expires_at <= now:
            raise Expired(f"{token_id}: expired, and refreshd is renewing it", retry_after=_until_due(stored))
        extra = stored.get("extra")
        token = Token(
            provider=provider,
            account=account,
            access_token=self._keys.open(sealed, token_id),
            version=version_of(str(sealed)),
            expires_at=expires_at,
            token_type=_text(stored.get("token_type")) or "Bearer",
            scope=_text(stored.get("scope")),
            missing_scopes=tuple(map(str, stored.get("missing_scopes") or ())),
            extra=extra if isinstance(extra, dict) else None,
            subject=_text(stored.get("subject")),
        )
        return Reading(token, None if expires_at is None else (expires_at - now).total_seconds())

    def _request_renewal(self, token_id: str, stored: Mapping[str, Any]) -> bool:
        """Set `due_at` to now, only where this very text still stands and the daemon has no failure to wait for."""
        now = stored["now"]
        refused = {
            "_id": token_id,
            "state": "active",
            "access_token": stored["access_token"],
            "last_failure": None,
            "due_at": {"$gt": now},
            "$or": [{"refreshed_at": None}, {"refreshed_at": {"$lt": now - _SETTLED}}],
        }
        try:
            with pymongo.timeout(self._timeout):
                done = self._tokens().update_one(refused, {"$set": {"due_at": now}})
        except PyMongoError as error:
            raise Unavailable(f"MongoDB: {type(error).__name__}") from None
        return done.modified_count > 0

    def _wait_for_another(self, token: Token) -> Reading:
        give_up = time.monotonic() + self._wait
        while True:
            stored = self._find(token.id)
            reading = self._reading(token.provider, token.account, stored)
            if reading.token.version != token.version:
                return reading
            if time.monotonic() + _LOOK_AGAIN > give_up:
                raise Expired(f"{token.id}: not renewed yet", retry_after=_until_due(stored))
            time.sleep(_LOOK_AGAIN)


class _Refusals:
    """When this process last requested an early renewal of which token."""

    def __init__(self) -> None:
        self._at: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def rest(self, token_id: str, gap: timedelta) -> float:
        """Return the seconds until the next request for this token is allowed."""
        with self._lock:
            at = self._at.get(token_id)
        return 0.0 if at is None else at + gap.total_seconds() - time.monotonic()

    def note(self, token_id: str) -> None:
        with self._lock:
            self._at.pop(token_id, None)
            self._at[token_id] = time.monotonic()
            if len(self._at) > _REFUSALS:
                self._at.popitem(last=False)

    def forked(self) -> None:
        self._lock = threading.Lock()


def version_of(sealed: str) -> str:
    """Return the version, which changes exactly when the token does."""
    return base64.urlsafe_b64encode(hashlib.sha256(sealed.encode()).digest()).decode()[:22]


def database_of(uri: str) -> str:
    """Return the database in the path of the URI, unless it is one of MongoDB's own; else `refreshd`."""
    found = (
        parse_uri(uri, validate=False)["database"] if "+srv" not in uri.partition(":")[0] else _path_of(uri)
    )
    return found if found and found not in _MONGODBS_OWN else DATABASE


def _path_of(uri: str) -> str | None:
    """Return the path without asking the DNS, as `parse_uri` would for mongodb+srv."""
    return unquote(uri.partition("://")[2].partition("/")[2].partition("?")[0]) or None


def _gap(stored: Mapping[str, Any]) -> timedelta:
    """Return the time between two early renewals: a tenth of the lifetime, and at least a minute."""
    issued_at, expires_at = stored.get("issued_at"), stored.get("expires_at")
    if isinstance(issued_at, datetime) and isinstance(expires_at, datetime):
        return max(_SHORTEST_REFUSAL, (expires_at - issued_at) / 10)
    return _SHORTEST_REFUSAL


def _until_due(stored: Mapping[str, Any]) -> float:
    """Return the seconds until the daemon tries again, as far as the document says."""
    due_at = stored.get("due_at")
    left = (due_at - stored["now"]).total_seconds() if isinstance(due_at, datetime) else 0.0
    return max(_SWEEP, left)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
