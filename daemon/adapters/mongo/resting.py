"""The paused providers, whatever their documents contain."""

from collections.abc import Collection, Mapping

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.document_limits import date_or_null, short_text
from daemon.adapters.mongo.pauses import pause_of
from daemon.domain.circuit_breaker import Pause

MOST = 1000

_PAUSED = "$paused"
_TEXTS = ("reason", "client")
_DATES = ("since", "next_probe_at", "next_retry_at")
_NUMBERS = ("probes", "retries")


def _number_or_zero(path: str) -> Mapping[str, object]:
    return {"$cond": [{"$isNumber": path}, path, 0]}


_BOUNDED = {
    "paused": {
        "$cond": [
            {"$eq": [{"$type": _PAUSED}, "object"]},
            {
                **{name: short_text(f"{_PAUSED}.{name}") for name in _TEXTS},
                **{name: date_or_null(f"{_PAUSED}.{name}") for name in _DATES},
                **{name: _number_or_zero(f"{_PAUSED}.{name}") for name in _NUMBERS},
            },
            None,
        ]
    }
}


async def resting(mongo: Mongo, *, above_all: Collection[str] = ()) -> dict[str, Pause]:
    """Return the pauses of at most MOST providers, and of those `above_all`. Raises StoreLost."""
    found = await _resting(mongo, {"$type": "string"})
    return found if len(found) < MOST else found | await _resting(mongo, {"$in": list(above_all)})


async def pause_of_one(mongo: Mongo, name: str) -> Pause | None:
    """Return the pause of one provider. Raises StoreLost."""
    return (await _resting(mongo, {"$eq": name})).get(name)


async def _resting(mongo: Mongo, names: Mapping[str, object]) -> dict[str, Pause]:
    query = {"_id": names, "paused": {"$ne": None}}
    rows = await mongo.guarded(mongo.providers.find(query, _BOUNDED).limit(MOST).to_list())
    return {str(row["_id"]): pause_of(row) for row in rows}
