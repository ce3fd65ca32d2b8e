"""The count of the store as MongoDB computes it: over all documents, over due tokens, and over the index for
the next hour.

Fields are used only if they have the expected type, because MongoDB would compare a string with a date.
Strings are bounded, and so is the number of named providers, whatever other programs have written.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from daemon.adapters.mongo.connection import EPOCH, due
from daemon.adapters.mongo.document_limits import SHORT_FAILURE, SHORT_ID, date_or_null, short_text
from daemon.adapters.mongo.set_aside import ANY
from daemon.domain.revocation_outcome import FAILED_AFTER
from daemon.domain.statistics import ENDING
from daemon.domain.token import FailureKind, State

NEWEST_FAILURES = 20
HELD_NAMED = ENDING_NAMED = 20  # of each provider and state
STRANGERS_NAMED = 100  # providers that are not configured; the others are one
LAST = datetime(9999, 1, 1, tzinfo=UTC)  # sorts after every hold
LONGEST_NAME = 100  # bytes, of a provider
UNKNOWN = "unknown"  # replaces a provider or state that is not a text, and providers beyond those named

Row = Mapping[str, object]
_FLAGS = ("expired", "expired_undue", "stuck", "revocation_failed", "set_aside", "held")


def by_provider_and_state(now: datetime, configured: Collection[str]) -> list[Row]:
    """Return one row for each provider and state. Only the first providers that are not `configured` are named."""
    sums, dates, lists = (*_FLAGS, "ending"), ("due_at", "refresh_expires_at"), ("failures", "first_ends")
    return [
        {"$project": _typed(now)},
        {"$group": _grouped()},
        *_few_strangers(configured, sums, dates, lists),
    ]


def due_by_provider(now: datetime, configured: Collection[str]) -> list[Row]:
    """Return one row for each provider with due tokens: how many, and since when. Only the index is read."""
    group = {
        "_id": {"provider": _name_or_unknown("$provider")},
        "count": {"$sum": 1},
        "due_at": {"$min": "$due_at"},
    }
    is_due = {"provider": ANY, "due_at": due(now)}
    dated = {"provider": 1, "due_at": {"$cond": [is_usable("$due_at"), "$due_at", None]}, "_id": 0}
    return [
        {"$match": is_due},
        {"$project": dated},
        {"$match": {"due_at": {"$ne": None}}},
        {"$group": group},
        *_few_strangers(configured, (), ("due_at",), ()),
    ]


def due_documents(now: datetime, configured: Collection[str]) -> list[Row]:
    """Return figures of the due tokens by provider: expired ones, ones that another instance holds with some
    ids, and the earliest date of the others.
    """
    active, held = {"$eq": ["$state", State.ACTIVE.value]}, _is_held(now)
    typed = {
        "token": SHORT_ID,
        "provider": _name_or_unknown("$provider"),
        "expired": {"$and": [active, _is_past("$expires_at", now), {"$not": [_is_stuck(active)]}]},
        "held": held,
        "held_until": {"$cond": [held, "$lease.hold", LAST]},
        "owner": {"$cond": [held, short_text("$lease.owner", otherwise=UNKNOWN), UNKNOWN]},
        "due_at": "$due_at",
    }
    group = {
        "_id": {"provider": "$provider"},
        "count": {"$sum": 1},
        **{name: {"$sum": {"$cond": [f"${name}", 1, 0]}} for name in ("expired", "held")},
        "waits_since": {"$min": {"$cond": ["$held", None, "$due_at"]}},
        "first_held": _first(HELD_NAMED, {"held_until": 1}, "owner", "held_until", "held"),
    }
    return [
        {"$match": {"provider": ANY, "due_at": due(now), "$expr": is_usable("$due_at")}},
        {"$project": typed},
        {"$group": group},
        *_few_strangers(configured, ("expired", "held"), ("waits_since",), ("first_held",)),
    ]


def due_between(start: datetime, end: datetime) -> list[Row]:
    """Count the tokens that fall due from `start` on and before `end`, and return the first date. Only the
    index is read.
    """
    first = {"$cond": [is_usable("$due_at"), "$due_at", None]}
    return [
        {"$match": {"provider": ANY, "due_at": {"$gte": start, "$lt": end}}},
        {"$project": {"_id": 0, "due_at": first}},
        {"$match": {"due_at": {"$ne": None}}},
        {"$group": {"_id": None, "count": {"$sum": 1}, "first": {"$min": "$due_at"}}},
    ]


def _typed(now: datetime) -> Row:
    """Project the counted fields of each document in their expected types."""
    active, kind = {"$eq": ["$state", State.ACTIVE.value]}, "$last_failure.kind"
    stuck = _is_stuck(active)
    expired = {"$and": [active, _is_past("$expires_at", now), {"$not": [stuck]}]}
    failed = {"$eq": [{"$type": "$last_failure.at"}, "date"]}
    is_due = {"$and": [is_usable("$due_at"), {"$lte": ["$due_at", now]}]}
    return {
        "token": SHORT_ID,
        "provider": _name_or_unknown("$provider"),
        "state": {"$cond": [{"$in": ["$state", [state.value for state in State]]}, "$state", UNKNOWN]},
        "expired": expired,
        "expired_undue": {"$and": [expired, {"$not": [is_due]}]},
        "stuck": stuck,
        "revocation_failed": _has_failed_revocation(now),
        "set_aside": {"$in": [kind, [FailureKind.UNREADABLE.value, FailureKind.UNCONFIGURED.value]]},
        "ends_at": _end_for_good(now),
        "held": _is_held(now),
        "due_at": _usable_or_null("$due_at"),
        "refresh_expires_at": _usable_or_null("$refresh_expires_at"),
        "failed_at": date_or_null("$last_failure.at"),
        "last_failure": {"$cond": [failed, SHORT_FAILURE, None]},
    }


def _grouped() -> Row:
    return {
        "_id": {"provider": "$provider", "state": "$state"},
        "count": {"$sum": 1},
        **{name: {"$sum": {"$cond": [f"${name}", 1, 0]}} for name in _FLAGS},
        "ending": {"$sum": {"$cond": [{"$lt": ["$ends_at", LAST]}, 1, 0]}},
        "due_at": {"$min": "$due_at"},
        "refresh_expires_at": {"$min": "$refresh_expires_at"},
        "failures": _first(NEWEST_FAILURES, {"failed_at": -1}, "last_failure"),
        "first_ends": _first(ENDING_NAMED, {"ends_at": 1}, "ends_at"),
    }


def _first(most: int, order: Mapping[str, int], *fields: str) -> Row:
    output = {name: f"${name}" for name in ("token", "provider", *fields)}
    return {"$topN": {"n": most, "sortBy": order, "output": output}}


def _few_strangers(
    configured: Collection[str], sums: Sequence[str], dates: Sequence[str], lists: Sequence[str]
) -> list[Row]:
    """Fold the rows of the other unknown providers into one for each state, without token ids."""
    stranger = {"$not": [{"$in": ["$_id.provider", sorted(configured)]}]}
    unnamed = {"$and": ["$stranger", {"$gt": ["$rank", STRANGERS_NAMED]}]}
    ranks = {
        "partitionBy": "$stranger",
        "sortBy": {"_id.provider": 1},
        "output": {"rank": {"$denseRank": {}}},
    }
    group = {
        "_id": {"provider": {"$cond": [unnamed, UNKNOWN, "$_id.provider"]}, "state": "$_id.state"},
        **{name: {"$sum": f"${name}"} for name in ("count", *sums)},
        **{name: {"$min": f"${name}"} for name in dates},
        **{name: {"$first": f"${name}"} for name in lists},
    }
    return [{"$set": {"stranger": stranger}}, {"$setWindowFields": ranks}, {"$group": group}]


def _end_for_good(now: datetime) -> Row:
    """Return when an active token's grant ends for good, if soon: with its consent, with an access token that
    can't be renewed, or with a refresh token that no renewal has replaced.

    "Never" is the latest date, so that it sorts last.
    """
    watched = {"$and": [{"$ne": [{"$type": "$refresh_token"}, "string"]}, {"$not": [is_usable("$due_at")]}]}
    failing = {"$gt": ["$failures", 0]}
    ends: list[Row] = [
        {"$cond": [is_usable("$consent_ends_at"), "$consent_ends_at", LAST]},
        {"$cond": [{"$and": [watched, is_usable("$expires_at")]}, "$expires_at", LAST]},
        {"$cond": [{"$and": [failing, is_usable("$refresh_expires_at")]}, "$refresh_expires_at", LAST]},
    ]
    first = {"$min": ends}
    soon = {"$and": [{"$eq": ["$state", State.ACTIVE.value]}, {"$lt": [first, now + ENDING]}]}
    return {"$cond": [soon, first, LAST]}


def _is_stuck(active: Row) -> Row:
    return {"$and": [active, {"$eq": ["$last_failure.kind", FailureKind.STUCK.value]}]}


def _has_failed_revocation(now: datetime) -> Row:
    """Return the condition for a token whose revocation needs an operator: the provider or the configuration does not
    allow it, or it has not succeeded in time. A failure from before the order says nothing.
    """
    asked = {"$and": [{"$isNumber": "$revocation.tries"}, {"$gt": ["$revocation.tries", 0]}]}
    refused = {"$and": [asked, {"$eq": ["$last_failure.kind", FailureKind.MISCONFIGURED.value]}]}
    late = {"$not": [{"$gt": [date_or_null("$revocation.since"), now - FAILED_AFTER]}]}
    return {"$and": [{"$eq": ["$state", State.REVOKING.value]}, {"$or": [refused, late]}]}


def _is_held(now: datetime) -> Row:
    """Return the condition for a due token that may be spent by an instance whose lease is over, and isn't
    free yet.
    """
    past = [_is_past("$due_at", now), _is_past("$lease.until", now)]
    return {"$and": [*past, _is_date("$lease.hold"), {"$gt": ["$lease.hold", now]}]}


def _is_date(path: str) -> Row:
    return {"$eq": [{"$type": path}, "date"]}


def _is_past(path: str, now: datetime) -> Row:
    return {"$and": [_is_date(path), {"$lt": [path, now]}]}


def is_usable(path: str) -> Row:
    """Return the condition for a date that the index of due tokens also contains."""
    return {"$and": [_is_date(path), {"$gt": [path, EPOCH]}]}


def _usable_or_null(path: str) -> Row:
    return {"$cond": [is_usable(path), path, None]}


def _name_or_unknown(path: str) -> Row:
    short = {"$cond": [{"$lte": [{"$strLenBytes": path}, LONGEST_NAME]}, path, UNKNOWN]}
    return {"$cond": [{"$eq": [{"$type": path}, "string"]}, short, UNKNOWN]}
