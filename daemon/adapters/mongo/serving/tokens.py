"""Stored tokens for the access service: read without their refresh tokens, and made due at a caller's wish."""

from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

from bson.datetime_ms import DatetimeMS

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.document_limits import SHORT_FAILURE, date_or_null, short_text
from daemon.adapters.mongo.resting import resting
from daemon.adapters.mongo.serving.remembered import Remembered
from daemon.adapters.mongo.stored_number import count, counted, whole
from daemon.adapters.mongo.token_document import Document, failure_of, usable
from daemon.domain.known import Known
from daemon.domain.served_token import Refusals, ServedToken, version_of

MOST = 20_000  # tokens in memory, of some two kilobytes each
LARGEST_SEALED = 48 * 1024  # bytes
LARGEST_EXTRA = 16 * 1024  # bytes of `extra`, and of `meta`

_TEXTS = ("provider", "account", "state", "token_type", "subject")
_DATES = ("issued_at", "due_at", "refreshed_at")
_ENDED, _NEVER = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
_OF_UPDATE = "updateDescription.updatedFields"
_UPDATED = {"$objectToArray": {"$ifNull": [f"${_OF_UPDATE}", {}]}}
# A claim writes nothing but the lease, and a use nothing but its time: neither is news for applications.
_RELEVANT = {
    "$or": [
        {f"{_OF_UPDATE}.lease": {"$exists": False}},
        *({f"{_OF_UPDATE}.{name}": {"$exists": True}} for name in ("access_token", "state", "updated_at")),
    ],
    "$nor": [
        {
            f"{_OF_UPDATE}.last_used_at": {"$exists": True},
            "updateDescription.removedFields": {"$size": 0},
            "$expr": {"$eq": [{"$size": _UPDATED}, 1]},
        }
    ],
}


def bounded(path: str, kind: str, size: int) -> Mapping[str, object]:
    """Return the value at `path` if it is of this kind and has at most `size` bytes, else null."""
    measure = {"$strLenBytes": path} if kind == "string" else {"$bsonSize": path}
    small = {"$cond": [{"$lte": [measure, size]}, path, None]}
    return {"$cond": [{"$eq": [{"$type": path}, kind]}, small, None]}


# Other programs write documents too: whatever they hold, no more than this is fetched.
FIELDS: Mapping[str, object] = {
    **{name: short_text(f"${name}") for name in _TEXTS},
    **{name: date_or_null(f"${name}") for name in _DATES},
    # A text in place of the date is not fetched, but must not pass for "never".
    "expires_at": {
        "$cond": [{"$in": [{"$type": "$expires_at"}, ["date", "null", "missing"]]}, "$expires_at", "invalid"]
    },
    "scope": bounded("$scope", "string", LARGEST_EXTRA),
    "access_token": bounded("$access_token", "string", LARGEST_SEALED),
    "extra": bounded("$extra", "object", LARGEST_EXTRA),
    "meta": bounded("$meta", "object", LARGEST_EXTRA),
    "missing_scopes": {"$cond": [{"$isArray": "$missing_scopes"}, {"$slice": ["$missing_scopes", 100]}, []]},
    "failures": counted("$failures"),
    "revision": {"$cond": [{"$isNumber": "$revision"}, "$revision", None]},
    "last_failure": {"$cond": [{"$eq": [{"$type": "$last_failure"}, "object"]}, SHORT_FAILURE, None]},
    "refused": bounded("$refused", "object", 1024),
}


