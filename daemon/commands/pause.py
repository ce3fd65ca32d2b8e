"""`refreshd pause` and `resume`. Each action is audited."""

import asyncio
from datetime import datetime, timedelta

from daemon.adapters.mongo.admin.tokens import TokenAdmin
from daemon.commands.support.access import check_targets, open_store, read_settings
from daemon.commands.support.each_token import each_target
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options
from daemon.commands.support.output import Output
from daemon.runtime.config.settings import Settings


def pause(options: Options, *, targets: list[str]) -> int:
    """Nothing presents these tokens, or any of these providers, until they are resumed."""

    async def deed(admin: TokenAdmin, target: str) -> bool:
        return await (admin.pause(target) if ":" in target else admin.pause_provider(target))

    return each_target(options, targets, deed, done="paused", idle="was paused already")


def resume(options: Options, *, targets: list[str]) -> int:
    """Active and due now; a provider's pause ends, whatever its reason."""

    async def deed(admin: TokenAdmin, target: str) -> bool:
        return await (admin.resume(target) if ":" in target else admin.resume_provider(target))

    return each_target(options, targets, deed, done="resumed", idle="was not paused")


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
            count = await access.admin.resume_rejected(target, since=at)
            record = {"provider": target, "action": "resumed", "tokens": count}
            output.result(record, f"{target}: {count} rejected token{'s' * (count != 1)} resumed")
    return Exit.DONE
