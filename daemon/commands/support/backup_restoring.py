"""Restoring a backup into the open store, and printing what became of its tokens."""

from datetime import datetime, timedelta
from pathlib import Path

from daemon.adapters.archive import (
    ArchiveFile,
)
from daemon.adapters.mongo.admin.restores import MongoRestoreTarget
from daemon.commands.support.access import open_store, refuse_to_store
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options
from daemon.commands.support.output import Output
from daemon.domain.backup import Skipped
from daemon.migrating.restore import (
    LossUnknown,
    Report,
    Wishes,
    check_loss,
    examine_with_keys,
    restore,
)
from daemon.runtime.config.settings import Settings


async def restore_backup(
    settings: Settings,
    options: Options,
    archive: ArchiveFile,
    lost: datetime | timedelta | None,
    ended: frozenset[str],
    *,
    dry_run: bool,
) -> Report:
    output = Output(as_json=options.json)
    async with open_store(settings, reason=options.reason) as access:
        await refuse_to_store(access)
        target = MongoRestoreTarget(access.mongo, access.ring)
        manifest = await examine_with_keys(archive, target, access.ring.ids)
        now = access.clock.now()
        wishes = Wishes(
            lost_at=now - lost if isinstance(lost, timedelta) else lost, ended=ended, dry_run=dry_run
        )
        try:
            await check_loss(target, manifest, wishes, now=now)
        except LossUnknown as why:
            raise Failed(str(why), Exit.USAGE) from None
        tokens = access.mongo.tokens
        if (manifest.database, manifest.collection) != (tokens.database.name, tokens.name):
            output.note(
                f"refreshd: the backup is of {manifest.database}.{manifest.collection}, and is restored into"
                f" {tokens.full_name}"
            )
        if not dry_run:
            await access.audit.note("restore", Path(archive.name).name, count=manifest.tokens)
        return await restore(
            archive, target, manifest, wishes, providers=settings.providers, clock=access.clock
        )


def print_report(output: Output, report: Report, *, dry_run: bool) -> int:
    record = {
        "restored": report.restored,
        "newer_kept": report.newer_kept,
        "unchanged": report.unchanged,
        "paused": [{"id": one.id, "why": one.why} for one in report.paused],
        "skipped": [
            {"id": one.id, "why": one.why, **({"detail": one.detail} if one.detail else {})}
            for one in report.skipped
        ],
        "others": sum(report.others.values()),
        "dry_run": dry_run,
    }
    would = "would be " if dry_run else ""
    output.result(
        record,
        f"{report.restored:,} tokens {would}restored, {report.newer_kept:,} newer ones kept, {report.unchanged:,}"
        f" unchanged, {len(report.skipped):,} left out",
    )
    refused = [one for one in report.skipped if one.why == Skipped.REFUSED]
    for one in refused:
        output.failed(f"{one.id}: MongoDB refuses it: {one.detail}. Remove the cause, then restore again")
    if not output.as_json:
        _explain(output, report, dry_run=dry_run)
    return Exit.FAILED if refused else Exit.DONE


def _explain(output: Output, report: Report, *, dry_run: bool) -> None:
    """Say what rests, and what was left out."""
    for one in report.skipped:
        if one.why == Skipped.DUPLICATE:
            output.note(f"{one.id} was left out: {one.detail} holds the same refresh token")
    if count := len(report.paused):
        would = "would rest" if dry_run else "rest"
        output.note(
            f"{count:,} tokens {would}, paused: their refresh tokens may be spent. `refreshd list --state paused` shows"
            " them"
        )
    if count := report.others.get("_access", 0):
        would = "would come" if dry_run else "came"
        output.note(
            f"{count:,} access keys {would} back disabled, because they may have been revoked since the backup."
            " `refreshd access enable NAME` enables those of one name"
        )
