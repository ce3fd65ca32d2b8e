"""`refreshd serve`: the access service, from which applications get access tokens."""

import typer

from daemon.commands.support.command import Command
from daemon.commands.support.options import given
from daemon.runtime.confinement import confine, restart_forgetting

app = typer.Typer()


@app.command(cls=Command, epilog="refreshd serve --config /etc/refreshd/config.toml")
def serve(ctx: typer.Context) -> int:
    """Serve access tokens to applications until SIGTERM or Ctrl-C.

    It needs reader keys, and a writer key to store tokens, but no key that opens refresh tokens. It sends nothing to
    providers. Open requests are answered before it ends. A second signal ends it without waiting
    for them.

    The log goes to standard output, in the format of log.format. --json applies to errors at start only.
    """
    options = given(ctx)
    confine()
    restart_forgetting()
    from daemon.commands.support.access_process import serve_until_signal  # noqa: PLC0415  the restart would load all of it twice

    return serve_until_signal(options)
