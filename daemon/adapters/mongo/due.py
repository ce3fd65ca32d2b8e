"""What is due and could be claimed: a look into the store that promises nothing, since replicas look at the same time.

One look finds several claims' worth, so that most claims need none; and each replica begins somewhere else in what it
found, so that few of them reach for the same tokens.
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

CHOICE = 4  # a look finds so many times what is asked for
CANDIDATES = 64  # a probe takes one of so many at random
WORST = 1000  # where all have failed, the healthiest of so many are looked for
SKIP_LIMIT = timedelta(seconds=2)
FRESH_FOR = timedelta(seconds=2)  # what was found is worth a try so long: a claim's own conditions decide

_LOOKED_AT = {"held": HELD, "large": LARGE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is asked for: up to `limit` due tokens of `provider` that `owner` may claim, none of those in `busy`."""

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
        """The condition that a document is due and `owner` may claim it."""
        return {"due_at": due(self.now), **free(self.now, owner=self.owner, adopting=self.adopting)}

    @property
    def query(self) -> dict[str, object]:
        busy = {"_id": {"$nin": list(self.busy)}} if self.busy else {}
        return {"provider": self.provider.name, **self.claimable, **NAMED, **self.openable, **busy}

    @property
    def sound(self) -> dict[str, object]:
        """The same, of tokens that have not failed since their last success."""
        return {**self.query, "state": State.ACTIVE.value, "failures": {"$in": [0, None]}}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    documents: Sequence[Document]
    until: timedelta  # by the boot clock
    more: bool  # there may be more in the store


class DueTokens:
    """Of each document no more than its name, whether it is held, and whether it is too large to be claimed."""

    def __init__(self, mongo: Mongo, *, chance: Callable[[], float]) -> None:
        self._mongo = mongo
        self._chance = chance
        self._left: dict[str, _Found] = {}

    async def providers(self, names: Collection[str], now: datetime) -> Collection[str]:
        """Those of `names` that have something due; all of them where MongoDB can't say so soon. It skips from one provider
        to the next on the index, unless a document of another program's holds a list where a date or a name belongs.
        """
        query = {"provider": {"$in": sorted(names)}, "due_at": due(now)}

        async def found() -> Collection[str]:
            try:
                rows = await self._mongo.tokens.distinct(
                    "provider", query, maxTimeMS=SKIP_LIMIT // timedelta(milliseconds=1)
                )
            except ExecutionTimeout:
                return names
            return {row for row in rows if isinstance(row, str)}

        return await self._mongo.guarded(found())

    async def next(self, look: Look) -> tuple[Sequence[Document], bool]:
        """Some from among the oldest; and whether there are more."""
        name, limit = look.provider.name, look.limit
        left = self._left.pop(name, None)
        if left is None or self._mongo.clock.boot() >= left.until or 2 * len(left.documents) < limit:
            left = await self._look(look)
        documents, rest = left.documents[:limit], left.documents[limit:]
        if rest:
            self._left[name] = _Found(documents=rest, until=left.until, more=left.more)
        return [one for one in documents if one["_id"] not in look.busy], bool(rest) or left.more

    def forget(self, provider: Provider) -> None:
        """Others were faster: what is left was found by them too."""
        self._left.pop(provider.name, None)

    async def doubtful(self, look: Look) -> Sequence[Document]:
        """Only what this instance has asked once and had no answer to."""
        ours = {"lease.owner": look.owner, "doubt.tries": 1}
        return await self._find(look.query | ours, look.limit)

    async def proven(self, look: Look) -> Sequence[Document]:
        """Some at random of those that were renewed before and have not failed since."""
        renewed = {**look.sound, "refreshed_at": {"$type": "date"}}
        return self._shuffled(await self._find(renewed, CANDIDATES))[: look.limit]

    async def healthiest(self, look: Look) -> Sequence[Document]:
        """Some at random of those that have not failed; if there are none, those with the fewest failures."""
        found = self._shuffled(await self._find(look.sound, CANDIDATES))[: look.limit]
        return found or await self._least_failing(look)

    async def _least_failing(self, look: Look) -> Sequence[Document]:
        """Those with the fewest failures among the oldest, at random among equals."""
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
        order = sorted(range(len(candidates)), key=lambda place: (ranks.index(ranks[place]), self._chance()))
        return [candidates[place] for place in order[: look.limit]]

    def _shuffled(self, found: Sequence[Document]) -> list[Document]:
        return sorted(found, key=lambda _: self._chance())

    async def _look(self, look: Look) -> _Found:
        """In a row from a random one on and round the end, so that each is as likely as the others: none, however old,
        is passed over for long.
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
