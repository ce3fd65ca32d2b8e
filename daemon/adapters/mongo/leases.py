"""Leases in MongoDB's query language: which documents may be claimed, and the doubt that a remaining lease
leaves.

MongoDB itself compares and computes with the stored values, so that no stored value ever becomes a part of a
query.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from daemon.adapters.mongo.stored_number import counted, is_whole

Expression = Mapping[str, object]

HELD: Expression = {"$eq": [{"$type": "$lease.hold"}, "date"]}
UNHELD: Expression = {"$expr": {"$not": [HELD]}}  # only a date in `hold` keeps others away


def free(now: datetime, *, owner: str | None = None, adopting: bool = True) -> dict[str, object]:
    """Return the condition that `owner` (None: any instance) may claim a document. `adopting`: also when
    another's hold is over.
    """
    ways: list[Mapping[str, object]] = [{"lease": None}, UNHELD]
    if owner is not None:
        ways.append({"lease.owner": owner})
    if adopting:
        ways.append({"lease.hold": {"$lte": now}})
    return {"$or": ways}


def taken_over(lease: Mapping[str, object], *, owner: str, now: datetime) -> Sequence[Expression]:
    """Return the update that replaces an earlier lease with `lease`, and notes or counts the doubt that this
    one left.

    A remaining lease means that its owner may have presented the value, and no answer was recorded. A lease
    of another instance is noted with its name, because its journal may hold the answer.
    """
    running = {"$ne": [{"$ifNull": ["$lease.claim", None]}, None]}
    since = {"$cond": [_is_date("$lease.since"), "$lease.since", now]}
    asker = {"$cond": [_STANDS, {"$ifNull": ["$doubt.asker", None]}, None]}
    doubt = {
        "since": {"$cond": [_STANDS, "$doubt.since", since]},
        "tries": {"$add": [{"$cond": [_STANDS, counted("$doubt.tries"), 0]}, {"$cond": [running, 1, 0]}]},
        "asker": {
            "$cond": [
                {"$eq": ["$lease.owner", {"$literal": owner}]},
                asker,
                {"$ifNull": ["$lease.owner", None]},
            ]
        },
    }
    noted = {"$cond": [{"$or": [running, _STANDS]}, doubt, "$doubt"]}
    return [{"$set": {"doubt": noted, "lease": {"$literal": lease}}}]


def _is_date(path: str) -> Expression:
    return {"$eq": [{"$type": path}, "date"]}


# A doubt that is well-formed, and that no consent has ended since: a consent leaves nothing to doubt.
_STANDS: Expression = {
    "$and": [
        _is_date("$doubt.since"),
        is_whole("$doubt.tries"),
        {"$not": [{"$and": [_is_date("$issued_at"), {"$gt": ["$issued_at", "$doubt.since"]}]}]},
    ]
}
