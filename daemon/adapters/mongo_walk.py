"""A walk over every document in the order of `_id`, range by range: each command ends within seconds, however many there are.

A range that takes too long is halved, and halved again. What is stored meanwhile may be met or not.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import pymongo
from pymongo.errors import PyMongoError

from daemon.adapters.document_limits import LONGEST_TEXT, NAMELESS
from daemon.adapters.mongo import Mongo
from daemon.domain.claim import StoreLost

RANGE = 20_000  # documents
LIMIT = timedelta(seconds=10)  # of one command

Row = Mapping[str, object]
# What marks the end of a range is sent back to MongoDB, so it must not have changed on its way, as a text does that is not
# UTF-8; and it must not be large.
_PLAIN = {"_id": {"$type": ["objectId", "int", "long", "double", "decimal", "date", "binData", "bool"]}}
_SHORT: Final[Row] = {"$lte": [{"$bsonSize": {"_id": "$_id"}}, LONGEST_TEXT]}
_MARKS: Final[Row] = {"$nor": [{"$and": [NAMELESS, {"$nor": [_PLAIN]}]}], "$expr": _SHORT}


class TooSlow(StoreLost):
    """MongoDB did not answer within LIMIT. That says nothing about the connection: it is no loss to tell of."""


async def within_limit(mongo: Mongo, pipeline: Sequence[Row], what: str) -> list[dict[str, object]]:
    """The rows of `pipeline`. Raises TooSlow, StoreLost."""
    try:
        with pymongo.timeout(LIMIT.total_seconds()):
            cursor = await mongo.tokens.aggregate(pipeline, allowDiskUse=True)
            return await cursor.to_list()
    except PyMongoError as error:
        if error.timeout:
            raise TooSlow(f"{what} took longer than {LIMIT.seconds} s") from None
        raise mongo.lost(error) from None


class Walk:
    """Begins at the first document. `ended`: it has been at the last."""

    def __init__(self, mongo: Mongo, what: str, *, size: int = RANGE) -> None:
        self._mongo = mongo
        self._what = what
        self._size = size
        self._after: list[object] = []  # the last `_id` of the range before: of any type
        self.ended = False

    async def next(self, pipeline: Sequence[Row]) -> list[dict[str, object]]:
        """The rows of `pipeline` over the next range. Raises StoreLost."""
        while True:
            try:
                upto = await self._upto()
                rows = await within_limit(self._mongo, [_within(self._after, upto), *pipeline], self._what)
            except TooSlow:
                if self._size == 1:
                    raise
                self._size //= 2
            else:
                self._after, self.ended = upto, not upto
                return rows

    async def _upto(self) -> list[object]:
        """The `_id` at which the next range ends; none: it is the last range."""
        found = await within_limit(
            self._mongo,
            [
                _within(self._after, []),
                {"$sort": {"_id": 1}},
                {"$project": {"_id": 1}},
                {"$match": _MARKS},
                {"$skip": self._size - 1},
                {"$limit": 1},
            ],
            self._what,
        )
        return [row["_id"] for row in found]


def _within(after: Sequence[object], upto: Sequence[object]) -> Row:
    """Compared as an expression, which knows an order of all types: a query compares within one type only."""
    bounds = [{"$gt": ["$_id", {"$literal": one}]} for one in after]
    bounds += [{"$lte": ["$_id", {"$literal": one}]} for one in upto]
    return {"$match": {"$expr": {"$and": bounds}} if bounds else {}}
