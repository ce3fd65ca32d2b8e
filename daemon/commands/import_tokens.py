"""`refreshd import`: the tokens of an application's own store, checked, copied, and stored as paused; then activated."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from daemon.adapters.mongo.admin.imported_slices import MongoSlices
from daemon.adapters.mongo.admin.imports import MongoImports
from daemon.adapters.row_copy import CopyInvalid, RowCopyFile, is_copy, read_header, read_rows
from daemon.adapters.state_files import IMPORTS
from daemon.commands.support.access import (
    Access,
    known_providers,
    open_store,
    read_settings,
    refuse_to_store,
)
from daemon.commands.support.command import Audited
from daemon.commands.support.durations import Instant, read_instant
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.imported import LISTED, counted, due_of
from daemon.commands.support.open_mongo import make_state_dir
from daemon.commands.support.options import Options, given
from daemon.commands.support.output import Output
from daemon.commands.support.place_options import (
    CollectionOption,
    KeyEnv,
    KeyFile,
    LayoutName,
    MapOption,
    Place,
    PlaceOptions,
    ProviderOption,
    Source,
    SourceEnv,
    TableOption,
    cipher_of,
    layout_of,
    opened,
)
from daemon.domain.foreign import SourceLost
from daemon.domain.layout import RowInvalid
from daemon.domain.moving import CopyFailed
from daemon.domain.provider import Provider
from daemon.migrating.activation import ALL, SliceActivation
from daemon.migrating.copied_rows import CopiedRows
from daemon.migrating.import_tokens import Import, ImportStopped, Report
from daemon.migrating.row_reader import CountingCipher, Providers, RowReader
from daemon.runtime.config.settings import Settings
from daemon.runtime.places import text_codec

Share = Any  # percent, which Typer parses from a text like "10%"
_PERCENT = re.compile(r"([0-9]{1,3})%")

app = typer.Typer()


def read_share(text: str) -> int:
    """Read a share like "10%", "all" or "none". Raises BadParameter."""
    if text in ("all", "none"):
        return ALL if text == "all" else 0
    found = _PERCENT.fullmatch(text)
    if found is None or int(found[1]) > ALL:
        raise typer.BadParameter(f"{text!r} is not a share. Write it like 10%, or all, or none")
    return int(found[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class _ImportArguments:
    """What the command line asks for, beside the source."""

    dry_run: bool
    only: list[str]
    percent: int
    backup: Path
    report: Path | None
    consented_at: datetime | timedelta | None


@app.command(
    "import", cls=Audited, epilog="refreshd import token-files tokens.json --provider pipedrive --dry-run"
)
def import_tokens(
    ctx: typer.Context,
    *,
    layout: LayoutName,
    source: Source,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check every row, and write nothing anywhere.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="ACCOUNT", help="Import only this account, or this token's ID. Repeatable."),
    ] = None,
    activate: Annotated[
        Share,
        typer.Option(
            parser=read_share,
            metavar="SHARE",
            help="Activate this share of the tokens, like 10%, or all.",
        ),
    ] = "none",
    provider: ProviderOption = None,
    maps: MapOption = None,
    collection: CollectionOption = None,
    table: TableOption = None,
    key_env: KeyEnv = None,
    key_file: KeyFile = None,
    source_env: SourceEnv = None,
    consented_at: Annotated[
        Instant,
        typer.Option(
            parser=read_instant,
            metavar="TIME",
            help="The time of the consent, for rows that don't contain it, like 2026-01-31T12:00:00Z.",
        ),
    ] = None,
    backup: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The directory of the sealed copy. Default: imports in state.dir."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the whole report to this file, as JSON.")
    ] = None,
) -> int:
    """Store the tokens of an application's own store as paused tokens.

    The application goes on refreshing them until you activate them. Run the command again to take over what it has
    refreshed since, or to continue after an interruption. SOURCE can also be the sealed copy of an earlier import.
    """
    options = given(ctx)
    settings = read_settings(options)
    place = PlaceOptions(
        layout=layout,
        source=source,
        provider=provider,
        maps=maps or [],
        collection=collection,
        table=table,
        key_env=key_env,
        key_file=key_file,
        source_env=source_env,
    )
    arguments = _ImportArguments(
        dry_run=dry_run,
        only=only or [],
        percent=activate,
        backup=backup or settings.state_dir / IMPORTS,
        report=report,
        consented_at=consented_at,
    )
    return asyncio.run(_import(settings, options, place, arguments))


async def _import(
    settings: Settings, options: Options, place_options: PlaceOptions, arguments: _ImportArguments
) -> int:
    output = Output(as_json=options.json)
    async with (
        open_store(settings, reason=options.reason) as access,
        _source(settings, access, place_options) as place,
    ):
        if not arguments.dry_run:
            await refuse_to_store(access)
            if arguments.backup.parent == settings.state_dir:
                make_state_dir(settings.state_dir)
        run, copy = _run(settings, access, place, arguments)
        try:
            await _perform(settings, access, run, copy, arguments)
        except (ImportStopped, CopyFailed, CopyInvalid) as why:
            raise Failed(f"{why}{_so_far(run.report)}") from None
        except SourceLost as lost:
            raise SourceLost(f"{lost}{_so_far(run.report)}") from None
        finally:
            if copy is not None:
                copy.close()
    kept = copy.path if copy is not None and _has_stored(run.report) else None
    record = _record(run.report, kept)
    if arguments.report is not None:
        _write_report(arguments.report, record)
    _print(output, run.report, record, kept)
    return (
        Exit.FAILED if run.report.refused or run.report.not_activated or run.report.not_found else Exit.DONE
    )


async def _perform(
    settings: Settings, access: Access, run: Import, copy: RowCopyFile | None, arguments: _ImportArguments
) -> None:
    """Import, then activate the share. One audit record has the counts."""
    audit_id = access.audit.new_id()
    note = f"{run.report.layout} from {run.report.source}"
    if copy is not None:
        await access.audit.note("import", "*", result=note, audit_id=audit_id)
    await run.run()
    if arguments.percent:
        if copy is not None:
            await access.audit.note(f"activate {arguments.percent}%", "*", result=note)
        slices = MongoSlices(access.mongo, access.ring)
        await SliceActivation(
            run=run, slices=slices, percent=arguments.percent, due=due_of(settings, access)
        ).activate()
    if copy is not None:
        await access.audit.note("import", "*", result=note, count=run.report.changed, audit_id=audit_id)
        if _has_stored(run.report):
            await copy.finish()
        else:
            copy.discard()  # it holds what an earlier one holds


def _has_stored(report: Report) -> bool:
    """Return whether a row was stored. An activation stores the newest values of the rows that it reads again."""
    return report.changed > 0 or report.activated > 0


def _run(
    settings: Settings, access: Access, place: Place, arguments: _ImportArguments
) -> tuple[Import, RowCopyFile | None]:
    now = access.clock.now
    report = Report(layout=place.layout.name, source=place.store.name, dry_run=arguments.dry_run)
    cipher = CountingCipher(place.cipher) if place.cipher is not None else None
    copy = None
    if not arguments.dry_run:
        copy = RowCopyFile(
            arguments.backup, access.ring, layout=place.layout.name, source=place.store.name, at=now()
        )
    consented = arguments.consented_at
    if isinstance(consented, datetime) and consented > now():
        raise Failed(
            "--consented-at: the time lies in the future. Give the time at which the owners consented",
            Exit.USAGE,
        )
    reader = RowReader(
        layout=place.layout,
        source=place.store,
        cipher=cipher,
        providers=_providers(settings),
        name=place.store.name,
        consented_at=now() - consented if isinstance(consented, timedelta) else consented,
    )
    run = Import(
        source=place.store,
        reader=reader,
        cipher=cipher,
        tokens=MongoImports(access.mongo, access.ring),
        copy=copy,
        only=arguments.only,
        now=now,
        progress=_progress(),
        report=report,
    )
    return run, copy


@asynccontextmanager
async def _source(settings: Settings, access: Access, options: PlaceOptions) -> AsyncIterator[Place]:
    """Open the source: the application's store, or the copy of an earlier import. Raises Failed."""
    path = Path(options.source)
    if "://" in options.source or not is_copy(path):
        async with opened(settings, options) as place:
            yield place
        return
    layout = layout_of(settings, options)
    try:
        header = read_header(path)
    except CopyInvalid as why:
        raise Failed(str(why)) from None
    if header.layout != layout.name:
        raise Failed(f"{path} is a copy of rows in the layout {header.layout}. Name that layout", Exit.USAGE)
    rows = CopiedRows(
        name=header.source,
        path=str(path),
        codec=text_codec(layout),
        kept=lambda: read_rows(path, access.ring),
    )
    yield Place(layout=layout, store=rows, cipher=cipher_of(layout, options))


