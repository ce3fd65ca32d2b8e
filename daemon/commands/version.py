"""`refreshd version`: the same line as `refreshd --version`, or JSON."""

import typer

from daemon import __version__
from daemon.commands.support.command import Command
from daemon.commands.support.options import given, say_unused
from daemon.commands.support.output import Output

app = typer.Typer()


@app.command(cls=Command, epilog="refreshd version")
def version(ctx: typer.Context) -> int:
    """Show the version of refreshd."""
    say_unused(ctx, "config", "env_file")
    Output(as_json=given(ctx).json).result({"version": __version__}, f"refreshd {__version__}")
    return 0
