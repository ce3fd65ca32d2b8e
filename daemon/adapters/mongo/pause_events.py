"""Pauses of providers as events: the document of each provider remembers its last pause that is over."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.document_limits import date_or_null, short_text
from daemon.domain.announcement import of_pause, of_resumption
from daemon.domain.owner_event import OwnerEvent

MOST = 1000  # providers
_READ = {
    "name": short_text("$_id"),
    "reason": short_text("$paused.reason"),
    "paused_at": date_or_null("$paused.since"),
    "since": date_or_null("$resumed.since"),
    "at": date_or_null("$resumed.at"),
}


def resumed(now: datetime) -> Sequence[Mapping[str, object]]:
    """Return the update that ends a provider's pause, and remembers it."""
    over = {"$eq": [{"$type": "$paused.since"}, "date"]}
    remembered = {"since": "$paused.since", "at": now}
    return [{"$set": {"paused": None, "resumed": {"$cond": [over, remembered, "$resumed"]}}}]


class PauseEvents:
    """Implements `notifying.announcer.Pauses`."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def events(self) -> Sequence[OwnerEvent]:
        query = {"_id": {"$type": "string"}}
        rows = await self._mongo.guarded(self._mongo.providers.find(query, _READ).limit(MOST).to_list())
        return [event for row in rows for event in _events(row)]


def _events(row: Mapping[str, object]) -> Sequence[OwnerEvent]:
    name, reason = str(row.get("name")), row.get("reason")
    paused_at, since, at = row.get("paused_at"), row.get("since"), row.get("at")
    found = []
    if isinstance(since, datetime) and isinstance(at, datetime):
        found.append(of_resumption(name, since=since, at=at))
    if isinstance(paused_at, datetime):
        found.append(
            of_pause(name, since=paused_at, reason=reason if isinstance(reason, str) else "operator")
        )
    return found
