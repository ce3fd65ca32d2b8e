"""The deliveries of the outbox: who may send which, and what has come of it. `outbox.py` describes the documents.

A claim moves `due_at` into the future by the length of a lease. If its process dies, the delivery becomes due again,
and a process that held it too long can't settle it any more. A document that isn't refreshd's, whatever its fields hold,
is set aside by MongoDB, without being read.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from daemon.adapters.mongo.connection import EPOCH, Mongo, due
from daemon.adapters.mongo.notifying.outbox import KEPT, tried
from daemon.adapters.mongo.stored_number import count, counted
from daemon.domain.hook import Attempt, Health, Outcome
from daemon.domain.hook_delivery import Claimed, Delivery
from daemon.domain.owner_event import Actor, OwnerEvent, OwnerEventType

LEASE = timedelta(minutes=1)  # three times the longest request
LARGEST = 16 * 1024  # bytes of a document; refreshd's own have few
_LONGEST_ID = 4_000  # characters
_TEXTS = ("event", "type", "who_acts")
_TEXTS_OR_NULL = ("provider", "token", "account", "subject", "kind", "code")
_WAITS = {"$gt": EPOCH}
Pipeline = Sequence[Mapping[str, object]]

_FAR = datetime(9000, 1, 1, tzinfo=UTC)  # later dates can't be read

# What a document of refreshd's own fulfils. Nothing here can fail on a strange value, and a text that isn't UTF-8 matches
# no pattern. Inside `$nor`, so that MongoDB does not plan with the index of `_id`.
_STRANGE_ID = {"_id": {"$not": {"$regex": rf"(?s)\A.{{1,{_LONGEST_ID}}}\z"}}}
_FIELDS: Mapping[str, object] = {
    "$and": [
        {"$lte": [{"$bsonSize": "$$ROOT"}, LARGEST]},
        {"$eq": ["$state", "waiting"]},
        {"$in": ["$type", [one.value for one in OwnerEventType]]},
        {"$in": ["$who_acts", [one.value for one in Actor]]},
        *({"$eq": [{"$type": f"${name}"}, "string"]} for name in ("event", "hook")),
        *({"$in": [{"$type": f"${name}"}, ["string", "null"]]} for name in _TEXTS_OR_NULL),
        *(
            test
            for name in ("at", "added_at", "due_at")
            for test in (
                {"$eq": [{"$type": f"${name}"}, "date"]},
                {"$gt": [f"${name}", EPOCH]},
                {"$lt": [f"${name}", _FAR]},
            )
        ),
        {"$in": [{"$type": "$attempts"}, ["int", "long"]]},
        {"$eq": ["$attempts", counted("$attempts")]},
        {"$in": [{"$type": "$revision"}, ["int", "long", "null"]]},
    ]
}
_OWN: Mapping[str, object] = {"$nor": [_STRANGE_ID], "$expr": _FIELDS}
_STRANGE: Mapping[str, object] = {"$or": [_STRANGE_ID, {"$expr": {"$not": [_FIELDS]}}]}
_ANY_HOOK = {"$gt": ""}  # lets MongoDB use the index


class MongoDeliveries:
    """Implements `notifying.ports.Deliveries`. Every method raises StoreLost."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def next_due(self, hook: str) -> datetime | None:
        found = await tried(
            self._mongo,
            self._mongo.outbox.find(self._waiting(hook), {"_id": 0, "due_at": 1})
            .sort("due_at")
            .limit(1)
            .to_list(),
        )
        if not found:
            return None
        at = found[0].get("due_at")
        return at if isinstance(at, datetime) else EPOCH  # an array that holds a date: it is set aside

    async def claim(self, hook: str, *, limit: int) -> Claimed:
        now = self._mongo.clock.now()
        waiting = {**self._waiting(hook), "due_at": due(now)}
        rows = await tried(
            self._mongo,
            self._mongo.outbox.find({**waiting, **_OWN}, {"_id": 1}).sort("due_at").limit(limit).to_list(),
        )
        malformed = 0
        if len(rows) < limit:  # else those can wait until all others were claimed
            malformed = await self._set_aside(waiting, now)
        ids = [row["_id"] for row in rows]
        if not ids:
            return Claimed(deliveries=(), malformed=malformed)
        claim = uuid4().hex
        mine = {"$set": {"claim": claim, "due_at": now + LEASE}}
        unclaimed = {**waiting, **_OWN, "_id": {"$in": ids}}
        await tried(self._mongo, self._mongo.outbox.update_many(unclaimed, mine))
        taken = await tried(
            self._mongo,
            self._mongo.outbox.find({"_id": {"$in": ids}, "claim": claim}).sort("added_at").to_list(),
        )
        read = [_delivery(one, claim) for one in taken]
        return Claimed(deliveries=[one for one in read if one is not None], malformed=malformed)

    async def delivered(self, delivery: Delivery, *, status: int | None) -> None:
        now = self._mongo.clock.now()
        last = {"at": now, "outcome": Outcome.DELIVERED.value, "status": status}
        await self._settle(delivery, {**_ended("delivered", now), "last": last}, over=True)

    async def failed(self, delivery: Delivery, attempt: Attempt, *, due_at: datetime) -> None:
        last = {"at": self._mongo.clock.now(), "outcome": attempt.outcome.value, "status": attempt.status}
        await self._settle(delivery, {"due_at": due_at, "last": last}, over=False)

    async def drop_old(self) -> Mapping[str, int]:
        """Drop what has waited for KEPT, of configured hooks and of others. Returns how many, by hook."""
        now = self._mongo.clock.now()
        old = {"hook": _ANY_HOOK, "due_at": _WAITS, "added_at": {"$lte": now - KEPT}}
        grouped: Pipeline = [{"$match": old}, {"$group": {"_id": "$hook", "count": {"$sum": 1}}}]
        cursor = await tried(self._mongo, self._mongo.outbox.aggregate(grouped))
        dropped = {}
        for row in await tried(self._mongo, cursor.to_list()):
            hook = row["_id"]
            if not isinstance(hook, str):
                continue
            change = {"$set": _ended("dropped", now), "$unset": {"due_at": ""}}
            done = await tried(self._mongo, self._mongo.outbox.update_many({**old, "hook": hook}, change))
            if done.modified_count:
                dropped[hook] = done.modified_count
        return dropped

    async def waiting(self) -> Mapping[str, tuple[int, datetime]]:
        """Return how many deliveries wait, held ones too, and since when the oldest does, by hook. Only the index is read."""
        grouped: Pipeline = [
            {"$match": {"hook": _ANY_HOOK, "due_at": _WAITS}},
            {"$project": {"_id": 0, "hook": 1, "added_at": 1}},
            {"$group": {"_id": "$hook", "count": {"$sum": 1}, "oldest": {"$min": "$added_at"}}},
            {"$limit": 10_000},
        ]
        cursor = await tried(self._mongo, self._mongo.outbox.aggregate(grouped))
        rows = await tried(self._mongo, cursor.to_list())
        return {
            row["_id"]: (row["count"], row["oldest"])
            for row in rows
            if isinstance(row["_id"], str)
            and isinstance(row["count"], int)
            and isinstance(row["oldest"], datetime)
        }

    # ---------------------------------------------------------------- receivers

    async def health(self, hook: str) -> Health:
        found = await tried(self._mongo, self._mongo.hooks.find_one({"_id": hook}))
        return Health() if found is None else _health(found)

    async def save_health(self, hook: str, health: Health) -> None:
        fields = {name: getattr(health, name) for name in Health.__dataclass_fields__}
        await tried(self._mongo, self._mongo.hooks.update_one({"_id": hook}, {"$set": fields}, upsert=True))

    async def disabled(self) -> Mapping[str, str]:
        """Return the hooks that are disabled, each with the configuration for which it is."""
        rows = await tried(self._mongo, self._mongo.hooks.find({"disabled_at": _WAITS}).to_list(1_000))
        return {
            row["_id"]: health.configuration
            for row in rows
            if isinstance(row["_id"], str) and (health := _health(row)).configuration is not None
        }

    # ----------------------------------------------------------------

    def _waiting(self, hook: str) -> dict[str, object]:
        return {"hook": hook, "held": None, "due_at": _WAITS}

    async def _set_aside(self, waiting: Mapping[str, object], now: datetime) -> int:
        strange = {**waiting, **_STRANGE}
        if await tried(self._mongo, self._mongo.outbox.find_one(strange, {"_id": 0, "held": 1})) is None:
            return 0  # a write that changes nothing would wait for a majority, too
        change = {"$set": _ended("malformed", now), "$unset": {"due_at": ""}}
        done = await tried(self._mongo, self._mongo.outbox.update_many(strange, change))
        return done.modified_count

    async def _settle(self, delivery: Delivery, fields: Mapping[str, object], *, over: bool) -> None:
        change: dict[str, object] = {"$set": {**fields, "claim": None}, "$inc": {"attempts": 1}}
        if over:
            change["$unset"] = {"due_at": ""}
        mine = {"_id": delivery.id, "claim": delivery.claim}
        await tried(self._mongo, self._mongo.outbox.update_one(mine, change))


