"""`refreshd help`: the same text as `--help` behind the command."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from daemon.commands.support.command import Command
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import say_unused

app = typer.Typer()


@app.command("help", cls=Command, epilog="refreshd help journal replay")
def show_help(
    ctx: typer.Context,
    *,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="The command to explain. Default: refreshd itself."),
    ] = None,
) -> int:
    """Show the help of refreshd or of one command."""
    say_unused(ctx, "config", "env_file", "json")
    shown: Any = ctx.find_root()
    rest = words or []
    while rest:
        group = shown.command
        if not isinstance(group, TyperGroup):
            raise Failed(
                f"{shown.command_path} has no command {rest[0]!r}. See `{shown.command_path} --help`",
                Exit.USAGE,
            )
        name, command, rest = group.resolve_command(shown, rest)
        shown = typer.Context(command, info_name=name, parent=shown)  # type: ignore[arg-type]  # it raises for None
    print(shown.get_help())
    return Exit.DONE
