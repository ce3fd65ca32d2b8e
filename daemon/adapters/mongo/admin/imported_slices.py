"""Imported tokens that become active, slice by slice, and that are taken back.

Every write compares and swaps, and its result is what a reading by a majority finds afterwards.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from pymongo.errors import PyMongoError

from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.adapters.mongo.admin.consents import Fields, next_revision, same
from daemon.adapters.mongo.admin.imported_documents import (
    BATCH,
    CHANGED,
    IDLE,
    IMPORTED,
    ORIGIN,
    ImportedDocuments,
    origin_of,
    swap,
    version_of,
)
from daemon.adapters.mongo.bulk import Update, update_where
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.document_limits import NAMED
from daemon.adapters.mongo.index_build import index_grants
from daemon.adapters.mongo.token_document import CLAIMED_FIELDS, Document, InvalidDocument, token_of
from daemon.adapters.mongo.token_events import NEXT_REVISION
from daemon.domain.moving import Candidate, Due, InFlight, Standing, Waiting
from daemon.domain.token import State

_OPENED = {**ORIGIN, **CLAIMED_FIELDS, "access_token": 1, "grant_fingerprint": 1}
_UNTOUCHED = {"origin.activated": None, "origin.held": None}  # by an activation, or by an operator


class MongoSlices:
    """Implements `migrating.ports.ImportedSlices`."""

    def __init__(self, mongo: Mongo, keyring: KeyRing) -> None:
        self._mongo = mongo
        self._keyring = keyring
        self._documents = ImportedDocuments(mongo, keyring)

    async def prepare(self) -> None:
        await index_grants(self._mongo)

    # ---------------------------------------------------------------- activation

    async def waiting(self, provider: str) -> AsyncIterator[Sequence[Waiting]]:
        query = {"provider": provider, "state": State.PAUSED.value, **IMPORTED, **_UNTOUCHED, **NAMED}
        rows = self._mongo.tokens.find(query, {"origin.read_at": 1}).batch_size(BATCH)
        batch: list[Waiting] = []
        try:
            async for one in rows:
                read_at = origin_of(one).get("read_at")
                if isinstance(read_at, datetime):
                    batch.append(Waiting(id=str(one["_id"]), read_at=read_at))
                if len(batch) == BATCH:
                    yield batch
                    batch = []
        except PyMongoError as error:
            raise self._mongo.lost(error) from None
        if batch:
            yield batch

    async def activate(
        self,
        ids: Collection[str],
        *,
        at: datetime,
        due: Due,
        newer: Sequence[tuple[Candidate, Standing]] = (),
        read_since: datetime | None = None,
    ) -> Mapping[str, str]:
        at = at.replace(microsecond=at.microsecond // 1000 * 1000)  # as MongoDB returns it
        updates = {one.token.id: self._newer_and_active(one, standing, at, due) for one, standing in newer}
        refused = dict.fromkeys(ids, "it was removed from the store")
        others = await self._documents.read(
            {"_id": {"$in": [one for one in ids if one not in updates]}}, _OPENED
        )
        for document in others:
            name = str(document["_id"])
            try:
                updates[name] = self._active(document, at, due, read_since)
            except (InvalidDocument, DecryptionError) as why:
                refused[name] = str(why)
        twins = await self._twins(others)
        refused.update(dict.fromkeys(updates, CHANGED))
        refused.update(twins)
        swaps = [update for name, update in updates.items() if name not in twins]
        refused.update(await self._documents.update(swaps))
        active = await self._documents.read(
            {"_id": {"$in": list(updates)}, "origin.activated": at}, {"_id": 1}
        )
        for one in active:
            del refused[str(one["_id"])]
        return refused

    def _newer_and_active(self, candidate: Candidate, standing: Standing, at: datetime, due: Due) -> Update:
        stored = version_of(standing)
        fields = self._documents.newer(candidate, stored)
        due_at = due(candidate.token, candidate.origin.end_is_known)
        update = swap(stored, fields | _activated(due_at, at))
        return replace(update, condition={**update.condition, **_UNTOUCHED})

    def _active(self, document: Document, at: datetime, due: Due, read_since: datetime | None) -> Update:
        """Raises InvalidDocument or DecryptionError for a token that the daemon could not use either."""
        token = token_of(document, self._keyring)
        due_at = due(token, origin_of(document).get("end_is_known") is True)
        fields = _activated(due_at, at) | {"revision": next_revision(document)}
        condition = {**same(document, "refresh_token", "revision"), "state": State.PAUSED.value, **_UNTOUCHED}
        if read_since is not None:
            condition["origin.read_at"] = {"$gte": read_since}
        return Update(ids=[token.id], condition=condition, change={"$set": fields})

    async def _twins(self, documents: Sequence[Document]) -> Mapping[str, str]:
        """Return those whose refresh token is stored under another id too, with a clause that names it."""
        prints = {
            text: str(one["_id"])
            for one in documents
            if type(text := one.get("grant_fingerprint")) is str  # BSON's code is a str that can't be a key
        }
        same_grant = {"grant_fingerprint": {"$in": list(prints), "$type": "string"}}
        twins = {}
        for one in await self._documents.read(same_grant, {"grant_fingerprint": 1}):
            name = prints[str(one["grant_fingerprint"])]
            if one["_id"] != name:
                twins[name] = f"{one['_id']} stores the same refresh token, and two tokens would spend it"
        return twins

    # ---------------------------------------------------------------- the way back

    async def activated(self, provider: str) -> int:
        return await self._mongo.guarded(self._mongo.tokens.count_documents(_in_use(provider)))

    async def take_back(self, provider: str) -> int:
        now = self._mongo.clock.now()
        is_paused, is_active = ({"$eq": ["$state", one.value]} for one in (State.PAUSED, State.ACTIVE))
        fields = {
            "state": {"$cond": [is_active, State.PAUSED.value, "$state"]},
            "due_at": None,
            "revision": NEXT_REVISION,
            "updated_at": now,
            "origin.activated": None,
            # An operator's own pause outlives a later activation of the slice.
            "origin.held": {"$cond": [is_paused, now, {"$ifNull": ["$origin.held", None]}]},
        }
        return (await update_where(self._mongo, _in_use(provider), [{"$set": fields}])).matched

    async def in_flight(self, provider: str) -> Sequence[InFlight]:
        claimed, doubtful = {"lease.claim": {"$type": "string"}}, {"doubt.since": {"$type": "date"}}
        query = {"provider": provider, **IMPORTED, **IDLE, "$or": [claimed, doubtful], **NAMED}
        found = await self._documents.read(query, {"lease.owner": 1, "lease.claim": 1})
        return [InFlight(id=str(one["_id"]), holder=_holder(one)) for one in found]


def _activated(due_at: datetime | None, at: datetime) -> Fields:
    return {
        "state": State.ACTIVE.value,
        "due_at": due_at,
        "failures": 0,
        "last_failure": None,
        "updated_at": at,
        "origin.activated": at,
    }


def _in_use(provider: str) -> Fields:
    return {"provider": provider, **IMPORTED, "origin.activated": {"$ne": None}}


def _holder(document: Document) -> str | None:
    lease = document.get("lease")
    if not isinstance(lease, Mapping) or lease.get("claim") is None:
        return None
    return str(lease.get("owner"))
