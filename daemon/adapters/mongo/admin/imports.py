"""Imported tokens in the store: looked up, inserted and updated in batches, activated, and taken back.

An imported token is what `add` would have stored, but paused, and with its origin. Every write compares and swaps, and
its result is what a reading by a majority finds afterwards: a write without an answer needs no other treatment.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from pymongo.errors import PyMongoError

from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.adapters.mongo.admin.consents import (
    Fields,
    consent_fields,
    laid_over,
    new_document,
    next_revision,
    same,
)
from daemon.adapters.mongo.bulk import Update, refusals, update_each, update_where
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.document_limits import NAMED
from daemon.adapters.mongo.index_build import index_grants
from daemon.adapters.mongo.token_document import CLAIMED_FIELDS, Document, InvalidDocument, token_of
from daemon.adapters.mongo.tombstones import revoked_grants
from daemon.domain.claim import StoreLost
from daemon.domain.moving import Candidate, Due, InFlight, Origin, Standing, Stored, Waiting
from daemon.domain.token import State

REST = "origin_rest"  # the field for which the rest of a row is sealed
BATCH = 500
_ORIGIN = dict.fromkeys(
    [
        f"origin.{name}"
        for name in ("layout", "source", "key", "read_at", "activated", "hash", "grant", "end_is_known")
    ],
    1,
)
# The fields that a row is compared with.
_COMPARED = {
    **_ORIGIN,
    **dict.fromkeys(
        [
            "access_token",
            "refresh_token",
            "grant_fingerprint",
            "revision",
            "state",
            "refreshed_at",
            "expires_at",
            "vars",
            "extra",
            "meta",
        ],
        1,
    ),
}
_OPENED = {**_ORIGIN, **CLAIMED_FIELDS, "access_token": 1, "grant_fingerprint": 1}
# Imported, and not in use: a token whose consent was rejected after it had been taken back is one of these too.
_IDLE = {"origin.activated": None, "state": {"$in": [State.PAUSED.value, State.NEEDS_REAUTH.value]}}
_UNTOUCHED = {"origin.activated": None, "origin.held": None}  # by an activation, or by an operator
_IMPORTED = {"origin.key": {"$type": "string"}}
_CHANGED = "another program changed this token at the same time; run the command again"


class MongoImports:
    """Implements `migrating.ports.ImportedTokens`."""

    def __init__(self, mongo: Mongo, keyring: KeyRing) -> None:
        self._mongo = mongo
        self._keyring = keyring

    async def prepare(self) -> None:
        await index_grants(self._mongo)

    # ---------------------------------------------------------------- looking

    async def standing(self, candidates: Sequence[Candidate]) -> Mapping[str, Standing]:
        if not candidates:
            return {}
        by_id = {str(one["_id"]): one for one in await self._with_ids(candidates)}
        by_row = {_origin_of(one).get("key"): str(one["_id"]) for one in await self._with_rows(candidates)}
        prints = {one.token.id: self._fingerprints(one) for one in candidates}
        every = [text for texts in prints.values() for text in texts]
        by_grant, revoked = await self._with_grants(every), await revoked_grants(self._mongo, every)
        return {
            one.token.id: replace(
                self._standing(one, by_id.get(one.token.id), by_row, by_grant, prints[one.token.id]),
                revoked=_tombstone_of(by_id.get(one.token.id), revoked, prints[one.token.id]),
            )
            for one in candidates
        }

    async def _with_ids(self, candidates: Sequence[Candidate]) -> list[Document]:
        ids = [one.token.id for one in candidates]
        return await self._read({"_id": {"$in": ids}}, _COMPARED)

    async def _with_rows(self, candidates: Sequence[Candidate]) -> list[Document]:
        """Return the documents that come from these rows, under whatever id."""
        origin = candidates[0].origin
        rows = {
            "origin.layout": origin.layout,
            "origin.source": origin.source,
            "origin.key": {"$in": [one.origin.key for one in candidates], "$type": "string"},
        }
        return await self._read(rows, {"origin.key": 1})

    async def _with_grants(self, prints: Sequence[str]) -> Mapping[str, set[str]]:
        """Return the ids that store the refresh tokens with these fingerprints, by fingerprint."""
        if not prints:
            return {}
        found = await self._read(
            {"grant_fingerprint": {"$in": prints, "$type": "string"}}, {"grant_fingerprint": 1}
        )
        ids: dict[str, set[str]] = {}
        for one in found:
            ids.setdefault(str(one["grant_fingerprint"]), set()).add(str(one["_id"]))
        return ids

    def _standing(
        self,
        candidate: Candidate,
        document: Document | None,
        by_row: Mapping[object, str],
        by_grant: Mapping[str, set[str]],
        prints: Sequence[str],
    ) -> Standing:
        name = candidate.token.id
        row_holder = by_row.get(candidate.origin.key)
        others = {one for text in prints for one in by_grant.get(text, ())} - {name}
        return Standing(
            stored=None if document is None else self._stored(candidate, document, prints),
            row_holder=row_holder if row_holder != name else None,
            grant_holder=min(others, default=None),
        )

    def _stored(self, candidate: Candidate, document: Document, prints: Sequence[str]) -> Stored:
        origin = _origin_of(document)
        refreshed_at, read_at = document.get("refreshed_at"), origin.get("read_at")
        return Stored(
            ours=_is_from(origin, candidate.origin),
            same_row=origin.get("hash") in self._keyring.fingerprints(candidate.origin.row.reveal()),
            same_grant=document.get("grant_fingerprint") in prints,
            new_grant=bool(prints) and origin.get("grant") not in prints,
            renewed=isinstance(refreshed_at, datetime)
            and isinstance(read_at, datetime)
            and refreshed_at > read_at,
            later=_is_later(candidate.token.expires_at, document.get("expires_at")),
            in_use=origin.get("activated") is not None
            or document.get("state") in {State.ACTIVE, State.REVOKING},
            version=document,
        )

    # ---------------------------------------------------------------- storing

    async def insert(self, candidates: Sequence[Candidate]) -> Mapping[str, str]:
        if not candidates:
            return {}
        documents = [self._document(one) for one in candidates]
        whys = await _settled(lambda: self._insert(documents))
        return await self._unlike(candidates, documents, whys)

    async def _insert(self, documents: Sequence[Fields]) -> Mapping[str, str]:
        """Return those that MongoDB refuses, with the reason. Raises StoreLost if the result is unknown."""
        try:
            await self._mongo.tokens.insert_many(documents, ordered=False)
        except PyMongoError as error:
            if (whys := refusals(error)) is None:
                raise self._mongo.lost(error) from None
            return {str(documents[place]["_id"]): why for place, why in whys.items()}
        self._mongo.seen()
        return {}

    async def update(self, candidates: Sequence[tuple[Candidate, Standing]]) -> Mapping[str, str]:
        fields = {one.token.id: self._newer(one, _version(standing)) for one, standing in candidates}
        swaps = [_swap(_version(standing), fields[one.token.id]) for one, standing in candidates]
        whys = await _settled(lambda: self._update(swaps))
        return await self._unlike(
            [one for one, _ in candidates], [{"_id": name, **each} for name, each in fields.items()], whys
        )

    async def confirm(self, ids: Collection[str], *, read_at: datetime) -> None:
        if not ids:
            return
        unchanged = {"_id": {"$in": list(ids)}, **_IMPORTED, **_IDLE}
        await self._mongo.guarded(
            self._mongo.tokens.update_many(unchanged, {"$max": {"origin.read_at": read_at}})
        )

    def _document(self, candidate: Candidate) -> Fields:
        fields = self._fields(candidate) | {"revision": 1}
        return {
            **new_document(candidate.token, fields, _more(candidate)),
            "origin": self._origin(candidate, fields["grant_fingerprint"]),
        }

    def _newer(self, candidate: Candidate, stored: Document) -> Fields:
        """Return the fields that lay `candidate` over its document."""
        fields = self._fields(candidate)
        parts = self._origin(candidate, fields["grant_fingerprint"])
        origin = {f"origin.{name}": value for name, value in parts.items()}
        revision = {"revision": next_revision(stored), "doubt": None}
        return {**fields, **laid_over(stored, _more(candidate)), **origin, **revision}

    def _fields(self, candidate: Candidate) -> Fields:
        token = candidate.token
        fields = consent_fields(self._mongo, self._keyring, token)
        fields["refreshed_at"] = token.refreshed_at
        if candidate.last_used_at is not None:
            fields["last_used_at"] = candidate.last_used_at
        if candidate.subject is not None:
            fields["subject"] = candidate.subject
        return fields

    def _origin(self, candidate: Candidate, grant: object) -> Fields:
        """Return the origin as it is stored. `grant` is the fingerprint of the refresh token that the row held when it was
        last read or written: another one there later is a newer one.
        """
        origin = candidate.origin
        return {
            "layout": origin.layout,
            "source": origin.source,
            "key": origin.key,
            "rest": self._keyring.seal(origin.rest.reveal(), token_id=candidate.token.id, field=REST),
            "read_at": origin.read_at,
            "activated": None,
            "hash": self._keyring.fingerprint(origin.row.reveal()),
            "grant": grant,
            "end_is_known": origin.end_is_known,
        }

    async def _unlike(
        self,
        candidates: Sequence[Candidate],
        written: Sequence[Mapping[str, object]],
        whys: Mapping[str, str],
    ) -> Mapping[str, str]:
        """Read the tokens back. Return those that are not stored as `written`, to the byte, with the reason."""
        ids = [one.token.id for one in candidates]
        fields = {"access_token": 1, "refresh_token": 1, "state": 1, "origin.hash": 1}
        found = {str(one["_id"]): one for one in await self._read({"_id": {"$in": ids}}, fields)}
        unlike = {}
        for candidate, document in zip(candidates, written, strict=True):
            stored = found.get(candidate.token.id, {})
            if not _holds(stored, document):
                why = None if stored else whys.get(candidate.token.id)
                unlike[candidate.token.id] = f"MongoDB refuses to store it: {why}" if why else _CHANGED
        return unlike

    # ---------------------------------------------------------------- activation

    async def waiting(self, provider: str) -> AsyncIterator[Sequence[Waiting]]:
        query = {"provider": provider, "state": State.PAUSED.value, **_IMPORTED, **_UNTOUCHED, **NAMED}
        rows = self._mongo.tokens.find(query, {"origin.read_at": 1}).batch_size(BATCH)
        batch: list[Waiting] = []
        try:
            async for one in rows:
                read_at = _origin_of(one).get("read_at")
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
        others = await self._read({"_id": {"$in": [one for one in ids if one not in updates]}}, _OPENED)
        for document in others:
            name = str(document["_id"])
            try:
                updates[name] = self._active(document, at, due, read_since)
            except (InvalidDocument, DecryptionError) as why:
                refused[name] = str(why)
        twins = await self._twins(others)
        refused.update(dict.fromkeys(updates, _CHANGED))
        refused.update(twins)
        swaps = [update for name, update in updates.items() if name not in twins]
        refused.update(await _settled(lambda: self._update(swaps)))
        active = await self._read({"_id": {"$in": list(updates)}, "origin.activated": at}, {"_id": 1})
        for one in active:
            del refused[str(one["_id"])]
        return refused

    def _newer_and_active(self, candidate: Candidate, standing: Standing, at: datetime, due: Due) -> Update:
        stored = _version(standing)
        fields = self._newer(candidate, stored)
        due_at = due(candidate.token, candidate.origin.end_is_known)
        update = _swap(stored, fields | _activated(due_at, at))
        return replace(update, condition={**update.condition, **_UNTOUCHED})

    def _active(self, document: Document, at: datetime, due: Due, read_since: datetime | None) -> Update:
        """Raises InvalidDocument or DecryptionError for a token that the daemon could not use either."""
        token = token_of(document, self._keyring)
        due_at = due(token, _origin_of(document).get("end_is_known") is True)
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
        for one in await self._read(same_grant, {"grant_fingerprint": 1}):
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
            "revision": {"$cond": [{"$isNumber": "$revision"}, {"$add": ["$revision", 1]}, 1]},
            "updated_at": now,
            "origin.activated": None,
            # An operator's own pause outlives a later activation of the slice.
            "origin.held": {"$cond": [is_paused, now, {"$ifNull": ["$origin.held", None]}]},
        }
        return (await update_where(self._mongo, _in_use(provider), [{"$set": fields}])).matched

    async def in_flight(self, provider: str) -> Sequence[InFlight]:
        claimed, doubtful = {"lease.claim": {"$type": "string"}}, {"doubt.since": {"$type": "date"}}
        query = {"provider": provider, **_IMPORTED, **_IDLE, "$or": [claimed, doubtful], **NAMED}
        found = await self._read(query, {"lease.owner": 1, "lease.claim": 1})
        return [InFlight(id=str(one["_id"]), holder=_holder(one)) for one in found]

    # ---------------------------------------------------------------- the parts

    async def _read(self, query: Mapping[str, object], fields: Mapping[str, object]) -> list[Document]:
        found = self._mongo.tokens.find(query, fields).batch_size(2 * BATCH)
        return list(await self._mongo.guarded(found.to_list()))

    async def _update(self, updates: Sequence[Update]) -> Mapping[str, str]:
        """Return those that MongoDB refuses, with the reason. Raises StoreLost if the result is unknown."""
        return (await update_each(self._mongo, updates)).refused

    def _fingerprints(self, candidate: Candidate) -> list[str]:
        held = candidate.token.refresh_token
        return [] if held is None or candidate.shows_a_stand_in else self._keyring.fingerprints(held.reveal())


async def _settled(write: Callable[[], Awaitable[Mapping[str, str]]]) -> Mapping[str, str]:
    """Write, and once more after a lost answer.

    That is harmless, because the first attempt keeps the second from changing what it has written. A majority that
    confirms the second has both, so that a reading afterwards shows the result.
    """
    try:
        return await write()
    except StoreLost:
        return await write()


def _swap(stored: Document, fields: Fields) -> Update:
    """Return the update of an idle imported token that must still be as it was read."""
    condition = {**same(stored, "refresh_token", "access_token", "revision"), **_IMPORTED, **_IDLE}
    return Update(ids=[str(stored["_id"])], condition=condition, change={"$set": fields})


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
    return {"provider": provider, **_IMPORTED, "origin.activated": {"$ne": None}}


def _more(candidate: Candidate) -> Mapping[str, Mapping[str, object]]:
    return {"vars": candidate.token.vars, "extra": candidate.extra, "meta": candidate.meta}


def _version(standing: Standing) -> Document:
    """Return the document that `standing` was found for."""
    if standing.stored is None or not isinstance(standing.stored.version, Mapping):
        raise TypeError("this token is not stored")
    return standing.stored.version


def _origin_of(document: Document) -> Document:
    origin = document.get("origin")
    return origin if isinstance(origin, Mapping) else {}


def _tombstone_of(document: Document | None, revoked: Mapping[str, str], prints: Sequence[str]) -> str | None:
    if document is not None and document.get("state") == State.REVOKED:
        return str(document["_id"])
    return next((revoked[one] for one in prints if one in revoked), None)


def _is_from(stored: Document, origin: Origin) -> bool:
    return (stored.get("layout"), stored.get("source"), stored.get("key")) == (
        origin.layout,
        origin.source,
        origin.key,
    )


def _is_later(end: datetime | None, than: object) -> bool:
    return end is not None and isinstance(than, datetime) and end > than


def _holds(stored: Document, written: Mapping[str, object]) -> bool:
    """Return whether the stored document is the one that was written."""
    return stored.get("state") == written["state"] and all(
        stored.get(name) == written[name] for name in ("access_token", "refresh_token")
    )


def _holder(document: Document) -> str | None:
    lease = document.get("lease")
    if not isinstance(lease, Mapping) or lease.get("claim") is None:
        return None
    return str(lease.get("owner"))
