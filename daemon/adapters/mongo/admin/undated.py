"""Active tokens without a date at which a sweep would find them, by what becomes of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from daemon.adapters.mongo.admin.contents import Row, found, shown
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.counting.pipelines import is_usable
from daemon.adapters.mongo.counting.statistics import UNDATED
from daemon.adapters.mongo.document_limits import NAMED, SHORT_ID
from daemon.domain.provider import Grant, Provider
from daemon.domain.token import UNPARSED_STORED, State

_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Tokens of one kind: how many there are, and the ids of a few, safe to show to operators."""

    count: int = 0
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Undated:
    """Active tokens without a usable `due_at`. A daemon makes the `repaired` ones due; those that are `withheld`, because
    a reply could not be parsed, and the `lost` ones wait for an operator.
    """

    repaired: Sample
    withheld: Sample
    lost: Sample


async def undated(mongo: Mongo, providers: Mapping[str, Provider]) -> Undated:
    """Count the active tokens without a usable date. One that nothing renews needs none, and isn't counted.

    Raises StoreLost, Refusal, TooLong.
    """
    without = {"state": State.ACTIVE.value, "$expr": {"$not": [is_usable("$due_at")]}}
    withheld = {"last_failure.kind": {"$in": UNPARSED_STORED}}
    lost = {
        "last_failure.kind": {"$nin": UNPARSED_STORED},
        "refresh_token": {"$not": {"$type": "string"}},
        "$or": [{"due_at": {"$ne": None}}, _renewed_without_refresh_token(providers)],
    }
    return Undated(
        repaired=await _sample(mongo, UNDATED),
        withheld=await _sample(mongo, {**without, **withheld}),
        lost=await _sample(mongo, {**without, **lost}),
    )


def _renewed_without_refresh_token(providers: Mapping[str, Provider]) -> Row:
    names = [
        name
        for name, provider in providers.items()
        if provider.definition.grant not in (Grant.REFRESH_TOKEN, Grant.NONE)
    ]
    return {"provider": {"$in": names}, "grant": {"$nin": [Grant.REFRESH_TOKEN.value, Grant.NONE.value]}}


async def _sample(mongo: Mongo, condition: Mapping[str, object]) -> Sample:
    group = {
        "_id": None,
        "count": {"$sum": 1},
        "ids": {"$firstN": {"input": SHORT_ID, "n": _NAMED}},
    }
    for row in await found(mongo, [{"$match": {**condition, **NAMED}}, {"$group": group}]):
        count, ids = row["count"], row["ids"]
        if isinstance(count, int) and isinstance(ids, list):
            return Sample(count=count, ids=tuple(map(shown, ids)))
    return Sample()
