"""Tokens in files: JSON objects of rows, JSON lists of rows, and one JSON object a line. Fits `migrating.ports.ForeignStore`.

A source is a file, or a directory with one file for each provider.
"""

import asyncio
import json
import os
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from daemon.adapters.foreign.atomic_file import NotWritten, locked, replace_file, signature
from daemon.adapters.foreign.file_rows import (
    MARK,
    Duplicate,
    Incomplete,
    Style,
    key_or_none,
    keyed,
    repeated,
    rows_of_entries,
    rows_of_lines,
    style_of,
    without_duplicates,
)
from daemon.adapters.foreign.json_text import JsonText
from daemon.domain.foreign import BadRow, Replacement, SourceLost
from daemon.domain.layout import NAME, Layout, Row, SourceKind
from daemon.domain.layout_reading import key_of

LARGEST_FILE = 1 << 30  # bytes
READS = 5  # attempts to read a file that changes while it is read
BETWEEN_READS = timedelta(milliseconds=50)
KEEP = 5
GONE = "it is no longer there"
CHANGED = "another program has changed it in the meantime"
THERE = "an entry of this name is there, under another provider"
TWICE = "two entries of the file have its key; remove one"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """One file as it was read. `signature` changes with the file; None: there is no such file."""

    file: Path
    signature: tuple[int, ...] | None
    whole: Any = field(repr=False)  # JSON: the document; JSONL: its lines
    style: Style
    rows: Sequence[Row | BadRow] = field(repr=False)


