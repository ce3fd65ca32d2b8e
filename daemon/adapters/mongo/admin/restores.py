"""The store as a restore fills it. What was read is compared and swapped, so that nothing newer is replaced."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING, InsertOne, ReplaceOne
from pymongo.errors import PyMongoError

from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.adapters.mongo.admin.access_keys import as_restored
from daemon.adapters.mongo.admin.backups import beside
from daemon.adapters.mongo.admin.contents import shown
from daemon.adapters.mongo.admin.document_lines import RAW, Document, document_of, encoded
from daemon.adapters.mongo.admin.revocations import ORDER, UNDO
from daemon.adapters.mongo.bulk import refusals
from daemon.adapters.mongo.connection import EPOCH, Mongo
from daemon.adapters.mongo.index_build import build
from daemon.adapters.mongo.indexes import GRANT_INDEX
from daemon.adapters.mongo.stored_number import revision_after, whole
from daemon.adapters.mongo.token_changes import failure_document
from daemon.adapters.mongo.token_document import doubt_of, failure_of
from daemon.adapters.mongo.token_events import NONE_WAITING
from daemon.adapters.mongo.tombstones import revoked_grants
from daemon.domain.backup import (
    MAYBE_SPENT,
    Archived,
    ArchivedToken,
    Standing,
    Stored,
    Version,
    Write,
)
from daemon.domain.claim import StoreLost
from daemon.domain.token import Failure, FailureKind, State

_SEALED_FIELDS = ("refresh_token", "access_token")


class MongoRestoreTarget:
    """Implements `migrating.backup_ports.RestoreTarget`."""

    def __init__(self, mongo: Mongo, keyring: KeyRing) -> None:
        self._mongo = mongo
        self._keyring = keyring

    async def is_empty(self) -> bool:
        return await self._mongo.guarded(self._mongo.tokens.find_one({}, {"_id": 1})) is None

    async def prepare(self) -> None:
        """Create the index of the fingerprints. A login without this privilege restores slowly."""
        await build(self._mongo, self._mongo.tokens, [GRANT_INDEX])

    def opens(self, line: bytes) -> Mapping[str, bool]:
        document = document_of(line)
        found: dict[str, bool] = {}
        for name in _SEALED_FIELDS:
            sealed = document.get(name)
            parts = sealed.split(".") if isinstance(sealed, str) else []
            if len(parts) == 3 and parts[0] == "v1" and parts[1] in self._keyring.ids:
                opened = self._opened(document, name) is not None
                found[parts[1]] = found.get(parts[1], False) or opened
        return found

    def read(self, lines: Sequence[bytes]) -> Sequence[Archived]:
        documents = [document_of(line) for line in lines]
        return [Archived(id=shown(one["_id"]), document=one, token=self._token(one)) for one in documents]

    async def stored(self, archived: Sequence[Archived]) -> Sequence[Stored]:
        """Return how the stored documents compare. Types count: a different number type is different content."""
        documents = [_document(one) for one in archived]
        query = {"_id": {"$in": [one["_id"] for one in documents]}}
        tokens = self._mongo.tokens.with_options(codec_options=RAW)
        rows = await self._mongo.guarded(tokens.find(query).to_list())
        found = {_key(row["_id"]): row for row in rows}
        return [_compared(one, found.get(_key(one["_id"]))) for one in documents]

    async def holders(self, tokens: Sequence[ArchivedToken]) -> Mapping[str, str]:
        prints = [print_ for token in tokens for print_ in token.fingerprints]
        # The type is named so that MongoDB can use the partial index.
        query = {"grant_fingerprint": {"$in": prints, "$type": "string"}}
        rows = await self._mongo.guarded(self._mongo.tokens.find(query, {"grant_fingerprint": 1}).to_list())
        return {str(row["grant_fingerprint"]): shown(row["_id"]) for row in rows}

    async def ended(self, tokens: Sequence[ArchivedToken], *, since: datetime) -> Mapping[str, str]:
        prints = [print_ for token in tokens for print_ in token.fingerprints]
        tombstones = await revoked_grants(self._mongo, prints)
        ended = {
            token.id: tombstones[print_]
            for token in tokens
            for print_ in token.fingerprints
            if print_ in tombstones
        }
        ids = [token.id for token in tokens if token.state != State.REVOKED]
        rows = await self._mongo.guarded(self._mongo.tokens.find({"_id": {"$in": ids}}, {"_id": 1}).to_list())
        missing = sorted(set(ids) - {str(row["_id"]) for row in rows})
        for name in await self._ordered(missing, since=since):
            ended.setdefault(name, name)
        return ended

    async def _ordered(self, ids: Sequence[str], *, since: datetime) -> Sequence[str]:
        """Return those of `ids` with an order to revoke them after `since` that was not taken back."""
        query = {"token": {"$in": list(ids)}, "action": {"$in": [ORDER, UNDO]}, "at": {"$gte": since}}
        records = self._mongo.audit.find(query, {"token": 1, "action": 1}).sort("at", ASCENDING)
        last = {str(row["token"]): row["action"] for row in await self._mongo.guarded(records.to_list())}
        return [name for name, action in last.items() if action == ORDER]

    async def write(self, writes: Sequence[Write]) -> Mapping[int, str | None]:
        operations = [self._operation(one) for one in writes]
        whys: Mapping[int, str] = {}
        try:
            await self._mongo.tokens.bulk_write(operations, ordered=False)
        except PyMongoError as error:
            found = refusals(error)
            if found is None:
                raise self._mongo.lost(error) from None
            whys = found
        self._mongo.seen()
        doubtful = sorted({*whys, *(place for place, one in enumerate(writes) if one.over is not None)})
        after = await self.stored([writes[place].archived for place in doubtful]) if doubtful else []
        unwritten: dict[int, str | None] = {}
        for place, stored in zip(doubtful, after, strict=True):
            if stored.standing is Standing.KEPT:
                unwritten[place] = None
            elif stored.standing in (Standing.MISSING, Standing.OLDER):
                unwritten[place] = whys.get(place)
        return unwritten

    async def add_missing(self, suffix: str, lines: Sequence[bytes], *, dry_run: bool) -> int:
        collection = beside(self._mongo, suffix)
        documents = [document_of(line) for line in lines]
        query = {"_id": {"$in": [one["_id"] for one in documents]}}
        rows = await self._mongo.guarded(collection.find(query, {"_id": 1}).to_list())
        found = {_key(row["_id"]) for row in rows}
        absent: Sequence[Any] = [one for one in documents if _key(one["_id"]) not in found]
        if collection.name == self._mongo.access.name:
            absent = await as_restored(self._mongo, absent)
        if collection.name == self._mongo.outbox.name:
            # What waits may have been sent since the backup: an operator lets it go, with `refreshd hooks release`.
            absent = [{**one, "held": self._mongo.clock.now()} for one in absent]
        missing: list[Any] = [InsertOne(one) for one in absent]
        if dry_run or not missing:
            return len(missing)
        try:
            await collection.bulk_write(missing, ordered=False)
        except PyMongoError as error:
            whys = refusals(error)
            if whys is None:
                raise self._mongo.lost(error) from None
            why = next(iter(whys.values()))
            raise StoreLost(f"MongoDB refuses documents of {collection.name}: {why}") from None
        self._mongo.seen()
        return len(missing)

    # ---------------------------------------------------------------- the parts

    def _token(self, document: Mapping[str, Any]) -> ArchivedToken | None:
        name, provider = document["_id"], document.get("provider")
        if not isinstance(name, str) or not isinstance(provider, str):
            return None
        state, grant = document.get("state"), document.get("grant")
        failure, due_at = failure_of(document), _date(document.get("due_at"))
        usable = due_at is not None and due_at > EPOCH
        withheld = failure is not None and failure.kind is FailureKind.UNPARSED
        return ArchivedToken(
            id=name,
            provider=provider,
            state=state if isinstance(state, str) else None,
            grant=grant if isinstance(grant, str) else "refresh_token",
            has_refresh_token=isinstance(document.get("refresh_token"), str),
            due_at=due_at if usable else None,
            undated=state == State.ACTIVE and not usable and not withheld,
            asked_at=_asked_at(document),
            version=_version(document),
            fingerprints=self._fingerprints(document),
        )

    def _fingerprints(self, document: Mapping[str, Any]) -> frozenset[str]:
        """Return the fingerprints of the refresh token; the stored one only, if the ring doesn't open it."""
        written = document.get("grant_fingerprint")
        prints = {written} if type(written) is str else set()  # code is a str that no set can hold
        opened = self._opened(document, "refresh_token")
        return frozenset(prints if opened is None else {*prints, *self._keyring.fingerprints(opened)})

    def _opened(self, document: Mapping[str, Any], name: str) -> str | None:
        if not isinstance(document["_id"], str):
            return None
        try:
            return self._keyring.open(document.get(name), token_id=document["_id"], field=name)
        except DecryptionError:
            return None

    def _operation(self, one: Write) -> InsertOne[dict[str, object]] | ReplaceOne[dict[str, object]]:
        document: Any = _document(one.archived)
        if one.rest is not None:
            document = _resting(document, one.rest)
        if one.over is None:
            return InsertOne(document)
        unchanged = {"revision": one.over.revision, "updated_at": one.over.updated_at}
        # A replacement would lose the events that wait, and bookkeeping of events changes no revision.
        conditions = {**{name: {"$eq": value} for name, value in unchanged.items()}, **NONE_WAITING}
        return ReplaceOne({"_id": {"$eq": document["_id"]}, **conditions}, document)


