"""Counted uses of access keys in MongoDB. They end by themselves, and are not in the audit's own collection: there the
access service may only insert.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from pymongo import UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, PyMongoError

from daemon.adapters.mongo.audit import ACCESS
from daemon.adapters.mongo.connection import Collection, Mongo
from daemon.adapters.mongo.token_document import as_stored
from daemon.domain.use import DAY, UNAUTHORIZED, Use, UseKey

AT_ONCE = 1000
OF_KEY = "key"  # the kind of the row that says when a key was last used
_TWICE = 11000  # another process inserted the same row at the same moment

Operation = UpdateOne | UpdateMany


class ServedUses:
    """Implements `serving.ports.Uses`. `retention`: how long a count is kept after its day."""

    def __init__(self, mongo: Mongo, *, retention: timedelta) -> None:
        self._mongo = mongo
        self._retention = retention

    async def add(self, uses: Mapping[UseKey, Use]) -> None:
        rows = [self._row(key, use) for key, use in uses.items()]
        await write(self._mongo, self._mongo.access_use, [*rows, *_of_keys(uses)])
        tokens = {key.token for key in uses if key.token is not None}
        now = as_stored(self._mongo.clock.now())
        await write(
            self._mongo,
            self._mongo.tokens,
            [
                UpdateMany({"_id": {"$in": some}}, {"$max": {"last_used_at": now}})
                for some in batches(sorted(tokens))
            ],
        )

    def _row(self, key: UseKey, use: Use) -> UpdateOne:
        parts = (key.action, key.key, f"{key.since:%Y-%m-%dT%H}", key.result or "", key.token or "")
        latest = {"at": as_stored(use.at)}
        by = {"key": key.key, "name": use.name, "ip": use.ip, "peer": use.peer, **_workload(use)}
        fixed = {
            "action": key.action,
            "token": key.token,
            "actor": use.name,
            "kind": ACCESS,
            "result": key.result,
            "since": key.since,
            "ends_at": key.since + DAY + self._retention,
        }
        change = {"$inc": {"count": use.count}, "$max": latest, "$set": {"by": by}, "$setOnInsert": fixed}
        return UpdateOne({"_id": " ".join(parts)}, change, upsert=True)


async def write(mongo: Mongo, collection: Collection, operations: Sequence[Operation]) -> None:
    """Carry out updates that may insert rows. Raises StoreLost."""
    for start in range(0, len(operations), AT_ONCE):
        again = await _refused_twice(mongo, collection, operations[start : start + AT_ONCE])
        if again:
            await _refused_twice(mongo, collection, again)


async def _refused_twice(
    mongo: Mongo, collection: Collection, operations: Sequence[Operation]
) -> Sequence[Operation]:
    """Write, and return the operations whose row another process has just inserted. Raises StoreLost."""
    try:
        await collection.bulk_write(operations, ordered=False)
    except PyMongoError as error:
        failed = error.details.get("writeErrors", []) if isinstance(error, BulkWriteError) else []
        if not failed or any(one.get("code") != _TWICE for one in failed):
            raise mongo.lost(error) from None
        return [operations[one["index"]] for one in failed]
    mongo.seen()
    return []


def batches(names: Sequence[str]) -> Iterable[list[str]]:
    return (list(names[start : start + AT_ONCE]) for start in range(0, len(names), AT_ONCE))


def _workload(use: Use) -> Mapping[str, str | None]:
    """Return the claims of a workload's last JWT."""
    if (one := use.workload) is None:
        return {}
    return {"iss": one.issuer, "sub": one.subject, "jti": one.jwt}


def _of_keys(uses: Mapping[UseKey, Use]) -> Iterable[UpdateOne]:
    """Yield when each access key was last used. Workloads have no such row: it would never end."""
    latest: dict[str, Use] = {}
    for key, use in uses.items():
        if key.result == UNAUTHORIZED:
            continue
        if use.workload is None and (key.key not in latest or latest[key.key].at < use.at):
            latest[key.key] = use
    for key_id, use in latest.items():
        at = {"$max": {"last_used_at": as_stored(use.at)}}
        yield UpdateOne(
            {"_id": f"{OF_KEY} {key_id}"}, {**at, "$set": {"kind": OF_KEY, "key": key_id}}, upsert=True
        )
