"""`refreshd backup`: archives of the store, and what a restore of one brings back."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from daemon import __version__
from daemon.adapters.archive import (
    ArchiveFile,
    KeyInvalid,
    Listed,
    Recipients,
    archives,
    identities,
    name_of,
    new_key,
    opened,
    recipients,
    remove,
    store_name,
    write_text,
    writing,
)
from daemon.adapters.mongo.admin.backups import MongoBackupSource, MongoRestoreTarget
from daemon.adapters.mongo.admin.preflight import CHOOSE_DATABASE, tokens_elsewhere
from daemon.commands.support.access import Access, open_store, read_settings, refuse_to_store
from daemon.commands.support.command import Audited, Command, Group
from daemon.commands.support.durations import Instant, read_instant
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options, given, say_unused
from daemon.commands.support.output import Column, Output, moment
from daemon.domain.backup import ArchiveInvalid, Manifest, Skipped, SnapshotLost
from daemon.migrating.archive_text import Header
from daemon.migrating.backup import back_up, outdated
from daemon.migrating.restore import (
    KeysMissing,
    LossUnknown,
    Report,
    Wishes,
    check_loss,
    examine,
    examine_with_keys,
    restore,
)
from daemon.runtime.config.settings import Settings

KEPT = 14  # archives
METRIC = "refreshd_backup_last_success_timestamp_seconds"
_LONGEST_LIST = 64 << 20  # bytes of --ended
_COLUMNS = (Column("File"), Column("Store"), Column("Age", width=8), Column("Bytes"), Column("Encrypted"))

app = typer.Typer(
    name="backup",
    cls=Group,
    help="Write, list, verify, restore and prune backups of the store.",
    epilog="refreshd backup create --to /var/lib/refreshd-backup --recipient age1...",
    no_args_is_help=True,
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")]
Identity = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The age identity for which the backup is encrypted."),
]
Directory = Annotated[Path, typer.Option("--to", metavar="DIR", help="The directory of the backups.")]


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (ArchiveInvalid, KeysMissing) as why:
        raise Failed(str(why)) from None
    except KeyInvalid as why:
        raise Failed(str(why), Exit.USAGE) from None


# ---------------------------------------------------------------- create


@app.command(cls=Audited, epilog="refreshd backup create --to /var/lib/refreshd-backup --recipient age1...")
def create(
    ctx: typer.Context,
    *,
    to: Directory,
    recipient: Annotated[
        list[str] | None,
        typer.Option(metavar="AGE1...", help="Encrypt for this age recipient. Repeatable."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Encrypt for the age identities in this file."),
    ] = None,
    unencrypted: Annotated[
        bool,
        typer.Option("--unencrypted", help="Write plain text. The tokens in it stay sealed."),
    ] = False,
    textfile: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the time of this success for node_exporter, as a metric."),
    ] = None,
) -> int:
    """Write all of the store into one new file in DIR, encrypted with age.

    Tokens stay sealed with the key ring, which the backup does not contain. The daemon can run.
    """
    options = given(ctx)
    if unencrypted == bool(recipient or key):
        raise Failed(
            "refreshd backup create: who may read the backup is not clear. Give --recipient or --key, or else"
            " --unencrypted",
            Exit.USAGE,
        )
    with _failures():
        readers = recipients(recipient or [], [key] if key else [])
        settings = read_settings(options)
        record, manifest = asyncio.run(_create(settings, options, to, readers))
        if textfile is not None:
            _report_success(textfile, manifest.created_at)
    tokens = manifest.tokens
    Output(as_json=options.json).result(
        record, f"{record['file']}: {tokens:,} token{'s' * (tokens != 1)}, SHA-256 {record['sha256']}"
    )
    return Exit.DONE


async def _create(
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
        if not manifest.tokens and _of_this_store(access, directory):
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


def _of_this_store(access: Access, directory: Path) -> Sequence[Listed]:
    tokens = access.mongo.tokens
    store = store_name(tokens.database.name, tokens.name)
    return [one for one in archives(directory) if one.store == store]


def _report_success(path: Path, at: datetime) -> None:
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


# ---------------------------------------------------------------- key, list, verify


@app.command("key", cls=Command, epilog="(umask 077; refreshd backup key > backup.key)")
def generate_key(ctx: typer.Context) -> int:
    """Print a new age identity, as `age-keygen` does, and its recipient.

    Backups for the recipient open with the identity alone. Keep it away from the machine that writes them.
    """
    say_unused(ctx, "config", "env_file")
    options = given(ctx)
    identity, public = new_key()
    output = Output(as_json=options.json)
    output.note(f"Public key: {public}")
    text = f"# public key: {public}\n{identity}"
    output.exact({"recipient": public, "identity": identity}, text)
    return Exit.DONE


@app.command("list", cls=Command, epilog="refreshd backup list /var/lib/refreshd-backup")
def list_backups(
    ctx: typer.Context,
    *,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory of the backups.")],
) -> int:
    """List the backups in a directory, the oldest first.

    Only their names are read: `refreshd backup verify` opens one. With --json, each line is one object.
    """
    say_unused(ctx, "config", "env_file")
    output = Output(as_json=given(ctx).json)
    with _failures():
        found = archives(directory)
    if output.as_json:
        for one in found:
            output.record(
                {
                    "file": str(one.path),
                    "store": one.store,
                    "created_at": one.created_at,
                    "bytes": one.bytes,
                    "encrypted": one.encrypted,
                }
            )
    elif found:
        output.table(_COLUMNS, [_row(one) for one in found])
    else:
        output.note(f"{directory} contains no backup.")
    return Exit.DONE


def _row(one: Listed) -> list[str]:
    age = moment(one.created_at, now=datetime.now(UTC))
    return [one.path.name, one.store, age, f"{one.bytes:,}", "yes" if one.encrypted else "no"]


@app.command(cls=Command, epilog="refreshd backup verify FILE --identity backup.key")
def verify(ctx: typer.Context, *, file: File, identity: Identity = None) -> int:
    """Read a backup to its end, and compare it with its manifest.

    This needs neither the configuration nor MongoDB. The exit code is 1 if the backup is damaged.
    """
    say_unused(ctx, "config", "env_file")
    output = Output(as_json=given(ctx).json)
    try:
        with _failures(), _archive(file, identity) as archive:
            manifest = asyncio.run(examine(archive))
    except Failed as why:
        if output.as_json and why.code == Exit.FAILED:
            output.record({"ok": False, "tokens": None})
        raise
    record = {
        "ok": True,
        "tokens": manifest.tokens,
        "created_at": manifest.created_at,
        "version": manifest.version,
        "store": f"{manifest.database}.{manifest.collection}",
        "snapshot": manifest.snapshot,
        "counts": manifest.counts,
        "key_ids": list(manifest.key_ids),
    }
    keys = ", ".join(manifest.key_ids) or "none"
    output.result(record, f"{file} is whole: {manifest.tokens:,} tokens. Needed keys of the ring: {keys}")
    return Exit.DONE


@contextmanager
def _archive(file: Path, identity: Path | None) -> Iterator[ArchiveFile]:
    with opened(file, identities(identity) if identity else []) as archive:
        yield archive


# ---------------------------------------------------------------- restore


@app.command("restore", cls=Audited, epilog="refreshd backup restore FILE --identity backup.key --lost-at 2h")
def restore_backup(
    ctx: typer.Context,
    *,
    file: File,
    identity: Identity = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what a restore would do. Nothing is written.")
    ] = False,
    lost_at: Annotated[
        Instant,
        typer.Option(
            parser=read_instant,
            metavar="TIME|DURATION",
            help="When the store was lost, like 2026-01-31T12:00:00Z, or 2h for two hours ago. An empty store requires it.",
        ),
    ] = None,
    ended: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="IDs or fingerprints of tokens that stay out, one a line."),
    ] = None,
) -> int:
    """Add what a backup has and the store lacks. Nothing newer is replaced.

    A token whose refresh token may have been replaced since comes back paused. Run the command again if it was
    interrupted.
    """
    options = given(ctx)
    if dry_run:
        say_unused(ctx, "reason", effect="has no effect with --dry-run")
    stay_out = _ended(ended) if ended else frozenset[str]()
    settings = read_settings(options)
    with _failures(), _archive(file, identity) as archive:
        report = asyncio.run(_restore(settings, options, archive, lost_at, stay_out, dry_run=dry_run))
    return _print(Output(as_json=options.json), report, dry_run=dry_run)


async def _restore(
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


def _ended(path: Path) -> frozenset[str]:
    """Return the lines of the file. Raises Failed."""
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_LIST + 1)
        if len(content) > _LONGEST_LIST:
            raise Failed(f"--ended: {path} has more than 64 MiB. Name a file with one ID a line", Exit.USAGE)
        text = content.decode()
    except OSError as why:
        raise Failed(
            f"--ended: {path} can't be read ({why.strerror}). Name a file with one ID a line", Exit.USAGE
        ) from None
    except ValueError:
        raise Failed(f"--ended: {path} is not text. Name a file with one ID a line", Exit.USAGE) from None
    return frozenset(line.strip() for line in text.splitlines() if line.strip())


def _print(output: Output, report: Report, *, dry_run: bool) -> int:
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


# ---------------------------------------------------------------- prune


@app.command(cls=Audited, epilog="refreshd backup prune --to /var/lib/refreshd-backup --keep 14")
def prune(
    ctx: typer.Context,
    *,
    to: Directory,
    keep: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many of the newest backups of this store to keep.")
    ] = KEPT,
) -> int:
    """Delete this store's oldest backups. Other files in the directory are not touched."""
    options = given(ctx)
    settings, output = read_settings(options), Output(as_json=options.json)
    with _failures():
        removed = asyncio.run(_prune(settings, options, to, keep))
    for path in removed:
        output.result({"file": str(path), "action": "removed"}, f"{path} removed")
    if not removed:
        output.note(f"{to} contains at most {keep} backups of this store, so none was removed.")
    return Exit.DONE


async def _prune(settings: Settings, options: Options, directory: Path, keep: int) -> Sequence[Path]:
    async with open_store(settings, reason=options.reason) as access:
        found = {one.path.name: one.path for one in _of_this_store(access, directory)}
        old = [found[name] for name in outdated(list(found), keep=keep)]
        if old:
            await access.audit.note("prune", str(directory), count=len(old))
            remove(directory, old)
    return old
