"""One action for each of several tokens or providers. Each is audited."""

import asyncio
from collections.abc import Awaitable, Callable

from daemon.adapters.mongo.admin.consents import Refused
from daemon.adapters.mongo.admin.lookup import NoSuchToken
from daemon.commands.support.access import Access, check_targets, open_store, read_settings, stored_id
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options
from daemon.commands.support.output import Output
from daemon.runtime.config.settings import Settings

Deed = Callable[[Access, str], Awaitable[bool]]


def each_target(options: Options, targets: list[str], deed: Deed, *, done: str, idle: str) -> int:
    settings = read_settings(options)
    check_targets(targets, settings)
    return asyncio.run(do_to_each(settings, options, targets, deed, done=done, idle=idle))


async def do_to_each(
    settings: Settings, options: Options, targets: list[str], deed: Deed, *, done: str, idle: str
) -> int:
    """One after the other; what can't be done to one keeps none of the others from it."""
    failed, output = False, Output(as_json=options.json)
    async with open_store(settings, reason=options.reason) as access:
        for target in targets:
            try:
                target = await stored_id(access, target)  # noqa: PLW2901  what was meant
                changed = await deed(access, target)
            except NoSuchToken:
                failed = True
                output.failed(f"{target}: no such token is stored. `refreshd list` shows the stored IDs")
            except Refused as why:
                failed = True
                output.failed(str(why))
            else:
                kind = "id" if ":" in target else "provider"
                record = {kind: target, "action": done, "changed": changed}
                output.result(record, f"{target} {done if changed else idle}")
    return Exit.FAILED if failed else Exit.DONE


def check_is_provider(target: str, option: str) -> None:
    """Refuse a token's ID for an option that takes providers. Raises Failed."""
    if ":" in target:
        raise Failed(
            f"{option}: {target!r} is a token's ID, and this option takes providers. Name its provider",
            Exit.USAGE,
        )
