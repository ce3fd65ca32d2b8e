"""The command line as a whole. Each command stands in a file of its own, which is imported only when the command is
called, completed or explained: the list of commands and the completion of their names don't wait for what they need.
"""

import gc
import sys
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from daemon import __version__
from daemon.commands.support.command import declared
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import common
from daemon.commands.support.terminal import say

NAME = "refreshd"


class Command(NamedTuple):
    """The module of `daemon.commands` that has the command, and the first sentence of its help."""

    module: str
    summary: str


COMMANDS = {
    "run": Command("run", "Run the daemon until SIGTERM or Ctrl-C."),
    "serve": Command("serve", "Serve access tokens to applications until SIGTERM or Ctrl-C."),
    "check": Command(
        "check",
        "Check the configuration, keys, providers, MongoDB, journal, duplicate tokens and the access service.",
    ),
    "status": Command(
        "status", "Show whether the daemon on this machine is ready, and what needs attention."
    ),
    "add": Command("add", "Store the token response on standard input as an account's token."),
    "connect": Command(
        "connect", "Connect an account: its owner consents in a browser, and the daemon stores the token."
    ),
    "list": Command("list", "List the stored tokens, without their secrets."),
    "show": Command("show", "Show one token. Secrets stay hidden unless you pass --reveal."),
    "refresh": Command("refresh", "Ask the daemon to refresh tokens now."),
    "pause": Command("pause", "Stop refreshing tokens or providers until you resume them."),
    "resume": Command(
        "pause", "Make paused or rejected tokens active and due now, or end a provider's pause."
    ),
    "remove": Command("remove", "Delete tokens for good. Their grants stay valid at the providers."),
    "revoke": Command("revoke", "End grants at their providers, for good."),
    "cleanup": Command("cleanup", "Delete tokens that died, or were last used, long ago."),
    "import": Command("import_tokens", "Store the tokens of an application's own store as paused tokens."),
    "export": Command(
        "export", "Write the stored tokens, with their refresh tokens, in an application's layout."
    ),
    "compare": Command(
        "compare",
        "Show which tokens are newer here and which in an application's own store, without their secrets.",
    ),
    "adopt": Command("adopt", "Release the claims of an instance whose disk is lost."),
    "audit": Command("audit", "Show who did what to which token, newest first."),
    "providers": Command("providers", "List the shipped and configured providers, or explain one."),
    "sandbox": Command(
        "sandbox", "Run a local OAuth server that rotates refresh tokens and fails on request."
    ),
    "keys": Command(
        "keys",
        "Generate, wrap and rotate keys, derive reader and writer keys, and check the key ring against the store.",
    ),
    "access": Command("access", "Create, list, rotate and revoke the keys by which applications get tokens."),
    "backup": Command("backup", "Write, list, verify, restore and prune backups of the store."),
    "hooks": Command("hooks", "Show the receivers of events, test one, and send events again."),
    "journal": Command("journal", "Inspect provider replies that MongoDB has not confirmed yet."),
    "help": Command("help", "Show the help of refreshd or of one command."),
    "version": Command("version", "Show the version of refreshd."),
}


class LazyGroup(TyperGroup):
    """All commands: their names and summaries from the start, the rest of each from its module."""

    def __init__(self, *, params: list[Any], **settings: Any) -> None:
        super().__init__(params=[*declared(common), *params], **settings)
        for name, (_, summary) in COMMANDS.items():
            self.commands[name] = TyperCommand(name, short_help=summary)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Replace the command that `args` begin with by the real one."""
        if (command := COMMANDS.get(args[0])) is not None:
            module = _imported(f"daemon.commands.{command.module}")
            group = get_group(module.app)
            self.commands[args[0]] = group.commands.get(args[0], group)
        return super().resolve_command(ctx, args)


def _imported(name: str) -> ModuleType:
    """Import a command. Whatever modules create lasts until the process ends, so the garbage collector does not look
    at it: neither during the import, nor later, nor at the end. That saves a fifth of a short command's time.
    """
    if name in sys.modules or gc.get_freeze_count():  # once in a process: tests run many commands in theirs
        return import_module(name)
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def _version(wanted: bool) -> None:
    if wanted:
        print(f"{NAME} {__version__}")
        raise typer.Exit


app = typer.Typer(
    name=NAME,
    cls=LazyGroup,
    help="Keeps OAuth 2.0 tokens fresh. No crash loses a refresh token whose reply is on disk.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 69 MongoDB or provider unavailable, 75 port or directory"
    " in use, 78 configuration wrong. `refreshd help COMMAND` explains a command.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they would print local variables, and so tokens
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _global(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Declare what only `refreshd` itself takes."""


def invoke(arguments: list[str]) -> int:
    """Run the command that `arguments` name. Returns the exit code; prints usage errors, raises other failures."""
    try:
        return int(app(arguments, prog_name=NAME, standalone_mode=False) or Exit.DONE)
    except typer.Abort:
        raise Failed("aborted") from None
    except typer.TyperException as error:
        where = getattr(getattr(error, "ctx", None), "command_path", NAME)
        if (shown := _help(error)) and "--json" not in arguments:
            say(*shown.splitlines())
            return Exit.USAGE
        message = "Missing command" if shown else _message_of(error)
        if "--json" in arguments:
            raise Failed(f"{message.removesuffix('.')}. Try '{where} --help'", Exit.USAGE) from None
        say(f"{where}: {message}", f"Try '{where} --help'.")
        return Exit.USAGE


def _message_of(error: typer.TyperException) -> str:
    """Return the text of the error, on one line and without the library's own name for a wrong value."""
    return " ".join(error.format_message().split()).replace(": Value error, ", ": ") + _id_hint(error)


def _help(error: typer.TyperException) -> str | None:
    """Return the help that is the text of the error of a group without a command."""
    context = getattr(error, "ctx", None)
    text = context.get_help() if context else None
    return text if text == error.format_message() else None


def _id_hint(error: typer.TyperException) -> str:
    """How an ID is written, if a command that takes one ID got more words, or `connect` or `add`, which take two, got
    one.
    """
    command = getattr(getattr(error, "ctx", None), "command", None)
    if "Missing argument 'ACCOUNT'" in error.format_message():
        return " Give the provider and the account as two words, like xero company-7"
    takes_id = any(param.metavar == "ID" for param in getattr(command, "params", ()))
    extra = "unexpected extra argument" in error.format_message()
    return ". A token's ID is one word, PROVIDER:ACCOUNT" if takes_id and extra else ""
