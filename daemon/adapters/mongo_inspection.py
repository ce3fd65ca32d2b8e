"""A look at the store before anybody relies on it: does it promise what we need, and does it hold what we can use?"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from uuid import uuid4

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from daemon.adapters.mongo import DUE_INDEX, Collection, Mongo
from daemon.domain.claim import StoreLost

LIMIT = timedelta(seconds=30)  # for what reads every document
MOST_DUPLICATES = 100

_READ_WRITE = ("find", "insert", "update")
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

Row = dict[str, object]


async def due_index_is_right(mongo: Mongo) -> bool:
    """Whether the sweep's index is as we make it, and in use; a daemon's start makes it. Raises StoreLost."""
    wanted = DUE_INDEX.document
    found = (await mongo.promised(mongo.tokens.index_information())).get(str(wanted["name"]))
    if found is None:
        return True
    partial = found.get("partialFilterExpression", {}).keys() == wanted["partialFilterExpression"].keys()
    return partial and found.get("key") == list(wanted["key"].items()) and not found.get("hidden")


async def write_with_majority(mongo: Mongo) -> None:
    """Write as a renewal is written, and take it away again. Raises StoreLost."""
    scratch = {"_id": f"check {uuid4().hex}"}  # with a blank: no provider is called so
    await mongo.promised(mongo.providers.insert_one(dict(scratch)))
    await mongo.promised(mongo.providers.delete_one(scratch))


async def missing_rights(mongo: Mongo) -> list[str]:
    """What our login may not do, like "update on refreshd.tokens"; nothing where MongoDB has no logins at all."""
    command = {"connectionStatus": 1, "showPrivileges": True}
    told = await mongo.promised(mongo.tokens.database.command(command))
    info = told.get("authInfo", {})
    if not info.get("authenticatedUsers"):
        return []
    granted = info.get("authenticatedUserPrivileges", [])
    return [
        f"{action} on {collection.full_name}"
        for collection, actions in (
            (mongo.tokens, (*_READ_WRITE, "remove", "createIndex")),
            (mongo.providers, (*_READ_WRITE, "remove")),
            (mongo.audit, _READ_WRITE),
        )
        for action in actions
        if not any(action in held for held in _held_on(collection, granted))
    ]


def _held_on(
    collection: Collection, granted: Sequence[Mapping[str, Mapping[str, object]]]
) -> Iterator[Sequence[str]]:
    """The actions of each privilege that covers `collection`; empty names cover all (MongoDB: resource document)."""
    for privilege in granted:
        resource, actions = privilege.get("resource", {}), privilege.get("actions", ())
        covers = resource.get("db") in ("", collection.database.name) and resource.get("collection") in (
            "",
            collection.name,
        )
        if isinstance(actions, Sequence) and (covers or resource.get("anyResource")):
            yield actions


async def duplicates(mongo: Mongo) -> list[list[str]]:
    """The ids, at most ten each, of documents that hold the same refresh token: each may spend the other's."""
    rows = await _counted(
        mongo,
        [
            {"$match": {"grant_fingerprint": {"$type": "string"}}},
            {
                "$group": {
                    "_id": "$grant_fingerprint",
                    "count": {"$sum": 1},
                    "ids": {"$firstN": {"input": "$_id", "n": 10}},
                }
            },
            {"$match": {"count": {"$gt": 1}}},
            {"$limit": MOST_DUPLICATES},
        ],
    )
    return [sorted(map(str, ids)) for row in rows if isinstance(ids := row["ids"], list)]


async def keys_in_use(mongo: Mongo) -> dict[str, int]:
    """How many refresh tokens each key has sealed, by key id."""
    key_id = {"$arrayElemAt": [{"$split": ["$refresh_token", "."]}, 1]}
    rows = await _counted(
        mongo,
        [
            {"$match": {"$expr": {"$eq": [{"$type": "$refresh_token"}, "string"]}}},
            {"$group": {"_id": key_id, "count": {"$sum": 1}}},
        ],
    )
    return {
        name: count
        for row in rows
        if isinstance(name := row["_id"], str)
        and _KEY_ID.fullmatch(name)
        and isinstance(count := row["count"], int)
    }


async def _counted(mongo: Mongo, pipeline: list[Row]) -> list[Row]:
    try:
        with pymongo.timeout(LIMIT.total_seconds()):
            return await (await mongo.tokens.aggregate(pipeline, allowDiskUse=True)).to_list()
    except PyMongoError as error:
        if error.timeout:
            raise StoreLost(f"it took longer than {LIMIT.seconds} s to look through the store") from None
        if isinstance(error, OperationFailure):
            raise StoreLost(f"MongoDB can't look through the store: {error.code}") from None
        raise mongo.lost(error) from None
