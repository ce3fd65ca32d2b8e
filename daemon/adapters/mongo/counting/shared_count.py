"""The count of the store that all replicas share: one row, written by the replica that counts for all.

It is JSON in a string, so that no name in it is a field name to MongoDB. It is checked when it is read,
because another program may have written it.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from pydantic import TypeAdapter, ValidationError
from pymongo.errors import DuplicateKeyError

from daemon.adapters.mongo.connection import Mongo, Refusal
from daemon.domain.statistics import Due, Upcoming, Whole

ROW = "refreshd:count"  # beside the rows of providers, none of whose names holds a colon
LONGEST = 8 * 1024 * 1024  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The figures that one replica has counted for all."""

    whole: Whole
    due: Due
    upcoming: Upcoming


_COUNTED = TypeAdapter(Counted)


class SharedCount:
    """`owner` is this instance's id. Without the privilege for the row each replica counts for itself."""

    def __init__(self, mongo: Mongo, *, owner: str) -> None:
        self._mongo = mongo
        self._owner = owner

    async def lead(self, for_: timedelta) -> bool:
        """Return whether this replica counts, for so long from now. Raises StoreLost."""
        now = self._mongo.clock.now()
        free = [
            {"owner": self._owner},
            {"until": {"$not": {"$gt": now}}},
            {"until": {"$gt": now + timedelta(days=1)}},
        ]
        lease = {"kind": "count", "owner": self._owner, "until": now + for_}
        taken = self._mongo.providers.update_one({"_id": ROW, "$or": free}, {"$set": lease}, upsert=True)
        try:
            await self._mongo.tried(taken)
        except DuplicateKeyError:
            return False
        except Refusal:
            return True
        return True

    async def publish(self, counted: Counted) -> None:
        """Store the figures for the others, unless one of them counts by now. Raises StoreLost."""
        text = _COUNTED.dump_json(counted).decode()
        ours = {"_id": ROW, "owner": self._owner}
        with suppress(Refusal):
            await self._mongo.tried(self._mongo.providers.update_one(ours, {"$set": {"counted": text}}))

    async def read(self) -> Counted | None:
        """Return the figures that were stored last. Raises StoreLost."""
        fields: Mapping[str, object] = {
            "counted": {"$cond": [{"$lte": [_length("$counted"), LONGEST]}, "$counted", ""]}
        }
        try:
            row = await self._mongo.tried(self._mongo.providers.find_one({"_id": ROW}, fields))
        except Refusal:
            return None
        text = (row or {}).get("counted")
        try:
            return _COUNTED.validate_json(text) if isinstance(text, str) and text else None
        except ValidationError:
            return None


def _length(path: str) -> Mapping[str, object]:
    """Return the length of a string in bytes; for other types, one more than the limit."""
    return {"$cond": [{"$eq": [{"$type": path}, "string"]}, {"$strLenBytes": path}, LONGEST + 1]}
