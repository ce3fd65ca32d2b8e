"""The store, counted: one pass over it, whatever other programs have written into it; and documents without a date.

Fields are used only where they have the type that they should have; MongoDB would compare a text with a date.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter

import pymongo
from pymongo.errors import PyMongoError

from daemon.adapters.mongo import EPOCH, Mongo
from daemon.adapters.mongo_pauses import pause_of
from daemon.adapters.token_document import failure_of
from daemon.domain.claim import StoreLost
from daemon.domain.event import TokenEnding, TokenHeld
from daemon.domain.statistics import DUE_STEP, DUE_STEPS, ENDING, FailedToken, Statistics
from daemon.domain.token import FailureKind, State

COUNT_LIMIT = timedelta(seconds=30)
NEWEST_FAILURES = 20
HELD_NAMED = ENDING_NAMED = 20  # of each provider and state
REPAIRED_AT_ONCE = 1000
_LAST = datetime(9999, 1, 1, tzinfo=UTC)  # sorts after every hold
UNKNOWN = "unknown"  # in place of a provider or a state that is no text

Row = Mapping[str, object]


async def statistics(mongo: Mongo) -> Statistics:
    """What the whole store looks like now. The cost is that of reading every document once, and then of what the index
    holds of the next hour.

    Raises StoreLost, also when it takes longer than COUNT_LIMIT.
    """
    await mongo.hello()
    now = mongo.clock.now()
    rows = await _within_limit(mongo, _pipeline(now))
    overdue, due_soon = _due(await _within_limit(mongo, _due_pipeline(now, {_key(row)[0] for row in rows})))
    resting = await mongo.promised(mongo.providers.find({"paused": {"$ne": None}}).to_list())
    due = min((at for row in rows if isinstance(at := row["due_at"], datetime)), default=None)
    return Statistics(
        at=now,
        states=_states(rows),
        expired=_sums(rows, "expired"),
        set_aside=_sums(rows, "set_aside"),
        held=_sums(rows, "held"),
        ending=_sums(rows, "ending"),
        refresh_token_expiry=_first_ends(rows),
        paused={str(row["_id"]): pause_of(row).reason.value for row in resting},
        next_due_at=due,
        oldest_due_age=now - due if due is not None and due <= now else None,
        overdue=overdue,
        due_soon=due_soon,
        last_failures=_newest(rows),
        held_tokens=_held(rows),
        needs_reauth_tokens=_dead(rows),
        ending_tokens=_ending(rows),
    )


async def repair_undated(mongo: Mongo, *, limit: int = REPAIRED_AT_ONCE) -> list[str]:
    """Make active tokens due now that no sweep would ever find, for want of a usable date; the ids of at most `limit`.

    A reply that could not be read leaves a token without a date on purpose. Raises StoreLost.
    """
    undated = {
        "state": State.ACTIVE.value,
        "refresh_token": {"$type": "string"},
        "last_failure.kind": {"$ne": FailureKind.UNREAD.value},
        "$expr": {"$not": [_is_usable("$due_at")]},
    }
    found = await mongo.promised(mongo.tokens.find(undated, {"_id": 1}).limit(limit).to_list())
    if not found:
        return []
    ids = [row["_id"] for row in found]
    due_now = {"$set": {"due_at": mongo.clock.now()}}
    await mongo.promised(mongo.tokens.update_many({"_id": {"$in": ids}, **undated}, due_now))
    return [str(name) for name in ids]


async def _within_limit(mongo: Mongo, pipeline: Sequence[Row]) -> list[dict[str, object]]:
    """The rows of `pipeline`. A slow count says nothing about the connection: it is no loss to tell of."""
    try:
        with pymongo.timeout(COUNT_LIMIT.total_seconds()):
            cursor = await mongo.tokens.aggregate(pipeline, allowDiskUse=True)
            return await cursor.to_list()
    except PyMongoError as error:
        if error.timeout:
            raise StoreLost(f"counting the store took longer than {COUNT_LIMIT.seconds} s") from None
        raise mongo.lost(error) from None


def _pipeline(now: datetime) -> list[Row]:
    kind = "$last_failure.kind"
    expired = {"$and": [{"$eq": ["$state", State.ACTIVE.value]}, _is_past("$expires_at", now)]}
    set_aside = {"$in": [kind, [FailureKind.UNREADABLE.value, FailureKind.UNCONFIGURED.value]]}
    held = {
        "$and": [
            _is_past("$due_at", now),
            _is_past("$lease.until", now),
            _is_date("$lease.hold"),
            {"$gt": ["$lease.hold", now]},
        ]
    }
    typed = {
        "provider": _text_or_unknown("$provider"),
        "state": _text_or_unknown("$state"),
        "expired": expired,
        "set_aside": set_aside,
        "ends_at": _end_for_good(now),
        "held": held,
        "held_until": {"$cond": [held, "$lease.hold", _LAST]},
        "owner": {
            "$convert": {"input": "$lease.owner", "to": "string", "onError": UNKNOWN, "onNull": UNKNOWN}
        },
        "due_at": _usable_or_null("$due_at"),
        "refresh_expires_at": _usable_or_null("$refresh_expires_at"),
        "failed_at": _usable_or_null("$last_failure.at"),
        "last_failure": 1,
    }
    newest = {
        "n": NEWEST_FAILURES,
        "sortBy": {"failed_at": -1},
        "output": {"token": "$_id", "provider": "$provider", "last_failure": "$last_failure"},
    }
    soonest = {
        "n": HELD_NAMED,
        "sortBy": {"held_until": 1},
        "output": {
            "token": "$_id",
            "provider": "$provider",
            "owner": "$owner",
            "hold": "$held_until",
            "held": "$held",
        },
    }
    first_ends = {
        "n": ENDING_NAMED,
        "sortBy": {"ends_at": 1},
        "output": {"token": "$_id", "provider": "$provider", "ends_at": "$ends_at"},
    }
    group = {
        "_id": {"provider": "$provider", "state": "$state"},
        "count": {"$sum": 1},
        **{name: {"$sum": {"$cond": [f"${name}", 1, 0]}} for name in ("expired", "set_aside", "held")},
        "ending": {"$sum": {"$cond": [{"$lt": ["$ends_at", _LAST]}, 1, 0]}},
        "due_at": {"$min": "$due_at"},
        "refresh_expires_at": {"$min": "$refresh_expires_at"},
        "failures": {"$topN": newest},
        "first_held": {"$topN": soonest},
        "first_ends": {"$topN": first_ends},
    }
    return [{"$project": typed}, {"$group": group}]


def _due_pipeline(now: datetime, providers: Collection[str]) -> list[Row]:
    """How many are overdue (step -1), and how many fall due in each step of the next hour. The index alone answers
    this: naming the providers, its first field, keeps it to one range for each of them.
    """
    until = now + DUE_STEPS * DUE_STEP
    step = {"$floor": {"$divide": [{"$subtract": ["$due_at", now]}, DUE_STEP / timedelta(milliseconds=1)]}}
    return [
        {"$match": {"provider": {"$in": sorted(providers)}, "due_at": {"$gt": EPOCH, "$lt": until}}},
        {
            "$group": {
                "_id": {"$cond": [_is_date("$due_at"), {"$max": [-1, step]}, None]},
                "count": {"$sum": 1},
            }
        },
    ]


def _due(rows: Sequence[Row]) -> tuple[int, list[int]]:
    steps: dict[object, int] = {row["_id"]: _number(row, "count") for row in rows}
    return steps.get(-1, 0), [steps.get(step, 0) for step in range(DUE_STEPS)]


def _end_for_good(now: datetime) -> Row:
    """When an active token's grant ends whatever we do, if soon: with its consent; with its access token where nothing
    renews it; with its refresh token where no renewal succeeds. Never is the far end, so that it sorts last.
    """
    watched = {"$and": [{"$ne": [{"$type": "$refresh_token"}, "string"]}, {"$not": [_is_usable("$due_at")]}]}
    failing = {"$gt": ["$failures", 0]}
    ends: list[Row] = [
        {"$cond": [_is_usable("$consent_ends_at"), "$consent_ends_at", _LAST]},
        {"$cond": [{"$and": [watched, _is_usable("$expires_at")]}, "$expires_at", _LAST]},
        {"$cond": [{"$and": [failing, _is_usable("$refresh_expires_at")]}, "$refresh_expires_at", _LAST]},
    ]
    first = {"$min": ends}
    soon = {"$and": [{"$eq": ["$state", State.ACTIVE.value]}, {"$lt": [first, now + ENDING]}]}
    return {"$cond": [soon, first, _LAST]}


def _is_date(path: str) -> Row:
    return {"$eq": [{"$type": path}, "date"]}


def _is_past(path: str, now: datetime) -> Row:
    return {"$and": [_is_date(path), {"$lt": [path, now]}]}


def _is_usable(path: str) -> Row:
    """A date that the index of what is due holds too."""
    return {"$and": [_is_date(path), {"$gt": [path, EPOCH]}]}


def _usable_or_null(path: str) -> Row:
    return {"$cond": [_is_usable(path), path, None]}


def _text_or_unknown(path: str) -> Row:
    return {"$cond": [{"$eq": [{"$type": path}, "string"]}, path, UNKNOWN]}


def _key(row: Row) -> tuple[str, str]:
    key = row["_id"]
    assert isinstance(key, Mapping)  # noqa: S101  the pipeline groups by an object
    return str(key["provider"]), str(key["state"])


def _number(row: Row, name: str) -> int:
    value = row[name]
    return value if isinstance(value, int) else 0


def _states(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    states: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        provider, state = _key(row)
        states[provider][state] = _number(row, "count")
    return dict(states)


def _sums(rows: Sequence[Row], name: str) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for row in rows:
        sums[_key(row)[0]] += _number(row, name)
    return {provider: count for provider, count in sums.items() if count}


def _first_ends(rows: Sequence[Row]) -> dict[str, datetime]:
    """The earliest end of a refresh token in use: a dead one's stays in the past for ever and would drown it."""
    ends = {_key(row): row["refresh_expires_at"] for row in rows}
    return {
        provider: end
        for (provider, state), end in ends.items()
        if state == State.ACTIVE.value and isinstance(end, datetime)
    }


