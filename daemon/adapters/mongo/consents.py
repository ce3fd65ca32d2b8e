"""Consent requests: authorization codes that wait for a daemon, in a collection of their own.

Each state is left by one conditional update, so a code is presented by one instance only. Other processes write these
documents too, so no type is assumed. A user without the rights on this collection has no consents, and all else goes on.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from pymongo import ASCENDING, ReturnDocument

from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.adapters.mongo.connection import Mongo, Refusal
from daemon.adapters.mongo.device_codes import (
    POLLED,
    UNANSWERED,
    interval_of,
    is_repeatable,
    kind_of,
    polled_before,
    waiting_again,
)
from daemon.domain.claim import StoreLost
from daemon.domain.consent_request import (
    ABANDONED_AFTER,
    ConsentFailure,
    ConsentFailureKind,
    ConsentKind,
    ConsentProgress,
    ConsentRequest,
    ConsentResult,
    ConsentState,
    Malformed,
    Waiting,
    is_identified,
)
from daemon.domain.secret import Secret
from daemon.domain.subject import fault_of_subject
from daemon.domain.token import token_id

EXPIRED = ConsentFailure(kind=ConsentFailureKind.EXPIRED, message="no daemon took the code in time")
MOST_WAITING = 256  # requests of one look
_LARGEST = 64 * 1024  # bytes of one document
_LONGEST_ID = 200  # characters
_LONGEST_MESSAGE = 300
_CODES = ("code", "code_verifier")
# What other processes write is bounded before it is fetched.
_SMALL = {"$expr": {"$lte": [{"$bsonSize": "$$ROOT"}, _LARGEST]}}

Document = Mapping[str, object]
Result = TypeVar("Result")


class ConsentsRefused(StoreLost):
    """MongoDB answers, but refuses the use of this collection."""


class MongoConsents:
    """Implements `connecting.ports.Consents` for the instance `owner`. Every method raises StoreLost."""

    def __init__(self, mongo: Mongo, *, owner: str, keyring: Callable[[], KeyRing]) -> None:
        self._mongo = mongo
        self._owner = owner
        self._keyring = keyring

    # ---------------------------------------------------------------- of the process that has the code

    async def insert(self, request: ConsentRequest, *, state_hash: str) -> None:
        """Store a request that waits, with its code sealed."""
        sealed = {
            field: None if secret is None else self._seal(secret, request.id, field)
            for field, secret in (("code", request.code), ("code_verifier", request.code_verifier))
        }
        document: dict[str, object] = {
            "_id": request.id,
            "state": ConsentState.WAITING.value,
            "kind": request.kind.value,
            "provider": request.provider,
            "account": request.account,
            **sealed,
            "nonce": request.nonce,
            "state_hash": state_hash,
            "issuer": request.issuer,
            "redirect_uri": request.redirect_uri,
            "scopes": list(request.scopes),
            "vars": dict(request.vars),
            "subject": request.subject,
            "meta": dict(request.meta),
            "replace": request.replace,
            "interval": request.interval.total_seconds(),
            "poll_at": None,
            "binding": None,
            "lease": None,
            "asked_at": None,
            "failure": None,
            "result": None,
            "created_at": self._mongo.clock.now(),
            "expires_at": request.expires_at,
        }
        await self._tried(self._mongo.consents.insert_one(document))

    async def progress(self, consent: str) -> ConsentProgress | None:
        fields = {"state": 1, "failure": 1, "result": 1, "asked_at": 1}
        query = {"_id": consent, **_SMALL}
        found = await self._tried(self._mongo.consents.find_one(query, fields))
        return None if found is None else _progress_of(found)

    async def withdraw(self, consent: str, failure: ConsentFailure) -> bool:
        """End a request that no daemon has taken. Returns False if one has."""
        return await self._end(consent, ConsentState.WAITING, ConsentState.FAILED, failure=failure)

    # ---------------------------------------------------------------- of the daemon that exchanges it

    async def waiting(self, providers: Collection[str]) -> Sequence[Waiting]:
        now = self._mongo.clock.now()
        query = {
            "state": ConsentState.WAITING.value,
            "provider": {"$in": list(providers)},
            "code": {"$type": "string"},
            "expires_at": {"$gt": now},
            **polled_before(now),
            "_id": {"$type": "string"},
        }
        found = (
            self._mongo.consents.find(query, {"provider": 1})
            .sort([("expires_at", ASCENDING)])
            .limit(MOST_WAITING)
        )
        return _named(await self._tried(found.to_list()))

    async def take(self, consent: str) -> ConsentRequest | Malformed | None:
        now = self._mongo.clock.now()
        query = {
            "_id": consent,
            "state": ConsentState.WAITING.value,
            "code": {"$type": "string"},
            "expires_at": {"$gt": now},
            **polled_before(now),
        }
        taken = {
            "state": ConsentState.ASKED.value,
            "asked_at": now,
            "lease": {"owner": self._owner, "since": now},
        }
        document = await self._tried(
            self._mongo.consents.find_one_and_update(
                query, {"$set": taken}, return_document=ReturnDocument.AFTER
            )
        )
        return None if document is None else self._read(document, with_code=True)

    async def recall(self, consent: str) -> ConsentRequest | None:
        query = {"_id": consent, "state": ConsentState.ASKED.value}
        document = await self._tried(self._mongo.consents.find_one(query))
        if document is None:
            return None
        request = self._read(document, with_code=False)
        return None if isinstance(request, Malformed) else request

    async def done(self, consent: str, result: ConsentResult) -> None:
        fields = {
            "scope": result.scope,
            "missing_scopes": list(result.missing_scopes),
            "expires_at": result.expires_at,
        }
        await self._end(consent, ConsentState.ASKED, ConsentState.DONE, result=fields)

    async def failed(self, consent: str, failure: ConsentFailure) -> None:
        await self._end(consent, ConsentState.ASKED, ConsentState.FAILED, failure=failure)

    async def wait_again(self, consent: str, interval: timedelta | None) -> None:
        query = {"_id": consent, "state": ConsentState.ASKED.value, "kind": ConsentKind.DEVICE.value}
        document = await self._tried(self._mongo.consents.find_one(query, {"interval": 1}))
        if document is None:
            return
        wait = interval_of(document) if interval is None else interval
        fields = waiting_again(wait, self._mongo.clock.now())
        await self._tried(self._mongo.consents.update_one(query, {"$set": fields}))

    async def asked(self) -> Sequence[Waiting]:
        before = self._mongo.clock.now() - ABANDONED_AFTER
        query = {
            "state": ConsentState.ASKED.value,
            "code": {"$type": "string"},
            "_id": {"$type": "string"},
            "$or": [{"lease.owner": self._owner}, {"asked_at": {"$not": {"$gt": before}}}],
        }
        fields = {"provider": 1, "kind": 1, "lease.owner": 1}
        found = self._mongo.consents.find(query, fields).limit(MOST_WAITING)
        return _named(await self._tried(found.to_list()), owner=self._owner)

    async def expire(self) -> None:
        now = self._mongo.clock.now()
        query = {
            "state": ConsentState.WAITING.value,
            "code": {"$type": "string"},
            "expires_at": {"$lte": now},
        }
        conditions: tuple[tuple[Mapping[str, object], ConsentFailure], ...]
        conditions = ((POLLED, UNANSWERED), ({"$nor": [POLLED]}, EXPIRED))
        for condition, why in conditions:
            fields = {**_ended(ConsentState.FAILED, now), "failure": {**_failure_fields(why), "at": now}}
            await self._tried(self._mongo.consents.update_many({**query, **condition}, {"$set": fields}))

    # ----------------------------------------------------------------

    async def _end(
        self,
        consent: str,
        before: ConsentState,
        after: ConsentState,
        *,
        failure: ConsentFailure | None = None,
        result: Mapping[str, object] | None = None,
    ) -> bool:
        """Leave the state `before`, and remove the code. Returns False if the request was in another state."""
        if not before.may_become(after):
            raise ValueError(f"{before} is not followed by {after}")
        now = self._mongo.clock.now()
        fields = {**_ended(after, now), "result": result}
        if failure is not None:
            fields["failure"] = {**_failure_fields(failure), "at": now}
        query = {"_id": consent, "state": before.value}
        done = await self._tried(self._mongo.consents.update_one(query, {"$set": fields}))
        return done.matched_count == 1

    async def _tried(self, work: Awaitable[Result]) -> Result:
        """Return the result of `work`. Raises StoreLost, and ConsentsRefused without reporting a loss of the store."""
        try:
            return await self._mongo.tried(work)
        except Refusal as why:
            raise ConsentsRefused(str(why)) from None

    def _seal(self, secret: Secret, consent: str, field: str) -> str:
        return self._keyring().seal(secret.reveal(), token_id=consent, field=field)

    def _opened(self, document: Document, field: str) -> Secret | None:
        """Return a sealed secret. Raises DecryptionError."""
        sealed = document.get(field)
        if sealed is None:
            return None
        return Secret(self._keyring().open(sealed, token_id=str(document["_id"]), field=field))

    def _read(self, document: Document, *, with_code: bool) -> ConsentRequest | Malformed:
        name = str(document["_id"])
        try:
            code, verifier = (
                (self._opened(document, field) for field in _CODES) if with_code else (None, None)
            )
            return _request_of(document, code, verifier)
        except (_Wrong, DecryptionError) as why:
            return Malformed(id=name, message=str(why))


def _ended(state: ConsentState, now: datetime) -> dict[str, object]:
    """Return the fields of a request that has ended. It needs its code no longer."""
    return {"state": state.value, **dict.fromkeys(_CODES), "ended_at": now}


def _failure_fields(failure: ConsentFailure) -> dict[str, object]:
    return {
        "kind": failure.kind.value,
        "code": failure.named,
        "message": failure.message[:_LONGEST_MESSAGE],
    }


class _Wrong(ValueError):
    """A field has a value that no writer of this version gives it. The text contains no value."""


def _request_of(document: Document, code: Secret | None, verifier: Secret | None) -> ConsentRequest:
    """Return the request in `document`. Raises _Wrong."""
    subject = _text_or_none(document, "subject")
    if subject is not None and fault_of_subject(subject):
        raise _Wrong("subject is not valid")
    scopes = document.get("scopes")
    if not isinstance(scopes, list) or not all(isinstance(one, str) for one in scopes):
        raise _Wrong("scopes is not a list of texts")
    expires_at = document.get("expires_at")
    if not isinstance(expires_at, datetime):
        raise _Wrong("expires_at is not a date")
    request = ConsentRequest(
        id=str(document["_id"]),
        provider=_text(document, "provider"),
        account=_text(document, "account"),
        code=code,
        code_verifier=verifier,
        nonce=_text_or_none(document, "nonce"),
        issuer=_text_or_none(document, "issuer"),
        redirect_uri=_text(document, "redirect_uri"),
        scopes=tuple(scopes),
        vars=_texts(document, "vars"),
        subject=subject,
        meta=_texts(document, "meta"),
        replace=document.get("replace") is True,
        kind=kind_of(document),
        interval=interval_of(document),
        expires_at=expires_at,
    )
    try:
        token_id(request.provider, request.account)
    except ValueError:
        raise _Wrong("provider or account is not valid") from None
    if not is_identified(request):
        raise _Wrong("its fields do not belong to its id: they were changed after it was stored")
    return request


def _text(document: Document, name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or "\ufffd" in value:
        raise _Wrong(f"{name} is not a text")
    return value


def _text_or_none(document: Document, name: str) -> str | None:
    return None if document.get(name) is None else _text(document, name)


def _texts(document: Document, name: str) -> Mapping[str, str]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _Wrong(f"{name} is not an object")
    return {key: _text(value, key) for key in value}


def _named(documents: Sequence[Document], *, owner: str | None = None) -> Sequence[Waiting]:
    """Return the requests. `owner`: the instance that may repeat its own polls."""
    return [
        Waiting(
            id=str(one["_id"]),
            provider=str(one.get("provider")),
            repeatable=owner is not None and is_repeatable(one, owner),
        )
        for one in documents
        if len(str(one["_id"])) <= _LONGEST_ID
    ]


def _progress_of(document: Document) -> ConsentProgress | None:
    """Return the state of a request. An unknown state counts as gone."""
    try:
        state = ConsentState(str(document.get("state")))
    except ValueError:
        return None
    return ConsentProgress(
        state=state,
        asked_before=state is not ConsentState.WAITING or isinstance(document.get("asked_at"), datetime),
        failure=_failure_of(document.get("failure")),
        result=_result_of(document.get("result")),
    )


def _failure_of(stored: object) -> ConsentFailure | None:
    if not isinstance(stored, Mapping):
        return None
    kind, code, message = (str(stored.get(name) or "") for name in ("kind", "code", "message"))
    known = kind in frozenset(ConsentFailureKind)
    return ConsentFailure(
        kind=ConsentFailureKind(kind) if known else ConsentFailureKind.UNREADABLE,
        code=code[:_LONGEST_MESSAGE],
        message=message[:_LONGEST_MESSAGE],
    )


def _result_of(stored: object) -> ConsentResult | None:
    if not isinstance(stored, Mapping):
        return None
    scope, missing, expires_at = (stored.get(name) for name in ("scope", "missing_scopes", "expires_at"))
    return ConsentResult(
        scope=scope if isinstance(scope, str) else None,
        missing_scopes=tuple(one for one in missing if isinstance(one, str))
        if isinstance(missing, list)
        else (),
        expires_at=expires_at if isinstance(expires_at, datetime) else None,
    )
