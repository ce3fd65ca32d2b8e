"""`refreshd sandbox`: the local provider, until a signal ends it. It prints its address for programs."""

import asyncio
import errno
import json
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal

import typer

from daemon.commands.support.command import Command
from daemon.commands.support.durations import read_duration
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import say_unused
from daemon.domain.provider import ClientAuth
from daemon.runtime.config.providers.definitions import shipped
from daemon.runtime.web.port_holder import port_holder
from daemon.sandbox import Sandbox, SandboxOptions

_LIFETIME, _LATENCY = timedelta(seconds=60), timedelta(0)
_URLS = ("token_url", "authorize_url", "device_url")
_CLIENT = ("client_id", "client_secret", "client_key", "client_key_id")
_ROTATING = "-rotating"  # of a provider's other setting, which has the same definition

app = typer.Typer()


@app.command(cls=Command, epilog="refreshd sandbox --port 9090 --as xero --lifetime 5m")
def sandbox(
    ctx: typer.Context,
    *,
    port: Annotated[
        int,
        typer.Option(metavar="PORT", min=0, max=65_535, help="The port to listen on. 0 takes a free one."),
    ] = 0,
    name: Annotated[
        str,
        typer.Option("--as", metavar="NAME", help="The provider whose parameters and errors are imitated."),
    ] = "sandbox",
    lifetime: Annotated[
        timedelta | None,
        typer.Option(
            parser=read_duration, metavar="DURATION", help="The access tokens' lifetime. Default: 60s."
        ),
    ] = None,
    grace: Annotated[
        timedelta | None,
        typer.Option(
            parser=read_duration,
            metavar="DURATION",
            help="The time during which a spent refresh token still works. Default: as at the provider.",
        ),
    ] = None,
    reuse: Annotated[
        Literal["revoke", "refuse"] | None,
        typer.Option(
            help="After the grace period, reusing a spent refresh token revokes the grant (revoke) or only fails"
            " (refuse). Default: as at the provider."
        ),
    ] = None,
    latency: Annotated[
        timedelta | None,
        typer.Option(
            parser=read_duration, metavar="DURATION", help="The delay before each response. Default: 0ms."
        ),
    ] = None,
    redirect_uri: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URI",
            help="A redirect URI of the client; repeatable. Default: any http URI on the loopback interface.",
        ),
    ] = None,
    pkce: Annotated[
        Literal["optional", "required"] | None,
        typer.Option(
            help="Whether a consent without PKCE is refused (required) or accepted (optional). Default: as at the"
            " provider."
        ),
    ] = None,
    user: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A user whom a client's assertion may name, if the provider takes any; repeatable. Default: anybody.",
        ),
    ] = None,
    device_interval: Annotated[
        timedelta | None,
        typer.Option(
            parser=read_duration,
            metavar="DURATION",
            help="The shortest time between two polls of a device. Default: as at the provider.",
        ),
    ] = None,
) -> int:
    """Run a local OAuth server that rotates refresh tokens and fails on request.

    It listens on 127.0.0.1 until SIGTERM or Ctrl-C. When it is ready, it prints one line of JSON with its URLs and the
    client's ID and secret, and on a terminal the section for a configuration. Its consent page has no login: approve or
    deny, choose the scopes and the account.
    """
    say_unused(ctx, "config", "env_file")
    try:
        options = SandboxOptions(
            port=port,
            name=name,
            lifetime=_LIFETIME if lifetime is None else lifetime,
            grace=grace,
            reuse=reuse,
            latency=_LATENCY if latency is None else latency,
            redirect_uris=tuple(redirect_uri or ()),
            pkce=pkce,
            users=tuple(user or ()),
            device_interval=device_interval,
        )
    except ValueError as why:
        raise Failed(f"{why}. `refreshd sandbox --help` explains the options", Exit.USAGE) from None
    asyncio.run(_serve(Sandbox(options)))
    return Exit.DONE


async def _serve(server: Sandbox) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await server.start()
    except OSError as why:
        raise _refused(server.options.port, why) from None
    try:
        print(json.dumps(server.describe()), flush=True)
        if sys.stderr.isatty():
            print(f"\n{section_of(server.options.name, server.describe())}", file=sys.stderr, flush=True)
        await stop.wait()
    finally:
        await server.stop()


def section_of(name: str, line: Mapping[str, str | None]) -> str:
    """Return the section of a configuration that makes the sandbox this provider. `line`: the line that it prints.

    All of its URLs are there: a token_url of the operator's own replaces the definition's other URLs too.
    """
    definition = name.removesuffix(_ROTATING)
    known = shipped().get(definition)
    public = known is not None and known.client_auth is ClientAuth.NONE  # whose secret would be refused
    keys = [key for key in (*_CLIENT, *_URLS) if not (public and key == "client_secret")]
    values = [(key, line.get(key)) for key in keys]
    if revoke_url := line["revoke_url"]:
        in_path = "{token}" in revoke_url
        values.append(("revoke.url" if in_path else "revoke_url", revoke_url.replace("{token}", "${token}")))
    like = [] if definition == name else [("like", definition)]
    lines = [f"{key} = {json.dumps(value)}" for key, value in (*like, *values) if value is not None]
    if known is not None and known.assertion is not None and known.assertion.chooses_subject:
        lines.append('subjects = [".+"]')
    return "\n".join([f"[providers.{name}]", *lines]) + "\n"


def _refused(port: int, why: OSError) -> Failed:
    if why.errno != errno.EADDRINUSE:
        return Failed(f"refreshd can't listen on port {port}: {why.strerror}. Choose another with --port")
    holder = port_holder(port)
    taken = f"is in use by {holder}" if holder else "is in use by another process"
    return Failed(
        f"port {port} {taken}. Stop that process, or choose another port with --port (0 takes a free one)",
        Exit.HELD,
    )
