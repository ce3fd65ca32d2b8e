"""The report of an import, for programs and for people."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

from daemon.commands.support.failure import Failed
from daemon.commands.support.imported import counted
from daemon.commands.support.output import Output
from daemon.migrating.import_tokens import Refusal, Report

_REASONS = 20  # in a report for people
_NAMED = 3  # rows behind a reason


def record_of(report: Report, *, backup: Path | None) -> dict[str, object]:
    return {
        "layout": report.layout,
        "source": report.source,
        "dry_run": report.dry_run,
        "found": report.found,
        "imported": report.imported,
        "updated": report.updated,
        "already_there": report.already_there,
        "refused": _refusals(report.refused),
        "ignored_fields": dict(report.ignored_fields.most_common()),
        "unclear_fields": dict(report.unclear_fields.most_common()),
        "due_immediately": report.due_immediately,
        "not_found": report.not_found,
        "activated": report.activated,
        "not_activated": _refusals(report.not_activated),
        "backup": None if backup is None else str(backup),
    }


def write_report(path: Path, record: Mapping[str, object]) -> None:
    """Write the report to `path`, which only this user can read. Raises Failed."""
    try:
        with NamedTemporaryFile(
            "w", dir=path.absolute().parent, prefix=f".{path.name}.", delete=False
        ) as file:
            json.dump(record, file, indent=2)
            file.write("\n")
        Path(file.name).replace(path)
    except OSError as error:
        raise Failed(
            f"--report {path}: it can't be written ({error.strerror}). The import itself is done; run it again with"
            " another FILE, and it reports the same rows as already there"
        ) from None


def print_report(output: Output, report: Report, record: Mapping[str, object]) -> None:
    """Print the report to standard output."""
    if output.as_json:
        output.record(record)
        return
    for line in _lines(report, record):
        output.result({}, line)


def _lines(report: Report, record: Mapping[str, object]) -> Iterator[str]:
    would = "would be " if report.dry_run else ""
    yield f"{counted(report.found, 'row')} found in {report.source}"
    yield f"  {report.imported:>7,}  {would}imported, paused"
    yield f"  {report.updated:>7,}  {would}updated"
    yield f"  {report.already_there:>7,}  already there"
    yield f"  {len(report.refused):>7,}  refused"
    yield from _reasons(report.refused)
    if report.activated or report.not_activated:
        yield f"{counted(report.activated, 'token')} {would}activated"
        yield from _reasons(report.not_activated)
    if report.due_immediately:
        yield (
            f"{counted(report.due_immediately, 'row')} without a clear end of the access token: due immediately once"
            " active"
        )
    for title, fields in (
        ("Fields that are kept sealed and not used", report.ignored_fields),
        ("Fields with an unknown form", report.unclear_fields),
    ):
        if fields:
            yield f"{title}: " + ", ".join(f"{name} ({number:,})" for name, number in fields.most_common())
    if report.not_found:
        yield f"No row belongs to {', '.join(report.not_found)}"
    if record["backup"] is not None:
        yield f"Sealed copy of the rows: {record['backup']}"


def _reasons(refused: Sequence[Refusal]) -> Iterator[str]:
    """Yield the reasons, the most frequent first, each with the rows that it concerns."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for one in refused:
        by_reason[one.why].append(one.row)
    ordered = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    for why, rows in ordered[:_REASONS]:
        more = f" and {len(rows) - _NAMED:,} more" if len(rows) > _NAMED else ""
        yield f"           {', '.join(rows[:_NAMED])}{more}: {why}"
    if len(ordered) > _REASONS:
        yield f"           {len(ordered) - _REASONS:,} more reasons; --json or --report FILE lists every row"


def _refusals(refused: Sequence[Refusal]) -> list[dict[str, str]]:
    return [{"row": one.row, "why": one.why} for one in refused]
