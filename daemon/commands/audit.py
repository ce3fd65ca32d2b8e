"""`refreshd audit`: who did what to which token, as the audit collection has it."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from daemon.adapters.mongo.audit import Record, Wanted, count_records, records
from daemon.commands.support.access import Access, open_store, read_settings
from daemon.commands.support.failure import Exit
from daemon.commands.support.options import Options
from daemon.commands.support.output import Output
from daemon.domain.visible import visible
from daemon.runtime.config.settings import Settings

_ACTION = 18  # columns: the longest action that is common
_INDENT = " " * 21  # below the action, behind the time


def audit(
    options: Options,
    *,
    since: datetime | timedelta | None,
    until: datetime | timedelta | None,
    limit: int,
    who: str | None,
    action: str | None,
    token: str | None,
    provider: str | None,
) -> int:
    """Show the newest `limit` records that all of this holds for. A span means so long ago."""
    settings, output = read_settings(options), Output(as_json=options.json)

    def wanted(now: datetime) -> Wanted:
        return Wanted(
            since=_instant(since, now),
            until=_instant(until, now),
            who=who,
            action=action,
            token=token,
            provider=provider,
        )

    return asyncio.run(_audit(settings, output, wanted, limit))


async def _audit(settings: Settings, output: Output, wanted: Callable[[datetime], Wanted], limit: int) -> int:
    async with open_store(settings) as access:
        which, shown = wanted(access.clock.now()), 0
        async for record in records(access.mongo, which, limit=limit):
            shown += 1
            output.result(record, _told(record), keep="\n")
        if not output.as_json:
            await _sum_up(access, output, which, shown)
    return Exit.DONE


async def _sum_up(access: Access, output: Output, wanted: Wanted, shown: int) -> None:
    total = await count_records(access.mongo, wanted)
    if not total:
        every = await count_records(access.mongo, Wanted())
        output.note(f"No record matches, of {every}." if every else "Nothing is recorded yet.")
    elif shown < total:
        output.note(f"The newest {shown} of {total} records. --limit shows more.")


def _instant(at: datetime | timedelta | None, now: datetime) -> datetime | None:
    return now - at if isinstance(at, timedelta) else at


def _told(record: Record) -> str:
    """Two lines or three: when, what and to which; who, and with what result; why."""
    at = record.get("at")
    when = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if isinstance(at, datetime) else str(at)
    result = record.get("result")
    lines = [
        f"{when} {record.get('action'):<{_ACTION}} {record.get('token')}",
        f"{_INDENT}by {_who(record)}{f': {result}' if result else ''}",
    ]
    reason = _by(record).get("reason")
    return "\n".join(map(visible, [*lines, *([f'{_INDENT}"{reason}"'] if reason else [])]))


def _who(record: Record) -> str:
    """The person, if known, and as which user."""
    person, actor = _by(record).get("person"), str(record.get("actor"))
    return actor if person in (None, actor.split("@", maxsplit=1)[0]) else f"{person} as {actor}"


def _by(record: Record) -> Mapping[str, object]:
    by = record.get("by")
    return by if isinstance(by, Mapping) else {}
