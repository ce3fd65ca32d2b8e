"""The rows in the text of a file, and their keys."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from daemon.domain.foreign import LARGEST_ROW, TOO_LARGE, BadRow
from daemon.domain.layout import Layout, Row, RowInvalid
from daemon.domain.layout_reading import key_of

MARK = "\ufeff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a JSON text is laid out."""

    indent: str | None = "  "
    spaced: bool = True
    ascii: bool = False
    newline: str = "\n"
    last_newline: bool = True
    mark: bool = False  # U+FEFF in front, as some editors on Windows write it


def rows_of_lines(lines: Sequence[str], file: str) -> Iterator[Row | BadRow]:
    for number, line in enumerate(lines, start=1):
        label = f"line {number}"
        if len(line) > LARGEST_ROW:
            yield BadRow(label=label, why=TOO_LARGE)
            continue
        try:
            cells = json.loads(line, object_pairs_hook=without_duplicates)
        except (ValueError, RecursionError, Duplicate):
            yield BadRow(label=label, why="it is not a JSON object")
            continue
        yield _row(cells, label=label, file=file)


def rows_of_entries(rows: Mapping[str, object] | Sequence[object], file: str) -> Iterator[Row | BadRow]:
    if isinstance(rows, Mapping):
        for name, cells in rows.items():
            yield _row(cells, label=name, file=file, name=name)
    else:
        for number, cells in enumerate(rows, start=1):
            yield _row(cells, label=f"entry {number}", file=file)


def _row(cells: object, *, label: str, file: str, name: str | None = None) -> Row | BadRow:
    if not isinstance(cells, dict):
        return BadRow(label=label, why="it is not an object")
    if len(json.dumps(cells)) > LARGEST_ROW:
        return BadRow(label=label, why=TOO_LARGE)
    return Row(cells=cells, name=name, file=file)


def keyed(layout: Layout, rows: Iterable[Row | BadRow]) -> Iterator[tuple[str, Row]]:
    for row in rows:
        if isinstance(row, Row) and (key := key_or_none(layout, row)) is not None:
            yield key, row


def repeated(keys: Iterable[str]) -> set[str]:
    return {key for key, number in Counter(keys).items() if number > 1}


def key_or_none(layout: Layout, row: Row | BadRow) -> str | None:
    if isinstance(row, BadRow):
        return None
    try:
        return key_of(layout, row)
    except RowInvalid:
        return None


def style_of(text: str, *, mark: bool) -> Style:
    lines = text.split("\n", 2)
    second = lines[1].rstrip("\r") if len(lines) > 1 else ""
    indent = second[: len(second) - len(second.lstrip(" \t"))] or None
    return Style(
        indent=indent,
        spaced='": ' in text or indent is not None,
        ascii=text.isascii() and "\\u" in text,
        newline="\r\n" if "\r\n" in text else "\n",
        last_newline=text.endswith("\n"),
        mark=mark,
    )


class Incomplete(Exception):
    """A text breaks off, or was never JSON."""


class Duplicate(Exception):
    """One object has a name twice."""


def without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise Duplicate(next(name for name in names if names.count(name) > 1))
    return found
