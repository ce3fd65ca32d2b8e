"""The options that every command takes. They may precede the command's name or follow it; the latter take precedence."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from daemon.commands.support.terminal import say

LONGEST_REASON = 500  # characters
MOST = (
    2**31 - 1
)  # the largest count that is an option's value: more isn't a number of tokens, nor a limit for MongoDB


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The values of the common options, from both places."""

    config: Path | None = None
    env_file: Path | None = None
    debug: bool = False
    json: bool = False
    reason: str | None = None  # why, for the audit


def given(ctx: typer.Context) -> Options:
    """Return the common options of the command that `ctx` belongs to."""
    return ctx.obj if isinstance(ctx.obj, Options) else Options()


def say_unused(ctx: typer.Context, *names: str, effect: str = "has no effect on this command") -> None:
    """Print a line for each of the options `names` that was given although this command can't use it."""
    options = given(ctx)
    for name in names:
        if getattr(options, name):
            say(f"{ctx.command_path}: --{name.replace('_', '-')} {effect}")


def _keep(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> None:
    """Store the value in `ctx.obj`. A command's context inherits that of its group, so a later value replaces it."""
    if value:
        ctx.obj = replace(given(ctx), **{str(param.name): value})


def _keep_reason(ctx: typer.Context, param: typer.CallbackParam, text: str | None) -> None:
    if text is not None and len(text) > LONGEST_REASON:
        raise typer.BadParameter(f"the reason has {len(text)} characters. Write at most {LONGEST_REASON}")
    _keep(ctx, param, text)


# Nothing reads these parameters: each value is kept by the option's callback, for `given`.


def common(
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            callback=_keep,
            expose_value=False,
            help="Configuration file. Default: $REFRESHD_CONFIG, else /etc/refreshd/config.toml, else ./config.toml.",
        ),
    ] = None,
    env_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            callback=_keep,
            expose_value=False,
            help="Read environment variables from this file. Real ones take precedence.",
        ),
    ] = None,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", callback=_keep, expose_value=False, help="Show a trace of an internal error."
        ),
    ] = False,
    json: Annotated[
        bool,
        typer.Option("--json", callback=_keep, expose_value=False, help="Print results and errors as JSON."),
    ] = False,
) -> None:
    """Declare the options of every command."""


def audited(
    *,
    reason: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            callback=_keep_reason,
            expose_value=False,
            help="The reason for this action, stored in the audit record.",
        ),
    ] = None,
) -> None:
    """Declare the option of every command whose actions are recorded in the audit."""
