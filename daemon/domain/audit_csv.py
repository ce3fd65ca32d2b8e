"""Audit records as CSV (RFC 4180), for people who open the file in a spreadsheet.

Names, reasons and ids come from many hands, and a spreadsheet computes a cell that looks like a formula. Such a cell
gets an apostrophe in front. So does such a part of a cell behind a semicolon or a bar, because some spreadsheets
separate cells there. Invisible characters become escapes, so that each record is one line. JSON has the exact texts.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from daemon.domain.visible import visible

COLUMNS = ("at", "action", "token", "actor", "kind", "result", "count", "revision")
OF_AUTHOR = ("key", "name", "ip", "peer", "person", "uid", "reason", "iss", "sub", "jti")
# Spaces and quotes are skipped by some programs. The last four are full-width forms of the first ones.
_FORMULA = re.compile(
    "([;|]|^)(?=[ \"'`\u2018\u2019\u201c\u201d\u00ab\u00bb]*[=+\\-@\uff1d\uff0b\uff0d\uff20])"
)


def csv_head() -> str:
    """Return the line with the names of the columns."""
    return _line((*COLUMNS, *OF_AUTHOR))


def csv_line(record: Mapping[str, object]) -> str:
    """Return a record as one line with its end."""
    by = record.get("by")
    author = by if isinstance(by, Mapping) else {}
    return _line(
        [_cell(one.get(name)) for one, names in ((record, COLUMNS), (author, OF_AUTHOR)) for name in names]
    )


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool() | int():
            return str(value)
        case datetime():
            return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
        case _:
            return _FORMULA.sub(r"\1'", visible(str(value)))
