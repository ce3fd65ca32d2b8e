"""`refreshd list` and `show`: what is stored. Never a secret, but for the one that `--reveal` names, and that is audited."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from daemon.adapters.keyring import Unopenable
from daemon.adapters.mongo.admin.consents import Refused
from daemon.adapters.mongo.admin.tokens import LISTED_FIELDS, SHOWN_FIELDS, NoSuchToken, Wanted
from daemon.commands.support.access import (
    Access,
    known_providers,
    open_store,
    read_settings,
    stored_id,
    unknown_provider,
)
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options
from daemon.commands.support.output import Column, Output, moment, plain
from daemon.domain.statistics import ENDING
from daemon.domain.token import State
from daemon.runtime.config.settings import Settings

_COLUMNS = (
    Column("ID"),
    Column("State", width=12),
    Column("Expires", width=11),
    Column("Due", width=11),
    Column("Last failure"),
)
_ROWS_AT_ONCE = 500  # so that a long table begins at once


def list_tokens(options: Options, *, wanted: Wanted, limit: int | None) -> int:
    """The stored tokens that are `wanted`, at most `limit` of them."""
    settings = read_settings(options)
    asyncio.run(_list(settings, Output(as_json=options.json), wanted, limit))
    return Exit.DONE


async def _list(settings: Settings, output: Output, wanted: Wanted, limit: int | None) -> None:
    async with open_store(settings) as access:
        if wanted.provider is not None and wanted.provider not in known_providers(settings):
            await _refuse_unknown(access, wanted.provider, settings)
        found = access.registry.list(wanted, limit=limit)
        if output.as_json:
            async for document in found:
                output.record(_record(document, LISTED_FIELDS))
            return
        states: Counter[str] = Counter()
        rows: list[list[str]] = []
        async for document in found:
            rows.append(_row(document, access.clock.now()))
            states[str(document.get("state"))] += 1
            if len(rows) == _ROWS_AT_ONCE:
                output.table(_COLUMNS, rows, head=states.total() == _ROWS_AT_ONCE)
                rows = []
        if rows:
            output.table(_COLUMNS, rows, head=states.total() == len(rows))
        output.note(await _summed(access, wanted, limit, states))


async def _summed(access: Access, wanted: Wanted, limit: int | None, states: Counter[str]) -> str:
    """How many there are, by state; of how many."""
    stored, shown = await access.registry.count(), states.total()
    if not stored:
        return "No token is stored here. `refreshd add` stores one."
    matching = await access.registry.matching(wanted) if shown == limit else shown
    if not matching:
        return f"No token{_described(wanted)}. In all, {stored:,} are stored."
    by_state = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
    if shown < matching:
        return f"The first {shown:,} of {matching:,} tokens{_described(wanted)}: {by_state}."
    more = f" In all, {stored:,} are stored." if wanted != Wanted() else ""
    return f"{shown:,} token{'s' * (shown != 1)}{_described(wanted)}: {by_state}.{more}"


def _described(wanted: Wanted) -> str:
    parts = (
        wanted.provider is not None and f" of {wanted.provider}",
        wanted.account is not None and f" of account {wanted.account}",
        wanted.state is not None and f" in state {wanted.state}",
        wanted.failing and " that failed last time",
        wanted.expired and " past expiry",
    )
    return "".join(part for part in parts if part)


async def _refuse_unknown(access: Access, provider: str, settings: Settings) -> None:
    """A provider that is neither known nor has a token is a misspelt one. Raises Failed, StoreLost."""
    if not await access.registry.has_tokens_of(provider):
        raise unknown_provider(provider, settings)


def show(options: Options, *, name: str, reveal: str | None) -> int:
    """One token; or one of its secrets."""
    settings = read_settings(options)
    if ":" not in name:
        like = f"{name}:ACCOUNT" if name in known_providers(settings) else "xero:company-7"
        raise Failed(
            f"{name!r} is not a token's id: an id is PROVIDER:ACCOUNT, like {like}. Give the whole id",
            Exit.USAGE,
        )
    asyncio.run(_show(settings, options, name, reveal))
    return Exit.DONE


async def _show(settings: Settings, options: Options, name: str, reveal: str | None) -> None:
    output = Output(as_json=options.json)
    async with open_store(settings, reason=options.reason) as access:
        name = await stored_id(access, name)
        try:
            if reveal is not None:
                secret = await access.registry.reveal(name, reveal)
                output.exact({"id": name, "field": reveal, "value": secret}, secret)
                return
            document = await access.registry.get(name)
        except NoSuchToken:
            raise no_such_token(name) from None
        except (Refused, Unopenable) as why:
            raise Failed(f"{name}: {why}") from None
        if output.as_json:
            output.record(_record(document, (*SHOWN_FIELDS, "has_refresh_token")))
        else:
            output.pairs(await _details(access, document))


def no_such_token(name: str) -> Failed:
    return Failed(
        f"{name}: no such token is stored; an id is PROVIDER:ACCOUNT. `refreshd list` shows what is"
    )


def _record(document: Mapping[str, object], fields: tuple[str, ...]) -> dict[str, object]:
    return {"id": document["_id"], **{field: document.get(field) for field in fields}}


def _row(document: Mapping[str, object], now: datetime) -> list[str]:
    return [
        str(document["_id"]),
        str(document.get("state")),
        moment(document.get("expires_at"), now=now),
        moment(document.get("due_at"), now=now, none="-"),
        _held(document, now) or _ending(document, now) or _failed(document),
    ]


def _ending(document: Mapping[str, object], now: datetime) -> str:
    """Its owner must consent again soon, however well it is renewed till then."""
    end = document.get("consent_ends_at")
    if document.get("state") != State.ACTIVE or not isinstance(end, datetime) or end > now + ENDING:
        return ""
    return f"its consent ends {moment(end, now=now)}: the owner must renew it"


def _held(document: Mapping[str, object], now: datetime) -> str:
    """Due, but perhaps spent by an instance that has gone: whose it is, and until when nobody else touches it."""
    lease, due = document.get("lease"), document.get("due_at")
    if not isinstance(lease, Mapping) or not isinstance(due, datetime) or due > now:
        return ""
    until, hold = lease.get("until"), lease.get("hold")
    if not isinstance(until, datetime) or not isinstance(hold, datetime) or not until < now < hold:
        return ""
    return f"held for {lease.get('owner')}: others may renew it {moment(hold, now=now)}"


def _failure(stored: object) -> str:
    if not isinstance(stored, Mapping):
        return ""
    return f"{stored.get('kind')}: {stored.get('message') or stored.get('code')}"


def _failed(document: Mapping[str, object]) -> str:
    """The last failure, and how many there were in a row."""
    several, failure = document.get("failures"), _failure(document.get("last_failure"))
    return f"{several} x {failure}" if failure and isinstance(several, int) and several > 1 else failure


async def _details(access: Access, document: Mapping[str, object]) -> list[tuple[str, str]]:
    now = access.clock.now()
    pauses = await access.registry.paused_providers()
    reason = pauses.get(str(document.get("provider")))
    rows = [
        ("ID", str(document["_id"])),
        ("State", str(document.get("state")) + (f" (its provider is paused: {reason})" if reason else "")),
        ("Access token expires", _when(document.get("expires_at"), now)),
        ("Refresh token", "stored" if document.get("has_refresh_token") else "none: it can't be renewed"),
        ("Refresh token expires", _when(document.get("refresh_expires_at"), now, none="unknown")),
        ("Consent ends", _when(document.get("consent_ends_at"), now, none="")),
        ("Due", _when(document.get("due_at"), now, none="not ever")),
        ("Refreshed", _when(document.get("refreshed_at"), now, none="not yet")),
        ("Failures in a row", str(document.get("failures") or 0)),
        ("Last failure", _failure(document.get("last_failure")) or "none"),
        ("Revision", str(document.get("revision"))),
        ("Scope", str(document.get("scope") or "")),
    ]
    for field in ("vars", "extra", "meta"):
        found = document.get(field)
        for name, value in found.items() if isinstance(found, Mapping) else ():
            rows.append((f"{field}.{name}", str(plain(value))))
    for field, title in (("lease", "Claimed"), ("doubt", "In doubt")):
        if isinstance(found := document.get(field), Mapping):
            rows.append((title, ", ".join(f"{name} {plain(value)}" for name, value in found.items())))
    return [(title, value) for title, value in rows if value]


def _when(instant: object, now: datetime, *, none: str = "never") -> str:
    told = moment(instant, now=now, none=none)
    return f"{told} ({plain(instant)})" if isinstance(instant, datetime) else told
