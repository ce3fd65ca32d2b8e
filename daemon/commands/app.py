"""The command line as people see it: names, options and help. What a command does stands in a file of its own, which
is imported when it is called: `--help` and completion stay quick.
"""
# ruff: noqa: PLC0415  that is why the imports stand inside

import inspect
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from daemon import __version__
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options
from daemon.commands.support.terminal import say
from daemon.domain.token import State
from daemon.domain.visible import typed, visible

NAME = "refreshd"
LONGEST_REASON = 500  # characters


Field = Literal["access_token", "refresh_token"]
Reuse = Literal["revoke", "refuse"]
EntryState = Literal["waiting", "unparsed", "superseded", "unusable"]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"{NAME} {__version__}")
        raise typer.Exit


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        help="The configuration. Else $REFRESHD_CONFIG, /etc/refreshd/config.toml if there is one, config.toml.",
        show_default=False,
    ),
]
EnvFile = Annotated[Path | None, typer.Option(help="NAME=value lines; the environment counts more.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an internal error came from.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")]


def _reason(text: str | None) -> str | None:
    if text is not None and len(text) > LONGEST_REASON:
        raise typer.BadParameter(f"at most {LONGEST_REASON} characters")
    return text


Reason = Annotated[
    str | None,
    typer.Option(metavar="TEXT", callback=_reason, help="Why: it is stored in the audit record."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


def _ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """For completion."""
    from daemon.commands.completion import ids

    return ids(ctx.find_root().params.get("config") or ctx.params.get("config"), incomplete)


Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="ID|PROVIDER", help="Tokens (an ID holds a colon) or providers.", autocompletion=_ids
    ),
]

app = typer.Typer(
    name=NAME,
    help="Keeps OAuth 2.0 tokens fresh, and never loses a rotated refresh token.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 69 MongoDB or provider unavailable, 75 port or directory"
    " in use, 78 configuration wrong.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they would print local variables, and so tokens
    context_settings={"help_option_names": ["-h", "--help"]},
)
keys_app = typer.Typer(
    help="Make a key, derive the one that readers need, or check the ring against the store.",
    no_args_is_help=True,
)
app.add_typer(keys_app, name="keys")
journal_app = typer.Typer(help="Look at the replies that MongoDB has not confirmed.", no_args_is_help=True)
app.add_typer(journal_app, name="journal")


@app.callback()
def _global(
    ctx: typer.Context,
    *,
    config: ConfigFile = None,
    env_file: EnvFile = None,
    debug: Debug = False,
    json: Json = False,
    version: Version = False,  # noqa: ARG001  its callback prints and leaves
) -> None:
    ctx.obj = Options(config=config, env_file=env_file, debug=debug, json=json)


def _shared(*, audited: bool) -> dict[str, inspect.Parameter]:
    """The options that stand after a command as well as before it; and the one of every command that is audited."""
    kind = inspect.Parameter.KEYWORD_ONLY
    return {
        name: inspect.Parameter(name, kind, default=default, annotation=annotation)
        for name, default, annotation in (
            ("config", None, ConfigFile),
            ("env_file", None, EnvFile),
            ("debug", False, Debug),
            ("json", False, Json),
            *((("reason", None, Reason),) if audited else ()),
        )
    }


