"""What `refreshd keys reseal` and `refreshd keys retire` do, and how they report it."""

import asyncio
import re
import sys
from collections.abc import Mapping
from datetime import timedelta

import typer

from daemon.adapters.mongo.admin.reseal import Progress, Resealer
from daemon.adapters.mongo.connection import Refusal
from daemon.adapters.mongo.counting.sealed_values import Holders, holders_of
from daemon.adapters.mongo.instances import lacking_key, processes
from daemon.commands.support.access import Access, refuse_to_store
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.output import Output
from daemon.commands.support.terminal import say
from daemon.domain.key_use import KeyNeeds, KeyUse, NeededBy, Process, needed_by
from daemon.runtime.config.settings import Settings

_RATE = re.compile(r"([0-9]{1,6})/1?([sm])")
_NAMED = 20
_ACTIVE = (
    "Key {key_id!r} is the active one, which seals every new value, so it can't be retired.\n"
    'Make another key active first, on every instance, and give this one use = "open". Then reload, and run\n'
    "`refreshd keys reseal`"
)


def read_rate(text: str) -> float:
    """Read a number of documents a second, like "200/s" or "600/1m". Raises BadParameter."""
    found = _RATE.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise typer.BadParameter(
            f'{text!r} is not a rate. Write documents per second or minute, like "200/s"'
        )
    return int(found[1]) / (1 if found[2] == "s" else 60)


# ---------------------------------------------------------------- reseal


async def reseal(access: Access, output: Output, *, access_tokens: bool, rate: float, dry_run: bool) -> int:
    """Seal again what isn't under the active key. Raises StoreLost, Failed."""
    active = access.ring.active
    await refuse_to_store(access)
    if hosts := await lacking_key(access.mongo, active):
        raise Failed(
            f"the refreshd on {', '.join(hosts)} doesn't have key {active!r}, and couldn't open what is sealed with it."
            " Add the key there, reload, and run the command again a minute later"
        )
    if not dry_run:
        await access.audit.note("reseal", active)
    resealer = Resealer(
        access.mongo, access.ring, access_tokens=access_tokens, rate=rate, sleep=_sleep, dry_run=dry_run
    )
    total = await access.mongo.guarded(access.mongo.tokens.estimated_document_count())
    try:
        async for progress in resealer.run():
            _show_progress(progress)
        await resealer.consents()
    except Refusal as why:
        raise Failed(str(why)) from None
    finally:
        _end_progress()
    return _report(resealer.progress, output, total=total, active=active, dry_run=dry_run)


async def _sleep(span: timedelta) -> None:
    await asyncio.sleep(span.total_seconds())


def _show_progress(progress: Progress) -> None:
    if sys.stderr.isatty():
        print(f"\r{progress.resealed:,} documents re-sealed", end="", file=sys.stderr, flush=True)


def _end_progress() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _report(progress: Progress, output: Output, *, total: int, active: str, dry_run: bool) -> int:
    failed_documents = len({one.id for one in progress.failed})
    already = max(total - progress.resealed - progress.skipped - failed_documents, 0)
    record = {
        "resealed": progress.resealed,
        "already": already,
        "skipped": progress.skipped,
        "failed": [{"id": one.id, "field": one.field, "why": one.why} for one in progress.failed],
        "dry_run": dry_run,
    }
    would = "would be re-sealed" if dry_run else "re-sealed"
    documents = f"{progress.resealed:,} document{'s' * (progress.resealed != 1)}"
    text = f"{documents} {would} under key {active!r}; {already:,} unchanged"
    output.result(record, text)
    if progress.skipped:
        say(f"{progress.skipped:,} documents are under a lease or keep changing. Run the command again later")
    if not output.as_json:
        for one in progress.failed[:_NAMED]:
            output.failed(f"{one.id}: {one.why}")
    return Exit.FAILED if progress.failed else Exit.DONE


# ---------------------------------------------------------------- retire


async def retire(access: Access, settings: Settings, output: Output, key_id: str) -> int:
    """Say whether the ring may lose the key. Raises StoreLost, Failed."""
    await access.audit.note("retire_key", key_id)
    found = await processes(access.mongo)
    try:
        holders = await holders_of(access.mongo, key_id)
    except Refusal as why:
        raise Failed(f"waiting consents can't be counted: {why}") from None
    needed = needed_by(
        key_id,
        values=holders.values,
        consents=holders.consents,
        processes=[*found, *_this_configuration(settings, access)],
        now=access.clock.now(),
    )
    active = key_id == access.ring.active
    text = _ACTIVE.format(key_id=key_id) if active else _text(key_id, needed, holders)
    output.result(_record(key_id, needed), text, keep="\n")
    return Exit.DONE if needed.may_leave else Exit.FAILED


def _this_configuration(settings: Settings, access: Access) -> list[Process]:
    """Return this command's own configuration as a process without a journal, since a daemon may read it next."""
    ring = settings.keys.key_ring
    keys = {
        key_id: KeyNeeds(use=KeyUse.OPEN if key_id in ring.only_open else KeyUse.ALL) for key_id in ring.ids
    }
    return [
        Process(
            id="this configuration",
            host="this configuration",
            seen_at=access.clock.now(),
            keys=keys,
            writer_key_ids=ring.writers,
        )
    ]


def _record(key_id: str, needed: NeededBy) -> Mapping[str, object]:
    return {
        "key_id": key_id,
        "may_leave": needed.may_leave,
        "needed_by": {
            "values": needed.values,
            "consents": needed.consents,
            "journal": needed.journal,
            "kept": needed.kept,
            "writers": list(needed.writers),
            "in_use": list(needed.in_use),
            "silent_instances": list(needed.silent_instances),
        },
    }


def _text(key_id: str, needed: NeededBy, holders: Holders) -> str:
    if needed.may_leave:
        return (
            f"Nothing needs key {key_id!r}. Delete its entry in [keys.ring] on every instance, and reload. Keep the key"
            " with the backups that it opens"
        )
    like = f", like those of {', '.join(holders.ids)}" if holders.ids else ""
    reasons = [
        (needed.in_use, f'it is not use = "open" on: {", ".join(needed.in_use)}'),
        (needed.values, f"{needed.values:,} stored values{like}. Run `refreshd keys reseal`"),
        (needed.consents, f"{needed.consents:,} waiting consents"),
        (needed.journal, f"{needed.journal:,} replies that wait in journals"),
        (needed.kept, f"{needed.kept:,} kept successors. `refreshd journal list` shows them"),
        (needed.writers, f"texts of its writer key are accepted by: {', '.join(needed.writers)}"),
        (
            needed.silent_instances,
            f"silent instances: {', '.join(needed.silent_instances)}. Start each, or `refreshd adopt` it",
        ),
    ]
    lines = [f"  {text}" for holds, text in reasons if holds]
    return "\n".join([f"Key {key_id!r} is still needed:", *lines])
