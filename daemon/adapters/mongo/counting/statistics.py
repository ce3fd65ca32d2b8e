"""Statistics of the store: one pass over all documents, due tokens by the index, and documents without a
date.

Fields are used only if they have the expected type, because MongoDB would compare a string with a date.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from operator import attrgetter

from daemon.adapters.mongo.bulk import Update, update_each
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.counting.pipelines import (
    LAST,
    NEWEST_FAILURES,
    by_provider_and_state,
    due_between,
    due_by_provider,
    due_documents,
    is_usable,
)
from daemon.adapters.mongo.counting.sealed_values import sealed_values
from daemon.adapters.mongo.document_limits import NAMED
from daemon.adapters.mongo.resting import resting
from daemon.adapters.mongo.time_limit import TooSlow, within
from daemon.adapters.mongo.token_document import failure_of
from daemon.domain.event import TokenEnding, TokenHeld
from daemon.domain.statistics import DUE_STEP, DUE_STEPS, Due, FailedToken, Upcoming, Whole
from daemon.domain.token import UNPARSED_STORED, State

REPAIRED_AT_ONCE = 1000
# Ten million documents are read in one or two minutes, as many keys of the index in half of one.
WHOLE_LIMIT, REPAIR_LIMIT = timedelta(minutes=30), timedelta(minutes=10)
DUE_LIMIT, DOCUMENTS_LIMIT = timedelta(minutes=2), timedelta(seconds=10)
NAMED_IN_ALL = 1000  # tokens, in each list of a count

Row = Mapping[str, object]
UNDATED: Row = {  # the condition for tokens that no sweep would find, and that a repair makes due
    "state": State.ACTIVE.value,
    "refresh_token": {"$type": "string"},
    "last_failure.kind": {"$nin": UNPARSED_STORED},
    "$expr": {"$not": [is_usable("$due_at")]},
}
_COUNTING = "counting the store"


async def whole_store(mongo: Mongo, *, configured: Collection[str]) -> Whole:
    """Return the figures of one pass over all documents, in their order on the disk. Raises StoreLost.

    Of providers that are not `configured` the first 100 are named, and the others are counted as one.
    """
    at, begun = mongo.clock.now(), mongo.clock.boot()
    rows = await within(WHOLE_LIMIT, mongo, by_provider_and_state(at, configured), _COUNTING)
    sealed = await sealed_values(mongo)
    return Whole(
        at=at,
        took=mongo.clock.boot() - begun,
        states=_states(rows),
        expired=_sums(rows, "expired"),
        expired_undue=_sums(rows, "expired_undue"),
        stuck=_sums(rows, "stuck"),
        revocation_failed=_sums(rows, "revocation_failed"),
        set_aside=_sums(rows, "set_aside"),
        held=_sums(rows, "held"),
        ending=_sums(rows, "ending"),
        refresh_token_expiry=_first_ends(rows),
        next_due_at=_earliest(rows, "due_at"),
        last_failures=_newest(rows),
        needs_reauth_tokens=_dead(rows)[:NAMED_IN_ALL],
        ending_tokens=_ending(rows)[:NAMED_IN_ALL],
        sealed={key_id: dict(values) for key_id, values in sealed.values.items()},
    )


async def due_now(mongo: Mongo, *, configured: Collection[str]) -> Due:
    """Return the figures of due tokens from the index, and from their documents unless there are too many.
    Raises StoreLost.
    """
    now = mongo.clock.now()
    rows = await within(DUE_LIMIT, mongo, due_by_provider(now, configured), _COUNTING)
    pauses = await resting(mongo, above_all=configured)
    due = Due(
        at=now,
        paused={name: pause.reason.value for name, pause in pauses.items()},
        overdue=sum(_number(row, "count") for row in rows),
        oldest=_earliest(rows, "due_at"),
        waits_since=_earliest(rows, "due_at", without=pauses),
    )
    try:
        found = (
            await within(DOCUMENTS_LIMIT, mongo, due_documents(now, configured), _COUNTING)
            if due.overdue
            else []
        )
    except TooSlow:
        return due
    return replace(
        due,
        waits_since=_earliest(found, "waits_since", without=pauses),
        expired=_sums(found, "expired"),
        held=_sums(found, "held"),
        held_tokens=_held(found),
    )


async def upcoming(mongo: Mongo) -> Upcoming:
    """Return how many tokens fall due in the next hour, from the index: one command per step, so that each is
    short.

    Raises StoreLost.
    """
    now, steps, first = mongo.clock.now(), [], None
    for step in range(DUE_STEPS):
        start = now + step * DUE_STEP
        after = start if step else start + timedelta(milliseconds=1)  # tokens that are due now are overdue
        rows = await within(DUE_LIMIT, mongo, due_between(after, start + DUE_STEP), _COUNTING)
        steps.append(sum(_number(row, "count") for row in rows))
        first = first or _earliest(rows, "first")
    return Upcoming(at=now, steps=steps, first=first)


async def repair_undated(mongo: Mongo, *, limit: int = REPAIRED_AT_ONCE) -> list[str]:
    """Make active tokens due now that have no usable date, so that no sweep would find them. Returns the ids
    of at most `limit`.

    A reply that could not be parsed leaves a token without a date on purpose. Raises StoreLost.
    """
    rows = await within(
        REPAIR_LIMIT,
        mongo,
        [{"$match": {**UNDATED, **NAMED}}, {"$project": {"_id": 1}}, {"$limit": limit}],
        "looking for tokens without a date",
    )
    ids = [str(row["_id"]) for row in rows]
    due_now = {"$set": {"due_at": mongo.clock.now()}}
    done = await update_each(mongo, [Update(ids=ids, condition=UNDATED, change=due_now)])
    return [name for name in ids if name not in done.refused]


def _earliest(rows: Sequence[Row], field: str, *, without: Collection[str] = ()) -> datetime | None:
    """Return the earliest date in `field`, of all providers except those in `without`."""
    dates = (row[field] for row in rows if not without or _key(row)[0] not in without)
    return min((at for at in dates if isinstance(at, datetime)), default=None)


def _key(row: Row) -> tuple[str, str]:
    key = row["_id"]
    assert isinstance(key, Mapping)  # noqa: S101  the pipeline groups by an object
    return str(key["provider"]), str(key.get("state"))


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
    """Return the earliest end of a refresh token in use: that of a dead one stays in the past and would hide
    it.
    """
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
    """Return the tokens of each provider that were the last to need a new consent, up to NEWEST_FAILURES of
    each.
    """
    groups = [row["failures"] for row in rows if _key(row)[1] == State.NEEDS_REAUTH.value]
    return sorted(str(item["token"]) for group in groups if isinstance(group, list) for item in group)


def _held(rows: Sequence[Row]) -> list[TokenHeld]:
    return [
        TokenHeld(
            token=str(item["token"]),
            provider=str(item["provider"]),
            owner=str(item["owner"]),
            hold=hold if isinstance(hold := item["held_until"], datetime) else LAST,
        )
        for row in rows
        if isinstance(found := row["first_held"], list)
        for item in found
        if item["held"]
    ]


def _ending(rows: Sequence[Row]) -> list[TokenEnding]:
    ending = [
        TokenEnding(token=str(item["token"]), provider=str(item["provider"]), ends_at=item["ends_at"])
        for row in rows
        if isinstance(found := row["first_ends"], list)
        for item in found
        if item["ends_at"] < LAST
    ]
    return sorted(ending, key=attrgetter("ends_at", "token"))