def _command(
    group: typer.Typer, name: str, *, audited: bool = False
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Make a function a command: it gets Options first, then its own arguments, and returns the exit code. `audited`:
    what it does is recorded, with the --reason for it.
    """

    def register(function: Callable[..., int]) -> Callable[..., int]:
        shared = _shared(audited=audited)

        def command(ctx: typer.Context, **given: Any) -> int:
            after = {key: given.pop(key) for key in shared}
            before: Options = ctx.obj
            options = Options(**{key: value or getattr(before, key) for key, value in after.items()})
            return function(options, **given)

        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        _, *own = inspect.signature(function).parameters.values()
        parameters = [context, *own, *shared.values()]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        group.command(name, help=inspect.getdoc(function))(command)
        return function

    return register


def _duration(text: str) -> timedelta:
    from daemon.runtime.config.fields import duration
    from daemon.runtime.config.problems import InvalidValue

    try:
        return duration(text)
    except InvalidValue as why:
        raise typer.BadParameter(f"{why.what}. {why.do}") from None


def _since(text: str) -> datetime | timedelta:
    """An instant, or how long ago."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return _duration(text)
    if at.tzinfo is None:
        raise typer.BadParameter("an instant names its offset: 2026-01-31T12:00:00Z")
    return at


def _asking(*, yes: bool) -> Callable[[str], bool] | None:
    """How to ask; None: don't."""
    if yes:
        return None
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody is there to be asked: add --yes")
    return lambda text: typer.confirm(visible(text), err=True)


def _providers() -> Iterator[str]:
    """For completion."""
    from daemon.runtime.config.providers.shipped_tables import shipped_tables

    yield from sorted(shipped_tables())


@_command(app, "run")
def _run(options: Options) -> int:
    """Run the daemon, until SIGTERM or Ctrl-C; a second one ends it at once."""
    from daemon.commands.run import run

    return run(options.config, options.env_file, as_json=options.json)


@_command(app, "check")
def _check(options: Options) -> int:
    """Try everything that the daemon relies on and show each trial: configuration, keys, providers, MongoDB, journal."""
    from daemon.commands.check import check

    return check(options)


@_command(app, "add", audited=True)
def _add(
    options: Options,
    *,
    provider: Annotated[str, typer.Argument(autocompletion=_providers, help="A configured provider.")],
    account: Annotated[
        str, typer.Argument(help="Your name for the account; with the provider it is the ID.")
    ],
    received_at: Annotated[
        str | None,
        typer.Option(help="When the provider sent the response (2026-01-31T12:00:00Z). Default: now."),
    ] = None,
    var: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A variable of the token URL; repeatable.")
    ] = None,
    meta: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Kept for your application; repeatable.")
    ] = None,
) -> int:
    """Store a token: the provider's token response (JSON) on standard input. Prints the ID.

    An ID that is stored already gets this new consent and is active again. A refresh token that is stored under
    another ID is refused.
    """
    from daemon.commands.add import add

    return add(
        options,
        provider=provider,
        account=account,
        received_at=received_at,
        variables=var or [],
        meta=meta or [],
    )


@_command(app, "list")
def _list(
    options: Options,
    *,
    provider: Annotated[
        str | None, typer.Option(autocompletion=_providers, help="Only tokens of this provider.")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Only tokens of this account.")] = None,
    state: Annotated[State | None, typer.Option(help="Only tokens in this state.")] = None,
    failing: Annotated[
        bool, typer.Option("--failing", help="Only tokens whose last attempt failed.")
    ] = False,
    expired: Annotated[bool, typer.Option("--expired", help="Only active tokens past their expiry.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many tokens.")] = None,
) -> int:
    """List the stored tokens; with --json one object a line. Never a secret."""
    from daemon.adapters.mongo.admin.tokens import Wanted
    from daemon.commands.list import list_tokens

    wanted = Wanted(
        provider=provider,
        account=account and typed(account),
        state=state.value if state else None,
        failing=failing,
        expired=expired,
    )
    return list_tokens(options, wanted=wanted, limit=limit)


@_command(app, "show", audited=True)
def _show(
    options: Options,
    *,
    id: Annotated[  # noqa: A002  its name in the help
        str, typer.Argument(metavar="ID", help="PROVIDER:ACCOUNT", autocompletion=_ids)
    ],
    reveal: Annotated[Field | None, typer.Option(help="Print this secret instead. It is audited.")] = None,
) -> int:
    """Show one token; never a secret, but for --reveal."""
    from daemon.commands.show import show

    return show(options, name=id, reveal=reveal)


@_command(app, "refresh", audited=True)
def _refresh(
    options: Options,
    *,
    targets: Targets,
    withheld: Annotated[
        bool, typer.Option("--withheld", help="Only tokens that rest because a reply could not be read.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Exit 0: renewed; 1: rejected or misconfigured; 69: no answer.")
    ] = False,
    timeout: Annotated[
        timedelta, typer.Option(parser=_duration, metavar="DURATION", help="How long to wait at most.")
    ] = "60s",  # type: ignore[assignment]
) -> int:
    """Ask the running daemon to refresh tokens now, or all active ones of a provider."""
    from daemon.commands.refresh import refresh

    return refresh(options, targets=targets, withheld=withheld, wait=wait, timeout=timeout)


@_command(app, "pause", audited=True)
def _pause(options: Options, *, targets: Targets) -> int:
    """Let tokens or providers rest: nothing of theirs is refreshed until they are resumed."""
    from daemon.commands.pause import pause

    return pause(options, targets=targets)


@_command(app, "resume", audited=True)
def _resume(
    options: Options,
    *,
    targets: Targets,
    rejected_since: Annotated[
        Any,
        typer.Option(
            parser=_since,
            metavar="TIME|DURATION",
            help="Instead: wake the providers' tokens that were rejected since then (2026-01-31T12:00:00Z, 2h).",
        ),
    ] = None,
) -> int:
    """Make paused tokens active and due now, or end a provider's pause. Also wakes a token that needs_reauth."""
    from daemon.commands.pause import resume, resume_rejected

    if rejected_since is not None:
        return resume_rejected(options, targets=targets, since=rejected_since)
    return resume(options, targets=targets)


@_command(app, "remove", audited=True)
def _remove(
    options: Options,
    *,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="PROVIDER:ACCOUNT", autocompletion=_ids, show_default=False),
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="Instead of ids: this account's tokens, at every provider.")
    ] = None,
    yes: Yes = False,
) -> int:
    """Forget tokens for good. The grants live on at their providers."""
    from daemon.commands.remove import remove

    if bool(ids) == (account is not None):
        raise typer.BadParameter("give ids, or --account")
    return remove(options, names=ids or [], account=account and typed(account), confirm=_asking(yes=yes))