def _providers(settings: Settings) -> Providers:
    def provider(name: str) -> Provider:
        if (found := settings.providers.get(name)) is not None:
            return found
        if name in known_providers(settings):
            raise RowInvalid(f"provider {name!r} is not configured; add a section [providers.{name}]")
        raise RowInvalid(f"provider {name!r} is unknown; --map FIELD.{name}=NAME names one of refreshd's")

    return provider


def _progress() -> Callable[[Report], None]:
    """Return a function that shows the progress on a terminal."""
    if not sys.stderr.isatty():
        return lambda _report: None
    bar = Progress(
        TextColumn("{task.completed:,.0f} rows"),
        BarColumn(bar_width=30, pulse_style="cyan"),
        TaskProgressColumn(show_speed=True),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task("rows", total=None)

    def show(report: Report) -> None:
        bar.start()
        bar.update(task, completed=report.found)
        bar.refresh()
        bar.stop()

    return show


def _so_far(report: Report) -> str:
    return (
        f". {counted(report.changed, 'token')} stored until then; the next run continues"
        if report.changed
        else ""
    )


def _record(report: Report, copy: Path | None) -> dict[str, object]:
    return {
        "layout": report.layout,
        "source": report.source,
        "dry_run": report.dry_run,
        "found": report.found,
        "imported": report.imported,
        "updated": report.updated,
        "already_there": report.already_there,
        "refused": [{"row": one.row, "why": one.why} for one in report.refused],
        "ignored_fields": dict(sorted(report.ignored_fields.items())),
        "not_understood": dict(sorted(report.unclear_fields.items())),
        "due_immediately": report.due_immediately,
        "not_found": report.not_found,
        "activated": report.activated,
        "not_activated": [{"row": one.row, "why": one.why} for one in report.not_activated],
        "backup": None if copy is None else str(copy),
    }


def _write_report(file: Path, record: dict[str, object]) -> None:
    try:
        file.touch(mode=0o600)
        file.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise Failed(
            f"--report {file}: it can't be written ({error.strerror}). The import itself is done"
        ) from None


def _note_pause(output: Output, report: Report) -> None:
    """Name the next step, unless this run was it."""
    if (report.imported or report.updated) and not (report.activated or report.dry_run):
        output.note(
            "They stay paused until you activate them: run the command again with --activate all, when the application"
            " refreshes them no more"
        )


def _print(output: Output, report: Report, record: dict[str, object], copy: Path | None) -> None:
    if output.as_json:
        output.record(record)
        return
    would = "would be " if report.dry_run else ""
    output.result(
        record,
        f"{report.source}: {report.found:,} found = {report.imported:,} {would}imported + {report.updated:,} {would}updated"
        f" + {report.already_there:,} already there + {len(report.refused):,} refused",
    )
    if report.activated:
        output.result(record, f"{counted(report.activated, 'token')} {would}activated")
    for refusal in (*report.refused[:LISTED], *report.not_activated[:LISTED]):
        output.failed(f"{refusal.row}: {refusal.why}")
    if len(report.refused) > LISTED:
        output.note(f"... and {len(report.refused) - LISTED:,} more. --report FILE has all of them")
    for name in report.not_found:
        output.failed(f"--only {name}: no row belongs to it")
    if report.due_immediately:
        output.note(
            f"{counted(report.due_immediately, 'row')} without a clear end of the access token:"
            " such a token is renewed as soon as it is active"
        )
    for name, count in sorted(report.unclear_fields.items()):
        output.note(f"field {name!r}: its form is unknown in {counted(count, 'row')}, so it is ignored")
    if report.ignored_fields:
        output.note(f"Fields that are stored sealed and not read: {', '.join(sorted(report.ignored_fields))}")
    _note_pause(output, report)
    if copy is not None:
        output.note(f"Sealed copy of the rows: {copy}")
