"""Writes of many rows that other processes write as well: what one of them has just inserted is updated."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from pymongo import UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, PyMongoError

from daemon.adapters.mongo.connection import Collection, Mongo

AT_ONCE = 1000
_DUPLICATE = 11000  # another process inserted the same row at the same moment

Operation = UpdateOne | UpdateMany
Item = TypeVar("Item")


async def write(mongo: Mongo, collection: Collection, operations: Sequence[Operation]) -> None:
    """Carry out updates that may insert rows. Raises StoreLost."""
    for start in range(0, len(operations), AT_ONCE):
        again = await _refused(mongo, collection, operations[start : start + AT_ONCE])
        if again:
            await _refused(mongo, collection, again)


async def _refused(
    mongo: Mongo, collection: Collection, operations: Sequence[Operation]
) -> Sequence[Operation]:
    """Write, and return the operations whose row another process has just inserted. Raises StoreLost."""
    try:
        await collection.bulk_write(operations, ordered=False)
    except PyMongoError as error:
        return [operations[index] for index in already_there(mongo, error)]
    mongo.seen()
    return []


def already_there(mongo: Mongo, error: PyMongoError) -> Sequence[int]:
    """Return the positions of the writes that failed because their row is already there. Raises StoreLost for any other
    failure.
    """
    details = (error.details if isinstance(error, BulkWriteError) else None) or {}
    failed = details.get("writeErrors", [])
    unconfirmed = details.get("writeConcernErrors", [])
    if not failed or unconfirmed or any(one.get("code") != _DUPLICATE for one in failed):
        raise mongo.lost(error) from None
    mongo.seen()
    return [one["index"] for one in failed]


def batches(names: Sequence[Item]) -> Iterable[list[Item]]:
    return (list(names[start : start + AT_ONCE]) for start in range(0, len(names), AT_ONCE))
