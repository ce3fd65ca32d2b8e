"""`refreshd refresh`: ask the daemon for a renewal, by a date in the store, and wait for the outcome with --wait."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Annotated

import typer

from daemon.adapters.mongo.admin.lookup import NoSuchToken
from daemon.adapters.mongo.admin.refresh_requests import Progress, RefreshRequests
from daemon.adapters.telemetry.redaction import rfc3339
from daemon.commands.support.access import Access, check_targets, open_store, read_settings, stored_id
from daemon.commands.support.arguments import Targets
from daemon.commands.support.command import Audited
from daemon.commands.support.durations import read_duration
from daemon.commands.support.failure import Exit, no_such_token
from daemon.commands.support.options import Options, given
from daemon.commands.support.output import Output, span
from daemon.commands.support.terminal import say
from daemon.domain.token import Failure, FailureKind, State
from daemon.runtime.config.settings import Settings

_LOOK_EVERY = timedelta(milliseconds=200)
_LOOKED_AT_ONCE = 1000
_NAMED = 10  # tokens that are named one by one
_PASSING = (FailureKind.UNAVAILABLE, FailureKind.IN_DOUBT)


class Outcome(Enum):
    """What became of a request to refresh, and the exit code that it stands for."""

    RENEWED = Exit.DONE
    FAILED = Exit.FAILED
    UNAVAILABLE = Exit.UNAVAILABLE


_TIMEOUT = timedelta(seconds=60)

app = typer.Typer()


@app.command(cls=Audited, epilog="refreshd refresh xero:company-7 --wait --timeout 30s")
def refresh(
    ctx: typer.Context,
    *,
    targets: Targets,
    withheld: Annotated[
        bool,
        typer.Option(
            "--withheld", help="Refresh only tokens that are withheld because of an unparsed reply."
        ),
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="Wait for the outcome. Exit code 0: renewed, 1: rejected or misconfigured, 69: no answer.",
        ),
    ] = False,
    timeout: Annotated[
        timedelta | None,
        typer.Option(
            parser=read_duration, metavar="DURATION", help="The time limit of --wait. Default: 60s."
        ),
    ] = None,
) -> int:
    """Ask the daemon to refresh tokens now.

    A provider stands for all its active tokens. This makes them due; a running daemon refreshes them. If
    its provider has named an earliest time for the next request (Retry-After), a token waits until then.
    """
    options = given(ctx)
    if timeout is not None and not wait:
        say(f"{ctx.command_path}: --timeout has no effect without --wait")
    settings = read_settings(options)
    check_targets(targets, settings)
    limit = (_TIMEOUT if timeout is None else timeout) if wait else None
    return asyncio.run(_refresh(settings, options, targets, limit, withheld=withheld))


async def _refresh(
    settings: Settings, options: Options, targets: list[str], limit: timedelta | None, *, withheld: bool
) -> int:
    output = Output(as_json=options.json)
    async with open_store(settings, reason=options.reason) as access:
        refreshes = access.refreshes
        targets = [await stored_id(access, target) for target in targets]
        before: dict[str, Progress] = {}
        for target in targets:
            try:
                before |= await refreshes.progress(target, withheld=withheld)
            except NoSuchToken:
                raise no_such_token(target) from None
        ending = [target for target in targets if _is_revoking(before.get(target))]
        if limit is None:
            for target in ending:
                output.failed(f"{target} is being revoked, so it is not refreshed")
            targets = [target for target in targets if target not in ending]
        for target in targets:
            due = await refreshes.request(target, withheld=withheld)
            if limit is None:
                kind = "id" if ":" in target else "provider"
                which = "withheld" if withheld else "active"
                which_ones = (
                    f": {due} {which} token{'s' * (due != 1)}" if withheld or kind == "provider" else ""
                )
                output.result({kind: target, "due": due}, f"{target} due now{which_ones}")
        await _print_paused(access, targets, output)
        if limit is None:
            _print_inactive(before, output)
            _print_put_off(before, output)
            return Exit.FAILED if ending else Exit.DONE
        return await _wait(refreshes, output, before, limit)


def _is_revoking(progress: Progress | None) -> bool:
    return progress is not None and progress.state == State.REVOKING.value


def _print_inactive(before: Mapping[str, Progress], output: Output) -> None:
    for name, progress in before.items():
        if progress.state != State.ACTIVE.value and not _is_revoking(progress):
            output.note(f"{name} is {progress.state}, so it is not refreshed")


async def _print_paused(access: Access, targets: Sequence[str], output: Output) -> None:
    """Name the targets' providers that are paused: until then, at most a probe is sent."""
    pauses = await access.pauses.paused()
    for provider in dict.fromkeys(target.partition(":")[0] for target in targets):
        if reason := pauses.get(provider):
            output.note(
                f"{provider} is paused ({reason}), so its tokens wait. `refreshd resume {provider}` ends the pause"
            )


