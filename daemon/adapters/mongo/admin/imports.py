"""Imported tokens in the store: looked up, inserted and updated in batches.

Every write compares and swaps, and its result is what a reading by a majority finds afterwards: a write without an answer
needs no other treatment.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from pymongo.errors import PyMongoError

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.admin.consents import Fields
from daemon.adapters.mongo.admin.imported_documents import (
    CHANGED,
    IDLE,
    IMPORTED,
    ORIGIN,
    ImportedDocuments,
    origin_of,
    settled,
    swap,
    version_of,
)
from daemon.adapters.mongo.bulk import refusals
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.index_build import index_grants
from daemon.adapters.mongo.token_document import Document
from daemon.adapters.mongo.tombstones import revoked_grants
from daemon.domain.moving import Candidate, Origin, Standing, Stored
from daemon.domain.token import State

# The fields that a row is compared with.
_COMPARED = {
    **ORIGIN,
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


class MongoImports:
    """Implements `migrating.ports.ImportedTokens`."""

    def __init__(self, mongo: Mongo, keyring: KeyRing) -> None:
        self._mongo = mongo
        self._keyring = keyring
        self._documents = ImportedDocuments(mongo, keyring)

    async def prepare(self) -> None:
        await index_grants(self._mongo)

    # ---------------------------------------------------------------- looking

    async def standing(self, candidates: Sequence[Candidate]) -> Mapping[str, Standing]:
        if not candidates:
            return {}
        by_id = {str(one["_id"]): one for one in await self._with_ids(candidates)}
        by_row = {origin_of(one).get("key"): str(one["_id"]) for one in await self._with_rows(candidates)}
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
        return await self._documents.read({"_id": {"$in": ids}}, _COMPARED)

    async def _with_rows(self, candidates: Sequence[Candidate]) -> list[Document]:
        """Return the documents that come from these rows, under whatever id."""
        origin = candidates[0].origin
        rows = {
            "origin.layout": origin.layout,
            "origin.source": origin.source,
            "origin.key": {"$in": [one.origin.key for one in candidates], "$type": "string"},
        }
        return await self._documents.read(rows, {"origin.key": 1})

    async def _with_grants(self, prints: Sequence[str]) -> Mapping[str, set[str]]:
        """Return the ids that store the refresh tokens with these fingerprints, by fingerprint."""
        if not prints:
            return {}
        found = await self._documents.read(
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
        origin = origin_of(document)
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
        documents = [self._documents.new(one) for one in candidates]
        whys = await settled(lambda: self._insert(documents))
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
        fields = {
            one.token.id: self._documents.newer(one, version_of(standing)) for one, standing in candidates
        }
        swaps = [swap(version_of(standing), fields[one.token.id]) for one, standing in candidates]
        whys = await self._documents.update(swaps)
        return await self._unlike(
            [one for one, _ in candidates], [{"_id": name, **each} for name, each in fields.items()], whys
        )

    async def confirm(self, ids: Collection[str], *, read_at: datetime) -> None:
        if not ids:
            return
        unchanged = {"_id": {"$in": list(ids)}, **IMPORTED, **IDLE}
        await self._mongo.guarded(
            self._mongo.tokens.update_many(unchanged, {"$max": {"origin.read_at": read_at}})
        )

    async def _unlike(
        self,
        candidates: Sequence[Candidate],
        written: Sequence[Mapping[str, object]],
        whys: Mapping[str, str],
    ) -> Mapping[str, str]:
        """Read the tokens back. Return those that are not stored as `written`, to the byte, with the reason."""
        ids = [one.token.id for one in candidates]
        fields = {"access_token": 1, "refresh_token": 1, "state": 1, "origin.hash": 1}
        found = {str(one["_id"]): one for one in await self._documents.read({"_id": {"$in": ids}}, fields)}
        unlike = {}
        for candidate, document in zip(candidates, written, strict=True):
            stored = found.get(candidate.token.id, {})
            if not _holds(stored, document):
                why = None if stored else whys.get(candidate.token.id)
                unlike[candidate.token.id] = f"MongoDB refuses to store it: {why}" if why else CHANGED
        return unlike

    def _fingerprints(self, candidate: Candidate) -> list[str]:
        held = candidate.token.refresh_token
        return [] if held is None or candidate.shows_a_stand_in else self._keyring.fingerprints(held.reveal())


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
