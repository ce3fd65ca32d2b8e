"""`refreshd list`: the stored tokens, without their secrets."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

import typer

from daemon.adapters.mongo.admin.lookup import LISTED_FIELDS, TokenSelection
from daemon.commands.support.access import (
    Access,
    known_providers,
    open_store,
    read_settings,
    unknown_provider,
)
from daemon.commands.support.arguments import provider_names
from daemon.commands.support.column import Column
from daemon.commands.support.command import Command
from daemon.commands.support.failure import Exit
from daemon.commands.support.options import MOST, given
from daemon.commands.support.output import Output, moment
from daemon.commands.support.token_texts import failure_text, record
from daemon.domain.statistics import ENDING
from daemon.domain.token import State
from daemon.domain.visible import typed
from daemon.runtime.config.settings import Settings

_COLUMNS = (
    Column("ID"),
    Column("State", width=12),
    Column("Expires", width=11),
    Column("Due", width=11),
    Column("Last failure"),
)
_ROWS_AT_ONCE = 500  # so that a long table begins without delay

app = typer.Typer()


@app.command("list", cls=Command, epilog="refreshd list --provider xero --state needs_reauth")
def list_tokens(
    ctx: typer.Context,
    *,
    provider: Annotated[
        str | None,
        typer.Option(metavar="NAME", autocompletion=provider_names, help="Show only this provider's tokens."),
    ] = None,
    account: Annotated[
        str | None, typer.Option(metavar="ACCOUNT", help="Show only this account's tokens.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Show only tokens of this subject.")
    ] = None,
    state: Annotated[State | None, typer.Option(help="Show only tokens in this state.")] = None,
    failing: Annotated[
        bool, typer.Option("--failing", help="Show only tokens whose last attempt failed.")
    ] = False,
    expired: Annotated[
        bool, typer.Option("--expired", help="Show only active tokens past their expiry.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=MOST, help="Show at most this many tokens.")
    ] = None,
) -> int:
    """List the stored tokens, without their secrets.

    With --json, each line is one object.
    """
    options = given(ctx)
    selection = TokenSelection(
        provider=provider,
        account=typed(account) if account else account,
        subject=typed(subject) if subject else subject,
        state=state.value if state else None,
        failing=failing,
        expired=expired,
    )
    settings = read_settings(options)
    asyncio.run(_list(settings, Output(as_json=options.json), selection, limit))
    return Exit.DONE


async def _list(settings: Settings, output: Output, selection: TokenSelection, limit: int | None) -> None:
    async with open_store(settings) as access:
        if selection.provider is not None and selection.provider not in known_providers(settings):
            await _refuse_unknown(access, selection.provider, settings)
        found = access.lookup.list(selection, limit=limit)
        if output.as_json:
            async for document in found:
                output.record(record(document, LISTED_FIELDS))
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
        output.note(await _summed(access, selection, limit, states))


async def _summed(access: Access, selection: TokenSelection, limit: int | None, states: Counter[str]) -> str:
    """How many there are, by state; of how many."""
    stored, shown = await access.lookup.count(), states.total()
    if not stored:
        return "No token is stored here. `refreshd add` stores one."
    verb = "is" if stored == 1 else "are"
    matching = await access.lookup.matching(selection) if shown == limit else shown
    if not matching:
        return f"No token{_described(selection)}. In all, {stored:,} {verb} stored."
    by_state = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
    about = "" if selection.state is not None else f": {by_state}"  # one state has been named already
    if shown < matching:
        return f"The first {shown:,} of {matching:,} tokens{_described(selection)}{about}."
    more = f" In all, {stored:,} {verb} stored." if selection != TokenSelection() else ""
    return f"{shown:,} token{'s' * (shown != 1)}{_described(selection)}{about}.{more}"


def _described(selection: TokenSelection) -> str:
    parts = (
        selection.provider is not None and f" of {selection.provider}",
        selection.account is not None and f" of account {selection.account}",
        selection.subject is not None and f" of subject {selection.subject}",
        selection.state is not None and f" in state {selection.state}",
        selection.failing and " that failed last time",
        selection.expired and " past expiry",
    )
    return "".join(part for part in parts if part)


async def _refuse_unknown(access: Access, provider: str, settings: Settings) -> None:
    """A provider that is neither known nor has a token is a misspelt one. Raises Failed, StoreLost."""
    if not await access.lookup.has_tokens_of(provider):
        raise unknown_provider(provider, settings)


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
    """Describe the claim of a lost instance on a due token: it may have spent the token, so others wait."""
    lease, due = document.get("lease"), document.get("due_at")
    if not isinstance(lease, Mapping) or not isinstance(due, datetime) or due > now:
        return ""
    until, hold = lease.get("until"), lease.get("hold")
    if not isinstance(until, datetime) or not isinstance(hold, datetime) or not until < now < hold:
        return ""
    return f"held for {lease.get('owner')}: others may renew it {moment(hold, now=now)}"


def _failed(document: Mapping[str, object]) -> str:
    """The last failure, and how many there were in a row."""
    several, failure = document.get("failures"), failure_text(document.get("last_failure"))
    return f"{several} x {failure}" if failure and isinstance(several, int) and several > 1 else failure
