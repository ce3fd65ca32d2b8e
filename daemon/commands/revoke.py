"""`refreshd revoke`: end grants at their providers. The daemon sends the requests; each order is audited."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import typer

from daemon.adapters.mongo.admin.revocations import Ending, Revocations, RevocationSelection
from daemon.commands.support.access import (
    Access,
    known_providers,
    open_store,
    read_settings,
    stored_id,
    unknown_provider,
)
from daemon.commands.support.arguments import Yes, confirmation, ids, provider_names
from daemon.commands.support.command import Audited
from daemon.commands.support.durations import read_duration
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import MOST, Options, given, say_unused
from daemon.commands.support.output import Output, moment
from daemon.commands.support.revocation_results import (
    NO_REVOCATION,
    UNDONE,
    UNKNOWN,
    counted_tokens,
    not_yet,
    report,
    result_of,
)
from daemon.domain.access_key import is_field
from daemon.domain.revocation_outcome import MANY, UNDO_WITHIN
from daemon.domain.revocation_request import revocation_of
from daemon.domain.stored_grant import REVOKED, REVOKING
from daemon.domain.visible import typed
from daemon.runtime.config.settings import Settings

_TIMEOUT = timedelta(seconds=60)
_LOOK_EVERY = timedelta(milliseconds=500)
_LOOKED_AT_ONCE = 1000
app = typer.Typer()


@dataclass(frozen=True, slots=True, kw_only=True)
class _RevokeArguments:
    selection: RevocationSelection
    dry_run: bool
    undo: bool
    expect: int | None
    confirm: Callable[[str], bool] | None
    limit: timedelta | None  # of the wait; None: no wait


@app.command(cls=Audited, epilog="refreshd revoke --subject user-17 --wait")
def revoke(
    ctx: typer.Context,
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="The tokens' IDs, PROVIDER:ACCOUNT.", autocompletion=ids),
    ] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Revoke the tokens of this subject instead.")
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", autocompletion=provider_names, help="Revoke this provider's tokens instead."
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TEXT",
            help="Revoke the tokens with this property instead, like meta.tenant=acme. Repeatable: all conditions"
            " must hold.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only show what would be revoked, or with --undo taken back. Nothing is written.",
        ),
    ] = False,
    undo: Annotated[
        bool,
        typer.Option(
            "--undo",
            help="Take back orders whose first request is still to come. Only orders for more than 100 tokens wait"
            " before it.",
        ),
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="Wait for the outcome. Exit code 0: all revoked, 1: not possible, 69: not yet."
        ),
    ] = False,
    timeout: Annotated[
        timedelta | None,
        typer.Option(
            parser=read_duration, metavar="DURATION", help="The time limit of --wait. Default: 60s."
        ),
    ] = None,
    yes: Yes = False,
    expect: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, max=MOST, help="Revoke nothing unless exactly N tokens would be revoked."
        ),
    ] = None,
) -> int:
    """End grants at their providers, for good.

    The tokens are no longer handed out. A running daemon asks the providers. If more than 100 tokens are revoked
    together, it waits ten minutes first. Until then, --undo takes the orders back. --subject also ends the subject's
    unfinished consents, for good.
    """
    options = given(ctx)
    selection = _selection(names or [], subject, provider, where or [])
    if undo and (wait or expect is not None):
        other = "--wait" if wait else "--expect"
        raise Failed(f"--undo and {other} exclude each other. Give one of them", Exit.USAGE)
    if dry_run:
        say_unused(ctx, "reason", effect="has no effect with --dry-run")
    arguments = _RevokeArguments(
        selection=selection,
        dry_run=dry_run,
        undo=undo,
        expect=expect,
        confirm=None if dry_run or undo else confirmation(yes=yes),
        limit=(_TIMEOUT if timeout is None else timeout) if wait and not dry_run and not undo else None,
    )
    settings = read_settings(options)
    if selection.provider is not None and selection.provider not in known_providers(settings):
        raise unknown_provider(selection.provider, settings)
    return asyncio.run(_revoke(settings, options, arguments))


def _selection(
    names: list[str], subject: str | None, provider: str | None, where: list[str]
) -> RevocationSelection:
    """Raises Failed."""
    conditions = subject is not None or provider is not None or bool(where)
    if bool(names) == conditions:
        raise Failed(
            "which tokens to revoke is not clear. Give IDs, or --subject, --provider or --where",
            Exit.USAGE,
        )
    for name in names:
        if ":" not in name:
            raise Failed(f"{name!r} is not a token's ID. Write it as PROVIDER:ACCOUNT", Exit.USAGE)
    if subject == "":
        raise Failed("--subject: the text is empty. Give the subject of the tokens", Exit.USAGE)
    properties: dict[str, str] = {}
    for one in where:
        name, separator, text = one.partition("=")
        if not separator or not is_field(name) or name in properties:
            raise Failed(
                f"--where {one!r} is not a condition. Write meta.NAME=TEXT or subject=TEXT, each name once",
                Exit.USAGE,
            )
        properties[name] = typed(text)
    if subject is not None and "subject" in properties:
        raise Failed("--subject and --where subject=… exclude each other. Give one of them", Exit.USAGE)
    return RevocationSelection(
        ids=names, subject=None if subject is None else typed(subject), provider=provider, where=properties
    )


async def _revoke(settings: Settings, options: Options, arguments: _RevokeArguments) -> int:
    output = Output(as_json=options.json)
    async with open_store(settings, reason=options.reason) as access:
        revocations = Revocations(access.mongo, access.audit)
        names = [await stored_id(access, name) for name in arguments.selection.ids]
        selection = RevocationSelection(
            ids=list(dict.fromkeys(names)),
            subject=arguments.selection.subject,
            provider=arguments.selection.provider,
            where=arguments.selection.where,
        )
        found = await revocations.find(selection)
        unknown = [name for name in selection.ids if name not in {one.id for one in found}]
        results = dict.fromkeys(unknown, UNKNOWN)
        if arguments.undo:
            return await _undo(output, revocations, found, results, dry_run=arguments.dry_run)
        plan = _Plan.of(found, settings)
        results |= plan.results
        if arguments.expect is not None and len(plan.new) != arguments.expect:
            raise Failed(
                f"{counted_tokens(len(plan.new))} would be revoked, and not {arguments.expect:,}, so nothing was revoked. Look at"
                " them with --dry-run"
            )
        if arguments.dry_run:
            await _end_consents(output, revocations, arguments)
            results |= {one.id: REVOKING for one in plan.new}
            return report(output, results, settings, dry_run=True)
        if plan.new:
            _confirm(output, arguments, plan.new)
        await _end_consents(output, revocations, arguments)
        if plan.new:
            not_before = access.clock.now() + UNDO_WITHIN if len(plan.new) > MANY else None
            ordered = await revocations.order(plan.new, not_before=not_before)
            results |= {one.id: REVOKING if one.id in ordered else UNKNOWN for one in plan.new}
            if not_before is not None:
                until = moment(not_before, now=access.clock.now())
                output.note(f"The first request is sent {until}. Until then, --undo takes the orders back.")
        if arguments.limit is None:
            return report(output, results, settings)
        waiting = [name for name, result in results.items() if result == REVOKING]
        late = await _wait(access, output, revocations, waiting, results, arguments.limit)
        code = report(output, results, settings)
        return Exit.UNAVAILABLE if late and code == Exit.DONE else code


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """`new`: tokens to order the revocation of. `results`: of the others, by id."""

    new: Sequence[Ending]
    results: Mapping[str, str]

    @classmethod
    def of(cls, found: Sequence[Ending], settings: Settings) -> "_Plan":
        new: list[Ending] = []
        results: dict[str, str] = {}
        for one in found:
            if one.state in (REVOKED, REVOKING):
                results[one.id] = one.state
            elif not _revokes(one.provider, settings):
                results[one.id] = NO_REVOCATION
            else:
                new.append(one)
        return cls(new=new, results=results)


def _revokes(provider: str, settings: Settings) -> bool:
    """Return whether the daemon can revoke there: the provider is configured, and has a revocation."""
    configured = settings.providers.get(provider)
    return configured is not None and revocation_of(configured.definition) is not None


def _confirm(output: Output, arguments: _RevokeArguments, new: Sequence[Ending]) -> None:
    """Show what would be revoked, and ask. Raises Failed."""
    if arguments.confirm is None:
        return
    counts = Counter(one.provider for one in new)
    for provider, count in sorted(counts.items()):
        output.note(f"{provider}: {counted_tokens(count)}")
    which = new[0].id if len(new) == 1 else counted_tokens(len(new))
    if not arguments.confirm(f"Revoke {which} for good? The owners have to consent again to come back."):
        raise Failed("the confirmation was declined, so nothing was revoked")


async def _end_consents(output: Output, revocations: Revocations, arguments: _RevokeArguments) -> None:
    """End the subject's unfinished consents before its tokens, so that none of them stores a grant afterwards."""
    if arguments.selection.subject is None:
        return
    count = await revocations.end_consents(arguments.selection.subject, dry_run=arguments.dry_run)
    if count:
        noun = f"{count:,} unfinished consent{'s' * (count != 1)} of this subject"
        done = "was ended" if count == 1 else "were ended"
        output.note(f"{noun} {'would be ended' if arguments.dry_run else done}.")


