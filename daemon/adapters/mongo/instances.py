"""The processes that use this store: each writes a row every minute, with the keys that it still needs.

A row outlives its process by 30 days, so that a silent instance is still known to hold replies under an old
key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pymongo import ASCENDING, IndexModel

from daemon.adapters.mongo.connection import Mongo

FORGOTTEN_AFTER = timedelta(days=30)
SEEN_INDEX = IndexModel(
    [("seen_at", ASCENDING)], name="seen", expireAfterSeconds=int(FORGOTTEN_AFTER.total_seconds())
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRow:
    """One process. `keys`: those of its ring and of its journal's entries, with the number of entries that
    wait for the store and that are retained for operators.
    """

    id: str
    kind: str
    host: str
    version: str
    started_at: datetime
    keys: Mapping[str, tuple[int, int]]
    writer_key_ids: tuple[str, ...] = ()


async def report_instance(mongo: Mongo, row: InstanceRow) -> None:
    """Write the row with the current state. Raises StoreLost, Refusal."""
    fields = {
        "kind": row.kind,
        "host": row.host,
        "version": row.version,
        "started_at": row.started_at,
        "seen_at": mongo.clock.now(),
        "keys": {key_id: {"journal": journal, "kept": kept} for key_id, (journal, kept) in row.keys.items()},
        "writer_key_ids": list(row.writer_key_ids),
    }
    await mongo.tried(mongo.instances.replace_one({"_id": row.id}, fields, upsert=True))


async def forget_silent_instances(mongo: Mongo) -> None:
    """Create the index by which MongoDB deletes the rows of silent instances. Raises StoreLost, Refusal."""
    await mongo.tried(mongo.instances.create_indexes([SEEN_INDEX]))
