"""Adoption of the claims of an instance whose disk is lost: the end of their hold is moved to now.

Nothing else about them changes, so an ordinary claim takes them over and counts the doubt.
"""

from collections.abc import Mapping, Sequence

from daemon.adapters.mongo.audit import Audit
from daemon.adapters.mongo.bulk import update_where
from daemon.adapters.mongo.connection import Mongo

MOST_OWNERS = 20


async def running_claims(mongo: Mongo, instance: str) -> int:
    """Count the claims of `instance` that have not expired. It made them moments ago and may be alive. Raises
    StoreLost.
    """
    running = {"lease.owner": instance, "lease.until": {"$gt": mongo.clock.now()}}
    return await mongo.guarded(mongo.tokens.count_documents(running))


async def adopt(mongo: Mongo, audit: Audit, instance: str) -> int:
    """Let every instance take the claims of `instance` now. Returns their number. Audited first. Raises
    StoreLost.

    It needs one pass over the collection: no other query uses a lease's owner, so there is no index of it.
    """
    theirs = {"lease.owner": instance}
    await audit.note("adopt", instance)
    now = {"$set": {"lease.hold": mongo.clock.now()}}
    return (await update_where(mongo, theirs, now)).matched


async def owners(mongo: Mongo) -> Sequence[str]:
    """Return the instances that have claims, at most MOST_OWNERS of them. Raises StoreLost."""
    pipeline: list[Mapping[str, object]] = [
        {"$match": {"lease.owner": {"$type": "string"}}},
        {"$group": {"_id": "$lease.owner"}},
        {"$sort": {"_id": 1}},
        {"$limit": MOST_OWNERS},
    ]

    async def found() -> list[str]:
        cursor = await mongo.tokens.aggregate(pipeline)
        return [str(row["_id"]) for row in await cursor.to_list()]

    return await mongo.guarded(found())
