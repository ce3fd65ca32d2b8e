"""`refreshd pause` and `resume`. Each action is audited."""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated

import typer

from daemon.commands.support.access import Access, check_targets, open_store, read_settings
from daemon.commands.support.arguments import Targets
from daemon.commands.support.command import Audited
from daemon.commands.support.durations import Instant, read_duration, read_instant
from daemon.commands.support.each_token import check_is_provider, each_target
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.imported import activate_imported, take_back_imported
from daemon.commands.support.options import Options, given
from daemon.commands.support.output import Output
from daemon.domain.moving import READ_WITHIN
from daemon.runtime.config.settings import Settings

app = typer.Typer()


@app.command(cls=Audited, epilog="refreshd pause xero --reason 'maintenance at Xero'")
def pause(
    ctx: typer.Context,
    *,
    targets: Targets,
    imported: Annotated[
        bool,
        typer.Option(
            "--imported",
            help="Take back the providers' imported tokens: none of them is refreshed until you activate it again.",
        ),
    ] = False,
) -> int:
    """Stop refreshing tokens or providers until you resume them.

    With --imported, the command waits until no request is running for any of these tokens. Then export them to the
    application that they came from, because refreshd may hold newer ones, and let it refresh them again.
    """
    options = given(ctx)
    if imported:
        return take_back_imported(options, targets)

    async def deed(access: Access, target: str) -> bool:
        return await (access.admin if ":" in target else access.pauses).pause(target)

    return each_target(options, targets, deed, done="paused", idle="was paused already")


@app.command(cls=Audited, epilog="refreshd resume xero --rejected-since 2h")
def resume(
    ctx: typer.Context,
    *,
    targets: Targets,
    rejected_since: Annotated[
        Instant,
        typer.Option(
            parser=read_instant,
            metavar="TIME|DURATION",
            help="Resume only the providers' tokens that were rejected since then, like 2026-01-31T12:00:00Z, or 2h for"
            " two hours ago.",
        ),
    ] = None,
    percent: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            metavar="N",
            help="Activate the first N percent of the providers' imported tokens, and nothing else.",
        ),
    ] = None,
    read_within: Annotated[
        timedelta | None,
        typer.Option(
            parser=read_duration,
            metavar="DURATION",
            help="With --percent: leave out tokens whose rows were last read by an import longer ago than this. Default: 60s.",
        ),
    ] = None,
) -> int:
    """Make paused or rejected tokens active and due now, or end a provider's pause.

    This also reactivates a token in state needs_reauth. A provider's pause ends whatever its reason.
    """
    options = given(ctx)
    if percent is not None:
        if rejected_since is not None:
            raise Failed("--percent and --rejected-since exclude each other. Give one of them", Exit.USAGE)
        within = READ_WITHIN if read_within is None else read_within
        return activate_imported(options, targets, percent, within)
    if read_within is not None:
        raise Failed("--read-within goes with --percent only. Give both, or neither", Exit.USAGE)
    if rejected_since is not None:
        return _of_providers(options, targets, rejected_since)

    async def deed(access: Access, target: str) -> bool:
        return await (access.admin if ":" in target else access.pauses).resume(target)

    return each_target(options, targets, deed, done="resumed", idle="was not paused")


def _of_providers(options: Options, targets: list[str], since: datetime | timedelta) -> int:
    """Resume the tokens of these providers that were rejected at or after `since`; a span ends now."""
    for target in targets:
        check_is_provider(target, "--rejected-since")
    settings = read_settings(options)
    check_targets(targets, settings)
    return asyncio.run(_resume_rejected(settings, options, targets, since))


async def _resume_rejected(
    settings: Settings, options: Options, targets: list[str], since: datetime | timedelta
) -> int:
    output = Output(as_json=options.json)
    async with open_store(settings, reason=options.reason) as access:
        at = access.clock.now() - since if isinstance(since, timedelta) else since
        for target in targets:
            count = await access.admin.resume_rejected(target, since=at)
            record = {"provider": target, "action": "resumed", "tokens": count}
            output.result(record, f"{target}: {count} rejected token{'s' * (count != 1)} resumed")
    return Exit.DONE
