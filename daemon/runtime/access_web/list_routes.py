"""The routes that list tokens and audit records, and count tokens."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import urlencode

from aiohttp import web

from daemon.domain.access_key import is_field
from daemon.domain.audit_csv import csv_head, csv_line
from daemon.domain.audit_position import Position, read_position, text_of
from daemon.domain.expiry import instant_of
from daemon.domain.selection import Counted, Listed, RecordPage
from daemon.domain.token import State
from daemon.runtime.access_web.answers import item_of, json_answer
from daemon.runtime.access_web.asked import Asked, prefers
from daemon.runtime.access_web.query import Query
from daemon.serving.doorkeeper import Caller
from daemon.serving.grant_request import read_subject
from daemon.serving.listing import MOST, USUAL, Listing, Page, Wish
from daemon.serving.ports import Clock
from daemon.serving.problems import Invalid

CSV, JSON = "text/csv", "application/json"


class ListRoutes:
    def __init__(self, listing: Listing, clock: Clock) -> None:
        self._listing = listing
        self._clock = clock

    async def tokens(self, asked: Asked, caller: Caller) -> web.Response:
        """`GET /v1/tokens`."""
        query = asked.query(("provider", "state", "subject", "after", "limit"), repeated="where")
        fields = query.part(lambda: _where(query.values), dict[str, str]())
        subject = query.read("subject", read_subject, None)
        if subject is not None:
            fields = query.part(lambda: _with_subject(fields, subject), fields)
        return _page(await self._listing.tokens(caller, _wish(query, fields)))

    async def of_subject(self, asked: Asked, caller: Caller) -> web.Response:
        """`GET /v1/subjects/{subject}/tokens`."""
        query = asked.query(("after", "limit"))
        subject = query.part(lambda: read_subject(asked.segments[2]), "")
        return _page(await self._listing.tokens(caller, _wish(query, {"subject": subject})))

    async def statistics(self, asked: Asked, caller: Caller) -> web.Response:
        """`GET /v1/statistics`."""
        asked.query().check()
        return json_answer(_sums(await self._listing.count(caller), self._clock.now()))

    async def audit(self, asked: Asked, caller: Caller) -> web.Response:
        """`GET /v1/audit`: JSON, or CSV if `Accept` prefers it."""
        query = asked.query(("token", "actor", "since", "after", "limit"))
        since, after = query.read("since", _instant, None), query.read("after", _position, None)
        limit = query.read("limit", _limit, USUAL)
        query.check()
        page = await self._listing.records(
            caller,
            token=query.given.get("token"),
            actor=query.given.get("actor"),
            since=since,
            after=after,
            limit=limit,
        )
        return _records(asked, query.given, page)


def _records(asked: Asked, query: Mapping[str, str], page: RecordPage) -> web.Response:
    """Return the page as JSON or CSV. A table has no place for the position of the next page, so a header has it."""
    following = text_of(page.end) if page.end is not None else None
    headers = {"Vary": "Accept"}
    if following is not None:
        headers["Link"] = f'</v1/audit?{urlencode({**query, "after": following})}>; rel="next"'
    if prefers(CSV, over=JSON, accept=asked.request.headers.getall("Accept", [])):
        text = csv_head() + "".join(map(csv_line, page.items))
        return web.Response(text=text, content_type=CSV, charset="utf-8", headers=headers)
    return json_answer({"items": page.items, "next": following}, headers=headers)


def _wish(query: Query, where: Mapping[str, str]) -> Wish:
    """Return what the caller selects. Raises Invalid with every fault of the query."""
    wish = Wish(
        provider=query.given.get("provider"),
        state=query.read("state", _state, None),
        where=where,
        after=query.given.get("after"),
        limit=query.read("limit", _limit, USUAL),
    )
    query.check()
    return wish


def _state(given: str) -> str:
    if given not in set(State):
        raise Invalid(("query state", f"is not one of {', '.join(State)}"))
    return given


def _limit(given: str) -> int:
    if (
        not given.isascii()
        or not given.isdigit()
        or len(given) > len(str(MOST))
        or not 1 <= int(given) <= MOST
    ):
        raise Invalid(("query limit", f"is not a number from 1 to {MOST}"))
    return int(given)


def _instant(given: str) -> datetime:
    if (found := instant_of(given)) is None:
        raise Invalid(("query since", 'is not an instant like "2026-01-31T12:00:00Z"'))
    return found


def _position(given: str) -> Position:
    if (found := read_position(given)) is None:
        raise Invalid(("query after", "is not the `next` of a page"))
    return found


def _where(given: Sequence[str]) -> dict[str, str]:
    """Return the fields in `where=NAME=TEXT`."""
    fields: dict[str, str] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals or not is_field(name) or name in fields:
            raise Invalid(("query where", "is not subject=TEXT or meta.NAME=TEXT, each name once"))
        fields[name] = text
    return fields


def _with_subject(fields: Mapping[str, str], subject: str) -> dict[str, str]:
    if fields.get("subject", subject) != subject:
        raise Invalid(("query subject", "is given twice"))
    return {**fields, "subject": subject}


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
