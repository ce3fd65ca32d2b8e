"""`refreshd remove`: forget tokens. Each removal is audited."""

import asyncio
from collections.abc import Callable

from daemon.adapters.mongo.admin.tokens import TokenAdmin, Wanted
from daemon.commands.support.access import open_store, read_settings
from daemon.commands.support.each_token import do_to_each
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options
from daemon.runtime.config.settings import Settings


def remove(
    options: Options, *, names: list[str], account: str | None, confirm: Callable[[str], bool] | None
) -> int:
    """Forget these tokens, or those of `account`, when `confirm` (None: not asked) agrees."""
    for name in names:
        if ":" not in name:
            raise Failed(f"{name!r} is no token's id: those are like PROVIDER:ACCOUNT", Exit.USAGE)
    settings = read_settings(options)
    if account is not None:
        names = asyncio.run(_of_account(settings, account))
    told = names[0] if len(names) == 1 else f"{len(names)} tokens ({', '.join(names)})"
    if confirm is not None and not confirm(f"Forget {told} for good? The grant at the provider lives on."):
        raise Failed("nothing was removed")

    async def deed(admin: TokenAdmin, name: str) -> bool:
        await admin.remove(name)
        return True

    return asyncio.run(do_to_each(settings, options, names, deed, done="removed", idle=""))


async def _of_account(settings: Settings, account: str) -> list[str]:
    """The ids of its tokens. Raises Failed if there is none."""
    async with open_store(settings) as access:
        found = [str(one["_id"]) async for one in access.admin.list(Wanted(account=account))]
    if not found:
        raise Failed(f"no token of account {account} is stored. `refreshd list` shows what is")
    return found