def _newest(rows: Sequence[Row]) -> list[FailedToken]:
    failed = []
    for row in rows:
        found = row["failures"]
        for item in found if isinstance(found, list) else ():
            failure = failure_of(item)
            if failure is not None:
                failed.append(
                    FailedToken(token=str(item["token"]), provider=str(item["provider"]), failure=failure)
                )
    return sorted(failed, key=attrgetter("failure.at"), reverse=True)[:NEWEST_FAILURES]


def _dead(rows: Sequence[Row]) -> list[str]:
    """The tokens of each provider that were the last to need a new consent, up to NEWEST_FAILURES of each."""
    groups = [row["failures"] for row in rows if _key(row)[1] == State.NEEDS_REAUTH.value]
    return sorted(str(item["token"]) for group in groups if isinstance(group, list) for item in group)


def _held(rows: Sequence[Row]) -> list[TokenHeld]:
    return [
        TokenHeld(
            token=str(item["token"]),
            provider=str(item["provider"]),
            owner=str(item["owner"]),
            hold=item["hold"],
        )
        for row in rows
        if isinstance(found := row["first_held"], list)
        for item in found
        if item["held"]
    ]


def _ending(rows: Sequence[Row]) -> list[TokenEnding]:
    return [
        TokenEnding(token=str(item["token"]), provider=str(item["provider"]), ends_at=item["ends_at"])
        for row in rows
        if isinstance(found := row["first_ends"], list)
        for item in found
        if item["ends_at"] < _LAST
    ]
