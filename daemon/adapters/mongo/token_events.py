"""Events in token documents: an update that reports the state which it stores.

The update is a pipeline, because it must succeed whatever other programs have stored as `events`. An event waits there
until the relay has put it into the outbox: see `waiting_events`.
"""

from collections.abc import Mapping, Sequence

from bson import ObjectId

from daemon.adapters.mongo.document_limits import short_text
from daemon.adapters.mongo.stored_number import counted, next_revision
from daemon.domain.transition import Transition

KEPT = 16  # events of one token. Each waits for a second; more have come only if no daemon ran, or none could relay
WAITING: Mapping[str, object] = {"events.0": {"$exists": True}}
NONE_WAITING: Mapping[str, object] = {"events.0": {"$exists": False}}
NEXT_REVISION = next_revision()
STORED_SUBJECT = short_text("$subject")
_IS_ARRAY = {"$isArray": "$events"}

Pipeline = list[Mapping[str, object]]


def new_ids(count: int = 1) -> Sequence[ObjectId]:
    """Return the ids of the events of one write. Attempts to make the same write share them, so that none is sent twice."""
    return [ObjectId() for _ in range(count)]


def reporting(
    fields: Mapping[str, object],
    events: Sequence[tuple[ObjectId, Transition]],
    *,
    now: object,
    revision: object = NEXT_REVISION,
    subject: object = STORED_SUBJECT,
    unset: Sequence[str] = (),
) -> Pipeline:
    """Return the update that sets `fields`, raises the revision, and adds `events`. Names of `fields` may be paths, as in a
    plain update. `revision`, `subject`: the expressions of those after the write.
    """
    values: dict[str, object] = {}
    inside: dict[str, dict[str, object]] = {}
    for name, value in fields.items():
        outer, _, inner = name.partition(".")
        if inner:
            inside.setdefault(outer, {})[inner] = value
        else:
            values[name] = {"$literal": value}
    for outer, taken in inside.items():
        # By a path, an array would get the value in each of its elements, and an empty one would lose it.
        stored = {"$cond": [{"$eq": [{"$type": f"${outer}"}, "object"]}, f"${outer}", {}]}
        values[outer] = {"$mergeObjects": [stored, {"$literal": taken}]}
    if events:
        values["events"] = appended(events, now=now, revision=revision, subject=subject)
    stage: Pipeline = [{"$set": {**values, "revision": revision}}]
    return [*stage, {"$unset": list(unset)}] if unset else stage


def appended(
    events: Sequence[tuple[ObjectId, Transition]],
    *,
    now: object,
    revision: object = NEXT_REVISION,
    subject: object = STORED_SUBJECT,
) -> Mapping[str, object]:
    """Return the expression of the stored events and `events` after them. The newest KEPT of all stay. The first new
    one carries the number of those that were dropped and are not reported yet.
    """
    old: object = {"$cond": [_IS_ARRAY, "$events", []]}
    kept = KEPT - len(events)
    surplus = {"$max": [0, {"$subtract": [{"$size": old}, kept]}]}
    dropped = {
        "$slice": [old, {"$max": [1, surplus]}]
    }  # at least one, as `$slice` demands; counted only if there is one
    inherited = {"$sum": {"$map": {"input": dropped, "in": counted("$$this.lost")}}}
    lost = {"$cond": [{"$gt": [surplus, 0]}, {"$add": [surplus, inherited]}, 0]}
    new = [
        _stored(*one, now=now, revision=revision, subject=subject, lost=lost if place == 0 else 0)
        for place, one in enumerate(events)
    ]
    return {"$concatArrays": [{"$slice": [old, -kept]}, new]}


def first_events(
    events: Sequence[tuple[ObjectId, Transition]], *, now: object, revision: object, subject: object
) -> list[dict[str, object]]:
    """Return the events of a document that is inserted."""
    return [{**_values(*one, now=now), "revision": revision, "subject": subject, "lost": 0} for one in events]


def _stored(
    name: ObjectId, event: Transition, *, now: object, revision: object, subject: object, lost: object
) -> dict[str, object]:
    values: dict[str, object] = {
        field: {"$literal": value} for field, value in _values(name, event, now=now).items()
    }
    return {**values, "revision": revision, "subject": subject, "lost": lost}


def _values(name: ObjectId, event: Transition, *, now: object) -> dict[str, object]:
    return {
        "n": name,
        "type": event.type.value,
        "at": now,
        "who_acts": event.who_acts.value,
        "kind": event.kind,
        "code": event.code,
    }
