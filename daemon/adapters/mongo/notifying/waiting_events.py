"""Events that wait in the documents of tokens: found by an index that holds those documents alone, and taken out by id.

Whatever else other programs store as `events` is counted and taken away. Neither changes the token's revision.
"""

from collections.abc import Collection, Mapping, Sequence

from bson.min_key import MinKey

from daemon.adapters.mongo.bulk import Update, update_each
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.document_limits import NAMED, date_or_null, short_text
from daemon.adapters.mongo.token_events import KEPT, WAITING
from daemon.domain.waiting_events import WaitingEvents, waiting_events

_ANY = {"$gte": MinKey()}  # of `updated_at`, which the index has: named, so that MongoDB uses it

_HAS_ID = {"$eq": [{"$type": "$$this.n"}, "objectId"]}
_ARRAY = {"$cond": [{"$isArray": "$events"}, "$events", []]}
_WITH_ID = {"$filter": {"input": _ARRAY, "cond": _HAS_ID}}
_TEXTS = ("type", "who_acts", "kind", "code", "subject")
_NUMBERS = ("revision", "lost")
_READ: Mapping[str, object] = {
    "events": {
        "$map": {
            "input": {"$slice": [_WITH_ID, KEPT]},
            "in": {
                "n": "$$this.n",
                "at": date_or_null("$$this.at"),
                **{name: short_text(f"$$this.{name}") for name in _TEXTS},
                **{
                    name: {"$cond": [{"$isNumber": f"$$this.{name}"}, f"$$this.{name}", None]}
                    for name in _NUMBERS
                },
            },
        }
    },
    # A value that isn't an array counts as one entry without an id.
    "others": {
        "$cond": [
            {"$isArray": "$events"},
            {"$subtract": [{"$size": _ARRAY}, {"$size": _WITH_ID}]},
            1,
        ]
    },
}


class MongoTokenEvents:
    """Implements `notifying.relay_ports.TokenEvents`."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def waiting(self, *, limit: int, skip: Collection[str]) -> Sequence[WaitingEvents]:
        query = {**WAITING, "updated_at": _ANY, **NAMED}
        if skip:
            query["_id"] = {"$nin": sorted(skip)}
        found = self._mongo.tokens.find(query, _READ).sort("updated_at", 1).limit(limit)
        return [_read(one) for one in await self._mongo.guarded(found.to_list())]

    async def forget(self, relayed: Sequence[WaitingEvents]) -> Collection[str]:
        updates = [Update(ids=[one.token], condition=WAITING, change=_without(one.ids)) for one in relayed]
        return set((await update_each(self._mongo, updates)).refused)


def _read(document: Mapping[str, object]) -> WaitingEvents:
    stored, others = document.get("events"), document.get("others")
    entries = [one for one in stored if isinstance(one, Mapping)] if isinstance(stored, list) else []
    return waiting_events(str(document["_id"]), entries, others=others if isinstance(others, int) else 0)


def _without(ids: Sequence[object]) -> Sequence[Mapping[str, object]]:
    """Return the update that leaves the events that are not in `ids`, and removes the field if none is left."""
    is_new = {"$not": [{"$in": ["$$this.n", {"$literal": list(ids)}]}]}
    left = {"$filter": {"input": _ARRAY, "cond": {"$and": [_HAS_ID, is_new]}}}
    return [
        {
            "$set": {
                "events": {
                    "$let": {
                        "vars": {"left": left},
                        "in": {"$cond": [{"$eq": ["$$left", []]}, "$$REMOVE", "$$left"]},
                    }
                }
            }
        }
    ]