async def _undo(
    output: Output,
    revocations: Revocations,
    found: Sequence[Ending],
    results: dict[str, str],
    *,
    dry_run: bool,
) -> int:
    """Take the orders back, or only find out which can be. Tokens that are not being revoked are no result."""
    orders = [one for one in found if one.state == REVOKING]
    undone = await (revocations.unsent(orders) if dry_run else revocations.undo(orders))
    for one in orders:
        results[one.id] = UNDONE if one.id in undone else REVOKING
    results |= {one.id: REVOKED for one in found if one.state == REVOKED}
    for name, result in sorted(results.items()):
        record: dict[str, object] = {"id": name, "result": result}
        if dry_run:
            record["dry_run"] = True
        output.result(record, f"{name}: {_undo_text(result, dry_run=dry_run)}")
    if not results:
        output.note("None of these tokens is being revoked.")
    return Exit.FAILED if set(results.values()) - {UNDONE} else Exit.DONE


def _undo_text(result: str, *, dry_run: bool) -> str:
    if result == REVOKING:
        return "its first request may have been sent, so the order stays"
    return "would be taken back" if dry_run and result == UNDONE else result


async def _wait(
    access: Access,
    output: Output,
    revocations: Revocations,
    waiting: Sequence[str],
    results: dict[str, str],
    limit: timedelta,
) -> bool:
    """Wait until the tokens are revoked, and note the results. Returns whether some are left after the time limit."""
    left = dict.fromkeys(waiting)
    last: dict[str, Ending] = {}
    until = access.clock.boot() + limit
    while left and access.clock.boot() < until:
        some = [*left][:_LOOKED_AT_ONCE]
        now = await revocations.progress(some)
        for name in some:
            result = result_of(now.get(name))
            if result is None:
                last[name] = now[name]
                del left[name]  # behind the others
                left[name] = None
            else:
                results[name] = result
                del left[name]
        await asyncio.sleep(_LOOK_EVERY.total_seconds() if left else 0)
    for name in left:
        output.failed(not_yet(name, last.get(name), access.clock.now(), limit), Exit.UNAVAILABLE)
    return bool(left)
