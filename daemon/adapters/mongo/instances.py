"""The processes that use this store: each writes a row every minute, with the keys that it still needs.

A row outlives its process by 30 days, so that a silent instance is still known to hold replies under an old
key.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pymongo import ASCENDING, IndexModel

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.stored_number import count
from daemon.domain.key_use import SILENT_AFTER, KeyNeeds, KeyUse, Process

SEEN_LATELY = SILENT_AFTER
FORGOTTEN_AFTER = timedelta(days=30)
SEEN_INDEX = IndexModel(
    [("seen_at", ASCENDING)], name="seen", expireAfterSeconds=int(FORGOTTEN_AFTER.total_seconds())
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRow:
    """One process. `keys`: those of its ring and of its journal's entries, with the number of entries that
    wait for the store and that are retained for operators. `sealing`: those that may seal. `writer_key_ids`: the keys
    whose writers' texts it opens.
    """

    id: str
    kind: str
    host: str
    version: str
    started_at: datetime
    keys: Mapping[str, tuple[int, int]]
    sealing: Collection[str]
    writer_key_ids: tuple[str, ...] = ()


async def report_instance(mongo: Mongo, row: InstanceRow) -> None:
    """Write the row with the current state. Raises StoreLost, Refusal."""
    fields = {
        "kind": row.kind,
        "host": row.host,
        "version": row.version,
        "started_at": row.started_at,
        "seen_at": mongo.clock.now(),
        "keys": {
            key_id: {"journal": journal, "kept": kept, "use": _use(row, key_id).value}
            for key_id, (journal, kept) in row.keys.items()
        },
        "writer_key_ids": list(row.writer_key_ids),
    }
    await mongo.tried(mongo.instances.replace_one({"_id": row.id}, fields, upsert=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenService:
    """An access service that has written its row lately."""

    id: str
    host: str
    version: str
    seen_at: datetime
    reader_ids: tuple[str, ...]
    writer_ids: tuple[str, ...]


async def seen_services(mongo: Mongo) -> Sequence[SeenService]:
    """Return the access services that were seen lately, sorted by host, at most 100. A strange date counts as now.

    Raises StoreLost, Refusal.
    """
    now = mongo.clock.now()
    since = now - SEEN_LATELY
    query = {"kind": "serve", "seen_at": {"$gte": since}}
    rows = await mongo.tried(mongo.instances.find(query).sort([("host", 1), ("_id", 1)]).limit(100).to_list())
    return [
        SeenService(
            id=str(row["_id"]),
            host=str(row.get("host")),
            version=str(row.get("version")),
            seen_at=seen_at if isinstance(seen_at := row["seen_at"], datetime) else now,
            reader_ids=tuple(map(str, keys if isinstance(keys := row.get("keys"), Mapping) else ())),
            writer_ids=tuple(map(str, ids if isinstance(ids := row.get("writer_key_ids"), list) else ())),
        )
        for row in rows
    ]


async def without_writer_key(mongo: Mongo, key_id: str) -> Sequence[str]:
    """Return the hosts of daemons that were seen lately and can't open texts of this writer key. Raises StoreLost."""
    since = mongo.clock.now() - SEEN_LATELY
    query = {"kind": "run", "seen_at": {"$gte": since}, "writer_key_ids": {"$ne": key_id}}
    found = await mongo.guarded(mongo.instances.find(query, {"host": 1}).to_list())
    return sorted({str(row.get("host")) for row in found})


async def forget_silent_instances(mongo: Mongo) -> None:
    """Create the index by which MongoDB deletes the rows of silent instances. Raises StoreLost, Refusal."""
    await mongo.tried(mongo.instances.create_indexes([SEEN_INDEX]))


async def lacking_key(mongo: Mongo, key_id: str) -> Sequence[str]:
    """Return the hosts of daemons that were seen lately and don't have this key on their ring. Raises StoreLost."""
    since = mongo.clock.now() - SEEN_LATELY
    query = {"kind": "run", "seen_at": {"$gte": since}, f"keys.{key_id}": {"$exists": False}}
    found = await mongo.guarded(mongo.instances.find(query, {"host": 1}).to_list())
    return sorted({str(row.get("host")) for row in found})


async def processes(mongo: Mongo) -> Sequence[Process]:
    """Return every process that has a row, and whether it was adopted since. Raises StoreLost."""
    rows = await mongo.guarded(mongo.instances.find({}).to_list())
    adoptions = await _adoptions(mongo, [str(row["_id"]) for row in rows])
    return [_process(row, adoptions.get(str(row["_id"])), now=mongo.clock.now()) for row in rows]


async def _adoptions(mongo: Mongo, ids: Sequence[str]) -> Mapping[str, datetime]:
    """Return the newest adoption of each instance, by the audit."""
    query = {"action": "adopt", "token": {"$in": list(ids)}}
    found = await mongo.guarded(
        mongo.audit.find(query, {"token": 1, "at": 1}).sort("at", ASCENDING).to_list()
    )
    return {str(row["token"]): at for row in found if isinstance(at := row.get("at"), datetime)}


def _process(row: Mapping[str, object], adopted_at: datetime | None, *, now: datetime) -> Process:
    """Read a row of any form. A strange date counts as now, and a row without `use` as one of a key that seals."""
    seen, keys = row.get("seen_at"), row.get("keys")
    writers = row.get("writer_key_ids") if row.get("kind") == "run" else None  # the others open none
    seen_at = seen if isinstance(seen, datetime) else now
    return Process(
        id=str(row["_id"]),
        host=str(row.get("host")),
        seen_at=seen_at,
        keys={str(name): _needs(one) for name, one in keys.items()} if isinstance(keys, Mapping) else {},
        writer_key_ids=[str(one) for one in writers] if isinstance(writers, list) else (),
        adopted=adopted_at is not None and adopted_at > seen_at,
    )


def _needs(stored: object) -> KeyNeeds:
    row = stored if isinstance(stored, Mapping) else {}
    use = KeyUse.OPEN if row.get("use") == KeyUse.OPEN.value else KeyUse.ALL
    return KeyNeeds(use=use, journal=_count(row.get("journal")), kept=_count(row.get("kept")))


def _count(stored: object) -> int:
    return count(stored)


def _use(row: InstanceRow, key_id: str) -> KeyUse:
    return KeyUse.ALL if key_id in row.sealing else KeyUse.OPEN
