"""Writing a backup of the open store, and reporting it as a metric."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from daemon import __version__
from daemon.adapters.archive import (
    Listed,
    Recipients,
    archives,
    name_of,
    store_name,
    write_text,
    writing,
)
from daemon.adapters.mongo.admin.backups import MongoBackupSource
from daemon.adapters.mongo.admin.preflight import CHOOSE_DATABASE, tokens_elsewhere
from daemon.commands.support.access import Access, open_store
from daemon.commands.support.failure import Failed
from daemon.commands.support.options import Options
from daemon.domain.backup import ArchiveInvalid, Manifest, SnapshotLost
from daemon.migrating.archive_text import Header
from daemon.migrating.backup import back_up
from daemon.runtime.config.settings import Settings

METRIC = "refreshd_backup_last_success_timestamp_seconds"


async def create_backup(
    settings: Settings, options: Options, directory: Path, readers: Recipients
) -> tuple[dict[str, object], Manifest]:
    async with open_store(settings, reason=options.reason) as access:
        if (elsewhere := await tokens_elsewhere(access.mongo)) is not None:
            raise Failed(f"store.uri: {elsewhere}. {CHOOSE_DATABASE}")
        tokens = access.mongo.tokens
        now = access.clock.now()
        name = name_of(tokens.database.name, tokens.name, now, encrypted=bool(readers))
        await access.audit.note("backup", name)
        try:
            return await _write(access, directory, name, readers, now, snapshot=access.mongo.retryable_writes)
        except SnapshotLost:
            return await _write(access, directory, name, readers, now, snapshot=False)


async def _write(
    access: Access, directory: Path, name: str, readers: Recipients, now: datetime, *, snapshot: bool
) -> tuple[dict[str, object], Manifest]:
    """Write the archive. `snapshot`: read all documents as of one moment, which only a replica set can."""
    tokens = access.mongo.tokens
    header = Header(
        created_at=now,
        version=__version__,
        database=tokens.database.name,
        collection=tokens.name,
        snapshot=snapshot,
    )
    async with (
        MongoBackupSource(access.mongo, snapshot=snapshot) as source,
        writing(directory, name, readers) as writer,
    ):
        manifest = await back_up(source, writer, header)
        if not manifest.tokens and of_this_store(access, directory):
            raise Failed(
                f"{tokens.full_name} contains no token, and {directory} contains backups of it, so nothing was written."
                " Restore one, or name another directory"
            )
    record = {
        "file": str(writer.path),
        "tokens": manifest.tokens,
        "sha256": writer.sha256,
        "created_at": manifest.created_at,
        "snapshot": snapshot,
        "counts": manifest.counts,
    }
    return record, manifest


def of_this_store(access: Access, directory: Path) -> Sequence[Listed]:
    tokens = access.mongo.tokens
    store = store_name(tokens.database.name, tokens.name)
    return [one for one in archives(directory) if one.store == store]


def report_success(path: Path, at: datetime) -> None:
    """Write the metric. node_exporter reads it as another user."""
    lines = (
        f"# HELP {METRIC} When the last successful backup of the token store was made.",
        f"# TYPE {METRIC} gauge",
        f"{METRIC} {at.timestamp():.3f}",
    )
    try:
        write_text(path, "".join(f"{line}\n" for line in lines))
    except ArchiveInvalid as why:
        raise Failed(f"the backup was written, but its metric was not: {why}") from None
