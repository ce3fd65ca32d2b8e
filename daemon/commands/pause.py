"""`refreshd pause`, `resume` and `remove`: to let tokens rest, wake them, forget them. Each deed is audited."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from daemon.adapters.mongo.admin.consents import Refused
from daemon.adapters.mongo.admin.tokens import MongoRegistry, NoSuchToken, Wanted
from daemon.commands.support.access import check_targets, open_store, read_settings, stored_id
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options
from daemon.commands.support.output import Output
from daemon.runtime.config.settings import Settings

Deed = Callable[[MongoRegistry, str], Awaitable[bool]]


def pause(options: Options, *, targets: list[str]) -> int:
    """Nothing presents these tokens, or any of these providers, until they are resumed."""

    async def deed(registry: MongoRegistry, target: str) -> bool:
        return await (registry.pause(target) if ":" in target else registry.pause_provider(target))

    return _each(options, targets, deed, done="paused", idle="was paused already")


def resume(options: Options, *, targets: list[str]) -> int:
    """Active and due now; a provider's pause ends, whatever its reason."""

    async def deed(registry: MongoRegistry, target: str) -> bool:
        return await (registry.resume(target) if ":" in target else registry.resume_provider(target))

    return _each(options, targets, deed, done="resumed", idle="was not paused")


def resume_rejected(options: Options, *, targets: list[str], since: datetime | timedelta) -> int:
    """Active and due now: the tokens of these providers that were rejected at or after `since`, or so long ago at most."""
    for target in targets:
        if ":" in target:
            raise Failed(f"--rejected-since takes providers, and {target!r} is a token's id", Exit.USAGE)
    settings = read_settings(options)
    check_targets(targets, settings)
    return asyncio.run(_resume_rejected(settings, options, targets, since))


async def _resume_rejected(
    settings: Settings, options: Options, targets: list[str], since: datetime | timedelta
) -> int:
    output = Output(as_json=options.json)
    async with open_store(settings, reason=options.reason) as access:
        at = access.clock.now() - since if isinstance(since, timedelta) else since
        for target in targets:
            count = await access.registry.resume_rejected(target, since=at)
            record = {"provider": target, "action": "resumed", "tokens": count}
            output.result(record, f"{target}: {count} rejected token{'s' * (count != 1)} resumed")
    return Exit.DONE


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

    async def deed(registry: MongoRegistry, name: str) -> bool:
        await registry.remove(name)
        return True

    return asyncio.run(_do(settings, options, names, deed, done="removed", idle=""))


async def _of_account(settings: Settings, account: str) -> list[str]:
    """The ids of its tokens. Raises Failed if there is none."""
    async with open_store(settings) as access:
        found = [str(one["_id"]) async for one in access.registry.list(Wanted(account=account))]
    if not found:
        raise Failed(f"no token of account {account} is stored. `refreshd list` shows what is")
    return found


def _each(options: Options, targets: list[str], deed: Deed, *, done: str, idle: str) -> int:
    settings = read_settings(options)
    check_targets(targets, settings)
    return asyncio.run(_do(settings, options, targets, deed, done=done, idle=idle))


async def _do(
    settings: Settings, options: Options, targets: list[str], deed: Deed, *, done: str, idle: str
) -> int:
    """One after the other; what can't be done to one keeps none of the others from it."""
    failed, output = False, Output(as_json=options.json)
    async with open_store(settings, reason=options.reason) as access:
        for target in targets:
            try:
                target = await stored_id(access, target)  # noqa: PLW2901  what was meant
                changed = await deed(access.registry, target)
            except NoSuchToken:
                failed = True
                output.failed(f"{target}: no such token is stored")
            except Refused as why:
                failed = True
                output.failed(str(why))
            else:
                kind = "id" if ":" in target else "provider"
                record = {kind: target, "action": done, "changed": changed}
                output.result(record, f"{target} {done if changed else idle}")
    return Exit.FAILED if failed else Exit.DONE
