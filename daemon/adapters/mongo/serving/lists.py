"""Lists and counts of the tokens and audit records that an access key may see. Its limits are part of each query."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.document_limits import NAMED, date_or_null, short_text
from daemon.adapters.mongo.serving.records import page_of_records
from daemon.adapters.mongo.serving.selected_tokens import PRESENT, SIMPLE, matching, named
from daemon.adapters.mongo.serving.tokens import FIELDS, date, served_token
from daemon.adapters.mongo.time_limit import within
from daemon.adapters.mongo.token_document import Document
from daemon.domain.selection import Counted, Listed, RecordPage, RecordSelection, Selection, ids_of

LIST_LIMIT, COUNT_LIMIT = timedelta(seconds=10), timedelta(seconds=30)
MOST_COUNTED = 2000  # providers and states

# Without the access token: a list holds no secret, not even a sealed one.
_LISTED: Mapping[str, object] = {
    **{name: value for name, value in FIELDS.items() if name not in ("access_token", "extra", "refused")},
    "last_used_at": date_or_null("$last_used_at"),
}


class ServedLists:
    """Implements `serving.ports.Lists`."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def tokens(self, selection: Selection, *, limit: int) -> Sequence[Listed]:
        if (query := _query(selection)) is None:
            return []
        pipeline: list[Mapping[str, object]] = [
            {"$match": query},
            {"$sort": {"_id": 1}},
            {"$limit": limit},
            {"$project": _LISTED},
        ]
        rows = await within(LIST_LIMIT, self._mongo, pipeline, "listing the tokens", collation=SIMPLE)
        return [Listed(token=served_token(row), last_used_at=date(row, "last_used_at")) for row in rows]

    async def count(self, selection: Selection) -> Sequence[Counted]:
        if (query := _query(selection)) is None:
            return []
        ended = {
            "$and": [
                {"$eq": [{"$type": "$expires_at"}, "date"]},
                {"$lte": ["$expires_at", self._mongo.clock.now()]},
            ]
        }
        group = {
            "_id": {"provider": short_text("$provider"), "state": short_text("$state")},
            "count": {"$sum": 1},
            "expired": {"$sum": {"$cond": [ended, 1, 0]}},
        }
        pipeline: list[Mapping[str, object]] = [
            {"$match": query},
            {"$group": group},
            {"$sort": {"_id": 1}},
            {"$limit": MOST_COUNTED},
        ]
        rows = await within(COUNT_LIMIT, self._mongo, pipeline, "counting the tokens", collation=SIMPLE)
        return [_counted(row) for row in rows]

    async def records(self, selection: RecordSelection, *, limit: int) -> RecordPage:
        return await page_of_records(self._mongo, selection, limit=limit)


def _query(selection: Selection) -> dict[str, object] | None:
    """Return the condition for the selected tokens, or None if there can be none."""
    beginning = "" if selection.provider is None else f"{selection.provider}:"
    ids = ids_of(selection.selectors, beginning=beginning, after=selection.after)
    if ids.is_empty:
        return None
    conditions = [
        named(ids),
        dict(PRESENT),
        dict(NAMED),
        matching(selection.limits),
        matching(selection.where),
    ]
    if selection.state is not None:
        conditions.append({"state": {"$eq": selection.state}})
    return {"$and": [one for one in conditions if one]}


def _counted(row: Document) -> Counted:
    key = row.get("_id")
    provider, state = (key.get("provider"), key.get("state")) if isinstance(key, Mapping) else (None, None)
    count, expired = row.get("count"), row.get("expired")
    return Counted(
        provider=provider if isinstance(provider, str) else "",
        state=state if isinstance(state, str) else "",
        count=count if isinstance(count, int) else 0,
        expired=expired if isinstance(expired, int) else 0,
    )
