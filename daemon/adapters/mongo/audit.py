"""The audit: author, operation and target. A record is written before the operation; if that fails, nothing
is done.

Each record also goes to a log, because a person who may write to the database may change the collection as
well.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pymongo
from bson import ObjectId
from bson.regex import Regex
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import PyMongoError

from daemon.adapters.mongo.connection import EPOCH, Collection, Mongo, Refusal

OPERATOR = "operator"  # the kind of every record of a command or of the daemon itself
ACCESS = "access"  # the kind of every record of an access key
Record = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """The author: `actor`, "user@host", is the user of the process; `person`, with the number `uid`, is the
    login user, if known.

    `reason`: in that person's words.
    """

    actor: str
    person: str | None = None
    uid: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSelection:
    """A selection of records. `who` is a person, a user or an actor; `provider` includes its tokens."""

    since: datetime | None = None
    until: datetime | None = None
    who: str | None = None
    action: str | None = None
    token: str | None = None
    provider: str | None = None


class Audit:
    """Writes records in the name of `who`. `log` receives each written record."""

    def __init__(self, mongo: Mongo, *, who: Who, log: Callable[[Record], None]) -> None:
        self._mongo = mongo
        self._log = log
        self.who = who

    @staticmethod
    def new_id() -> ObjectId:
        """Return an id for an operation of which two records are written: before it, and with its result."""
        return ObjectId()

    async def note(
        self,
        action: str,
        target: str | None,
        revision: object = None,
        *,
        result: str | None = None,
        count: int | None = None,
        audit_id: ObjectId | None = None,
        subject: str | None = None,
        manage_url: str | None = None,
    ) -> None:
        """Write one record about `target`: a token's id, a provider, a key or an instance; or about a `subject`.
        `manage_url`: the provider's page for the owner of a grant that stays valid there.

        If an `audit_id` is used again, the last record counts: an operation that was tried twice is one
        operation. Raises StoreLost.
        """
        record = self._record(action, target, revision, result=result, count=count)
        more = {"subject": subject, "manage_url": manage_url}
        record = {**record, **{name: text for name, text in more.items() if text is not None}}
        key = audit_id or ObjectId()
        written = self._mongo.audit.replace_one({"_id": key}, record, upsert=True)
        await self._mongo.guarded(written)
        self._log(record)

    async def note_each(self, action: str, targets: Sequence[tuple[str, object, str | None]]) -> None:
        """Write a record about each of `targets`, its revision and its result. Raises StoreLost."""
        records = [
            self._record(action, target, revision, result=result) for target, revision, result in targets
        ]
        await self._mongo.guarded(self._mongo.audit.insert_many([dict(one) for one in records]))
        for record in records:
            self._log(record)

    def _record(
        self,
        action: str,
        target: str | None,
        revision: object,
        *,
        result: str | None = None,
        count: int | None = None,
    ) -> Record:
        who = self.who
        return {
            "at": self._mongo.clock.now(),
            "action": action,
            "token": target,
            "actor": who.actor,
            "by": {"person": who.person, "uid": who.uid, "reason": who.reason},
            "kind": OPERATOR,
            "result": result,
            "count": count,
            "revision": revision,
        }


async def records(mongo: Mongo, selection: RecordSelection, *, limit: int) -> AsyncIterator[Record]:
    """Return the newest `limit` records, newest first, with those that count uses of access keys. Raises StoreLost.

    Each of the two collections is read by its index of `at`, and no further than needed.
    """
    cursors = [_newest(mongo.audit, _query(selection), limit)]
    if await _may_read_uses(mongo):
        cursors.append(_newest(mongo.access_use, {"$and": [{"kind": ACCESS}, _query(selection)]}, limit))
    try:
        heads = [await anext(one, None) for one in cursors]
        for _ in range(limit):
            index = max(range(len(heads)), key=lambda one: _time_of(heads[one]))
            if (found := heads[index]) is None:
                return
            yield found
            heads[index] = await anext(cursors[index], None)
    except PyMongoError as error:
        raise mongo.lost(error) from None


def _newest(
    collection: Collection, query: Mapping[str, object], limit: int
) -> AsyncCursor[dict[str, object]]:
    hidden = {"_id": 0, "since": 0, "ends_at": 0}
    order = [("at", pymongo.DESCENDING), ("_id", pymongo.DESCENDING)]
    return collection.find(query, hidden).sort(order).limit(limit).allow_disk_use(allow_disk_use=True)


def _time_of(record: Record | None) -> datetime:
    """Return the time of a record. One without a time is older than any other, but newer than no record at all."""
    if record is None:
        return datetime.min.replace(tzinfo=UTC)
    at = record.get("at")
    return at if isinstance(at, datetime) else EPOCH


async def count_records(mongo: Mongo, selection: RecordSelection) -> int:
    """Return the number of records. Raises StoreLost."""
    count = await mongo.guarded(mongo.audit.count_documents(_query(selection)))
    if await _may_read_uses(mongo):
        query = {"$and": [{"kind": ACCESS}, _query(selection)]}
        count += await mongo.guarded(mongo.access_use.count_documents(query))
    return count


async def _may_read_uses(mongo: Mongo) -> bool:
    """Return whether this login may read the counts of uses, which stand in a collection of their own."""
    try:
        await mongo.tried(mongo.access_use.find_one({}, {"_id": 1}))
    except Refusal:
        return False
    return True


def _query(selection: RecordSelection) -> dict[str, object]:
    at = {"$gte": selection.since, "$lt": selection.until}
    within = {name: instant for name, instant in at.items() if instant is not None}
    exact = {"action": selection.action, "token": selection.token}
    conditions: list[dict[str, object]] = [{name: {"$eq": text}} for name, text in exact.items() if text]
    if within:
        conditions.append({"at": within})
    if selection.who is not None:
        conditions.append(
            {
                "$or": [
                    {"by.person": selection.who},
                    {"by.name": selection.who},
                    *({"actor": one} for one in _actors(selection.who)),
                ]
            }
        )
    if selection.provider is not None:
        conditions.append({"token": {"$in": [selection.provider, _starting_with(f"{selection.provider}:")]}})
    return {"$and": conditions} if conditions else {}


def _actors(who: str) -> list[object]:
    return [who] if "@" in who else [_starting_with(f"{who}@")]


def _starting_with(text: str) -> Regex[str]:
    escaped = "".join(f"\\x{{{ord(character):x}}}" for character in text)
    return Regex(f"^{escaped}")
