"""Habits of access keys in MongoDB: one row for each key, beside its last use. The row has the size of a page at most."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from pymongo import UpdateOne

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.serving.upserts import AT_ONCE, batches, write
from daemon.adapters.mongo.serving.uses import OF_KEY
from daemon.adapters.mongo.stored_number import count, counted
from daemon.adapters.mongo.token_document import Document, as_stored
from daemon.domain.anomaly import AnomalyKind
from daemon.domain.habit import MOST_HOURS, MOST_NETWORKS, REMEMBERED, USUAL_WITHIN, Habit, Seen

_FIELDS = {"key": 1, "since": 1, "networks": 1, "reads": 1}


class ServedHabits:
    """Implements `serving.ports.Habits`. Replicas share the rows."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def of(self, keys: Collection[str]) -> Mapping[str, Habit]:
        habits: dict[str, Habit] = {}
        for some in batches([_row_id(one) for one in sorted(keys)]):
            found = self._mongo.access_use.find({"_id": {"$in": some}}, _FIELDS)
            for row in await self._mongo.guarded(found.to_list(AT_ONCE)):
                if type(key := row.get("key")) is str:
                    habits[key] = _habit(row)
        return habits

    async def add(self, seen: Mapping[str, Seen]) -> None:
        now = self._mongo.clock.now()
        await write(
            self._mongo,
            self._mongo.access_use,
            [
                UpdateOne({"_id": _row_id(key)}, [{"$set": _with(key, one, now)}], upsert=True)
                for key, one in seen.items()
            ],
        )

    async def claim(self, key: str, kind: AnomalyKind, hour: datetime) -> bool:
        place = f"noticed.{kind.value}"
        claimed = self._mongo.access_use.update_one(
            {"_id": _row_id(key), place: {"$ne": hour}}, {"$set": {place: hour}}
        )
        return (await self._mongo.guarded(claimed)).modified_count == 1


def _row_id(key: str) -> str:
    return f"{OF_KEY} {key}"


def _habit(row: Document) -> Habit:
    """Return what is readable of a row, which another program may have changed."""
    since = row.get("since")
    networks = ((one.get("network"), one.get("at")) for one in _items(row.get("networks")))
    reads = ((one.get("hour"), one.get("count")) for one in _items(row.get("reads")))
    return Habit(
        since=since if isinstance(since, datetime) else None,
        networks={
            name: at
            for name, at in networks
            if type(name) is str and isinstance(at, datetime)  # BSON's code is a str that can't be a key
        },
        reads={hour: count(n) for hour, n in reads if isinstance(hour, datetime)},
    )


def _items(value: object) -> list[Document]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _with(key: str, seen: Seen, now: datetime) -> Document:
    """Return the fields of a row with what was seen. Entries that change move to the end, so that the others are older."""
    networks: list[object] = [{"network": one, "at": as_stored(at)} for one, at in seen.networks.items()]
    reads: list[object] = [
        {"hour": hour, "count": {"$add": [count, _counted(hour)]}} for hour, count in seen.reads.items()
    ]
    first = {"$cond": [{"$eq": [{"$type": "$since"}, "date"]}, "$since", as_stored(now)]}
    return {
        "kind": OF_KEY,
        "key": key,
        "since": first,
        "networks": _merged(
            "networks", "network", list(seen.networks), networks, "at", now - REMEMBERED, MOST_NETWORKS
        ),
        "reads": _merged(
            "reads",
            "hour",
            list(seen.reads),
            reads,
            "hour",
            now - USUAL_WITHIN - timedelta(hours=1),
            MOST_HOURS,
        ),
    }


def _merged(
    name: str, by: str, seen: list[object], entries: list[object], date: str, since: datetime, most: int
) -> Document:
    """Return a list without old entries and those that are `seen`, with `entries` at its end."""
    kept = {
        "$filter": {
            "input": _list(name),
            "cond": {
                "$and": [
                    {"$not": [{"$in": [f"$$this.{by}", seen]}]},
                    {"$gte": [f"$$this.{date}", since]},
                    {"$eq": [{"$type": f"$$this.{date}"}, "date"]},
                ]
            },
        }
    }
    return {"$slice": [{"$concatArrays": [kept, entries]}, -most]}


def _counted(hour: datetime) -> Document:
    same = {"$filter": {"input": _list("reads"), "cond": {"$eq": ["$$this.hour", hour]}}}
    return {"$sum": {"$map": {"input": same, "in": counted("$$this.count")}}}


def _list(name: str) -> Document:
    return {"$cond": [{"$isArray": f"${name}"}, f"${name}", []]}