def _print_put_off(before: Mapping[str, Progress], output: Output) -> None:
    """Name the first tokens whose provider wants no request yet, and the number of the others."""
    put_off = [(name, one.not_before) for name, one in before.items() if one.not_before is not None]
    for name, at in put_off[:_NAMED]:
        output.note(f"{name}: {_put_off(at)}")
    if len(put_off) > _NAMED:
        output.note(f"the same holds for {len(put_off) - _NAMED} more tokens")


def _put_off(at: datetime) -> str:
    return f"the provider asked for no request before {rfc3339(at)}, so it is refreshed then"


async def _wait(
    refreshes: RefreshRequests, output: Output, before: Mapping[str, Progress], limit: timedelta
) -> int:
    """Print each outcome when it is there. Returns the code of the worst: a failure, then an outage."""
    outcomes: list[Outcome] = []
    waiting = dict(before)
    for name, progress in before.items():
        if progress.state != State.ACTIVE.value:
            outcomes.append(_print(output, waiting, name, Outcome.FAILED, _inactive(progress.state)))
    last: dict[str, Failure] = {}
    try:
        async with asyncio.timeout(limit.total_seconds()):
            while waiting:
                for name, now in (await refreshes.progress_of([*waiting][:_LOOKED_AT_ONCE])).items():
                    outcome, text = _outcome(before[name], now)
                    if outcome is not None:
                        outcomes.append(_print(output, waiting, name, outcome, text))
                    elif now.failure is not None and now.failure != before[name].failure:
                        last[name] = now.failure
                await asyncio.sleep(_LOOK_EVERY.total_seconds() if waiting else 0)
    except TimeoutError:
        for name in list(waiting):
            failed = last.get(name)
            asked = before[name].not_before
            without = _no_outcome(limit) if asked is None else _put_off(asked)
            text = f"{failed.kind}: {failed.message}" if failed else without
            verdict = failed is not None and failed.kind not in _PASSING
            outcome = Outcome.FAILED if verdict else Outcome.UNAVAILABLE
            outcomes.append(_print(output, waiting, name, outcome, text))
    return next((o.value for o in (Outcome.FAILED, Outcome.UNAVAILABLE) if o in outcomes), Exit.DONE)


def _outcome(before: Progress, now: Progress) -> tuple[Outcome | None, str]:
    """What has happened since; None: nothing yet, or nothing final: a doubt and a first rejection are asked again."""
    failure = None if now.failure == before.failure else now.failure
    in_part = (
        failure is not None and failure.kind is FailureKind.UNPARSED
    )  # stored without the new refresh token
    if now.refreshed_at != before.refreshed_at and not in_part:
        return Outcome.RENEWED, "renewed"
    if failure is None:
        return (None, "") if now.state == before.state else (Outcome.FAILED, _inactive(now.state))
    if failure.kind is FailureKind.IN_DOUBT:
        return None, ""
    text = f"{failure.kind}: {failure.message}"
    if failure.kind is FailureKind.UNAVAILABLE:
        return Outcome.UNAVAILABLE, text
    if failure.kind is FailureKind.REJECTED and now.state == State.ACTIVE.value:
        return None, ""
    return Outcome.FAILED, text


def _print(output: Output, waiting: dict[str, Progress], name: str, outcome: Outcome, text: str) -> Outcome:
    del waiting[name]
    output.result({"id": name, "outcome": outcome.name.lower(), "detail": text}, f"{name}: {text}")
    return outcome


def _inactive(state: str) -> str:
    if state == State.NEEDS_REAUTH.value:
        return "needs_reauth: its owner must consent again, and `refreshd add` stores that"
    if state == State.REVOKING.value:
        return f"{state}: it is not refreshed any more"
    return f"{state}: `refreshd resume` reactivates it"


def _no_outcome(limit: timedelta) -> str:
    return f"no outcome within {span(limit)}. Check that the daemon runs and that the provider is not paused: `refreshd status`"
