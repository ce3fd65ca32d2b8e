"""Tokens from refreshd's MongoDB collection. This needs the packages pymongo and cryptography (extra `mongodb`)."""

import base64
import hashlib
import threading
import time
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

from refreshd_reader.consent import Wish
from refreshd_reader.errors import (
    Ending,
    Expired,
    NeedsReauth,
    NotConnected,
    NotSupported,
    Paused,
    Rejected,
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
    "failures": 1,
    "refused": 1,
    "token_type": 1,
    "scope": 1,
    "missing_scopes": 1,
    "extra": 1,
    "subject": 1,
    "now": "$$NOW",  # MongoDB's clock decides what is past, not this machine's
}
_SWEEP = 15.0  # seconds between two sweeps of the daemon, by default
_LOOK_AGAIN = 1.0  # seconds between two looks at a token that is being renewed
# The bounds of `refreshd serve` for early renewals:
_LEAST_APART = timedelta(seconds=10)  # of two renewals
_REFUSALS_APART = timedelta(
    seconds=60
)  # of two renewals that were requested after a 401, or a tenth of the lifetime
_MOST_IN_A_ROW = 3


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

    def read(self, provider: str, account: str) -> Reading:
        """Return the stored token, if it may be used."""
        token_id = f"{provider}:{account}"
        return self._reading(provider, account, self._find(token_id))

    def refused(self, token: Token) -> Reading:
        """Make the token due now, if `refreshd serve` would do so too, and wait for another version."""
        stored = self._find(token.id)
        reading = self._reading(token.provider, token.account, stored)
        if reading.token.version != token.version:
            return reading
        wish = wish_for(token, stored)
        if wish is not None:
            self._request_renewal(token.id, stored, wish)
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

    def connect(self, wish: Wish) -> NoReturn:
        """Only refreshd's access service has links for browsers."""
        raise NotSupported(
            f"{wish.provider}:{wish.account}: to connect an account, use refreshd serve (REFRESHD_URL)"
        )

    def complete(self, consent: str, connect_code: str, verifier: str) -> NoReturn:
        """Only refreshd's access service completes consents."""
        raise NotSupported(f"consent {consent}: to complete it, use refreshd serve (REFRESHD_URL)")

    def consent(self, consent: str) -> NoReturn:
        """Only refreshd's access service shows consents."""
        raise NotSupported(f"consent {consent}: to follow it, use refreshd serve (REFRESHD_URL)")

    def forked(self) -> None:
        """Leave the parent's client to the parent."""
        self._lock = threading.Lock()
        self._client = None
        self._keys.forked()

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
            case "revoking" | "revoked" | "removed":
                raise NotConnected(f"{token_id}: removed")
            case _:
                raise Unavailable(f"{token_id}: its state is one that this version can't read")
        now, expires_at, sealed = stored["now"], stored.get("expires_at"), stored.get("access_token")
        if expires_at is not None and not isinstance(expires_at, datetime):
            raise Unavailable(f"{token_id}: its expires_at is not a date")
        if expires_at is not None and expires_at <= now and stored.get("due_at") is None:
            raise NeedsReauth(f"{token_id}: expired, and refreshd can't renew it")
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

    def _request_renewal(self, token_id: str, stored: Document, wish: Document) -> None:
        """Write the wish, unless the token has changed: then it was renewed already, or will be."""
        unchanged = {
            "_id": token_id,
            "access_token": stored["access_token"],
            "state": "active",
            "failures": {"$in": [0, None]},
            "due_at": {"$gt": stored["now"]},
        }
        try:
            with pymongo.timeout(self._timeout):
                self._tokens().update_one(unchanged, {"$set": wish})
        except PyMongoError as error:
            raise Unavailable(f"MongoDB: {type(error).__name__}") from None

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


def wish_for(token: Token, stored: Mapping[str, Any]) -> Document | None:
    """Return the fields that make a refused token due now, or None if it is due already.

    The bounds are those of `refreshd serve`, and are stored with the token: so they hold for all applications
    together. Raises Expired if it is too early for another renewal, and Rejected after several refusals in a row.
    """
    now, due_at = stored["now"], _date(stored, "due_at")
    if due_at is None or stored.get("failures"):
        raise Expired(f"{token.id}: its last renewal failed", retry_after=_until_due(stored))
    before = stored.get("refused")
    before = before if isinstance(before, dict) else {}
    if due_at <= now or before.get("version") == token.version:
        return None
    refreshed_at, last, usual = _date(stored, "refreshed_at"), _date(before, "at"), _date(before, "usual")
    came_early = usual is None or refreshed_at is None or refreshed_at < usual
    count = _times(before.get("count")) + 1 if last is not None and came_early else 1
    free = max(
        now if refreshed_at is None else refreshed_at + _LEAST_APART,
        now if last is None else last + _gap(stored),
    )
    if count > _MOST_IN_A_ROW:
        message = f"{token.id}: the provider refuses its new access tokens too, so they are not the cause"
        raise Rejected(message, problem="refused-again", status=409)
    if free > now:
        raise Expired(f"{token.id}: renewed just now", retry_after=(free - now).total_seconds())
    refused = {"version": token.version, "at": now, "count": count, "usual": due_at}
    return {"due_at": now, "refused": refused}


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


def _times(count: object) -> int:
    """Return how often a token was refused in a row. It was once, whatever number another program has stored."""
    return int(min(count, _MOST_IN_A_ROW)) if isinstance(count, int | float) and count > 1 else 1


def _gap(stored: Mapping[str, Any]) -> timedelta:
    """Return the time between two early renewals: a tenth of the lifetime, and at least a minute."""
    issued_at, expires_at = stored.get("issued_at"), stored.get("expires_at")
    if isinstance(issued_at, datetime) and isinstance(expires_at, datetime):
        return max(_REFUSALS_APART, (expires_at - issued_at) / 10)
    return _REFUSALS_APART


def _until_due(stored: Mapping[str, Any]) -> float:
    """Return the seconds until the daemon tries again, as far as the document says."""
    due_at = stored.get("due_at")
    left = (due_at - stored["now"]).total_seconds() if isinstance(due_at, datetime) else 0.0
    return max(_SWEEP, left)


def _date(stored: Mapping[str, Any], name: str) -> datetime | None:
    value = stored.get(name)
    return value if isinstance(value, datetime) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
