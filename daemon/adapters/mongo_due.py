"""What is due and could be claimed: a look into the store that promises nothing, since replicas look at the same time.

One look finds several claims' worth, so that most claims need none; and each replica begins somewhere else in what it
found, so that few of them reach for the same tokens.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo import Mongo, due
from daemon.adapters.mongo_keys import openable
from daemon.adapters.token_document import Document
from daemon.domain.provider import Grant, Provider
from daemon.domain.token import State

CHOICE = 4  # a look finds so many times what is asked for
CANDIDATES = 64  # a probe takes one of so many at random
WORST = 1000  # where all have failed, the healthiest of so many are looked for
_LOOKED_AT = {"lease": 1, "doubt": 1}  # what it takes to claim a document
FRESH_FOR = timedelta(seconds=2)  # what was found is worth a try so long: a claim's own conditions decide


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    documents: Sequence[Document]
    until: timedelta  # by the boot clock
    more: bool  # there may be more in the store


class DueTokens:
    """Of each document as much as it takes to claim it: its lease and its doubt."""

    def __init__(
        self, mongo: Mongo, *, owner: str, keyring: Callable[[], KeyRing], chance: Callable[[], float]
    ) -> None:
        self._mongo = mongo
        self._keyring = keyring
        self._owner = owner
        self._chance = chance
        self._left: dict[str, _Found] = {}

    async def next(
        self, provider: Provider, *, limit: int, busy: Collection[str], now: datetime
    ) -> tuple[Sequence[Document], bool]:
        """Up to `limit` from among the oldest, none of those in `busy`; and whether there are more."""
        left = self._left.pop(provider.name, None)
        if left is None or self._mongo.clock.boot() >= left.until or 2 * len(left.documents) < limit:
            left = await self._look(provider, limit=limit, busy=busy, now=now)
        documents, rest = left.documents[:limit], left.documents[limit:]
        if rest:
            self._left[provider.name] = _Found(documents=rest, until=left.until, more=left.more)
        return [one for one in documents if one["_id"] not in busy], bool(rest) or left.more

    def forget(self, provider: Provider) -> None:
        """Others were faster: what is left was found by them too."""
        self._left.pop(provider.name, None)

    async def doubtful(
        self, provider: Provider, *, limit: int, busy: Collection[str], now: datetime
    ) -> Sequence[Document]:
        """Only what this instance has asked once and had no answer to."""
        ours = {"lease.owner": self._owner, "doubt.tries": 1}
        return await self._find(self._query(provider, busy, now) | ours, limit)

    async def proven(
        self, provider: Provider, *, limit: int, busy: Collection[str], now: datetime
    ) -> Sequence[Document]:
        """Some at random of those that were renewed before and have not failed since."""
        sound = self._sound(provider, busy, now) | {"refreshed_at": {"$type": "date"}}
        return self._shuffled(await self._find(sound, CANDIDATES))[:limit]

    async def healthiest(
        self, provider: Provider, *, limit: int, busy: Collection[str], now: datetime
    ) -> Sequence[Document]:
        """Some at random of those that have not failed; if there are none, those with the fewest failures."""
        found = self._shuffled(await self._find(self._sound(provider, busy, now), CANDIDATES))[:limit]
        return found or await self._least_failing(provider, limit=limit, busy=busy, now=now)

    def _sound(self, provider: Provider, busy: Collection[str], now: datetime) -> dict[str, object]:
        healthy = {"state": State.ACTIVE.value, "failures": {"$in": [0, None]}}
        return {**self._query(provider, busy, now), **healthy}

    async def _least_failing(
        self, provider: Provider, *, limit: int, busy: Collection[str], now: datetime
    ) -> Sequence[Document]:
        """Those with the fewest failures among the oldest, at random among equals."""
        pipeline: list[Mapping[str, object]] = [
            {"$match": {**self._query(provider, busy, now), "state": State.ACTIVE.value}},
            {"$sort": {"due_at": 1}},
            {"$limit": WORST},
            {"$project": {**_LOOKED_AT, "failures": 1}},
            {"$sort": {"failures": 1}},
            {"$limit": CANDIDATES},
        ]

        async def found() -> list[dict[str, object]]:
            cursor = await self._mongo.tokens.aggregate(pipeline)
            return await cursor.to_list()

        candidates = await self._mongo.promised(found())
        ranks = [one.get("failures") for one in candidates]
        order = sorted(range(len(candidates)), key=lambda place: (ranks.index(ranks[place]), self._chance()))
        return [candidates[place] for place in order[:limit]]

    def _shuffled(self, found: Sequence[Document]) -> list[Document]:
        return sorted(found, key=lambda _: self._chance())

    async def _look(self, provider: Provider, *, limit: int, busy: Collection[str], now: datetime) -> _Found:
        """The oldest, in a row from a random one on and round the end, so that each is as likely as the others: none,
        however old, is passed over for long.
        """
        oldest = await self._find(self._query(provider, busy, now), CHOICE * limit)
        start = int(self._chance() * len(oldest)) if len(oldest) > limit else 0
        return _Found(
            documents=[*oldest[start:], *oldest[:start]],
            until=self._mongo.clock.boot() + FRESH_FOR,
            more=len(oldest) == CHOICE * limit,
        )

    def _query(self, provider: Provider, busy: Collection[str], now: datetime) -> dict[str, object]:
        free: list[object] = [{"lease": None}, {"lease.owner": self._owner}, {"lease.hold": {"$lte": now}}]
        presented = "access_token" if provider.definition.grant is Grant.EXCHANGE else "refresh_token"
        query: dict[str, object] = {"provider": provider.name, "due_at": due(now), "$or": free}
        query |= openable(self._keyring(), presented)
        return query | ({"_id": {"$nin": list(busy)}} if busy else {})

    async def _find(self, query: dict[str, object], most: int) -> Sequence[Document]:
        found = self._mongo.tokens.find(query, _LOOKED_AT).sort("due_at", 1)
        return await self._mongo.promised(found.limit(most).batch_size(most + 1).to_list())
