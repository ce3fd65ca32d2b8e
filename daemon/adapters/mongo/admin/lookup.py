"""Stored tokens as operators see them: found by id or by selection, listed, and counted. Nothing here is a secret."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from pymongo.errors import PyMongoError

from daemon.adapters.mongo.admin.consents import Fields
from daemon.adapters.mongo.connection import EPOCH, Mongo
from daemon.adapters.mongo.pause_author import PAUSE_FIELDS
from daemon.adapters.mongo.token_document import Document
from daemon.domain.stored_grant import GONE, REVOKED
from daemon.domain.token import State

LISTED_FIELDS = (
    "provider",
    "account",
    "state",
    "expires_at",
    "refresh_expires_at",
    "due_at",
    "refreshed_at",
    "failures",
    "last_failure",
    "revision",
    "lease",
    "consent_ends_at",
    "subject",
    "last_used_at",
)
SHOWN_FIELDS = (*LISTED_FIELDS, "scope", "vars", "extra", "meta", "doubt")
# Who paused a token, and when one that is gone has ended.
MORE_FIELDS = (*PAUSE_FIELDS, "removed_at", "revoked_at", "forget_at")

LAST_CHARACTER = "\U0010ffff"


class NoSuchToken(LookupError):
    """No token with this id is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSelection:
    """A selection of tokens. Without a `state`, revoked and removed tokens are left out. `failing`: their last attempt
    failed; `expired`: active and past their expiry.
    """

    provider: str | None = None
    account: str | None = None
    subject: str | None = None
    state: str | None = None
    failing: bool = False
    expired: bool = False


class TokenLookup:
    """Every method raises StoreLost if MongoDB is down."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def get(self, name: str) -> Document:
        """Return the document of `name` without its tokens; `has_refresh_token` says whether it has one, and
        MORE_FIELDS are for people.
        Raises NoSuchToken.
        """
        has = {"has_refresh_token": {"$eq": [{"$type": "$refresh_token"}, "string"]}}
        fields: Fields = {**dict.fromkeys((*SHOWN_FIELDS, *MORE_FIELDS), 1), **has}
        found = await self._mongo.guarded(self._mongo.tokens.find_one({"_id": name}, fields))
        if found is None:
            raise NoSuchToken(name)
        return found

    async def list(self, selection: TokenSelection, *, limit: int | None = None) -> AsyncIterator[Document]:
        """Return the listed fields of the tokens in `selection`, by id, as they arrive; at most `limit` of
        them.
        """
        query = self._query(selection)
        rows = (
            self._mongo.tokens.find(query, dict.fromkeys(LISTED_FIELDS, 1)).sort("_id", 1).limit(limit or 0)
        )
        try:
            async for found in rows:
                yield found
        except PyMongoError as error:
            raise self._mongo.lost(error) from None

    async def count(self) -> int:
        """Return the approximate number of all stored tokens. Tombstones are no tokens; an index counts them."""
        tombstones = {"state": REVOKED, "forget_at": {"$gt": EPOCH}}
        documents = await self._mongo.guarded(self._mongo.tokens.estimated_document_count())
        gone = await self._mongo.guarded(self._mongo.tokens.count_documents(tombstones))
        return max(documents - gone, 0)

    async def matching(self, selection: TokenSelection) -> int:
        """Return how many tokens are in `selection`."""
        return await self._mongo.guarded(self._mongo.tokens.count_documents(self._query(selection)))

    async def beginning(self, start: str, *, limit: int) -> Sequence[str]:
        """Return the first ids that start with `start`."""
        query = {"_id": {"$gte": start, "$lt": start + LAST_CHARACTER}}
        found = self._mongo.tokens.find(query, {"_id": 1}).sort("_id", 1).limit(limit)
        return [str(row["_id"]) for row in await self._mongo.guarded(found.to_list())]

    async def stored(self, names: Sequence[str]) -> Sequence[str]:
        """Return those of `names` that are stored ids."""
        found = self._mongo.tokens.find({"_id": {"$in": list(names)}}, {"_id": 1})
        return [str(row["_id"]) for row in await self._mongo.guarded(found.to_list())]

    async def has_tokens_of(self, provider: str) -> bool:
        """Return whether a token of this provider is stored."""
        found = self._mongo.tokens.find_one({"provider": provider}, {"_id": 1})
        return await self._mongo.guarded(found) is not None

    def _query(self, selection: TokenSelection) -> Fields:
        exact = {"provider": selection.provider, "account": selection.account, "state": selection.state}
        query: Fields = {name: value for name, value in exact.items() if value is not None}
        if selection.state is None:
            query["state"] = {"$nin": sorted(GONE)}
        if selection.subject is not None:
            # The type lets MongoDB use the index, which is partial.
            query["subject"] = {"$eq": selection.subject, "$type": "string"}
        if selection.failing:
            query["last_failure.kind"] = {"$type": "string"}
        if selection.expired:
            active = {"state": State.ACTIVE.value, "expires_at": {"$lt": self._mongo.clock.now()}}
            query["$and"] = [{name: value} for name, value in active.items()]
        return query
