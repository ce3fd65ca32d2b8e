"""Arguments and options that several commands declare, and how a shell completes them."""

import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from daemon.commands.support import completion
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import given
from daemon.domain.visible import visible
from daemon.runtime.config.providers.shipped_tables import shipped_tables


def ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the id of a stored token."""
    return completion.ids(given(ctx).config, incomplete)


def hook_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a configured hook."""
    return completion.hooks(given(ctx).config, incomplete)


def provider_names() -> Iterator[str]:
    """Complete the name of a shipped provider."""
    yield from sorted(shipped_tables())


def confirmation(*, yes: bool) -> Callable[[str], bool] | None:
    """Return a function that asks the operator a question; None if `yes` answers it. Raises Failed."""
    if yes:
        return None
    if not sys.stdin.isatty():
        raise Failed(
            "standard input is not a terminal, so refreshd can't ask for confirmation. Pass --yes", Exit.USAGE
        )
    return lambda text: typer.confirm(visible(text), err=True)


TokenId = Annotated[
    str, typer.Argument(metavar="ID", help="The token's ID, PROVIDER:ACCOUNT.", autocompletion=ids)
]
Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="ID|PROVIDER",
        help="IDs of tokens, or names of providers. Only an ID contains a colon.",
        autocompletion=ids,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")]
