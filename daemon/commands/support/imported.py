"""What `resume --percent` and `pause --imported` do to the tokens that an import stored."""

import asyncio
import random
from datetime import datetime, timedelta

from daemon.adapters.mongo.admin.imported_slices import MongoSlices
from daemon.commands.support.access import Access, check_targets, open_store, read_settings
from daemon.commands.support.each_token import check_is_provider
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options
from daemon.commands.support.output import Output
from daemon.domain.due import Moment, Timing
from daemon.domain.moving import Due, activation_due
from daemon.domain.token import Token
from daemon.migrating.activation import Resumed, TakenBack, resume_slice, take_back
from daemon.runtime.config.settings import Settings

LISTED = 20  # refusals in a report for people


def activate_imported(options: Options, targets: list[str], percent: int, read_within: timedelta) -> int:
    """Activate the first `percent` percent of the providers' imported tokens."""
    settings = _settings(options, targets, "--percent")
    for target in targets:
        if target not in settings.providers:
            raise Failed(
                f"provider {target!r} is not configured, so its tokens can't be refreshed. Add a section"
                f" [providers.{target}] to the configuration",
                Exit.USAGE,
            )
    return asyncio.run(_activate(settings, options, targets, percent, read_within))


def take_back_imported(options: Options, targets: list[str]) -> int:
    """Pause the providers' imported tokens, and wait until no request is running for them."""
    settings = _settings(options, targets, "--imported")
    return asyncio.run(_take_back(settings, options, targets))


def due_of(settings: Settings, access: Access) -> Due:
    """Return the function that plans the first renewal of an imported token."""
    timing = Timing(window=settings.refresh.window, jitter=settings.refresh.jitter)

    def due(token: Token, end_is_known: bool) -> datetime | None:
        return activation_due(
            settings.providers[token.provider],
            token,
            end_is_known=end_is_known,
            moment=Moment(access.clock.now(), random.random(), timing),
        )

    return due


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _settings(options: Options, targets: list[str], option: str) -> Settings:
    for target in targets:
        check_is_provider(target, option)
    settings = read_settings(options)
    check_targets(targets, settings)
    return settings


async def _activate(
    settings: Settings, options: Options, targets: list[str], percent: int, read_within: timedelta
) -> int:
    output, code = Output(as_json=options.json), Exit.DONE
    async with open_store(settings, reason=options.reason) as access:
        for target in targets:
            action, audit_id = f"activate {percent}%", access.audit.new_id()
            await access.audit.note(action, target, audit_id=audit_id)
            done = await resume_slice(
                MongoSlices(access.mongo, access.ring),
                target,
                percent=percent,
                read_within=read_within,
                now=access.clock.now,
                due=due_of(settings, access),
            )
            await access.audit.note(action, target, count=done.activated, audit_id=audit_id)
            _print_resumed(output, target, done, read_within)
            if done.too_old or done.refused:
                code = Exit.FAILED
    return code


def _print_resumed(output: Output, provider: str, done: Resumed, read_within: timedelta) -> None:
    record = {
        "provider": provider,
        "action": "activated",
        "tokens": done.activated,
        "too_old": done.too_old,
        "refused": [{"id": name, "why": why} for name, why in done.refused.items()],
    }
    output.result(record, f"{provider}: {counted(done.activated, 'imported token')} activated")
    if output.as_json:
        return
    if done.too_old:
        output.failed(
            f"{provider}: {counted(done.too_old, 'token')} left paused, because their rows were read more than"
            f" {int(read_within.total_seconds())} s ago. Run the import again, then this command"
        )
    for name, why in list(done.refused.items())[:LISTED]:
        output.failed(f"{name}: {why}")


async def _take_back(settings: Settings, options: Options, targets: list[str]) -> int:
    output, code = Output(as_json=options.json), Exit.DONE
    async with open_store(settings, reason=options.reason) as access:
        tokens = MongoSlices(access.mongo, access.ring)
        for target in targets:
            await access.audit.note("pause imported", target, count=await tokens.activated(target))
            done = await take_back(
                tokens,
                target,
                limit=settings.refresh.lease,
                passed=access.clock.boot,
                sleep=asyncio.sleep,
            )
            _print_taken_back(output, target, done)
            if done.in_flight:
                code = Exit.FAILED
    return code


def _print_taken_back(output: Output, provider: str, done: TakenBack) -> None:
    record = {
        "provider": provider,
        "action": "paused",
        "tokens": done.tokens,
        "in_flight": [{"id": one.id, "instance": one.holder} for one in done.in_flight],
    }
    output.result(record, f"{provider}: {counted(done.tokens, 'imported token')} taken back")
    if output.as_json:
        return
    for one in done.in_flight[:LISTED]:
        if one.holder is not None:
            output.failed(
                f"{one.id}: instance {one.holder} has claimed it and may still be refreshing it. Run the command again"
                " before another program refreshes it"
            )
        else:
            output.failed(
                f"{one.id}: a request for it got no answer, so its refresh token may be spent. `refreshd show {one.id}`"
                " shows since when; let another program refresh it only if the provider accepts that"
            )
