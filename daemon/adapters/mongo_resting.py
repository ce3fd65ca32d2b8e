"""Which providers rest, whatever stands in their documents."""

from collections.abc import Collection, Mapping

from daemon.adapters.document_limits import date_or_null, short_text
from daemon.adapters.mongo import Mongo
from daemon.adapters.mongo_pauses import pause_of
from daemon.domain.brake import Pause, Reason

MOST = 1000

_PAUSED = "$paused"
_NUMBER = {"$cond": [{"$isNumber": "$paused.probes"}, "$paused.probes", 0]}
_BOUNDED = {
    "paused": {
        "$cond": [
            {"$eq": [{"$type": _PAUSED}, "object"]},
            {
                **{name: short_text(f"{_PAUSED}.{name}") for name in ("reason", "client")},
                **{name: date_or_null(f"{_PAUSED}.{name}") for name in ("since", "next_probe_at")},
                "probes": _NUMBER,
            },
            None,
        ]
    }
}


async def resting(mongo: Mongo, *, above_all: Collection[str] = ()) -> dict[str, Pause]:
    """The pauses of at most MOST providers, and of those `above_all`. Raises StoreLost."""
    found = await _resting(mongo, {"$type": "string"})
    return found if len(found) < MOST else found | await _resting(mongo, {"$in": list(above_all)})


async def _resting(mongo: Mongo, names: Mapping[str, object]) -> dict[str, Pause]:
    query = {"_id": names, "paused": {"$ne": None}}
    rows = await mongo.promised(mongo.providers.find(query, _BOUNDED).limit(MOST).to_list())
    return {str(row["_id"]): _pause(row) for row in rows}


def _pause(row: Mapping[str, object]) -> Pause:
    """One that can't be understood is the operator's, and hides no other."""
    try:
        return pause_of(row)
    except Exception:  # noqa: BLE001  whatever was written there
        return Pause(reason=Reason.OPERATOR)
