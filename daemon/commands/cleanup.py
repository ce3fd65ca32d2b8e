"""`refreshd cleanup`: delete tokens that are long over. Each deletion is audited."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

import typer

from daemon.adapters.mongo.admin.cleanup import Cleanup
from daemon.commands.support.access import (
    Access,
    known_providers,
    open_store,
    read_settings,
    unknown_provider,
)
from daemon.commands.support.arguments import Yes, confirmation, provider_names
from daemon.commands.support.command import Audited
from daemon.commands.support.durations import read_duration
from daemon.commands.support.each_token import check_is_provider
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.journaled import journaled_tokens
from daemon.commands.support.options import MOST, Options, given, say_unused
from daemon.commands.support.output import Output, span
from daemon.domain.long_over import Criteria, LongOver, Why
from daemon.runtime.config.settings import Settings

SHORTEST = timedelta(days=1)  # a token may be dead for hours because of a fault that its provider corrects
_EXAMPLES = 5

app = typer.Typer()


@dataclass(frozen=True, slots=True, kw_only=True)
class _CleanupArguments:
    dead_for: timedelta | None
    unused_for: timedelta | None
    providers: Sequence[str]
    limit: int | None
    expect: int | None
    dry_run: bool
    confirm: Callable[[str], bool] | None


def _age(text: str) -> timedelta:
    """Read a duration of a day or more. Raises BadParameter."""
    if (read := read_duration(text)) < SHORTEST:
        raise typer.BadParameter(f"{text!r} is too short. Write one day (1d) or more")
    return read


@app.command(cls=Audited, epilog="refreshd cleanup --dead-for 180d --dry-run")
def cleanup(
    ctx: typer.Context,
    *,
    dead_for: Annotated[
        timedelta | None,
        typer.Option(
            parser=_age,
            metavar="DURATION",
            help="Delete tokens in state needs_reauth to which nothing has happened for this long, like 180d.",
        ),
    ] = None,
    unused_for: Annotated[
        timedelta | None,
        typer.Option(
            parser=_age,
            metavar="DURATION",
            help="Delete tokens that the access service has not handed out for this long, and that no command or"
            " application has stored or changed since. An application's own reads of MongoDB don't count as uses.",
        ),
    ] = None,
    provider: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", autocompletion=provider_names, help="Only this provider's tokens. Repeatable."
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=MOST,
            help="Delete at most N tokens: those that have been over for the longest time.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be deleted. Nothing is written.")
    ] = False,
    yes: Yes = False,
    expect: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, max=MOST, help="Delete nothing unless exactly N tokens would be deleted."
        ),
    ] = None,
) -> int:
    """Delete tokens that died, or were last used, long ago.

    A grant that is still valid stays valid at its provider. Four kinds of tokens are never deleted: paused ones,
    imported ones that are not activated, those with a reply in this machine's journal, and those with a request whose
    outcome is unknown.
    """
    options = given(ctx)
    if dead_for is None and unused_for is None:
        raise Failed(
            "which tokens are over is not clear. Give --dead-for or --unused-for, like --dead-for 180d",
            Exit.USAGE,
        )
    for name in provider or ():
        check_is_provider(name, "--provider")
    if dry_run:
        say_unused(ctx, "reason", effect="has no effect with --dry-run")
    arguments = _CleanupArguments(
        dead_for=dead_for,
        unused_for=unused_for,
        providers=provider or [],
        limit=limit,
        expect=expect,
        dry_run=dry_run,
        confirm=None if dry_run else confirmation(yes=yes),
    )
    return _clean_up(options, arguments)


def _clean_up(options: Options, arguments: _CleanupArguments) -> int:
    settings, output = read_settings(options), Output(as_json=options.json)
    busy = journaled_tokens(settings)
    criteria, found, now = asyncio.run(_find(settings, output, arguments, busy))
    if not output.as_json:
        _show(output, found, now=now)
    if arguments.expect is not None and len(found) != arguments.expect:
        raise Failed(
            f"{_tokens(len(found))} would be deleted, and not {arguments.expect:,}, so nothing was deleted. Look at them with"
            " --dry-run"
        )
    removed: list[str] = []
    if found and not arguments.dry_run:
        if arguments.confirm is not None and not arguments.confirm(
            f"Delete {_tokens(len(found))} for good? A grant that is still valid stays valid at its provider."
        ):
            raise Failed("the confirmation was declined, so nothing was deleted")
        removed = asyncio.run(_remove(settings, options, criteria, found, busy))
    _report(output, found, removed, dry_run=arguments.dry_run)
    return Exit.DONE


# ---------------------------------------------------------------- find


async def _find(
    settings: Settings, output: Output, arguments: _CleanupArguments, busy: Collection[str]
) -> tuple[Criteria, Sequence[LongOver], datetime]:
    """Return the criteria, the tokens that meet them, and the instant from which they count."""
    async with open_store(settings) as access:
        await _refuse_unknown(access, arguments.providers, settings)
        mirrored = _mirrored(settings) if arguments.unused_for is not None else frozenset[str]()
        now = access.clock.now()
        criteria = _criteria(arguments, mirrored, now=now)
        cleaning = Cleanup(access.mongo, access.audit, criteria, busy=busy)
        if criteria.unused_since is not None:
            await _distrust_uses(output, arguments, cleaning, criteria.unused_since)
        if mirrored:
            names = ", ".join(sorted(mirrored))
            output.note(
                f"--unused-for keeps the tokens of {names}: a mirror copies them to where no use is counted."
            )
        found = await cleaning.find()
    return criteria, found[: arguments.limit], now


async def _refuse_unknown(access: Access, providers: Sequence[str], settings: Settings) -> None:
    """A provider that is neither known nor has a token is a misspelt one. Raises Failed, StoreLost."""
    for name in providers:
        if name not in known_providers(settings) and not await access.lookup.has_tokens_of(name):
            raise unknown_provider(name, settings)


def _mirrored(settings: Settings) -> frozenset[str]:
    """Return the providers whose tokens a mirror of this configuration copies."""
    everything = known_providers(settings).keys()
    return frozenset(name for mirror in settings.mirrors for name in mirror.providers or everything)


def _criteria(arguments: _CleanupArguments, mirrored: frozenset[str], *, now: datetime) -> Criteria:
    return Criteria(
        dead_since=None if arguments.dead_for is None else now - arguments.dead_for,
        unused_since=None if arguments.unused_for is None else now - arguments.unused_for,
        providers=frozenset(arguments.providers),
        not_unused=mirrored,
    )


async def _distrust_uses(
    output: Output, arguments: _CleanupArguments, cleaning: Cleanup, since: datetime
) -> None:
    """Without a count of uses, every token looks unused. Raises Failed unless the operator has said yes beforehand."""
    counting = (await cleaning.counting()).since
    if counting is not None and counting <= since:
        return
    missing = (
        "no access service has ever counted a use of a token here"
        if counting is None
        else f"uses of tokens are counted since {counting:%Y-%m-%d} only"
    )
    if arguments.dry_run or arguments.confirm is None:
        output.note(f"--unused-for: {missing}. A token that applications read from MongoDB looks unused.")
        return
    raise Failed(
        f"--unused-for: {missing}, so every token looks unused. Use --dead-for, or pass --yes if no application reads"
        " tokens from MongoDB",
        Exit.USAGE,
    )


# ---------------------------------------------------------------- remove


async def _remove(
    settings: Settings, options: Options, criteria: Criteria, found: Sequence[LongOver], busy: Collection[str]
) -> list[str]:
    removed: list[str] = []
    async with open_store(settings, reason=options.reason) as access:
        for provider, count in sorted(Counter(one.provider for one in found).items()):
            await access.audit.note("cleanup", provider, count=count)
        async for names in Cleanup(access.mongo, access.audit, criteria, busy=busy).remove(found):
            removed += names
    return removed


# ---------------------------------------------------------------- show


def _show(output: Output, found: Sequence[LongOver], *, now: datetime) -> None:
    """The counts of each provider, and the tokens that are over the longest."""
    for provider, whys in _counts(found).items():
        counts = ", ".join(f"{count:,} {why}" for why, count in whys.items())
        output.result({}, f"{provider}: {counts}")
    for one in found[:_EXAMPLES]:
        output.result({}, f"  {one.id}: {one.why.value} for {span(now - one.since)}")
    if len(found) > _EXAMPLES:
        output.result({}, f"  and {len(found) - _EXAMPLES:,} more, which are over for less time")


def _counts(found: Sequence[LongOver]) -> Mapping[str, Mapping[str, int]]:
    """Return how many tokens of each provider are over, by the reason."""
    counted = Counter((one.provider, one.why) for one in found)
    return {
        provider: {why.value: counted[provider, why] for why in Why if counted[provider, why]}
        for provider in sorted({one.provider for one in found})
    }


def _report(output: Output, found: Sequence[LongOver], removed: Sequence[str], *, dry_run: bool) -> None:
    gone = set(removed)
    kept = [] if dry_run else [one.id for one in found if one.id not in gone]
    record = {
        "dry_run": dry_run,
        "found": len(found),
        "removed": len(removed),
        "kept": kept,
        "providers": _counts(found),
        "oldest": [{"id": one.id, "why": one.why.value, "since": one.since} for one in found[:_EXAMPLES]],
    }
    output.result(record, "\n".join(_sentences(found, removed, kept, dry_run=dry_run)), keep="\n")


def _sentences(
    found: Sequence[LongOver], removed: Sequence[str], kept: Sequence[str], *, dry_run: bool
) -> Iterator[str]:
    if not found:
        yield "No token is long over."
    elif dry_run:
        yield f"{_tokens(len(found))} would be deleted."
    else:
        yield f"{_tokens(len(removed))} deleted. A grant that is still valid stays valid at its provider."
    if kept:
        yield f"{_tokens(len(kept))} changed in the meantime and stayed: {', '.join(kept[:_EXAMPLES])}"


def _tokens(count: int) -> str:
    return f"{count:,} token{'s' * (count != 1)}"