@_command(app, "adopt", audited=True)
def _adopt(
    options: Options,
    *,
    instance: Annotated[str, typer.Argument(help="Its id, as /status and `show` name it.")],
    yes: Yes = False,
) -> int:
    """Let others take the claims of an instance whose disk is gone for good; else wait for its return.

    Some of these tokens may have been spent. Exit code 1 where the instance holds no claim.
    """
    from daemon.commands.adopt import adopt

    return adopt(options, instance=instance, confirm=_asking(yes=yes))


@_command(app, "audit")
def _audit(
    options: Options,
    *,
    since: Annotated[
        Any,
        typer.Option(parser=_since, metavar="TIME|DURATION", help="At or after (2026-01-31T12:00:00Z, 2h)."),
    ] = None,
    until: Annotated[Any, typer.Option(parser=_since, metavar="TIME|DURATION", help="Before that.")] = None,
    who: Annotated[
        str | None, typer.Option("--who", "--actor", help="By this person, user or user@host.")
    ] = None,
    action: Annotated[str | None, typer.Option(help="Only this action: add, pause, reveal, ...")] = None,
    token: Annotated[
        str | None, typer.Option(metavar="ID", help="About this token, key or instance.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(autocompletion=_providers, help="About this provider or its tokens.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
) -> int:
    """Show who did what to which token, newest first; with --json one object a line."""
    from daemon.commands.audit import audit

    wanted = {"who": who, "action": action, "token": token, "provider": provider}
    return audit(options, since=since, until=until, limit=limit, **wanted)


@_command(journal_app, "list")
def _journal_list(options: Options) -> int:
    """List this instance's entries, also while the daemon runs; with --json one object a line. Never a reply."""
    from daemon.commands.journal import list_entries

    return list_entries(options)


@_command(journal_app, "replay", audited=True)
def _journal_replay(
    options: Options,
    *,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A copy of its journal.db.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Also entries that are done with: unparsed and superseded.")
    ] = False,
    old_entries: Annotated[
        bool,
        typer.Option(
            "--old-entries",
            help="Also accept entries of earlier versions, which don't show whether somebody changed them.",
        ),
    ] = False,
) -> int:
    """Salvage another instance's journal: record what its replies bring, unless a newer consent is stored.

    Copy journal.db-wal along with it: that holds what was kept last. Neither is changed. No provider is asked.
    Exit code 1 where a reply could not be used.
    """
    from daemon.commands.support.journal_replay import replay

    return replay(options, file=file, everything=everything, old_entries=old_entries)


@_command(journal_app, "reveal", audited=True)
def _journal_reveal(
    options: Options,
    *,
    entry: Annotated[int, typer.Argument(help="Its number in `journal list`.")],
) -> int:
    """Print one kept reply with the secrets in it, for a grant that refreshd can't read. It is audited.

    Characters that are not seen are printed as escapes; --json has the exact bytes in base64.
    """
    from daemon.commands.journal import reveal

    return reveal(options, entry=entry)


@_command(journal_app, "discard", audited=True)
def _journal_discard(
    options: Options,
    *,
    entries: Annotated[
        list[int] | None,
        typer.Argument(metavar="ENTRY", help="Numbers in `journal list`.", show_default=False),
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="Instead of numbers: all entries of this provider.")
    ] = None,
    state: Annotated[
        EntryState | None, typer.Option(help="Instead of numbers: all entries in this state.")
    ] = None,
    yes: Yes = False,
) -> int:
    """Delete entries for good, while the daemon is stopped. They may hold the only copies of refresh tokens."""
    from daemon.commands.journal import discard_entries

    return discard_entries(
        options, entries=entries or [], provider=provider, state=state, confirm=_asking(yes=yes)
    )


