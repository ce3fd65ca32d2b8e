"""The routes that list tokens and audit records, and count tokens."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import urlencode

from aiohttp import web

from daemon.domain.access_key import is_field
from daemon.domain.audit_csv import csv_head, csv_line
from daemon.domain.audit_position import read_position, text_of
from daemon.domain.expiry import instant_of
from daemon.domain.selection import Counted, Listed, RecordPage
from daemon.domain.token import State
from daemon.runtime.access_web.answers import item_of, json_answer
from daemon.runtime.access_web.asked import Asked, prefers, several
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
        """`GET /v1/audit`: JSON, or CSV if `Accept` prefers it."""
        query = asked.query(("token", "actor", "since", "after", "limit"))
        since = instant_of(query["since"]) if "since" in query else None
        if "since" in query and since is None:
            raise Invalid(("query since", 'is not an instant like "2026-01-31T12:00:00Z"'))
        after = read_position(query["after"]) if "after" in query else None
        if "after" in query and after is None:
            raise Invalid(("query after", "is not the `next` of a page"))
        page = await self._listing.records(
            caller,
            token=query.get("token"),
            actor=query.get("actor"),
            since=since,
            after=after,
            limit=_limit(query),
        )
        return _records(asked, query, page)


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


def _wish(query: Mapping[str, str], where: Mapping[str, str]) -> Wish:
    if query.get("state", State.ACTIVE) not in set(State):
        raise Invalid(("query state", f"is not one of {', '.join(State)}"))
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
