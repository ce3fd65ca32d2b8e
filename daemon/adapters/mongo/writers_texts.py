"""Refresh tokens that a writer key has sealed (`w1.`), before one is presented for the first time.

Each is sealed again under the active master key, with its fingerprint. Only then do other documents show whether they
hold the same refresh token: of two, the later one is paused and never presented.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from daemon.adapters.keyring import WRITERS, DecryptionError, KeyRing
from daemon.adapters.mongo.bulk import Update, update_each
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.token_changes import failure_document
from daemon.adapters.mongo.token_document import Document
from daemon.domain.claim import SetAside
from daemon.domain.token import Failure, FailureKind, State

_LAST = datetime.max.replace(tzinfo=UTC)  # a document without a date counts as the later one


@dataclass(frozen=True, slots=True, kw_only=True)
class Resealed:
    """One document's new text, and the fingerprints of its refresh token under every key of the ring."""

    document: Document
    text: str
    fingerprint: str
    fingerprints: Sequence[str]

    @property
    def name(self) -> str:
        return str(self.document["_id"])


class WritersTexts:
    """Every method raises StoreLost."""

    def __init__(self, mongo: Mongo, keyring: Callable[[], KeyRing]) -> None:
        self._mongo = mongo
        self._keyring = keyring

    async def take_in(
        self, documents: Sequence[Document], claim_id: str
    ) -> tuple[Sequence[Document], Sequence[SetAside]]:
        """Return the claimed `documents` with their texts sealed again, without those that are duplicates or that
        changed meanwhile, and the duplicates. A text that can't be opened stays as it is.
        """
        found = [document for document in documents if _is_writers(document)]
        if not found:
            return documents, []
        resealed = {one.name: one for document in found if (one := self._resealed(document)) is not None}
        await self._store(resealed, claim_id)
        stored = await self._stored(resealed)
        duplicates = await self.pause_duplicates(
            [one for name, one in resealed.items() if name in stored and not _is_revoking(one.document)],
            claim_id,
        )
        taken: list[Document] = []
        for document in documents:
            name = str(document["_id"])
            if name in duplicates:
                continue
            if name not in resealed:
                taken.append(document)
            elif name in stored:
                taken.append({**document, "refresh_token": resealed[name].text})
        return taken, list(duplicates.values())

    def _resealed(self, document: Document) -> Resealed | None:
        ring, name = self._keyring(), str(document["_id"])
        try:
            text = ring.open(document["refresh_token"], token_id=name, field="refresh_token")
        except DecryptionError:
            return None
        return Resealed(
            document=document,
            text=ring.seal(text, token_id=name, field="refresh_token"),
            fingerprint=ring.fingerprint(text),
            fingerprints=ring.fingerprints(text),
        )

    async def _store(self, resealed: Mapping[str, Resealed], claim_id: str) -> None:
        updates = [
            Update(
                ids=[one.name],
                condition={
                    "refresh_token": {"$eq": one.document["refresh_token"]},
                    "lease.claim": claim_id,
                },
                change={"$set": {"refresh_token": one.text, "grant_fingerprint": one.fingerprint}},
            )
            for one in resealed.values()
        ]
        await update_each(self._mongo, updates)

    async def _stored(self, resealed: Mapping[str, Resealed]) -> set[str]:
        """Return the ids of the documents that hold their new text."""
        query = {"_id": {"$in": list(resealed)}}
        found = self._mongo.tokens.find(query, {"refresh_token": 1})
        rows = await self._mongo.guarded(found.to_list())
        stored = {str(row["_id"]): row.get("refresh_token") for row in rows}
        return {name for name, one in resealed.items() if stored.get(name) == one.text}

    async def pause_duplicates(self, resealed: Sequence[Resealed], claim_id: str) -> dict[str, SetAside]:
        """Pause one of each two documents that hold one refresh token. Returns those of this claim that must not be
        presented, by id.
        """
        prints = [text for one in resealed for text in one.fingerprints]
        # The type lets MongoDB use the index, which is partial.
        query = {"grant_fingerprint": {"$in": prints, "$type": "string"}, "state": State.ACTIVE.value}
        fields = {"issued_at": 1, "grant_fingerprint": 1, "provider": 1}
        holders = await self._mongo.guarded(self._mongo.tokens.find(query, fields).to_list())
        duplicates: dict[str, SetAside] = {}
        for one in sorted(resealed, key=lambda one: _age(one.document)):
            for other in holders:
                name = str(other["_id"])
                if name in (one.name, *duplicates) or other.get("grant_fingerprint") not in one.fingerprints:
                    continue
                later = max(one.document, other, key=_age)
                if later is other and await self._pause(other, beside=one.name, claim_id=claim_id):
                    duplicates[name] = _set_aside(other, beside=one.name)
                else:
                    await self._pause(one.document, beside=name, claim_id=claim_id)
                    duplicates[one.name] = _set_aside(one.document, beside=name)
                    break
        return duplicates

    async def _pause(self, document: Document, *, beside: str, claim_id: str) -> bool:
        """Pause a document that no other claim holds. Returns False if one does: it may be presented just now."""
        now = self._mongo.clock.now()
        failure = Failure(
            kind=FailureKind.DUPLICATE, code=FailureKind.DUPLICATE.value, message=_message(beside), at=now
        )
        free = {"$or": [{"lease": None}, {"lease.claim": claim_id}], "state": State.ACTIVE.value}
        fields = {"state": State.PAUSED.value, "due_at": None, "updated_at": now}
        change = {"$set": {**fields, "last_failure": failure_document(failure)}}
        paused = Update(ids=[str(document["_id"])], condition=free, change=change)
        return (await update_each(self._mongo, [paused])).matched == 1


def _is_revoking(document: Document) -> bool:
    """Return whether the document is claimed for a revocation, which ends the grant of both duplicates."""
    return document.get("state") == State.REVOKING.value


def _is_writers(document: Document) -> bool:
    text = document.get("refresh_token")
    return isinstance(text, str) and text.startswith(WRITERS)


def _age(document: Document) -> tuple[datetime, str]:
    issued_at = document.get("issued_at")
    return issued_at if isinstance(issued_at, datetime) else _LAST, str(document["_id"])


def _message(beside: str) -> str:
    return f"{beside} holds the same refresh token"


def _set_aside(document: Document, *, beside: str) -> SetAside:
    kind = FailureKind.DUPLICATE
    return SetAside(
        token=str(document["_id"]),
        provider=str(document.get("provider")),
        kind=kind,
        code=kind.value,
        message=_message(beside),
        new=True,
    )
