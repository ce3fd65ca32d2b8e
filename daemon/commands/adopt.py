"""`refreshd adopt`: release the claims of an instance whose disk is lost."""

import asyncio
from collections.abc import Callable
from typing import Annotated

import typer

from daemon.adapters.mongo.admin.adoption import adopt as adopt_claims
from daemon.adapters.mongo.admin.adoption import owners, running_claims
from daemon.commands.support.access import Access, open_store, read_settings
from daemon.commands.support.arguments import Yes, confirmation
from daemon.commands.support.command import Audited
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options, given
from daemon.commands.support.output import Output
from daemon.commands.support.state_directory import living_instance
from daemon.runtime.config.settings import Settings

app = typer.Typer()


@app.command(cls=Audited, epilog="refreshd adopt 7d0c51f2-refresh-1")
def adopt(
    ctx: typer.Context,
    *,
    instance: Annotated[
        str,
        typer.Argument(
            metavar="INSTANCE", help="The instance's ID, from `refreshd status` or `refreshd show`."
        ),
    ],
    yes: Yes = False,
) -> int:
    """Release the claims of an instance whose disk is lost.

    If it may come back, wait for it instead. Some of its tokens may have been spent. The exit code is 1 if the
    instance holds no claim.
    """
    options, confirm = given(ctx), confirmation(yes=yes)
    settings = read_settings(options)
    if living_instance(settings.state_dir) == instance:
        raise Failed(
            f"{instance} is the daemon that runs here, in {settings.state_dir}, so it is not lost. Name another instance"
        )
    return asyncio.run(_adopt(settings, options, instance, confirm))


async def _adopt(
    settings: Settings, options: Options, instance: str, confirm: Callable[[str], bool] | None
) -> int:
    output = Output(as_json=options.json)
    async with open_store(settings, reason=options.reason) as access:
        holders = await owners(access.mongo)
        if confirm is not None and not confirm(await _question(access, instance)):
            raise Failed("the confirmation was declined, so nothing was adopted")
        count = await adopt_claims(access.mongo, access.audit, instance)
    text = f"{count} claim{'s' * (count != 1)} of {instance} released"
    output.result({"instance": instance, "action": "adopted", "claims": count}, text)
    if count:
        return Exit.DONE
    others = f"Claims are held by: {', '.join(holders)}" if holders else "No instance holds a claim"
    output.failed(f"{instance} holds no claim in this store. {others}")
    return Exit.FAILED


async def _question(access: Access, instance: str) -> str:
    running = await running_claims(access.mongo, instance)
    alive = f" It made {running} of its claims moments ago: make sure that it is stopped." if running else ""
    return (
        f"Release the claims of {instance}? Do so only if its disk is lost for good: replies in its journal"
        f" would be lost, and some of these tokens may have been spent.{alive}"
    )
