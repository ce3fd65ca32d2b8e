"""The account that a command stores a grant for: its arguments and options, and what is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from daemon.adapters.mongo.admin.lookup import NoSuchToken
from daemon.commands.support.access import Access
from daemon.commands.support.arguments import provider_names
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.pairs import read_pairs
from daemon.domain.provider import Provider
from daemon.domain.subject import fault_of_subject
from daemon.domain.token import token_id
from daemon.domain.visible import typed

ProviderName = Annotated[
    str, typer.Argument(metavar="PROVIDER", autocompletion=provider_names, help="A configured provider.")
]
AccountName = Annotated[
    str,
    typer.Argument(metavar="ACCOUNT", help="Your name for the account. The token's ID is PROVIDER:ACCOUNT."),
]
Variables = Annotated[
    list[str] | None,
    typer.Option("--var", metavar="NAME=VALUE", help="A variable of the provider's definition. Repeatable."),
]
Meta = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="A note that is stored for your application. Repeatable."),
]
Subject = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="The user or customer to whom the token belongs, as your application names them.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountNotes:
    """What the operator says about an account. `id`: the token's."""

    id: str
    variables: Mapping[str, str]
    meta: Mapping[str, str]
    subject: str | None


def read_account(
    provider: Provider,
    account: str,
    *,
    variables: Sequence[str] | None,
    meta: Sequence[str] | None,
    subject: str | None,
) -> AccountNotes:
    """Read the arguments and options. Raises Failed."""
    try:
        name = token_id(provider.name, account)
    except ValueError as why:
        raise Failed(str(why), Exit.USAGE) from None
    given = read_pairs(variables or [], "--var")
    for unknown in given.keys() - provider.definition.variables.keys():
        fitting = ", ".join(provider.definition.variables) or "none"
        raise Failed(
            f"--var {unknown}: {provider.name} has no such variable. Its variables: {fitting}", Exit.USAGE
        )
    if subject is not None and (fault := fault_of_subject(typed(subject))):
        raise Failed(f"--subject: the value {fault}", Exit.USAGE)
    return AccountNotes(
        id=name,
        variables=given,
        meta=read_pairs(meta or [], "--meta"),
        subject=typed(subject) if subject is not None else None,
    )


async def stored_variables(access: Access, name: str) -> Mapping[str, str]:
    """Return the variables of the stored token, which a new consent keeps. Raises StoreLost."""
    try:
        stored = (await access.lookup.get(name)).get("vars")
    except NoSuchToken:
        return {}
    return {k: v for k, v in stored.items() if isinstance(v, str)} if isinstance(stored, Mapping) else {}