class ServedTokens:
    """Implements `serving.ports.Tokens`."""

    def __init__(
        self, mongo: Mongo, *, offline_for: timedelta, without_streams: Callable[[str], None]
    ) -> None:
        """`without_streams` receives the reason, once, if MongoDB offers no change streams."""
        self._mongo = mongo
        self._remembered = Remembered(
            mongo,
            lambda: mongo.tokens,
            fields=FIELDS,
            parse=served_token,
            most=MOST,
            offline_for=offline_for,
            without_streams=without_streams,
            relevant=_RELEVANT,
        )
        self.watch = self._remembered.watch
        self.forget = self._remembered.forget

    async def find(self, token: str) -> Known[ServedToken]:
        return Known(*await self._remembered.find(token))

    def watching(self, token: str) -> AbstractContextManager[Callable[[], Coroutine[None, None, None]]]:
        return self._remembered.watching(token)

    async def wish(self, token: ServedToken, refusals: Refusals | None) -> None:
        """Make the token due now, unless it has changed: then somebody has renewed it or is about to."""
        now = self._mongo.clock.now()
        unchanged = {
            "_id": token.id,
            "access_token": {"$eq": token.sealed},
            "state": "active",
            "due_at": {"$gt": now},
            "$expr": {"$eq": [counted("$failures"), 0]},  # as it was read
        }
        wish: dict[str, object] = {"due_at": now}
        if refusals is not None:
            wish["refused"] = {
                "version": refusals.version,
                "at": refusals.at,
                "count": refusals.count,
                "usual": refusals.usual,
            }
        await self._mongo.guarded(self._mongo.tokens.update_one(unchanged, {"$set": wish}))
        self.forget(token.id)

    async def is_resting(self, provider: str) -> bool:
        return provider in await resting(self._mongo, above_all=[provider])


def served_token(document: Document) -> ServedToken:
    """Return the token in a document of any content. What has an unexpected type counts as missing."""
    sealed = document.get("access_token")
    sealed = sealed if isinstance(sealed, str) else None
    failures = document.get("failures")
    revision = document.get("revision")
    missing = document.get("missing_scopes")
    extra = document.get("extra")
    return ServedToken(
        id=str(document["_id"]),
        provider=_text(document, "provider") or "",
        account=_text(document, "account") or "",
        state=_text(document, "state") or "",
        sealed=sealed,
        version=version_of(sealed) if sealed is not None else None,
        token_type=_text(document, "token_type"),
        scope=_text(document, "scope"),
        missing_scopes=tuple(one for one in missing if isinstance(one, str))
        if isinstance(missing, list)
        else (),
        issued_at=date(document, "issued_at"),
        expires_at=_end(document.get("expires_at")),
        due_at=date(document, "due_at"),
        refreshed_at=date(document, "refreshed_at"),
        failures=count(failures),
        last_failure=failure_of(document),
        revision=whole(revision),
        subject=_text(document, "subject"),
        selected=_selected(document),
        extra=dict(extra) if isinstance(extra, Mapping) else {},
        refusals=_refusals(document.get("refused")),
    )


def _selected(document: Document) -> dict[str, str]:
    """Return the fields that selectors look at. Only texts can be selected."""
    meta, subject = document.get("meta"), document.get("subject")
    fields = {f"meta.{name}": text for name, text in meta.items()} if isinstance(meta, Mapping) else {}
    return {name: text for name, text in {**fields, "subject": subject}.items() if isinstance(text, str)}


def _refusals(stored: object) -> Refusals | None:
    if not isinstance(stored, Mapping):
        return None
    version, at = stored.get("version"), date(stored, "at")
    if not isinstance(version, str) or at is None:
        return None
    times = max(count(stored.get("count")), 1)  # it was refused once, whatever number stands there
    return Refusals(version=version, at=at, count=times, usual=date(stored, "usual"))


def _end(value: object) -> datetime | None:
    """Return the end of an access token. A value that isn't a date counts as past, and a date after the calendar as its end."""
    if value is None or isinstance(value, datetime):
        return value
    return _NEVER if isinstance(value, DatetimeMS) and int(value) > 0 else _ENDED


def _text(document: Document, name: str) -> str | None:
    value = document.get(name)
    return value if isinstance(value, str) else None


def date(document: Document, name: str) -> datetime | None:
    """Return the date in a field, within the calendar so that sums don't overflow, or None if it holds anything else."""
    value = document.get(name)
    return usable(value) if isinstance(value, datetime) else None
