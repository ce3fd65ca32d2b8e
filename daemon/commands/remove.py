"""`refreshd remove`: delete tokens. Each removal is audited."""

import asyncio
from typing import Annotated

import typer

from daemon.adapters.mongo.admin.lookup import TokenSelection
from daemon.commands.support.access import Access, open_store, read_settings
from daemon.commands.support.arguments import Yes, confirmation, ids
from daemon.commands.support.command import Audited
from daemon.commands.support.each_token import do_to_each
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import given
from daemon.domain.visible import typed
from daemon.runtime.config.settings import Settings

app = typer.Typer()


@app.command(cls=Audited, epilog="refreshd remove xero:company-7 --yes")
def remove(
    ctx: typer.Context,
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="The tokens' IDs, PROVIDER:ACCOUNT.", autocompletion=ids),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(metavar="ACCOUNT", help="Delete this account's tokens at every provider instead."),
    ] = None,
    yes: Yes = False,
) -> int:
    """Delete tokens for good. Their grants stay valid at the providers."""
    options, names = given(ctx), names or []
    if bool(names) == (account is not None):
        raise Failed("which tokens to delete is not clear. Give IDs, or --account", Exit.USAGE)
    confirm = confirmation(yes=yes)
    for name in names:
        if ":" not in name:
            raise Failed(f"{name!r} is not a token's ID. Write it as PROVIDER:ACCOUNT", Exit.USAGE)
    settings = read_settings(options)
    if account is not None:
        names = asyncio.run(_of_account(settings, typed(account)))
    which = names[0] if len(names) == 1 else f"{len(names)} tokens ({', '.join(names)})"
    if confirm is not None and not confirm(
        f"Delete {which} for good? The grant stays valid at the provider."
    ):
        raise Failed("the confirmation was declined, so nothing was removed")

    async def deed(access: Access, name: str) -> bool:
        await access.admin.remove(name)
        return True

    return asyncio.run(do_to_each(settings, options, names, deed, done="removed", idle=""))


async def _of_account(settings: Settings, account: str) -> list[str]:
    """The ids of its tokens. Raises Failed if there is none."""
    async with open_store(settings) as access:
        found = [str(one["_id"]) async for one in access.lookup.list(TokenSelection(account=account))]
    if not found:
        raise Failed(f"account {account} has no stored token. `refreshd list` shows the stored ones")
    return found