def _ended(state: str, now: datetime) -> dict[str, object]:
    return {"state": state, "claim": None, "ended_at": now, "ends_at": now + KEPT}


def _delivery(found: Mapping[str, object], claim: str) -> Delivery | None:
    """Return the delivery in a document that MongoDB has checked; None if it has changed since."""
    event = event_of(found)
    name, attempts = found.get("_id"), found.get("attempts")
    if event is None or not isinstance(name, str) or not isinstance(attempts, int):
        return None
    return Delivery(id=name, claim=claim, event=event, attempts=min(max(attempts, 0), 1_000))


def event_of(found: Mapping[str, object]) -> OwnerEvent | None:
    """Return the event of a delivery's document, or None for a malformed one."""
    at, revision = found.get("at"), found.get("revision")
    texts = {name: found.get(name) for name in _TEXTS_OR_NULL}
    name, kind, actor = (found.get(name) for name in _TEXTS)
    if not isinstance(at, datetime) or not isinstance(name, str):
        return None
    if any(one is not None and not isinstance(one, str) for one in texts.values()):
        return None
    if revision is not None and (not isinstance(revision, int) or isinstance(revision, bool)):
        return None
    try:
        return OwnerEvent(
            id=name,
            type=OwnerEventType(str(kind)),
            at=at,
            who_acts=Actor(str(actor)),
            revision=revision,
            **{field: one for field, one in texts.items() if isinstance(one, str)},
        )
    except ValueError:
        return None


def _health(found: Mapping[str, object]) -> Health:
    """Return the health in a document. What can't be read counts as unknown: at worst an attempt is made too soon."""

    def number(name: str) -> int:
        return count(found.get(name))

    def date(name: str) -> datetime | None:
        value = found.get(name)
        return value if isinstance(value, datetime) else None

    configuration = found.get("configuration")
    return Health(
        failures=number("failures"),
        failed_at=date("failed_at"),
        rests_until=date("rests_until"),
        gone=number("gone"),
        gone_since=date("gone_since"),
        disabled_at=date("disabled_at"),
        configuration=configuration if isinstance(configuration, str) else None,
    )
