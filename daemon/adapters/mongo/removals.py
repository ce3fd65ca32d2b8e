"""Tokens that an application has removed. The access service may not delete documents: it marks them, and the daemon
deletes those that are marked.

A mark takes the sealed tokens out of the document, so that nothing is left to serve or to present.
"""

from collections.abc import Sequence
from datetime import datetime

from daemon.adapters.mongo.connection import Mongo, due
from daemon.adapters.mongo.document_limits import NAMED
from daemon.domain.stored_grant import REMOVED

AT_ONCE = 1000


def ended(now: datetime) -> dict[str, object]:
    """Return the condition that a token is marked and no request for it is running: the reply could still come."""
    return {
        "state": REMOVED,
        "refresh_token": None,
        "removed_at": due(now),
        "lease.until": {"$not": {"$gt": now}},
    }


async def delete_removed(mongo: Mongo, *, limit: int = AT_ONCE) -> Sequence[str]:
    """Delete at most `limit` of the marked tokens for which no request is running. Returns their ids.

    A token that an application or an import has stored again in the meantime has no mark. Raises StoreLost.
    """
    condition = ended(mongo.clock.now())
    found = mongo.tokens.find({**condition, **NAMED}, {"_id": 1}).limit(limit)
    names = [str(row["_id"]) for row in await mongo.guarded(found.to_list())]
    if not names:
        return []
    await mongo.guarded(mongo.tokens.delete_many({"_id": {"$in": names}, **condition}))
    left = await mongo.guarded(mongo.tokens.find({"_id": {"$in": names}}, {"_id": 1}).to_list())
    return sorted(set(names) - {str(row["_id"]) for row in left})
