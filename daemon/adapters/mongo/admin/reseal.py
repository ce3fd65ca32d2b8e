"""Stored texts sealed again under the active key, beside running daemons.

Nothing is remembered between two runs: a text that is not under the active key is still to do. Every write compares
and swaps the text and the lease that were read. So a document is changed only while no request for it can be running,
and a claim sees either the old text or the new one. A document under a lease waits, as do those that change in between.

A `w1.` text gets its fingerprint first, then other documents with the same refresh token are looked for, and only then
it becomes a `v1.` text. A process that ends in between leaves a `w1.` text, which is still to do.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bson.datetime_ms import DatetimeMS

from daemon.adapters.keyring import WRITERS, DecryptionError, KeyRing
from daemon.adapters.mongo.bulk import Update, update_each
from daemon.adapters.mongo.connecting.consent_documents import PROOF_SEALED_AS
from daemon.adapters.mongo.connection import Collection, Mongo
from daemon.adapters.mongo.counting.sealed_values import CONSENT_FIELDS, consents_of
from daemon.adapters.mongo.document_limits import SHORT_ID
from daemon.adapters.mongo.token_document import Document
from daemon.adapters.mongo.writers_texts import Resealed, WritersTexts
from daemon.domain.token import State

AT_ONCE = 50
LARGEST = 1 << 20  # bytes of a document; a larger one is not a token
ROUNDS = 3  # for documents that were under a lease, or changed in between
_ROUND_EVERY = timedelta(seconds=2)
_MOST_AGAIN = 10_000
_NAMELESS = "Delete the document, or store its grant again with `refreshd add PROVIDER ACCOUNT`"
_NO_CLAIM = "reseal"  # no claim has this id
FINGERPRINT = "grant_fingerprint"
# A field, and the name under which it is sealed.
_ALWAYS = {"refresh_token": "refresh_token", "origin.rest": "origin_rest"}
_READERS = {"access_token": "access_token"}

Sleep = Callable[[timedelta], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A text that stays under its old key."""

    id: str
    field: str
    why: str


@dataclass(slots=True)
class Progress:
    """The result so far. `resealed` and `skipped` count documents."""

    resealed: int = 0
    skipped: int = 0
    failed: list[Failure] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """The write for one document, under the condition that its texts and its lease are as they were read."""

    document: Document
    condition: Mapping[str, object]
    change: Mapping[str, object]
    writers: Resealed | None  # the refresh token, if it was a writer's text

    @property
    def name(self) -> str:
        return str(self.document["_id"])


