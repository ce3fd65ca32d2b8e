"""`refreshd hooks`: the receivers of events, what waits for them, and what went wrong."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Annotated
from urllib.parse import urlsplit
from uuid import uuid4

import typer

from daemon.adapters.egress.names import Names
from daemon.adapters.egress.tls import client_context
from daemon.adapters.mongo.admin.hooks import FailedDelivery, HookAdmin, HookRow
from daemon.commands.support.access import open_store, read_settings
from daemon.commands.support.arguments import Yes, confirmation, hook_names
from daemon.commands.support.column import Column
from daemon.commands.support.command import Audited, Command, Group
from daemon.commands.support.durations import Instant, read_instant
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options, given
from daemon.commands.support.output import Output, moment
from daemon.domain.hook import Attempt, Outcome
from daemon.domain.owner_event import Actor, OwnerEvent, OwnerEventType
from daemon.notifying.courier import request_to
from daemon.runtime.config.hooks import HookSettings
from daemon.runtime.config.secret_places import Use
from daemon.runtime.config.settings import Settings
from daemon.runtime.receivers import addressee, hook_sender

_LIST = (
    Column("Hook"),
    Column("State", width=8),
    Column("Waiting", width=7),
    Column("Oldest", width=8),
    Column("Receiver"),
    Column("Events"),
)
_FAILED = (
    Column("Last attempt", width=12),
    Column("Hook"),
    Column("Event"),
    Column("Token"),
    Column("Attempts", width=8),
    Column("Outcome"),
)

app = typer.Typer(
    name="hooks",
    cls=Group,
    help="Show the receivers of events, test one, and send events again.",
    epilog="refreshd hooks test crm",
    no_args_is_help=True,
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The hook's name in [[hooks]].", autocompletion=hook_names)
]
OneName = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME", help="The hook's name in [[hooks]]. Default: all.", autocompletion=hook_names
    ),
]


@app.command("list", cls=Command, epilog="refreshd hooks list")
def list_hooks(ctx: typer.Context) -> int:
    """List the hooks, each with its receiver, its waiting events and its state.

    With --json, each line is one object.
    """
    options = given(ctx)
    asyncio.run(_list(read_settings(options), Output(as_json=options.json)))
    return Exit.DONE


async def _list(settings: Settings, output: Output) -> None:
    configured = {one.name: one for one in settings.hooks}
    async with open_store(settings) as access:
        rows = await HookAdmin(access.mongo, access.audit).rows(list(configured))
        now = access.clock.now()
    if output.as_json:
        for row in rows:
            output.record(_listed(row, configured.get(row.hook), now))
    elif rows:
        output.table(_LIST, [_row(row, configured.get(row.hook), now) for row in rows])
    else:
        output.note("No hook is configured. docs/hooks.md explains the section [[hooks]].")


def _listed(row: HookRow, hook: HookSettings | None, now: datetime) -> dict[str, object]:
    return {
        "hook": row.hook,
        "state": _state(row, hook, now),
        "url": None if hook is None else hook.url,
        "format": None if hook is None else hook.format.value,
        "events": [] if hook is None else list(hook.route.events),
        "providers": [] if hook is None else list(hook.route.providers),
        "waiting": row.waiting,
        "held": row.held,
        "oldest_at": row.oldest,
        "failures": row.health.failures,
        "rests_until": row.health.rests_until,
        "disabled_at": row.health.disabled_at,
    }


def _row(row: HookRow, hook: HookSettings | None, now: datetime) -> list[str]:
    events = ", ".join(hook.route.events) or "all" if hook is not None else "-"
    of = f" of {', '.join(hook.route.providers)}" if hook is not None and hook.route.providers else ""
    return [
        row.hook,
        _state(row, hook, now),
        str(row.waiting),
        moment(row.oldest, now=now, none="-"),
        "-" if hook is None else str(urlsplit(hook.url).hostname),
        f"{events}{of}",
    ]


def _state(row: HookRow, hook: HookSettings | None, now: datetime) -> str:
    if hook is None:
        return "removed"
    if row.health.disabled_for(hook.configuration):
        return "disabled"
    if row.held:
        return "held"
    return "failing" if row.health.failures and row.health.rest(now) else "ok"


# ---------------------------------------------------------------- test


@app.command(cls=Command, epilog="refreshd hooks test crm")
def test(ctx: typer.Context, *, name: Name) -> int:
    """Send a signed test event to a hook's receiver, from this machine, and show what it answers.

    Nothing is stored, and nothing that waits is sent. The exit code is 1 if the receiver does not accept the event.
    """
    options = given(ctx)
    settings = read_settings(options, {Use.HOOKS})
    hook = _known(settings, name)
    attempt = asyncio.run(_test(hook))
    record = {"hook": name, "outcome": attempt.outcome.value, "status": attempt.status}
    Output(as_json=options.json).result(record, f"{name}: {_told(attempt)}")
    return Exit.DONE if attempt.outcome is Outcome.DELIVERED else Exit.FAILED


async def _test(hook: HookSettings) -> Attempt:
    now = datetime.now(UTC)
    event = OwnerEvent(
        id=f"hook.test:{hook.name}:{uuid4().hex}",
        type=OwnerEventType.HOOK_TEST,
        at=now,
        who_acts=Actor.NOBODY,
        code=hook.name,
    )
    names = Names()
    sender = hook_sender(hook, names, client_context())
    try:
        return await sender.send(request_to(addressee(hook), event, sent_at=now))
    finally:
        await sender.close()
        await names.close()


def _told(attempt: Attempt) -> str:
    if attempt.status is not None:
        accepted = "accepted" if attempt.outcome is Outcome.DELIVERED else "not accepted"
        redirect = ", and redirects are not followed" if attempt.outcome is Outcome.REDIRECTED else ""
        return f"{accepted}: the receiver answered with status {attempt.status}{redirect}"
    reasons = {
        Outcome.TIMEOUT: "no answer in 20 seconds",
        Outcome.UNTRUSTED: "its certificate is not accepted",
        Outcome.NOT_PERMITTED: "its address is not permitted; allow_private = true is for receivers inside the network",
    }
    return f"not accepted: {reasons.get(attempt.outcome, 'no connection, or it ended without an answer')}"


# ---------------------------------------------------------------- failed


@app.command(cls=Command, epilog="refreshd hooks failed crm")
def failed(
    ctx: typer.Context,
    *,
    name: OneName = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, max=10_000, help="Show at most this many, the latest.")
    ] = 50,
) -> int:
    """List deliveries that failed and wait for the next attempt, and those that were given up.

    With --json, each line is one object.
    """
    options = given(ctx)
    settings = read_settings(options)
    asyncio.run(_failed(settings, Output(as_json=options.json), name, limit))
    return Exit.DONE


async def _failed(settings: Settings, output: Output, name: str | None, limit: int) -> None:
    async with open_store(settings) as access:
        now = access.clock.now()
        found = [one async for one in HookAdmin(access.mongo, access.audit).failed(name, limit=limit)]
    if name is not None and not found:
        _known(settings, name)  # one that left the configuration is known as long as it has failures
    if output.as_json:
        for one in found:
            output.record(_of_failed(one))
    elif found:
        output.table(_FAILED, [_failed_row(one, now) for one in found])
    else:
        output.note("No delivery has failed.")


def _of_failed(one: FailedDelivery) -> dict[str, object]:
    return {
        "hook": one.hook,
        "id": one.id,
        "state": one.state,
        "type": one.type,
        "token": one.token,
        "attempts": one.attempts,
        "outcome": one.outcome,
        "status": one.status,
        "at": one.at,
        "due_at": one.due_at,
    }


def _failed_row(one: FailedDelivery, now: datetime) -> list[str]:
    status = "" if one.status is None else f" {one.status}"
    end = "" if one.state == "waiting" else f", {one.state}"
    return [
        moment(one.at, now=now, none="-"),
        one.hook,
        one.type or "-",
        one.token or "-",
        str(one.attempts),
        f"{one.outcome or '-'}{status}{end if one.outcome != one.state else ''}",
    ]


# ---------------------------------------------------------------- replay, release


@app.command(cls=Audited, epilog="refreshd hooks replay crm --since 24h")
def replay(
    ctx: typer.Context,
    *,
    name: OneName = None,
    since: Annotated[
        Instant,
        typer.Option(
            parser=read_instant,
            metavar="TIME|DURATION",
            show_default=False,
            help="Send the events since then, like 2026-01-31T12:00:00Z, or 24h for a day.",
        ),
    ],
    yes: Yes = False,
) -> int:
    """Send events again that were delivered or dropped within the last 30 days.

    Each has the same webhook-id as before. A hook gets only those that were stored for it.
    """
    ask = confirmation(yes=yes)

    async def deed(admin: HookAdmin, hook: str, now: datetime) -> int:
        return await admin.replay(hook, since=now - since if isinstance(since, timedelta) else since)

    return _to_each(given(ctx), name, deed, action="replayed", ask=ask)


@app.command(cls=Audited, epilog="refreshd hooks release crm")
def release(ctx: typer.Context, *, name: OneName = None) -> int:
    """Send the events that a restored backup has brought back, and enable a hook that is disabled.

    Until then they are held, since they may have been delivered after the backup.
    """

    async def deed(admin: HookAdmin, hook: str, _now: datetime) -> int:
        return await admin.release(hook)

    return _to_each(given(ctx), name, deed, action="released", ask=None)


Deed = Callable[[HookAdmin, str, datetime], Awaitable[int]]


def _to_each(
    options: Options, name: str | None, deed: Deed, *, action: str, ask: Callable[[str], bool] | None
) -> int:
    settings = read_settings(options)
    names = [one.name for one in settings.hooks] if name is None else [_known(settings, name).name]
    if not names:
        raise Failed("no hook is configured. docs/hooks.md explains the section [[hooks]]", Exit.CONFIG)
    if ask is not None and not ask(f"Send events again to {', '.join(names)}?"):
        raise Failed("nothing was done. Answer y, or pass --yes")
    asyncio.run(_do(settings, options, names, deed, action))
    return Exit.DONE


async def _do(settings: Settings, options: Options, names: list[str], deed: Deed, action: str) -> None:
    output = Output(as_json=options.json)
    async with open_store(settings, reason=options.reason) as access:
        admin = HookAdmin(access.mongo, access.audit)
        for name in names:
            count = await deed(admin, name, access.clock.now())
            record = {"hook": name, "action": action, "events": count}
            output.result(record, f"{name}: {count} event{'s' * (count != 1)} {action}")


def _known(settings: Settings, name: str) -> HookSettings:
    """Return a configured hook. Raises Failed."""
    for one in settings.hooks:
        if one.name == name:
            return one
    close = get_close_matches(name, [one.name for one in settings.hooks], n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    raise Failed(f"{name}: no hook has this name. {hint}`refreshd hooks list` shows them", Exit.USAGE)
