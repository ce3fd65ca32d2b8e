"""Queries that read much of the store, with a time limit: a slow answer does not mean that the store is
lost.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import pymongo
from pymongo.collation import Collation
from pymongo.errors import PyMongoError

from daemon.adapters.mongo.connection import Collection, Mongo
from daemon.domain.claim import StoreLost


class TooSlow(StoreLost):
    """MongoDB did not answer in time. The connection may be fine, so no loss is observed."""


async def within(
    limit: timedelta,
    mongo: Mongo,
    pipeline: Sequence[Mapping[str, object]],
    activity: str,
    *,
    collection: Collection | None = None,
    collation: Collation | None = None,
) -> list[dict[str, object]]:
    """Return the rows of `pipeline` on `collection`, which is that of the tokens if it is None.

    Raises TooSlow, StoreLost.
    """
    source = mongo.tokens if collection is None else collection
    try:
        with pymongo.timeout(limit.total_seconds()):
            cursor = await source.aggregate(pipeline, allowDiskUse=True, collation=collation)
            return await cursor.to_list()
    except PyMongoError as error:
        if error.timeout:
            raise TooSlow(f"{activity} took longer than {limit.total_seconds():.0f} s") from None
        raise mongo.lost(error) from None
