"""`refreshd backup`: archives of the store, and what a restore of one brings back."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from daemon.adapters.archive import (
    ArchiveFile,
    KeyInvalid,
    Listed,
    archives,
    identities,
    new_key,
    opened,
    recipients,
    remove,
)
from daemon.commands.support.access import open_store, read_settings
from daemon.commands.support.backup_restoring import print_report, restore_backup
from daemon.commands.support.backup_writing import create_backup, of_this_store, report_success
from daemon.commands.support.column import Column
from daemon.commands.support.command import Audited, Command, Group
from daemon.commands.support.durations import Instant, read_instant
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import MOST, Options, given, say_unused
from daemon.commands.support.output import Output, moment
from daemon.commands.support.revocation_results import counted_tokens
from daemon.domain.backup import ArchiveInvalid
from daemon.migrating.backup import outdated
from daemon.migrating.restore import (
    KeysMissing,
    examine,
)
from daemon.runtime.config.settings import Settings

KEPT = 14  # archives
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
    """Write the whole store into one new file in DIR, encrypted with age.

    Tokens stay sealed with the key ring, which the backup does not contain. The daemon may keep running.
    """
    options = given(ctx)
    if unencrypted == bool(recipient or key):
        raise Failed(
            "who may read the backup is not clear. Give --recipient or --key, or else --unencrypted",
            Exit.USAGE,
        )
    with _failures():
        readers = recipients(recipient or [], [key] if key else [])
        settings = read_settings(options)
        record, manifest = asyncio.run(create_backup(settings, options, to, readers))
        if textfile is not None:
            report_success(textfile, manifest.created_at)
    tokens = manifest.tokens
    Output(as_json=options.json).result(
        record, f"{record['file']}: {tokens:,} token{'s' * (tokens != 1)}, SHA-256 {record['sha256']}"
    )
    return Exit.DONE


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
    output.result(
        record, f"{file} is whole: {counted_tokens(manifest.tokens)}. Needed keys of the ring: {keys}"
    )
    return Exit.DONE


@contextmanager
def _archive(file: Path, identity: Path | None) -> Iterator[ArchiveFile]:
    with opened(file, identities(identity) if identity else []) as archive:
        yield archive


# ---------------------------------------------------------------- restore


@app.command(cls=Audited, epilog="refreshd backup restore FILE --identity backup.key --lost-at 2h")
def restore(
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
        typer.Option(
            metavar="FILE",
            help="Leave out the tokens whose IDs or fingerprints are in this file, one per line.",
        ),
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
        report = asyncio.run(restore_backup(settings, options, archive, lost_at, stay_out, dry_run=dry_run))
    return print_report(Output(as_json=options.json), report, dry_run=dry_run)


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


# ---------------------------------------------------------------- prune


@app.command(cls=Audited, epilog="refreshd backup prune --to /var/lib/refreshd-backup --keep 14")
def prune(
    ctx: typer.Context,
    *,
    to: Directory,
    keep: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, max=MOST, help="How many of the newest backups of this store to keep."
        ),
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
        found = {one.path.name: one.path for one in of_this_store(access, directory)}
        old = [found[name] for name in outdated(list(found), keep=keep)]
        if old:
            await access.audit.note("prune", str(directory), count=len(old))
            remove(directory, old)
    return old