def _document(one: Archived) -> Document:
    if not isinstance(one.document, dict | RawBSONDocument):
        raise TypeError("not a document that `read` returned")
    return one.document


def _resting(document: Mapping[str, Any], why: Failure) -> dict[str, Any]:
    """Return the document as it is stored while it rests. One that has no revision yet gets none: the daemon fills in
    what its application left out when it first sees it.
    """
    rested = {
        **document,
        "state": State.PAUSED.value,
        "due_at": None,
        "last_failure": failure_document(why),
        "updated_at": why.at,
    }
    revision = _version(document).revision
    return rested if revision is None else {**rested, "revision": revision_after(revision)}


def _compared(archived: Document, stored: RawBSONDocument | None) -> Stored:
    if stored is None:
        return Stored(standing=Standing.MISSING, version=Version(revision=None, updated_at=None))
    version = _version(stored)
    if encoded(archived) == bytes(stored.raw):
        return Stored(standing=Standing.EQUAL, version=version)
    if _rests(archived, stored):
        return Stored(standing=Standing.RESTING, version=version)
    older = version.precedes(_version(archived))
    return Stored(standing=Standing.OLDER if older else Standing.KEPT, version=version)


def _rests(archived: Mapping[str, Any], stored: Mapping[str, Any]) -> bool:
    """Return whether the stored document is what a restore made of the archived one."""
    failure = failure_of(stored)
    return (
        stored.get("state") == State.PAUSED
        and failure is not None
        and failure.code == MAYBE_SPENT
        and archived.get("state") == State.ACTIVE
        and stored.get("refresh_token") == archived.get("refresh_token")
    )


def _key(name: object) -> bytes:
    """Return an `_id` as something that can be compared, whatever its type is."""
    return bson.encode({"_id": name})


def _version(document: Mapping[str, Any]) -> Version:
    return Version(revision=whole(document.get("revision")), updated_at=_date(document.get("updated_at")))


def _date(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None


def _asked_at(document: Mapping[str, Any]) -> datetime | None:
    """Return the start of the first request whose result the document does not have."""
    doubt, lease = doubt_of(document), document.get("lease")
    begun = [] if doubt is None else [doubt.since]
    if isinstance(lease, Mapping) and lease.get("claim") is not None:
        begun.append(_date(lease.get("since")) or EPOCH)
    return min(begun, default=None)
