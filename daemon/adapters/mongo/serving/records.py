"""Pages of audit records that an access key may see: deeds and counted uses, merged.

A page costs the same however much is stored. Each of the two queries looks at no more than EXAMINED records, newest
first by an index. If few of them are for this key, the page is short, and the next one begins at its end.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from bson import ObjectId

from daemon.adapters.mongo.audit import ACCESS
from daemon.adapters.mongo.connection import EPOCH, Collection, Mongo
from daemon.adapters.mongo.serving.selected_tokens import PRESENT, SIMPLE, Condition, matching, named
from daemon.adapters.mongo.time_limit import within
from daemon.adapters.mongo.token_document import Document
from daemon.domain.access_key import ANY
from daemon.domain.audit_position import DEEDS, USES, Position, Source
from daemon.domain.selection import RecordPage, RecordSelection, ids_of

EXAMINED = 20_000  # records of each collection, for one page
AT_ONCE = 2_000  # tokens that are looked up in one query
LIMIT = timedelta(seconds=10)
_LAST = datetime(9999, 12, 31, tzinfo=UTC)
_NEWEST_FIRST = {"$sort": {"at": -1, "_id": -1}}
_SHOWN = ("at", "action", "token", "actor", "by", "kind", "result", "count", "revision")
_PROJECTED = dict.fromkeys(_SHOWN, 1)

Stage = Mapping[str, object]


async def page_of_records(mongo: Mongo, selection: RecordSelection, *, limit: int) -> RecordPage:
    """Return the newest selected records behind `selection.after`. Raises StoreLost."""
    collections: Mapping[Source, Collection] = {DEEDS: mongo.audit, USES: mongo.access_use}
    # An index leads to the records of one token, which are few.
    floors = (
        [await _floor(mongo, one, selection, source) for source, one in collections.items()]
        if selection.token is None
        else []
    )
    floor = max((one for one in floors if one is not None), default=None)
    tokens = await _matching_tokens(mongo, collections, selection, floor)
    found = await asyncio.gather(
        *(
            within(
                LIMIT,
                mongo,
                _pipeline(selection, source, floor=floor, tokens=tokens, limit=limit + 1),
                "listing the audit",
                collection=collection,
                collation=SIMPLE,
            )
            for source, collection in collections.items()
        )
    )
    rows = [(source, row) for source, some in zip(collections, found, strict=True) for row in some]
    rows.sort(key=_at, reverse=True)  # stable: deeds before uses, and each in its order
    shown = rows[:limit]
    items = [{name: row.get(name) for name in _SHOWN} for _, row in shown]
    if len(rows) > limit:
        return RecordPage(items=items, end=_position(*shown[-1]))
    return RecordPage(items=items, end=None if floor is None else Position(floor, USES, None))


async def _floor(
    mongo: Mongo, collection: Collection, selection: RecordSelection, source: Source
) -> datetime | None:
    """Return the time of the oldest record that this page may look at, or None if there are no more. The index of
    `at` has the answer.
    """
    pipeline: list[Stage] = [
        {"$match": _when(selection, source, floor=None)},
        _NEWEST_FIRST,
        {"$skip": EXAMINED},
        {"$limit": 1},
        {"$project": {"_id": 0, "at": 1}},
    ]
    found = await within(LIMIT, mongo, pipeline, "listing the audit", collection=collection, collation=SIMPLE)
    return _at((source, found[0])) if found else None


async def _matching_tokens(
    mongo: Mongo,
    collections: Mapping[Source, Collection],
    selection: RecordSelection,
    floor: datetime | None,
) -> Sequence[str] | None:
    """Return which tokens of this page's records are stored and fulfil the key's conditions, or None if it has none.

    A `$lookup` for each record would take a hundred times as long.
    """
    if not selection.limits:
        return None
    named_in: set[str] = set()
    for source, collection in collections.items():
        pipeline: list[Stage] = [_match(selection, source, floor=floor), {"$group": {"_id": "$token"}}]
        rows = await within(
            LIMIT, mongo, pipeline, "listing the audit", collection=collection, collation=SIMPLE
        )
        named_in.update(row["_id"] for row in rows if isinstance(row["_id"], str))
    names, found = sorted(named_in), []
    for start in range(0, len(names), AT_ONCE):
        some = {"_id": {"$in": names[start : start + AT_ONCE]}}
        conditions = {"$and": [some, PRESENT, matching(selection.limits)]}
        pipeline = [{"$match": conditions}, {"$project": {"_id": 1}}]
        rows = await within(LIMIT, mongo, pipeline, "listing the audit", collation=SIMPLE)
        found += [str(row["_id"]) for row in rows]
    return found


def _pipeline(
    selection: RecordSelection,
    source: Source,
    *,
    floor: datetime | None,
    tokens: Sequence[str] | None,
    limit: int,
) -> list[Stage]:
    # Of the records of no token, only the key's own are left.
    of_tokens = [] if tokens is None else [{"$match": {"token": {"$in": [*tokens, None]}}}]
    return [
        _match(selection, source, floor=floor),
        *of_tokens,
        _NEWEST_FIRST,
        {"$limit": limit},
        {"$project": _PROJECTED},
    ]


def _match(selection: RecordSelection, source: Source, *, floor: datetime | None) -> Stage:
    conditions = [_when(selection, source, floor=floor), _visible(selection, source), *_wished(selection)]
    if source == USES:
        conditions.append({"kind": ACCESS})
    return {"$match": {"$and": [one for one in conditions if one]}}


def _when(selection: RecordSelection, source: Source, *, floor: datetime | None) -> Condition:
    lowest = max(one for one in (EPOCH, selection.since, floor) if one is not None)
    after = selection.after
    if after is None:
        return {"at": {"$gt": EPOCH, "$gte": lowest, "$lte": _LAST}}
    within_page: Condition = {"at": {"$gt": EPOCH, "$gte": lowest, "$lte": after.at}}
    if after.id is None or (source == DEEDS and after.source == USES):
        return {"at": {"$gt": EPOCH, "$gte": lowest, "$lt": after.at}}
    if source == USES and after.source == DEEDS:
        return within_page
    behind = {"$lt": ObjectId(after.id) if source == DEEDS and ObjectId.is_valid(after.id) else after.id}
    return {"$and": [within_page, {"$or": [{"at": {"$lt": after.at}}, {"_id": behind}]}]}


def _visible(selection: RecordSelection, source: Source) -> Condition:
    """Return the condition that the key may see a record. Only a key for every token sees records that are of no token,
    such as refused requests. Any other sees its own.
    """
    if ANY in selection.selectors and not selection.limits:
        return {}
    conditions: list[Condition] = []
    ids = ids_of(selection.selectors)
    if not ids.is_empty:
        conditions.append({"$and": [named(ids, "token"), {"token": {"$regex": ":"}}]})
    if source == USES:
        conditions.append({"by.key": {"$eq": selection.key}, "token": None})
    return {"$or": conditions} if conditions else {"_id": {"$in": []}}


def _wished(selection: RecordSelection) -> list[Condition]:
    conditions: list[Condition] = []
    if selection.token is not None:
        # The type lets MongoDB use the index, which is partial.
        conditions.append({"token": {"$eq": selection.token, "$type": "string"}})
    if selection.actor is not None:
        names = ("actor", "by.name", "by.person")
        conditions.append({"$or": [{name: {"$eq": selection.actor}} for name in names]})
    return conditions


def _at(row: tuple[Source, Document]) -> datetime:
    at = row[1].get("at")
    return at if isinstance(at, datetime) else EPOCH


def _position(source: Source, row: Document) -> Position:
    name = row.get("_id")
    return Position(_at((source, row)), source, str(name) if isinstance(name, str | ObjectId) else None)