@_command(app, "providers")
def _providers_command(
    options: Options,
    *,
    name: Annotated[str | None, typer.Argument(autocompletion=_providers, help="Explain this one.")] = None,
) -> int:
    """List the providers that are shipped or configured, or explain one."""
    from daemon.commands.providers import providers

    return providers(options, name=name)


@_command(keys_app, "generate")
def _generate(options: Options) -> int:
    """Print a new key for [keys.ring]: 32 random bytes in base64. Lose it, and what it sealed is lost."""
    from daemon.commands.keys import generate

    return generate(options)


@_command(keys_app, "reader", audited=True)
def _reader(
    options: Options,
    *,
    key_id: Annotated[str | None, typer.Argument(help="Of the ring; default: the active one.")] = None,
) -> int:
    """Print the key that opens access tokens and no refresh token, as JSON. It is a secret too."""
    from daemon.commands.keys import reader

    return reader(options, key_id=key_id)


@_command(keys_app, "check", audited=True)
def _check_keys(
    options: Options,
    *,
    renew: Annotated[
        str | None,
        typer.Option(metavar="KEY_ID", help="Replace the check value of this key. It is audited."),
    ] = None,
    yes: Yes = False,
) -> int:
    """Show which keys of the ring open what the store holds. Exit code 1 if one is not the key of this store."""
    from daemon.commands.keys import check_keys

    return check_keys(options, renew=renew, confirm=_asking(yes=yes) if renew else None)


@_command(app, "sandbox")
def _sandbox(
    options: Options,  # noqa: ARG001  it has no configuration
    *,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 0,
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="Whose dialect it speaks.")] = "sandbox",
    lifetime: Annotated[
        timedelta, typer.Option(parser=_duration, metavar="DURATION", help="Of an access token.")
    ] = "60s",  # type: ignore[assignment]
    grace: Annotated[
        timedelta | None,
        typer.Option(
            parser=_duration,
            metavar="DURATION",
            help="How long a spent refresh token still works. Default: as at that provider.",
        ),
    ] = None,
    reuse: Annotated[
        Reuse | None,
        typer.Option(
            help="What a spent one costs after that: the whole grant, or the request. Default: as at that provider."
        ),
    ] = None,
    latency: Annotated[
        timedelta, typer.Option(parser=_duration, metavar="DURATION", help="Before each answer.")
    ] = "0ms",  # type: ignore[assignment]
) -> int:
    """Run a local OAuth server that rotates refresh tokens and misbehaves on request. Prints one line of JSON."""
    from daemon.commands.sandbox import sandbox
    from daemon.sandbox import SandboxOptions

    try:
        wishes = SandboxOptions(
            port=port, name=name, lifetime=lifetime, grace=grace, reuse=reuse, latency=latency
        )
    except ValueError as why:
        raise typer.BadParameter(str(why)) from None
    return sandbox(wishes)


def invoke(arguments: list[str]) -> int:
    """Do what `arguments` say. Returns the exit code; usage errors are printed here, other failures raised."""
    try:
        return int(app(arguments, prog_name=NAME, standalone_mode=False) or Exit.DONE)
    except typer.Abort:
        raise Failed("aborted") from None
    except typer.TyperException as error:
        told = " ".join(error.format_message().split())
        where = getattr(getattr(error, "ctx", None), "command_path", NAME)
        if told and "--json" in arguments:
            raise Failed(f"{told.removesuffix('.')}. Try '{where} --help'", Exit.USAGE) from None
        if told:  # else it is the help, which was shown
            say(f"{where}: {told}", f"Try '{where} --help'.")
        return Exit.USAGE