class TokenFiles(JsonText):
    """A file or a directory in one layout. `keep`: how many former versions stay when it is written.

    `owner`: the user, other than this process's, to whom the files may belong.
    """

    def __init__(self, layout: Layout, path: Path, *, keep: int = KEEP, owner: str | None = None) -> None:
        self._layout = layout
        self._path = Path(os.path.abspath(path))  # noqa: PTH100  links stay: one that is written is refused
        self._keep = keep
        self._owner = owner
        self._contents: dict[Path, _Content] = {}
        self._keys: dict[Path, tuple[_Content, Mapping[str, Row]]] = {}

    @property
    def name(self) -> str:
        return str(self._path)

    async def rows(self, *, new: bool = False) -> AsyncIterator[Row | BadRow]:
        """Yield every row. `new`: the files may not exist yet. Raises SourceLost."""
        for file in await asyncio.to_thread(self._files, new=new):
            content = await asyncio.to_thread(self._read, file, missing=new)
            for row in content.rows:
                yield row

    async def again(self, rows: Sequence[Row]) -> Mapping[str, Row]:
        """Return the present content of these rows, by key. Raises SourceLost."""
        wanted: dict[Path, list[str]] = {}
        for row in rows:
            wanted.setdefault(self._file_of(row), []).append(key_of(self._layout, row))
        found: dict[str, Row] = {}
        for file, keys in wanted.items():
            content = await asyncio.to_thread(self._read, file, missing=True)
            by_key = self._by_key(content)
            found |= {key: by_key[key] for key in keys if key in by_key}
        return found

    async def replace(self, changes: Sequence[Replacement]) -> Mapping[str, str]:
        """Make the changes, file by file. Returns those that were not made. Raises SourceLost."""
        by_file: dict[Path, list[Replacement]] = {}
        for change in changes:
            row = change.after or change.before
            if row is not None:
                by_file.setdefault(self._file_of(row), []).append(change)
        refused: dict[str, str] = {}
        for file, some in by_file.items():
            try:
                refused |= await asyncio.to_thread(self._replace, file, some)
            except NotWritten as why:
                raise SourceLost(str(why)) from None
        return refused

    async def as_written(self, rows: Sequence[Row]) -> Mapping[str, Row]:
        """Return rows that `replace` has written, by key: a file has them as they were given."""
        return {key_of(self._layout, row): row for row in rows}

    # ---------------------------------------------------------------- reading

    @property
    def _suffix(self) -> str:
        return f".{self._layout.source.value}"

    def _files(self, *, new: bool = False) -> list[Path]:
        if not self._path.is_dir():
            return [self._path]
        try:
            found = sorted(self._path.iterdir())
        except OSError as error:
            raise _lost(self._path, error) from None
        files = [one for one in found if one.suffix == self._suffix and not one.name.startswith(".")]
        if not files and not new:
            raise SourceLost(f"{self._path}: it contains no *{self._suffix} file. Name the right directory")
        return files

    def _file_of(self, row: Row) -> Path:
        """Return the file in which `row` is, or is to be. Raises SourceLost."""
        if not self._path.is_dir():
            return self._path
        if row.file is None or "/" in row.file:
            raise SourceLost(
                f"{self._path}: the layout {self._layout.name} does not say in which file of a directory a token is. Name a file"
            )
        return self._path / f"{row.file}{self._suffix}"

    def _read(self, file: Path, *, missing: bool = False) -> _Content:
        """Return the content of `file`; if it is `missing`, an empty one is all right. Raises SourceLost.

        A program that writes in place leaves a part of a text there for a moment. So a file that has changed since its
        reading began is read again, and so is one that breaks off.
        """
        for left in reversed(range(READS)):
            before = _signature(file)
            known = self._contents.get(file)
            if known is not None and known.signature == before:
                return known
            if before is None:
                if missing:
                    return _Content(file=file, signature=None, whole=self._empty(), style=Style(), rows=())
                raise SourceLost(f"{file}: there is no such file. Correct the path")
            raw = _bytes(file)
            if _signature(file) == before:
                try:
                    content = self._parsed(file, before, raw, patient=left > 0)
                except Incomplete:
                    if not left:
                        raise SourceLost(
                            f"{file}: it is not complete JSON. If a program was writing it, run the command again; else correct it"
                        ) from None
                else:
                    self._contents[file] = content
                    return content
            time.sleep(BETWEEN_READS.total_seconds())
        raise SourceLost(f"{file}: it changes again and again while it is read. Run the command again")

    def _parsed(self, file: Path, at: tuple[int, ...], raw: bytes, *, patient: bool) -> _Content:
        """Return the content of `raw`. Raises SourceLost, and Incomplete; if `patient`, also for a line that breaks off."""
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            if raw[error.start :] and error.reason == "unexpected end of data":
                raise Incomplete from None
            raise SourceLost(f"{file}: it is not UTF-8. Name the right file") from None
        mark, text = text.startswith(MARK), text.removeprefix(MARK)
        if self._layout.source is SourceKind.JSONL:
            lines = [line for line in text.split("\n") if line.strip()]  # U+2028 doesn't end a line in JSON
            rows = list(rows_of_lines(lines, file.stem))
            if patient and rows and isinstance(rows[-1], BadRow) and not text.endswith("\n"):
                raise Incomplete
            return _Content(file=file, signature=at, whole=lines, style=Style(mark=mark), rows=rows)
        try:
            whole = json.loads(text, object_pairs_hook=without_duplicates)
        except Duplicate as name:
            raise SourceLost(
                f"{file}: the name {str(name)!r} stands twice in one object. Remove one"
            ) from None
        except (ValueError, RecursionError):
            raise Incomplete from None
        rows = list(rows_of_entries(self._rows_of(whole, file), file.stem))
        return _Content(file=file, signature=at, whole=whole, style=style_of(text, mark=mark), rows=rows)

    def _rows_of(self, whole: object, file: Path) -> Mapping[str, object] | Sequence[object]:
        """Return the rows of a JSON document, at the layout's path. Raises SourceLost."""
        found = whole
        for step in filter(None, self._layout.rows.split(".")):
            found = found.get(step) if isinstance(found, Mapping) else None
        named = NAME in self._layout.account
        if (named and isinstance(found, Mapping)) or (not named and isinstance(found, list)):
            return found
        where = f"at '{self._layout.rows}' " if self._layout.rows else ""
        what = "an object of entries by account" if named else "a list of entries"
        raise SourceLost(f"{file}: {where}it is not {what}. Name the right file, or another layout")

    def _empty(self) -> Any:
        return {} if NAME in self._layout.account else []

    def _by_key(self, content: _Content) -> Mapping[str, Row]:
        cached = self._keys.get(content.file)
        if cached is not None and cached[0] is content:
            return cached[1]
        found = dict(keyed(self._layout, content.rows))
        self._keys[content.file] = (content, found)
        return found

    # ---------------------------------------------------------------- writing

    def _replace(self, file: Path, changes: Sequence[Replacement]) -> Mapping[str, str]:
        with locked(file.parent):
            for _ in range(READS):
                content = self._read(file, missing=True)
                accepted, refused = self._accepted(content, changes)
                if not accepted or self._write(content, accepted):
                    return refused
        raise SourceLost(f"{file}: another program writes it again and again. Run the command again")

    def _accepted(
        self, content: _Content, changes: Sequence[Replacement]
    ) -> tuple[Mapping[str, Row | None], Mapping[str, str]]:
        """Return the changes whose rows stand as expected, and the reasons against the others."""
        standing = self._by_key(content)
        named = NAME in self._layout.account
        names = {row.name if isinstance(row, Row) else row.label for row in content.rows if named}
        twice = repeated(key for key, _ in keyed(self._layout, content.rows))
        accepted: dict[str, Row | None] = {}
        refused: dict[str, str] = {}
        for change in changes:
            now = standing.get(change.key)
            if change.key in twice:
                refused[change.key] = TWICE
            elif now is None and change.after is not None and change.after.name in names:
                refused[change.key] = THERE
            elif self._same(now, change.before):
                accepted[change.key] = change.after
            else:
                refused[change.key] = GONE if now is None else CHANGED
        return accepted, refused

    def _write(self, content: _Content, changes: Mapping[str, Row | None]) -> bool:
        """Write the file with the changed rows. Returns False if another program has written it in the meantime."""
        return replace_file(
            content.file,
            self._text(content, changes).encode(),
            expected=content.signature,
            keep=self._keep,
            forget=any(row is None for row in changes.values()),
            owner=self._owner,
        )

    def _same(self, one: Row | None, other: Row | None) -> bool:
        if one is None or other is None:
            return one is other
        return self.encode(one.cells) == self.encode(other.cells)

    def _text(self, content: _Content, changes: Mapping[str, Row | None]) -> str:
        """Return the file's text with the changed rows; all others stay where they are."""
        if self._layout.source is SourceKind.JSONL:
            lines = "".join(f"{line}\n" for line in self._changed_lines(content, changes))
            return MARK + lines if content.style.mark else lines
        style = content.style
        whole = _with_rows(
            content.whole,
            self._layout.rows,
            lambda rows: self._changed_rows(rows, content, changes),
            empty=self._empty(),
        )
        separators = None if style.spaced else (",", ":")
        text = json.dumps(whole, ensure_ascii=style.ascii, indent=style.indent, separators=separators)
        text = (text + "\n" * style.last_newline).replace("\n", style.newline)
        return MARK + text if style.mark else text

    def _changed_lines(self, content: _Content, changes: Mapping[str, Row | None]) -> Iterator[str]:
        left = dict(changes)
        for line, row in zip(content.whole, content.rows, strict=True):
            key = key_or_none(self._layout, row)
            if key not in left:
                yield line
            elif (after := left.pop(key)) is not None:
                yield self.encode(after.cells)
        yield from (self.encode(row.cells) for row in left.values() if row is not None)

    def _changed_rows(self, rows: Any, content: _Content, changes: Mapping[str, Row | None]) -> Any:
        left = dict(changes)
        kept: list[tuple[str | None, object]] = []
        names = list(rows) if isinstance(rows, Mapping) else [None] * len(rows)
        values = list(rows.values()) if isinstance(rows, Mapping) else rows
        for name, cells, row in zip(names, values, content.rows, strict=True):
            key = key_or_none(self._layout, row)
            if key not in left:
                kept.append((name, cells))
            elif (after := left.pop(key)) is not None:
                kept.append((name, dict(after.cells)))
        kept += [(row.name, dict(row.cells)) for row in left.values() if row is not None]
        return dict(kept) if isinstance(rows, Mapping) else [cells for _, cells in kept]


def _with_rows(whole: Any, path: str, change: Callable[[Any], Any], *, empty: Any) -> Any:
    """Return `whole` with its rows, at `path`, changed. If there are none yet, `empty` is changed."""
    head, _, rest = path.partition(".")
    if not head:
        return change(empty if whole is None else whole)
    outer = whole if isinstance(whole, Mapping) else {}
    return {**outer, head: _with_rows(outer.get(head), rest, change, empty=empty)}


def _signature(file: Path) -> tuple[int, ...] | None:
    try:
        return signature(file)
    except OSError as error:
        raise _lost(file, error) from None


def _bytes(file: Path) -> bytes:
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            raise SourceLost(f"{file}: it is not a file. Name a file or a directory")
        if found.st_size > LARGEST_FILE:
            raise SourceLost(f"{file}: it is larger than a gibibyte. Split it")
        return file.read_bytes()
    except OSError as error:
        raise _lost(file, error) from None


def _lost(file: Path, error: OSError) -> SourceLost:
    why = (error.strerror or type(error).__name__).lower()
    return SourceLost(f"{file}: it can't be read: {why}. Correct the path, or give this user the right")
