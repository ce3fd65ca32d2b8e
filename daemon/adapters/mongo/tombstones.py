"""Tombstones: what is left of revoked tokens for 30 days. Their fingerprints show a revoked grant that comes back."""

from collections.abc import Collection, Mapping, Sequence

from daemon.adapters.mongo.connection import EPOCH, Mongo
from daemon.domain.stored_grant import REVOKED


async def revoked_grants(mongo: Mongo, prints: Collection[str]) -> Mapping[str, str]:
    """Return the ids of the tombstones that have these fingerprints, by fingerprint. Raises StoreLost."""
    if not prints:
        return {}
    wanted = frozenset(prints)
    # The date lets MongoDB use the index of the tombstones, which are few.
    query = {"state": REVOKED, "forget_at": {"$gt": EPOCH}, "fingerprints": {"$in": list(wanted)}}
    found = await mongo.guarded(mongo.tokens.find(query, {"fingerprints": 1}).to_list())
    return {
        one: str(tombstone["_id"])
        for tombstone in found
        for one in _texts(tombstone.get("fingerprints"))
        if one in wanted
    }


def _texts(stored: object) -> Sequence[str]:
    """Return the fingerprints of a tombstone. Other programs may have written anything into it."""
    values = stored if isinstance(stored, list) else [stored]
    return [one for one in values if type(one) is str]  # BSON's code is a str that can't be looked up
