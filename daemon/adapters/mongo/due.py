"""Due tokens that could be claimed: a query without a guarantee, since replicas query at the same time.

One query finds enough tokens for several claims, so that most claims need none. Each replica starts at a
random place in the result, so that few of them try the same tokens.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pymongo.errors import ExecutionTimeout

from daemon.adapters.mongo.connection import Mongo, due
from daemon.adapters.mongo.document_limits import LARGE, NAMED
from daemon.adapters.mongo.leases import HELD, free
from daemon.adapters.mongo.token_document import Document
from daemon.domain.provider import Provider
from daemon.domain.token import State

CHOICE = 4  # a query finds this many times the limit of a claim
CANDIDATES = 64  # a probe takes one of so many at random
WORST = 1000  # if all have failed, choose the healthiest of this many
SKIP_LIMIT = timedelta(seconds=2)
FRESH_FOR = timedelta(seconds=2)  # found tokens are tried for this long; the conditions of the claim decide

_LOOKED_AT = {"held": HELD, "large": LARGE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A query for up to `limit` due tokens of `provider` that `owner` may claim, except those in `busy`."""

    provider: Provider
    limit: int
    busy: Collection[str]
    owner: str
    now: datetime
    asked: timedelta  # by the boot clock
    adopting: bool  # whether another's hold that is over may be believed
    openable: Mapping[str, object]  # the condition that no key which the ring distrusts is needed

    @property
    def claimable(self) -> dict[str, object]:
        """Return the condition that a document is due and `owner` may claim it."""
        return {"due_at": due(self.now), **free(self.now, owner=self.owner, adopting=self.adopting)}

    @property
    def query(self) -> dict[str, object]:
        busy = {"_id": {"$nin": list(self.busy)}} if self.busy else {}
        return {"provider": self.provider.name, **self.claimable, **NAMED, **self.openable, **busy}

    @property
    def sound(self) -> dict[str, object]:
        """Return the same condition for tokens that have not failed since their last success."""
        return {**self.query, "state": State.ACTIVE.value, "failures": {"$in": [0, None]}}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    documents: Sequence[Document]
    until: timedelta  # by the boot clock
    more: bool  # there may be more in the store


class DueTokens:
    """Queries read only a document's id, whether it is held, and whether it is too large to be claimed."""

    def __init__(self, mongo: Mongo, *, chance: Callable[[], float]) -> None:
        self._mongo = mongo
        self._chance = chance
        self._left: dict[str, _Found] = {}

    async def providers(self, names: Collection[str], now: datetime) -> Collection[str]:
        """Return those of `names` that have due tokens, or all of them if MongoDB can't answer quickly.

        The query skips from one provider to the next on the index, unless a document of another program holds
        a list in place of a date or a name.
        """
        if not names:
            return names
        query = {"provider": {"$in": sorted(names)}, "due_at": due(now)}

        async def found() -> Collection[str]:
            try:
                rows = await self._mongo.tokens.distinct(
                    "provider", query, maxTimeMS=SKIP_LIMIT // timedelta(milliseconds=1)
                )
            except ExecutionTimeout:
                return names
            # BSON's code is a str that no set can hold, and a list in a document may have any type.
            return {row for row in rows if type(row) is str and row in names}

        return await self._mongo.guarded(found())

    async def next(self, look: Look) -> tuple[Sequence[Document], bool]:
        """Return some of the oldest tokens, and whether there are more."""
        name, limit = look.provider.name, look.limit
        left = self._left.pop(name, None)
        if left is None or self._mongo.clock.boot() >= left.until or 2 * len(left.documents) < limit:
            left = await self._look(look)
        documents, rest = left.documents[:limit], left.documents[limit:]
        if rest:
            self._left[name] = _Found(documents=rest, until=left.until, more=left.more)
        return [one for one in documents if one["_id"] not in look.busy], bool(rest) or left.more

    def forget(self, provider: Provider) -> None:
        """Drop the found tokens, since other replicas were faster."""
        self._left.pop(provider.name, None)

    async def doubtful(self, look: Look) -> Sequence[Document]:
        """Return only tokens for which this instance has sent one request without an answer."""
        ours = {"lease.owner": look.owner, "doubt.tries": 1}
        return await self._find(look.query | ours, look.limit)

    async def wished(self, look: Look, tokens: Collection[str]) -> Sequence[Document]:
        """Return only those of `tokens` that are due. They are found by their ids, however many others are due."""
        wanted = [token for token in tokens if token not in look.busy]
        query = {**look.query, "_id": {"$in": wanted}}
        found = self._mongo.tokens.find(query, _LOOKED_AT).hint("_id_")
        return await self._mongo.guarded(found.batch_size(len(wanted) + 1).to_list()) if wanted else ()

    async def proven(self, look: Look) -> Sequence[Document]:
        """Return some random tokens that were renewed before and have not failed since."""
        renewed = {**look.sound, "refreshed_at": {"$type": "date"}}
        return self._shuffled(await self._find(renewed, CANDIDATES))[: look.limit]

    async def healthiest(self, look: Look) -> Sequence[Document]:
        """Return some random tokens that have not failed; if there are none, those with the fewest
        failures.
        """
        found = self._shuffled(await self._find(look.sound, CANDIDATES))[: look.limit]
        return found or await self._least_failing(look)

    async def _least_failing(self, look: Look) -> Sequence[Document]:
        """Return those with the fewest failures among the oldest, at random among equals."""
        failures = {"$cond": [{"$isNumber": "$failures"}, "$failures", None]}
        pipeline: list[Mapping[str, object]] = [
            {"$match": {**look.query, "state": State.ACTIVE.value}},
            {"$sort": {"due_at": 1}},
            {"$limit": WORST},
            {"$project": {**_LOOKED_AT, "failures": failures}},
            {"$sort": {"failures": 1}},
            {"$limit": CANDIDATES},
        ]

        async def found() -> list[dict[str, object]]:
            cursor = await self._mongo.tokens.aggregate(pipeline)
            return await cursor.to_list()

        candidates = await self._mongo.guarded(found())
        ranks = [one["failures"] for one in candidates]
        order = sorted(range(len(candidates)), key=lambda index: (ranks.index(ranks[index]), self._chance()))
        return [candidates[index] for index in order[: look.limit]]

    def _shuffled(self, found: Sequence[Document]) -> list[Document]:
        return sorted(found, key=lambda _: self._chance())

    async def _look(self, look: Look) -> _Found:
        """Return some in a row, from a random one on and round the end, so that each is as likely as the
        others. No token, however old, is passed over for long.
        """
        most = CHOICE * look.limit
        oldest = await self._find(look.query, most)
        start = int(self._chance() * len(oldest)) if len(oldest) > look.limit else 0
        return _Found(
            documents=[*oldest[start:], *oldest[:start]],
            until=self._mongo.clock.boot() + FRESH_FOR,
            more=len(oldest) == most,
        )

    async def _find(self, query: Mapping[str, object], most: int) -> Sequence[Document]:
        found = self._mongo.tokens.find(query, _LOOKED_AT).sort("due_at", 1)
        return await self._mongo.guarded(found.limit(most).batch_size(most + 1).to_list())
