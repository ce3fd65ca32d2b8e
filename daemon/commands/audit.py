"""`refreshd audit`: who did what to which token, as the audit collection has it."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from daemon.adapters.mongo.audit import ACCESS, Record, RecordSelection, count_records, records
from daemon.commands.support.access import Access, open_store, read_settings
from daemon.commands.support.arguments import provider_names
from daemon.commands.support.command import Command
from daemon.commands.support.durations import Instant, read_instant
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import MOST, given
from daemon.commands.support.output import Output
from daemon.domain.audit_csv import csv_head, csv_line
from daemon.domain.visible import visible
from daemon.runtime.config.settings import Settings

_ACTION = 18  # columns: the longest action that is common
_INDENT = " " * 21  # below the action, behind the time


app = typer.Typer()


@app.command(cls=Command, epilog="refreshd audit --since 24h --action reveal")
def audit(
    ctx: typer.Context,
    *,
    since: Annotated[
        Instant,
        typer.Option(
            parser=read_instant,
            metavar="TIME|DURATION",
            help="Show only records since then, like 2026-01-31T12:00:00Z, or 2h for two hours ago.",
        ),
    ] = None,
    until: Annotated[
        Instant,
        typer.Option(parser=read_instant, metavar="TIME|DURATION", help="Show only records before then."),
    ] = None,
    who: Annotated[
        str | None,
        typer.Option("--who", "--actor", metavar="NAME", help="Show only actions of this user or user@host."),
    ] = None,
    action: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Show only this action, like add, pause or reveal."),
    ] = None,
    token: Annotated[
        str | None, typer.Option(metavar="ID", help="Show only records of this token, key or instance.")
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=provider_names,
            help="Show only records of this provider and its tokens.",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, max=MOST, help="Show at most this many records, the newest.")
    ] = 50,
    csv: Annotated[
        bool,
        typer.Option(
            "--csv",
            help="Print a table for spreadsheets (RFC 4180), which read none of its cells as a formula.",
        ),
    ] = False,
) -> int:
    """Show who did what to which token, newest first.

    With --json, each line is one object.
    """
    options = given(ctx)
    if csv and options.json:
        raise Failed("--csv and --json exclude each other. Give one of them", Exit.USAGE)
    settings, output = read_settings(options), Output(as_json=options.json)

    def selection(now: datetime) -> RecordSelection:
        return RecordSelection(
            since=_instant(since, now),
            until=_instant(until, now),
            who=who,
            action=action,
            token=token,
            provider=provider,
        )

    if csv:
        return asyncio.run(_table(settings, selection, limit))
    return asyncio.run(_audit(settings, output, selection, limit))


async def _audit(
    settings: Settings, output: Output, selection: Callable[[datetime], RecordSelection], limit: int
) -> int:
    async with open_store(settings) as access:
        which, shown = selection(access.clock.now()), 0
        async for record in records(access.mongo, which, limit=limit):
            shown += 1
            output.result(record, _described(record), keep="\n")
        if not output.as_json:
            await _sum_up(access, output, which, shown)
    return Exit.DONE


async def _table(settings: Settings, selection: Callable[[datetime], RecordSelection], limit: int) -> int:
    """Print the records as the access service does. Each line ends as the RFC has it."""
    async with open_store(settings) as access:
        print(csv_head(), end="")
        async for record in records(access.mongo, selection(access.clock.now()), limit=limit):
            print(csv_line(record), end="")
    return Exit.DONE


async def _sum_up(access: Access, output: Output, selection: RecordSelection, shown: int) -> None:
    total = await count_records(access.mongo, selection)
    if not total:
        every = await count_records(access.mongo, RecordSelection())
        output.note(f"No record matches, of {every}." if every else "Nothing is recorded yet.")
    elif shown < total:
        output.note(f"The newest {shown} of {total} records. --limit shows more.")


def _instant(at: datetime | timedelta | None, now: datetime) -> datetime | None:
    return now - at if isinstance(at, timedelta) else at


def _described(record: Record) -> str:
    """Two lines to four: when, what and to which; who, and with what result; where an owner ends a grant; why."""
    at = record.get("at")
    when = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if isinstance(at, datetime) else str(at)
    result = record.get("result")
    lines = [
        f"{when} {record.get('action')!s:<{_ACTION}} {record.get('token') or '-'}",
        f"{_INDENT}by {_who(record)}{_times(record)}{f': {result}' if result else ''}",
    ]
    if page := record.get("manage_url"):
        lines.append(f"{_INDENT}the owner can end the grant at {page}")
    if reason := _by(record).get("reason"):
        lines.append(f'{_INDENT}"{reason}"')
    return "\n".join(map(visible, lines))


def _who(record: Record) -> str:
    """The person, if known, and as which user; or the access key or the workload, and its caller's address."""
    if record.get("kind") == ACCESS:
        by = _by(record)
        if "iss" in by:
            return f"the workload {by.get('sub') or '-'} of {by.get('name')} from {by.get('ip')}"
        return f"the access key {by.get('name')} from {by.get('ip')}"
    person, actor = _by(record).get("person"), str(record.get("actor"))
    return actor if person in (None, actor.split("@", maxsplit=1)[0]) else f"{person} as {actor}"


def _times(record: Record) -> str:
    """How often, if the record counts uses of a day or refusals of an hour."""
    count = record.get("count")
    if record.get("kind") != ACCESS or not isinstance(count, int):
        return ""
    return ", once" if count == 1 else f", {count} times"


def _by(record: Record) -> Mapping[str, object]:
    by = record.get("by")
    return by if isinstance(by, Mapping) else {}
