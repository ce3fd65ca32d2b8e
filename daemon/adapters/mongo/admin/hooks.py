"""What `refreshd hooks` reads and changes in the outbox. Each change is audited before it is made."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from daemon.adapters.mongo.audit import Audit
from daemon.adapters.mongo.connection import EPOCH, Mongo
from daemon.adapters.mongo.notifying.deliveries import MongoDeliveries, Pipeline, event_of
from daemon.adapters.mongo.notifying.outbox import KEPT, LEFT_OVER, tried
from daemon.domain.hook import Health, Outcome
from daemon.domain.hook_message import webhook_id

REPLAY, RELEASE = "replay_hook", "release_hook"
_WAITS = {"$gt": EPOCH}
_FAILED = {
    "$or": [{"state": {"$in": ["dropped", "malformed"]}}, {"state": "waiting", "attempts": {"$gt": 0}}]
}
_SHORT = 200  # characters of a field that another program may have written


@dataclass(frozen=True, slots=True, kw_only=True)
class HookRow:
    """What is stored about one hook. `held`: of those that wait."""

    hook: str
    waiting: int
    held: int
    oldest: datetime | None
    health: Health


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedDelivery:
    """A delivery that did not succeed, or not yet. None: the document has no such field that could be shown."""

    hook: str
    id: str | None
    state: str
    type: str | None
    token: str | None
    attempts: int
    outcome: str | None
    status: int | None
    at: datetime | None
    due_at: datetime | None


class HookAdmin:
    """Every method raises StoreLost."""

    def __init__(self, mongo: Mongo, audit: Audit) -> None:
        self._mongo = mongo
        self._audit = audit

    async def rows(self, configured: Sequence[str]) -> list[HookRow]:
        """Return the configured hooks, then the others for which something waits."""
        deliveries = MongoDeliveries(self._mongo)
        waiting, held = await deliveries.waiting(), await self._held()
        names = [*configured, *sorted(set(waiting) - set(configured))]
        return [
            HookRow(
                hook=name,
                waiting=waiting[name][0] if name in waiting else 0,
                held=held.get(name, 0),
                oldest=waiting[name][1] if name in waiting else None,
                health=await deliveries.health(name),
            )
            for name in names
        ]

    async def failed(self, hook: str | None, *, limit: int) -> AsyncIterator[FailedDelivery]:
        """Yield deliveries that failed, the latest attempts first."""
        query = {**_FAILED, "hook": {"$type": "string"} if hook is None else hook}
        small = {"$expr": {"$lte": [{"$bsonSize": "$$ROOT"}, 64 * 1024]}}
        found = await tried(
            self._mongo,
            self._mongo.outbox.find({**query, **small}).sort("last.at", -1).limit(limit).to_list(),
        )
        for one in found:
            yield _failed(one)

    async def replay(self, hook: str, *, since: datetime) -> int:
        """Make what was reported to `hook` since then due again, delivered or not. Returns how many."""
        over = {"hook": hook, "state": {"$in": ["delivered", "dropped"]}, "at": {"$gte": since}}
        count = await tried(self._mongo, self._mongo.outbox.count_documents(over))
        await self._audit.note(REPLAY, hook, result=f"events since {since.isoformat()}", count=count)
        return await self._due_now(over)

    async def release(self, hook: str) -> int:
        """Let the held deliveries of `hook` go, and enable it. Returns how many were held."""
        held = {"hook": hook, "held": {"$ne": None}, "due_at": _WAITS}
        count = await tried(self._mongo, self._mongo.outbox.count_documents(held))
        await self._audit.note(RELEASE, hook, count=count)
        await MongoDeliveries(self._mongo).save_health(hook, Health())
        return await self._due_now(held)

    async def _due_now(self, query: Mapping[str, object]) -> int:
        """A release or a replay starts its thirty days again."""
        now = self._mongo.clock.now()
        fields = {"state": "waiting", "held": None, "claim": None, "attempts": 0}
        dates = {"due_at": now, "added_at": now, "ends_at": now + KEPT + LEFT_OVER}
        change = {"$set": {**fields, **dates}, "$unset": {"ended_at": ""}}
        done = await tried(self._mongo, self._mongo.outbox.update_many(query, change))
        return done.modified_count

    async def _held(self) -> Mapping[str, int]:
        query: Pipeline = [
            {"$match": {"hook": {"$gt": ""}, "held": {"$ne": None}, "due_at": _WAITS}},
            {"$group": {"_id": "$hook", "count": {"$sum": 1}}},
        ]
        cursor = await tried(self._mongo, self._mongo.outbox.aggregate(query))
        rows = await tried(self._mongo, cursor.to_list())
        return {
            name: count
            for row in rows
            if isinstance(name := row["_id"], str) and isinstance(count := row["count"], int)
        }


def _failed(found: Mapping[str, object]) -> FailedDelivery:
    event, last = event_of(found), found.get("last")
    tries = last if isinstance(last, Mapping) else {}
    attempts, status = found.get("attempts"), tries.get("status")
    state = _text(found.get("state")) or "malformed"
    return FailedDelivery(
        hook=_text(found.get("hook")) or "unknown",
        id=None if event is None else webhook_id(event.id),
        state=state,
        type=_text(found.get("type")),
        token=_text(found.get("token")),
        attempts=attempts if isinstance(attempts, int) else 0,
        outcome=_text(tries.get("outcome")) or (state if state in set(Outcome) else None),
        status=status if isinstance(status, int) else None,
        at=_date(tries.get("at")),
        due_at=_date(found.get("due_at")),
    )


def _text(value: object) -> str | None:
    return value[:_SHORT] if isinstance(value, str) else None


def _date(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None
