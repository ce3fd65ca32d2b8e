"""The store, counted: one pass over it, whatever other programs have written into it; and documents without a date.

Fields are used only where they have the type that they should have; MongoDB would compare a text with a date.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter

import pymongo
from pymongo.errors import PyMongoError

from daemon.adapters.count_pipelines import LAST, NEWEST_FAILURES, by_provider_and_state, due_soon, is_usable
from daemon.adapters.document_limits import NAMED
from daemon.adapters.mongo import Mongo
from daemon.adapters.mongo_bulk import Update, update_each
from daemon.adapters.mongo_resting import resting
from daemon.adapters.token_document import failure_of
from daemon.domain.claim import StoreLost
from daemon.domain.event import TokenEnding, TokenHeld
from daemon.domain.statistics import DUE_STEPS, FailedToken, Statistics
from daemon.domain.token import FailureKind, State

COUNT_LIMIT = timedelta(seconds=30)
REPAIRED_AT_ONCE = 1000

Row = Mapping[str, object]


async def statistics(mongo: Mongo, *, known: Collection[str] = ()) -> Statistics:
    """What the whole store looks like now. Of providers that are not `known` the first 100 are named, the others counted
    as one. The cost is that of reading every document once, and then of what the index holds of the next hour.

    Raises StoreLost, also when it takes longer than COUNT_LIMIT.
    """
    await mongo.hello()
    now = mongo.clock.now()
    rows = await _within_limit(mongo, by_provider_and_state(now, known))
    overdue, soon = _due(await _within_limit(mongo, due_soon(now, {_key(row)[0] for row in rows})))
    paused = await resting(mongo, above_all=known)
    waits_since = _earliest(rows, "waits_since", without=paused)
    return Statistics(
        at=now,
        states=_states(rows),
        expired=_sums(rows, "expired"),
        stuck=_sums(rows, "stuck"),
        set_aside=_sums(rows, "set_aside"),
        held=_sums(rows, "held"),
        ending=_sums(rows, "ending"),
        refresh_token_expiry=_first_ends(rows),
        paused={name: pause.reason.value for name, pause in paused.items()},
        next_due_at=_earliest(rows, "due_at"),
        oldest_due_age=now - waits_since if waits_since is not None and waits_since <= now else None,
        overdue=overdue,
        due_soon=soon,
        last_failures=_newest(rows),
        held_tokens=_held(rows),
        needs_reauth_tokens=_dead(rows),
        ending_tokens=_ending(rows),
    )


def _earliest(rows: Sequence[Row], field: str, *, without: Collection[str] = ()) -> datetime | None:
    """The earliest date in `field`, of all providers but those in `without`."""
    dates = (row[field] for row in rows if _key(row)[0] not in without)
    return min((at for at in dates if isinstance(at, datetime)), default=None)


async def repair_undated(mongo: Mongo, *, limit: int = REPAIRED_AT_ONCE) -> list[str]:
    """Make active tokens due now that no sweep would ever find, for want of a usable date; the ids of at most `limit`.

    A reply that could not be read leaves a token without a date on purpose. Raises StoreLost.
    """
    undated = {
        "state": State.ACTIVE.value,
        "refresh_token": {"$type": "string"},
        "last_failure.kind": {"$ne": FailureKind.UNREAD.value},
        "$expr": {"$not": [is_usable("$due_at")]},
    }
    found = await mongo.promised(mongo.tokens.find({**undated, **NAMED}, {"_id": 1}).limit(limit).to_list())
    ids = [str(row["_id"]) for row in found]
    due_now = {"$set": {"due_at": mongo.clock.now()}}
    done = await update_each(mongo, [Update(ids=ids, condition=undated, change=due_now)])
    return [name for name in ids if name not in done.refused]


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


def _due(rows: Sequence[Row]) -> tuple[int, list[int]]:
    steps: dict[object, int] = {row["_id"]: _number(row, "count") for row in rows}
    return steps.get(-1, 0), [steps.get(step, 0) for step in range(DUE_STEPS)]


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
            hold=item["held_until"],
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
        if item["ends_at"] < LAST
    ]