class Resealer:
    """`access_tokens`: also those, which applications open with their reader keys. Every method raises StoreLost."""

    def __init__(
        self,
        mongo: Mongo,
        ring: KeyRing,
        *,
        access_tokens: bool,
        rate: float,
        sleep: Sleep,
        dry_run: bool = False,
    ) -> None:
        self._mongo = mongo
        self._ring = ring
        self._fields = _ALWAYS | (_READERS if access_tokens else {})
        self._rate = rate
        self._sleep = sleep
        self._dry_run = dry_run
        self._writers_texts = WritersTexts(mongo, lambda: ring)
        self.progress = Progress()
        self._again: list[str] = []

    async def run(self) -> AsyncIterator[Progress]:
        """Seal again what is not under the active key. Yields the progress after each batch."""
        async for documents in self._pages(self._mongo.tokens, self._unfinished()):
            await self._batch(documents)
            yield self.progress
        await self._report_nameless(self._mongo.tokens, self._unfinished())
        for _ in range(ROUNDS if not self._dry_run else 0):
            waiting, self._again = self._again, []
            if not waiting:
                break
            await self._sleep(_ROUND_EVERY)
            query = {"$and": [self._unfinished(), {"_id": {"$in": waiting}}]}
            async for documents in self._pages(self._mongo.tokens, query):
                await self._batch(documents)
                yield self.progress
        self.progress.skipped += len(self._again)
        yield self.progress

    async def consents(self) -> None:
        """Seal the texts of waiting consents again. Raises Refusal as well."""
        collection = consents_of(self._mongo)
        query = {"$or": [_not_under(self._ring.active, name) for name in CONSENT_FIELDS]}
        fields = {**{name: name for name in CONSENT_FIELDS}, "proof": PROOF_SEALED_AS}
        await self._report_nameless(collection, query)
        async for documents in self._pages(collection, query):
            for document in documents:
                changes, failed = self._sealed_again(document, fields)
                self.progress.failed += failed
                if not changes or self._dry_run:
                    continue
                unchanged = {name: {"$eq": document[name]} for name in changes}
                one = {"_id": document["_id"], **unchanged}
                await self._mongo.tried(collection.update_one(one, {"$set": changes}))

    # ---------------------------------------------------------------- reading

    def _unfinished(self) -> dict[str, object]:
        conditions: list[Mapping[str, object]] = [
            _not_under(self._ring.active, name) for name in self._fields
        ]
        conditions.append({FINGERPRINT: {"$regex": rf"^(?!{re.escape(self._ring.active)}\.)"}})
        return {"$or": conditions}

    async def _pages(
        self, collection: Collection, query: Mapping[str, object]
    ) -> AsyncIterator[Sequence[Document]]:
        """Return the documents in the order of their ids. One that is stored behind the last one is left out."""
        names = ("lease", "state", "issued_at", "provider", FINGERPRINT, "origin", *CONSENT_FIELDS)
        small = {"$lte": [{"$bsonSize": "$$ROOT"}, LARGEST]}
        wanted: dict[str, object] = {name: {"$cond": [small, f"${name}", "$$REMOVE"]} for name in names}
        wanted["large"] = {"$not": [small]}
        last = ""
        while True:
            page = {"$and": [query, {"_id": {"$gt": last, "$type": "string"}}]}
            found = await self._mongo.tried(
                collection.find(page, wanted).sort("_id", 1).limit(AT_ONCE).to_list()
            )
            if not found:
                return
            last = str(found[-1]["_id"])
            yield found

    async def _report_nameless(self, collection: Collection, query: Mapping[str, object]) -> None:
        """Report the documents whose `_id` is not a string as failures: nothing that names no token is opened."""
        strange = {"$and": [query, {"_id": {"$not": {"$type": "string"}}}]}
        shown = {"_id": SHORT_ID, "type": {"$type": "$_id"}}

        async def found() -> list[dict[str, object]]:
            cursor = await collection.aggregate([{"$match": strange}, {"$project": shown}])
            return await cursor.to_list()

        for row in await self._mongo.tried(found()):
            why = f"a token's _id is a string, and this one is of type {row['type']}. {_NAMELESS}"
            self.progress.failed.append(Failure(id=str(row["_id"]), field="_id", why=why))

    # ---------------------------------------------------------------- one batch

    async def _batch(self, documents: Sequence[Document]) -> None:
        begun = self._mongo.clock.boot()
        steps: list[_Step] = []
        for document in documents:
            if self._is_held(document):
                self._later(str(document["_id"]))
            elif (step := self._step(document)) is not None:
                steps.append(step)
        if self._dry_run:
            self.progress.resealed += len(steps)
            return
        steps = await self._looked_for_duplicates(steps)
        stored = await self._swap(steps)
        self.progress.resealed += len(stored)
        for step in steps:
            if step.name not in stored:
                self._later(step.name)
        least = timedelta(seconds=len(documents) / self._rate)
        if (left := least - (self._mongo.clock.boot() - begun)) > timedelta(0):
            await self._sleep(left)

    def _later(self, name: str) -> None:
        if len(self._again) < _MOST_AGAIN and not self._dry_run:
            self._again.append(name)
        else:
            self.progress.skipped += 1

    def _is_held(self, document: Document) -> bool:
        """Return whether a request may be running, or its answer may wait in a journal of its owner."""
        lease = document.get("lease")
        hold = lease.get("hold") if isinstance(lease, Mapping) else None
        if isinstance(hold, DatetimeMS):  # outside Python's calendar
            return int(hold) > self._mongo.clock.now().timestamp() * 1000
        return isinstance(hold, datetime) and hold > self._mongo.clock.now()

    def _step(self, document: Document) -> _Step | None:
        name = str(document["_id"])
        if document.get("large"):
            self.progress.failed.append(
                Failure(id=name, field="", why="the document is too large for a token")
            )
            return None
        changes, failed = self._sealed_again(document, self._fields)
        self.progress.failed += failed
        condition: dict[str, object] = {path: {"$eq": _at(document, path)} for path in changes}
        condition |= {"lease": {"$eq": document.get("lease")}}
        writers = self._fingerprints(document, changes, condition, lost={one.field for one in failed})
        if not changes:
            return None
        return _Step(document=document, condition=condition, change={"$set": changes}, writers=writers)

    def _sealed_again(
        self, document: Document, fields: Mapping[str, str]
    ) -> tuple[dict[str, object], list[Failure]]:
        """Return the new texts by field, and the failures."""
        changes: dict[str, object] = {}
        failed: list[Failure] = []
        name = str(document["_id"])
        for path, sealed_as in fields.items():
            old = _at(document, path)
            if not isinstance(old, str) or not _is_unfinished(old, self._ring.active):
                continue
            try:
                text = self._ring.open(old, token_id=name, field=sealed_as)
            except DecryptionError as why:
                failed.append(Failure(id=name, field=path, why=str(why)))
                continue
            changes[path] = self._ring.seal(text, token_id=name, field=sealed_as)
        return changes, failed

    def _fingerprints(
        self,
        document: Document,
        changes: dict[str, object],
        condition: dict[str, object],
        *,
        lost: set[str],
    ) -> Resealed | None:
        """Add the fingerprint under the active key to `changes`. Returns the refresh token if a writer has sealed it.

        An imported row's own fingerprint follows while it is that of the same token, so that a mirror still sees
        that nothing else has changed it.
        """
        name, ring, held = str(document["_id"]), self._ring, document.get("refresh_token")
        before = document.get(FINGERPRINT)
        stale = isinstance(before, str) and not before.startswith(f"{ring.active}.")
        if "refresh_token" in lost or ("refresh_token" not in changes and not stale):
            return None
        if not isinstance(held, str):
            changes[FINGERPRINT] = None  # of no stored token
            condition[FINGERPRINT] = {"$eq": before}
            return None
        condition["refresh_token"] = {"$eq": held}
        try:
            text = ring.open(held, token_id=name, field="refresh_token")
        except DecryptionError as why:
            self.progress.failed.append(Failure(id=name, field=FINGERPRINT, why=str(why)))
            return None
        changes[FINGERPRINT] = ring.fingerprint(text)
        if before is not None and _at(document, "origin.grant") == before:
            changes["origin.grant"] = changes[FINGERPRINT]
            condition["origin.grant"] = {"$eq": before}
        if not held.startswith(WRITERS):
            return None
        return Resealed(
            document=document,
            text=str(changes["refresh_token"]),
            fingerprint=ring.fingerprint(text),
            fingerprints=ring.fingerprints(text),
        )

    # ---------------------------------------------------------------- writing

    async def _looked_for_duplicates(self, steps: Sequence[_Step]) -> list[_Step]:
        """Give writers' texts their fingerprints, then pause one of each two documents with one refresh token. Returns
        the steps that may go on.
        """
        writers = {step.name: step for step in steps if step.writers is not None}
        if not writers:
            return list(steps)
        marked = await self._marked(writers)
        resealed = [
            one for name, step in writers.items() if name in marked and (one := step.writers) is not None
        ]
        duplicates = await self._writers_texts.pause_duplicates(resealed, _NO_CLAIM)
        left: list[_Step] = []
        for step in steps:
            if step.name in writers and step.name not in marked:
                self._later(step.name)
                continue
            condition = step.condition
            if step.name in duplicates:  # paused, or under a claim that looks for duplicates itself
                condition = {**condition, "state": {"$ne": State.ACTIVE.value}}
            left.append(
                _Step(document=step.document, condition=condition, change=step.change, writers=step.writers)
            )
        return left

    async def _marked(self, steps: Mapping[str, _Step]) -> set[str]:
        """Store the fingerprints beside the writers' texts. Returns the documents that have them by a majority."""
        updates = []
        for step in steps.values():
            fields = {"refresh_token", "lease"}
            condition = {name: one for name, one in step.condition.items() if name in fields}
            fingerprint = step.writers.fingerprint if step.writers is not None else None
            updates.append(
                Update(ids=[step.name], condition=condition, change={"$set": {FINGERPRINT: fingerprint}})
            )
        await update_each(self._mongo, updates)
        found = self._mongo.tokens.find({"_id": {"$in": list(steps)}}, {FINGERPRINT: 1, "refresh_token": 1})
        rows = await self._mongo.guarded(found.to_list())
        marked: set[str] = set()
        for row in rows:
            step = steps[str(row["_id"])]
            unchanged = row.get("refresh_token") == step.document.get("refresh_token")
            if unchanged and step.writers is not None and row.get(FINGERPRINT) == step.writers.fingerprint:
                marked.add(step.name)
        return marked

    async def _swap(self, steps: Sequence[_Step]) -> set[str]:
        """Compare and swap. Returns the documents that hold their new texts by a majority."""
        updates = [Update(ids=[step.name], condition=step.condition, change=step.change) for step in steps]
        done = await update_each(self._mongo, updates)
        for step in steps:
            if (why := done.refused.get(step.name)) is not None:
                text = f"MongoDB refuses the change: {why}"
                self.progress.failed.append(Failure(id=step.name, field="", why=text))
        if done.matched == len(steps):
            return {step.name for step in steps}
        return await self._holding(steps) | set(done.refused)

    async def _holding(self, steps: Sequence[_Step]) -> set[str]:
        fields = dict.fromkeys((FINGERPRINT, "refresh_token", "access_token", "origin.rest"), 1)
        query = {"_id": {"$in": [step.name for step in steps]}}
        rows = await self._mongo.guarded(self._mongo.tokens.find(query, fields).to_list())
        stored = {str(row["_id"]): row for row in rows}
        return {
            step.name
            for step in steps
            if step.name in stored
            and all(
                _at(stored[step.name], path) == text
                for path, text in step.change["$set"].items()  # type: ignore[attr-defined]
                if path != "origin.grant"
            )
        }


def _not_under(active: str, name: str) -> dict[str, object]:
    return {name: {"$regex": rf"^(?:w1\.|v1\.(?!{re.escape(active)}\.))"}}


def _is_unfinished(text: str, active: str) -> bool:
    return text.startswith((WRITERS, "v1.")) and not text.startswith(f"v1.{active}.")


def _at(document: Mapping[str, object], path: str) -> object:
    """Return the value at `path`, through objects only."""
    value: object = document
    for step in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value
