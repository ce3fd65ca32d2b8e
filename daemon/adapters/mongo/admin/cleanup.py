"""Tokens that are long over: found, and deleted in batches. Each deletion is audited first, and compares the document
with what was read, so that a token that is used, renewed or consented to in between stays.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import pymongo
from pymongo import DeleteOne
from pymongo.errors import PyMongoError

from daemon.adapters.mongo.admin.consents import Fields, same
from daemon.adapters.mongo.audit import Audit
from daemon.adapters.mongo.connection import Mongo, Refusal
from daemon.adapters.mongo.document_limits import NAMED
from daemon.adapters.mongo.serving.uses import OF_KEY
from daemon.adapters.mongo.token_document import Document
from daemon.adapters.mongo.token_events import NONE_WAITING
from daemon.domain.long_over import Criteria, LongOver, Standing, Why, long_over
from daemon.domain.token import State, token_id

BATCH = 500
REMOVE = "remove"  # as a removal of a single token
_INSTANTS = ("created_at", "issued_at", "refreshed_at", "updated_at", "last_used_at", "expires_at")
_DECISIVE = (
    "provider",
    "account",
    "state",
    "revision",
    "refresh_token",
    "access_token",
    "lease",
    "doubt",
    "last_failure",
    *_INSTANTS,
)
_IMPORTED = {"$not": [{"$in": [{"$type": "$origin"}, ["missing", "null"]]}]}
_READ = {**dict.fromkeys(_DECISIVE, 1), "origin.activated": 1, "imported": _IMPORTED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """Since when uses of tokens are counted. None: never, or this login may not read it."""

    since: datetime | None


class Cleanup:
    """Every method raises StoreLost if MongoDB is down. `busy`: tokens with an entry in a journal."""

    def __init__(self, mongo: Mongo, audit: Audit, criteria: Criteria, *, busy: Collection[str] = ()) -> None:
        self._mongo = mongo
        self._audit = audit
        self._criteria = criteria
        self._busy = busy

    async def find(self) -> Sequence[LongOver]:
        """Return the tokens that are long over, those first that have been so for the longest time."""
        handled = await self._handled()
        found = [one async for document in self._candidates() if (one := self._over(document)) is not None]
        wanted = (one for one in found if one.why is not Why.UNUSED or one.id not in handled)
        return sorted(wanted, key=lambda one: (one.since, one.id))

    async def remove(self, found: Sequence[LongOver]) -> AsyncIterator[Sequence[str]]:
        """Delete these tokens, batch by batch. Yields the ids that each batch has deleted."""
        for start in range(0, len(found), BATCH):
            yield await self._remove(found[start : start + BATCH])

    async def counting(self) -> Counting:
        """Return since when the access service can have counted the uses of tokens: since there is an access key, if one
        was ever used.
        """
        keys = self._mongo.access.find({"created_at": {"$type": "date"}}, {"created_at": 1})
        try:
            used = await self._mongo.tried(self._mongo.access_use.find_one({"kind": OF_KEY}, {"_id": 1}))
            first = await self._mongo.tried(keys.sort("created_at", pymongo.ASCENDING).limit(1).to_list())
        except Refusal:
            return Counting(since=None)
        since = first[0]["created_at"] if first else None
        return Counting(since=since if used and isinstance(since, datetime) else None)

    # ---------------------------------------------------------------- the parts

    async def _candidates(self) -> AsyncIterator[Document]:
        """Return the documents that meet the criteria as far as a query can say it."""
        rows = self._mongo.tokens.find({**self._query(), **NAMED}, _READ).batch_size(BATCH)
        try:
            async for row in rows:
                yield row
        except PyMongoError as error:
            raise self._mongo.lost(error) from None

    def _query(self) -> Fields:
        criteria, ways = self._criteria, list[Fields]()
        if criteria.dead_since is not None:
            dead = State.NEEDS_REAUTH.value
            ways.append({"state": dead, "last_failure.at": {"$lte": criteria.dead_since}})
        if criteria.unused_since is not None:
            states = {"$in": [State.ACTIVE.value, State.NEEDS_REAUTH.value]}
            ways.append({"state": states, "created_at": {"$lte": criteria.unused_since}})
        of_providers: Fields = {"provider": {"$in": sorted(criteria.providers)}} if criteria.providers else {}
        return {**of_providers, "lease": None, "doubt": None, "$or": ways}

    def _over(self, document: Document) -> LongOver | None:
        token = _standing(document)
        if token is None:
            return None
        return long_over(token, self._criteria, now=self._mongo.clock.now(), busy=self._busy)

    async def _handled(self) -> Collection[str]:
        """Return the tokens that an operator or an application did something to while they were unused: an audited deed,
        such as a consent, is a use.
        """
        if self._criteria.unused_since is None:
            return ()
        query = {"at": {"$gt": self._criteria.unused_since}, "action": {"$ne": REMOVE}}
        handled: set[str] = set()
        try:
            async for record in self._mongo.audit.find(query, {"_id": 0, "token": 1}):
                token = record.get("token")
                if type(token) is str and ":" in token:  # BSON's code is a str that no set can hold
                    handled.add(token)
        except PyMongoError as error:
            raise self._mongo.lost(error) from None
        return handled

    async def _remove(self, batch: Sequence[LongOver]) -> Sequence[str]:
        """Delete those of the batch that are still as they were found. Returns their ids."""
        whys = {one.id: one.why for one in batch}
        rows = self._mongo.tokens.find({"_id": {"$in": list(whys)}}, _READ)
        documents = {str(one["_id"]): one for one in await self._mongo.guarded(rows.to_list())}
        still = {name: one for name, one in documents.items() if self._is_still(one, whys[name])}
        if not still:
            return []
        records = [(name, one.get("revision"), whys[name].value) for name, one in still.items()]
        await self._audit.note_each(REMOVE, records)
        deletions = [DeleteOne(_unchanged(one)) for one in still.values()]
        await self._mongo.guarded(self._mongo.tokens.bulk_write(deletions, ordered=False))
        left = self._mongo.tokens.find({"_id": {"$in": list(still)}}, {"_id": 1})
        stored = {str(one["_id"]) for one in await self._mongo.guarded(left.to_list())}
        return sorted(still.keys() - stored)

    def _is_still(self, document: Document, why: Why) -> bool:
        over = self._over(document)
        return over is not None and over.why is why


def _unchanged(document: Document) -> Fields:
    """Return the condition that everything that decides is still as it was read, and that no event waits for the relay."""
    origin = document.get("origin")
    activated = origin.get("activated") if isinstance(origin, dict) else None
    return {**same(document, *_DECISIVE), "origin.activated": {"$eq": activated}, **NONE_WAITING}


def _standing(document: Document) -> Standing | None:
    """Return the token in `document`; None if the document is not a token of refreshd's, or a field has an unexpected type."""
    name, provider, account = (document.get(field) for field in ("_id", "provider", "account"))
    if not (isinstance(name, str) and isinstance(provider, str) and isinstance(account, str)):
        return None
    origin, failure = document.get("origin"), document.get("last_failure")
    activated = origin.get("activated") if isinstance(origin, dict) else None
    died_at = failure.get("at") if isinstance(failure, dict) else None
    instants = {field: document.get(field) for field in _INSTANTS}
    instants |= {"died_at": died_at, "activated_at": activated}
    if not _is_own(name, provider, account) or not all(
        one is None or isinstance(one, datetime) for one in instants.values()
    ):
        return None
    kind = failure.get("kind") if isinstance(failure, dict) else None
    return Standing(
        id=name,
        provider=provider,
        state=str(document.get("state")),
        failure=kind if isinstance(kind, str) else None,
        held=document.get("lease") is not None or document.get("doubt") is not None,
        imported=document.get("imported") is True,
        **{field: one for field, one in instants.items() if isinstance(one, datetime)},
    )


def _is_own(name: str, provider: str, account: str) -> bool:
    try:
        return token_id(provider, account) == name
    except ValueError:
        return False
