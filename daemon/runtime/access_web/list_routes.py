"""The routes that list tokens and audit records, and count tokens."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime

from aiohttp import web

from daemon.domain.access_key import is_field
from daemon.domain.expiry import end_of
from daemon.domain.selection import Counted, Listed
from daemon.runtime.access_web.answers import instant, item_of, json_answer
from daemon.runtime.access_web.asked import Asked, several
from daemon.serving.doorkeeper import Caller
from daemon.serving.grant_request import read_subject
from daemon.serving.listing import MOST, USUAL, Listing, Page, Record, Wish
from daemon.serving.ports import Clock
from daemon.serving.problems import Invalid

_COLUMNS = ("at", "action", "token", "actor", "kind", "result", "count", "revision")
_OF_AUTHOR = ("key", "name", "ip", "peer", "person", "uid", "reason")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # a spreadsheet would compute such a cell
CSV = "text/csv"


class ListRoutes:
    def __init__(self, listing: Listing, clock: Clock) -> None:
        self._listing = listing
        self._clock = clock

    async def tokens(self, asked: Asked, caller: Caller) -> web.Response:
        """`GET /v1/tokens`."""
        query, where = several(asked, ("provider", "state", "subject", "after", "limit"), "where")
        fields = _where(where)
        if "subject" in query:
            subject = read_subject(query["subject"])
            if fields.get("subject", subject) != subject:
                raise Invalid(("query subject", "is given twice"))
            fields["subject"] = subject
        return _page(await self._listing.tokens(caller, _wish(query, fields)))

    async def of_subject(self, asked: Asked, caller: Caller) -> web.Response:
        """`GET /v1/subjects/{subject}/tokens`."""
        query = asked.query(("after", "limit"))
        subject = read_subject(asked.segments[2])
        return _page(await self._listing.tokens(caller, _wish(query, {"subject": subject})))

    async def statistics(self, asked: Asked, caller: Caller) -> web.Response:
        """`GET /v1/statistics`."""
        asked.query(())
        return json_answer(_sums(await self._listing.count(caller), self._clock.now()))

    async def audit(self, asked: Asked, caller: Caller) -> web.Response:
        """`GET /v1/audit`."""
        query = asked.query(("token", "actor", "since", "limit"))
        since = end_of(query["since"], asked_at=self._clock.now()) if "since" in query else None
        if "since" in query and since is None:
            raise Invalid(("query since", 'is not an instant like "2026-01-31T12:00:00Z"'))
        found = await self._listing.records(
            caller,
            token=query.get("token"),
            actor=query.get("actor"),
            since=since,
            limit=_limit(query),
        )
        if CSV in asked.request.headers.get("Accept", "").lower():
            return web.Response(text=_csv(found), content_type=CSV, charset="utf-8")
        return json_answer({"items": found})


def _wish(query: Mapping[str, str], where: Mapping[str, str]) -> Wish:
    return Wish(
        provider=query.get("provider"),
        state=query.get("state"),
        where=where,
        after=query.get("after"),
        limit=_limit(query),
    )


def _limit(query: Mapping[str, str]) -> int:
    given = query.get("limit", str(USUAL))
    if (
        not given.isascii()
        or not given.isdigit()
        or len(given) > len(str(MOST))
        or not 1 <= int(given) <= MOST
    ):
        raise Invalid(("query limit", f"is not a number from 1 to {MOST}"))
    return int(given)


def _where(given: Sequence[str]) -> dict[str, str]:
    """Return the fields in `where=NAME=TEXT`."""
    fields: dict[str, str] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals or not is_field(name) or name in fields:
            raise Invalid(("query where", "is not subject=TEXT or meta.NAME=TEXT, each name once"))
        fields[name] = text
    return fields


def _page(page: Page) -> web.Response:
    return json_answer({"items": [_item(one) for one in page.items], "next": page.next})


def _item(one: Listed) -> dict[str, object]:
    return item_of(one.token) | {"last_used_at": one.last_used_at}


def _sums(counted: Sequence[Counted], now: datetime) -> dict[str, object]:
    providers: dict[str, dict[str, object]] = {}
    for name in dict.fromkeys(one.provider for one in counted):
        rows = [one for one in counted if one.provider == name]
        providers[name] = {
            "states": {one.state: one.count for one in rows},
            "expired": sum(one.expired for one in rows),
        }
    return {"at": now, "tokens": sum(one.count for one in counted), "providers": providers}


def _csv(records: Sequence[Record]) -> str:
    """Return the records as CSV (RFC 4180), with cells that no spreadsheet takes for a formula."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow((*_COLUMNS, *_OF_AUTHOR))
    for record in records:
        by = record.get("by")
        author = by if isinstance(by, Mapping) else {}
        cells = (*(record.get(name) for name in _COLUMNS), *(author.get(name) for name in _OF_AUTHOR))
        writer.writerow([_cell(value) for value in cells])
    return text.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = instant(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text
