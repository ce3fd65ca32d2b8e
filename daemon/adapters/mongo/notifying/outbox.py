"""The outbox: events that are stored, one document for each event and hook.

A document of its own for each hook keeps receivers apart: the query for one hook reads an index range in which no other
hook's deliveries stand, however many of them wait. `due_at` alone decides what is sent. It lies in the index `due` and is
removed when a delivery ends, so the index holds what waits and nothing else. A document with a `held` that isn't null waits
too, and is left alone until `refreshd hooks release`.

An event that is over stays for `KEPT`: a second report of it finds its documents and changes nothing, and `refreshd hooks
replay` can send it again. The documents hold no secret.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from pymongo.errors import BulkWriteError

from daemon.adapters.mongo.connection import Mongo, Refusal
from daemon.domain.hook import Route
from daemon.domain.owner_event import OwnerEvent
from daemon.domain.waiting_events import EventRefused

KEPT = timedelta(days=30)  # an event that waits is dropped then, and one that is over is forgotten
LEFT_OVER = timedelta(
    days=7
)  # later MongoDB deletes what no daemon has dropped, since it has no hook any more
_SEPARATOR = "\n"  # in no name of a hook
Result = TypeVar("Result")
_DUPLICATE = 11000
_AT_ONCE = 500


class OutboxRefused(EventRefused):
    """MongoDB answers, but refuses the use of this collection, or an event."""


class MongoOutbox:
    """Implements `notifying.ports.Outbox`. `routes` returns the configured hooks at each call."""

    def __init__(self, mongo: Mongo, *, routes: Callable[[], Sequence[Route]]) -> None:
        self._mongo = mongo
        self._routes = routes

    async def add(self, events: Sequence[OwnerEvent]) -> None:
        """Store `events` for each hook that takes them, with a majority. A delivery that is stored already is left as it
        is. Raises StoreLost, OutboxRefused. The caller repeats the whole call then.
        """
        now, routes = self._mongo.clock.now(), self._routes()
        documents = [
            delivery_document(event, route.name, now)
            for event in events
            for route in routes
            if route.takes(event)
        ]
        for start in range(0, len(documents), _AT_ONCE):
            await self._insert(documents[start : start + _AT_ONCE])

    async def _insert(self, documents: Sequence[Mapping[str, object]]) -> None:
        if others := {
            _name(one) for one in await tried(self._mongo, self._errors(documents)) if not _is_stored(one)
        }:
            raise OutboxRefused(f"MongoDB does not take an event: {', '.join(sorted(others))}")

    async def _errors(self, documents: Sequence[Mapping[str, object]]) -> Sequence[Mapping[str, object]]:
        """Insert, and return the errors of single documents. All others are stored then."""
        try:
            await self._mongo.outbox.insert_many([dict(one) for one in documents], ordered=False)
        except BulkWriteError as error:
            errors: Sequence[Mapping[str, object]] = error.details.get("writeErrors") or ()
            if error.details.get("writeConcernErrors") or not errors:  # it is not certain what is stored
                raise self._mongo.lost(error) from None
            return errors
        return ()


def delivery_id(event_id: str, hook: str) -> str:
    return f"{event_id}{_SEPARATOR}{hook}"


def delivery_document(event: OwnerEvent, hook: str, now: datetime) -> dict[str, object]:
    """Return the document of a delivery that is due now."""
    return {
        "_id": delivery_id(event.id, hook),
        "event": event.id,
        "hook": hook,
        "type": event.type.value,
        "at": event.at,
        "who_acts": event.who_acts.value,
        "provider": event.provider,
        "token": event.token,
        "account": event.account,
        "subject": event.subject,
        "kind": event.kind,
        "code": event.code,
        "revision": event.revision,
        "state": "waiting",
        "attempts": 0,
        "held": None,
        "claim": None,
        "last": None,
        "added_at": now,
        "due_at": now,
        "ends_at": now + KEPT + LEFT_OVER,
    }


async def tried(mongo: Mongo, work: Awaitable[Result]) -> Result:
    """Return the result of `work`. Raises StoreLost, and OutboxRefused without reporting a loss of the store."""
    try:
        return await mongo.tried(work)
    except Refusal as why:
        raise OutboxRefused(str(why)) from None


def _is_stored(error: Mapping[str, object]) -> bool:
    """Return whether the delivery is there already. Another unique index is an operator's own, and would lose an event."""
    return error.get("code") == _DUPLICATE and error.get("keyPattern") == {"_id": 1}


def _name(error: Mapping[str, object]) -> str:
    return "a unique index of its own" if error.get("code") == _DUPLICATE else f"code {error.get('code')}"
