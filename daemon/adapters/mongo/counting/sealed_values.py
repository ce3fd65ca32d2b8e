"""The stored texts of each key: how many there are, and since when.

The aggregation reads the prefix of each text and nothing else. A store of more than EXACT_UP_TO documents is sampled
unless an exact count is asked for: no index leads to a prefix, since one would cost a write with every renewal.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from daemon.adapters.mongo.connection import Collection, Mongo, Refusal

EXACT_UP_TO = 200_000
SAMPLED = 20_000
FIELDS = ("access_token", "refresh_token", "origin.rest", "grant_fingerprint")
CONSENT_FIELDS = ("code", "code_verifier", "grant", "proof", "access_token", "refresh_token")
_LONGEST = 1 << 20  # bytes
_GROUPS = 1000  # combinations of keys; hostile documents may name any number of them
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAMED = 5

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedValues:
    """Numbers of values by key id and field. `oldest`: the earliest last change of a document with such a value."""

    values: Mapping[str, Mapping[str, int]]
    oldest: Mapping[str, datetime] = field(default_factory=dict)
    documents: int = 0
    exact: bool = True


async def sealed_values(mongo: Mongo, *, exact: bool = False) -> SealedValues:
    """Count the values of each key, or estimate them from a sample of a large store. Raises StoreLost."""
    documents = await mongo.guarded(mongo.tokens.estimated_document_count())
    exact = exact or documents <= EXACT_UP_TO
    sample: list[Row] = [] if exact else [{"$sample": {"size": SAMPLED}}]
    factor = 1.0 if exact else documents / SAMPLED

    async def found() -> list[dict[str, object]]:
        cursor = await mongo.tokens.aggregate([*sample, *_by_keys()])
        return await cursor.to_list()

    values: dict[str, Counter[str]] = {}
    oldest: dict[str, datetime] = {}
    for row in await mongo.guarded(found()):
        count, at, names = row["count"], row["oldest"], row["_id"]
        if not isinstance(count, int) or not isinstance(names, Mapping):
            continue
        for number, name in enumerate(FIELDS):
            key_id = names.get(f"f{number}")
            if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
                continue
            values.setdefault(key_id, Counter())[name] += round(count * factor)
            if isinstance(at, datetime):
                oldest[key_id] = min(at, oldest.get(key_id, at))
    return SealedValues(values=values, oldest=oldest, documents=documents, exact=exact)


def _by_keys() -> list[Row]:
    keys = {f"f{number}": _key_id(f"${name}") for number, name in enumerate(FIELDS)}
    changed = {"$cond": [{"$eq": [{"$type": "$updated_at"}, "date"]}, "$updated_at", None]}
    return [
        {"$project": {**keys, "changed": changed}},
        {
            "$group": {
                "_id": {name: f"${name}" for name in keys},
                "count": {"$sum": 1},
                "oldest": {"$min": "$changed"},
            }
        },
        {"$sort": {"count": -1}},
        {"$limit": _GROUPS},
    ]


def _key_id(path: str) -> Row:
    """Return the key id in a sealed text or a fingerprint; null for anything else."""
    short = {
        "$cond": [{"$eq": [{"$type": path}, "string"]}, {"$lte": [{"$strLenBytes": path}, _LONGEST]}, False]
    }
    parts = {"$cond": [short, {"$split": [path, "."]}, []]}
    sealed = {"$and": [{"$eq": [{"$size": "$$parts"}, 3]}, {"$in": [{"$first": "$$parts"}, ["v1", "w1"]]}]}
    second, first = {"$arrayElemAt": ["$$parts", 1]}, {"$first": "$$parts"}
    named: Row = {"$cond": [sealed, second, None]}
    if path == "$grant_fingerprint":
        named = {"$cond": [{"$eq": [{"$size": "$$parts"}, 2]}, first, None]}
    within = {
        "$cond": [{"$eq": [{"$type": "$$name"}, "string"]}, {"$lte": [{"$strLenBytes": "$$name"}, 64]}, False]
    }
    inner = {"$let": {"vars": {"name": named}, "in": {"$cond": [within, "$$name", None]}}}
    return {"$let": {"vars": {"parts": parts}, "in": inner}}


# ---------------------------------------------------------------- exactly, for one key


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """The number of values that one key has sealed, by a majority reading, and some of their documents."""

    values: int
    consents: int
    ids: Sequence[str]


async def holders_of(mongo: Mongo, key_id: str) -> Holders:
    """Count every stored value of one key, however large the store is. Raises StoreLost, Refusal."""
    values = 0
    for name in FIELDS:
        values += await mongo.guarded(mongo.tokens.count_documents(with_key(name, key_id)))
    some: list[str] = []
    if values:
        any_field = {"$or": [with_key(name, key_id) for name in FIELDS]}
        found = await mongo.guarded(mongo.tokens.find(any_field, {"_id": 1}).limit(_NAMED).to_list())
        some = [str(row["_id"])[:200] for row in found]
    waiting = {"$or": [with_key(name, key_id) for name in CONSENT_FIELDS]}
    consents = await mongo.tried(consents_of(mongo).count_documents(waiting))
    return Holders(values=values, consents=consents, ids=some)


def with_key(name: str, key_id: str) -> dict[str, object]:
    """Return the condition that `name` holds a text of this key. A document of a strange form is found too."""
    prefix = "" if name == "grant_fingerprint" else r"[vw]1\."
    return {name: {"$regex": rf"^{prefix}{re.escape(key_id)}\."}}


def consents_of(mongo: Mongo) -> Collection:
    """Return the collection of consents that wait for their code or their confirmation. It need not exist."""
    return mongo.consents


async def check_value_dates(mongo: Mongo) -> Mapping[str, datetime]:
    """Return when the check value of each key was made; nothing if this login may not read them. Raises StoreLost."""
    try:
        rows = await mongo.tried(mongo.keys.find({}, {"created_at": 1}).to_list())
    except Refusal:
        return {}
    return {str(row["_id"]): at for row in rows if isinstance(at := row.get("created_at"), datetime)}
