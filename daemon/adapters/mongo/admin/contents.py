"""Checks of the whole store: documents that refreshd can't use, and refresh tokens that two documents would
spend.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.adapters.mongo.connection import Mongo, Refusal
from daemon.adapters.mongo.due import DueTokens, Look
from daemon.adapters.mongo.keys import openable
from daemon.adapters.mongo.token_document import (
    CLAIMED_FIELDS,
    Document,
    InvalidDocument,
    allowed_token,
    presented_field,
    token_of,
)
from daemon.domain.provider import Grant, Provider
from daemon.domain.stored_grant import GONE
from daemon.domain.token import State

LIMIT = timedelta(seconds=30)  # for queries that read every document
MOST_DUPLICATES = 100
MOST_NAMED = 20
ROOMY = 15 << 20  # bytes: MongoDB takes 16 MiB, and a claim and its outcome must still fit in

_KEY_ID = r"^[A-Za-z0-9_-]{1,64}$"
_DATES = (
    "issued_at",
    "expires_at",
    "refresh_expires_at",
    "consent_ends_at",
    "due_at",
    "refreshed_at",
)
_NUMBER = {"bsonType": ["int", "long", "double", "null"], "multipleOf": 1}
_SCHEMA = {
    "properties": {
        "state": {"enum": [state.value for state in State]},
        "grant": {"bsonType": ["string", "null"]},
        "access_token": {"bsonType": ["string", "null"]},
        "refresh_token": {"bsonType": ["string", "null"]},
        "revision": _NUMBER,
        "failures": _NUMBER,
        "vars": {
            "bsonType": ["object", "array", "null"],
            "maxItems": 0,
            "additionalProperties": {"bsonType": "string"},
        },
        **{name: {"bsonType": ["date", "null"]} for name in _DATES},
    },
    "required": ["state"],
}
_IS_TEXT = {name: {"$eq": [{"$type": f"${name}"}, "string"]} for name in ("provider", "account")}
_OWN_NAME = {
    "$cond": [{"$and": [*_IS_TEXT.values()]}, {"$concat": ["$provider", ":", "$account"]}, None],
}
_TOO_LARGE = {"$gt": [{"$bsonSize": "$$ROOT"}, ROOMY]}

Row = dict[str, object]


class TooLong(Exception):
    """The store is too large for this check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """A document that can't be used. `id` is safe to show to operators."""

    id: str
    why: str


async def duplicates(mongo: Mongo) -> list[list[str]]:
    """Return the ids, at most ten each, of documents that hold the same refresh token: each may spend the
    other's.

    Raises StoreLost, Refusal, TooLong; so do the other functions here.
    """
    rows = await found(
        mongo,
        [
            {"$match": {"grant_fingerprint": {"$type": "string"}, "state": {"$nin": sorted(GONE)}}},
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
    return [sorted(map(shown, ids)) for row in rows if isinstance(ids := row["ids"], list)]


async def keys_in_use(mongo: Mongo) -> dict[str, int]:
    """Return how many refresh tokens each key has sealed, by key id."""
    key_id = {"$arrayElemAt": [{"$split": ["$refresh_token", "."]}, 1]}
    rows = await found(
        mongo,
        [
            {"$match": {"$expr": {"$eq": [{"$type": "$refresh_token"}, "string"]}}},
            {"$group": {"_id": key_id, "count": {"$sum": 1}}},
            {"$match": {"_id": {"$regex": _KEY_ID}}},
        ],
    )
    return {str(row["_id"]): count for row in rows if isinstance(count := row["count"], int)}


async def strangers(mongo: Mongo) -> list[str]:
    """Return the ids of some documents without provider and account, perhaps another program's."""
    nameless = {"$or": [{name: {"$not": {"$type": "string"}}} for name in _IS_TEXT]}
    rows = await found(mongo, [{"$match": nameless}, {"$limit": MOST_NAMED}, {"$project": {"_id": 1}}])
    return [shown(row["_id"]) for row in rows]


async def unclaimable(mongo: Mongo, ring: KeyRing, providers: Mapping[str, Provider]) -> list[Odd]:
    """Return some scheduled documents that no claim can use, for their content or for a grant that their
    provider does not allow.
    """
    foreign = [
        {"provider": name, "grant": {"$nin": [None, Grant.REFRESH_TOKEN, *_grants(one)]}}
        for name, one in providers.items()
    ]
    odd = {
        "due_at": {"$type": "date"},
        "$or": [
            {"$nor": [{"$jsonSchema": _SCHEMA}]},
            {"$expr": {"$ne": ["$_id", _OWN_NAME]}},
            {"$expr": _TOO_LARGE},
            *foreign,
        ],
    }
    size: Row = {"$project": {"size": {"$bsonSize": "$$ROOT"}}}
    rows = await found(mongo, [{"$match": odd}, {"$limit": MOST_NAMED}, size])
    named = [(row["_id"], await _why(mongo, row, ring, providers)) for row in rows]
    return [Odd(id=shown(name), why=why) for name, why in named if why is not None]


async def look_for_due(mongo: Mongo, provider: Provider, ring: KeyRing) -> int:
    """Run the query of a sweep of `provider` without claiming. Returns how many tokens it found, at most
    MOST_NAMED.
    """
    look = Look(
        provider=provider,
        limit=MOST_NAMED,
        busy=(),
        owner="check",
        now=mongo.clock.now(),
        asked=mongo.clock.boot(),
        adopting=True,
        openable=openable(ring, presented_field(provider.definition.grant)),
    )
    due, _ = await DueTokens(mongo, chance=lambda: 0.0).next(look)
    return len(due)


def shown(name: object) -> str:
    """Return a document's id for operators. It may have any type and length."""
    text = name if isinstance(name, str) else f"{type(name).__name__} {name!r}"
    return text if len(text) <= 100 else f"{text[:99]}…"


def _grants(provider: Provider) -> Iterable[str]:
    return (str(grant) for grant in (provider.definition.grant, *provider.definition.grants))


async def _why(mongo: Mongo, row: Document, ring: KeyRing, providers: Mapping[str, Provider]) -> str | None:
    """Return the defect of the document, or None if a second look finds none."""
    name, size = row["_id"], row["size"]
    if isinstance(size, int) and size > ROOMY:
        return f"it has {size / (1 << 20):.1f} MiB, so MongoDB would reject it with the fields that a renewal adds"
    if not isinstance(name, str):
        return "its _id is not a string"
    document = await mongo.tried(mongo.tokens.find_one({"_id": name}, CLAIMED_FIELDS))
    try:
        if document is not None:
            provider = providers.get(token_of(document, ring).provider)
            if provider is not None:
                allowed_token(document, ring, provider)
    except (InvalidDocument, DecryptionError) as why:
        return str(why)
    except Exception as bug:  # noqa: BLE001  a claim would meet it too, whatever it is
        return f"can't read it ({type(bug).__name__})"
    return None


async def found(mongo: Mongo, pipeline: list[Row]) -> list[Row]:
    """Return the rows of `pipeline`, which may read every document. Raises StoreLost, Refusal, TooLong."""
    try:
        with pymongo.timeout(LIMIT.total_seconds()):
            return await (await mongo.tokens.aggregate(pipeline, allowDiskUse=True)).to_list()
    except PyMongoError as error:
        if error.timeout:
            raise TooLong(f"scanning the store would take longer than {LIMIT.seconds} s") from None
        if isinstance(error, OperationFailure):
            raise Refusal(f"MongoDB can't scan the store: {error.code}") from None
        raise mongo.lost(error) from None
