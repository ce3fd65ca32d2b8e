"""The sealed copy of the rows that an import reads: one file a run, which `refreshd import` reads like their source.

A file of lines: a header, one sealed text a row, and a sealed end that says how many rows there are. Every text opens
only in its own file and place. A run that is killed leaves a file without an end under a name with `.part`; its rows
can be read too.
"""

import asyncio
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from daemon.adapters.durable import sync_directory
from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.domain.moving import CopyFailed, KeptRow

FIELD = "import_copy"  # for which the rows are sealed
_VERSION = 1
_START = b'{"refreshd_rows"'
_END = "end "


class CopyInvalid(Exception):
    """A file can't be read as a copy. The text is a sentence for operators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a copy says of itself: the layout and the source of its rows, and the time."""

    id: str
    layout: str
    source: str
    at: str


def is_copy(path: Path) -> bool:
    """Return whether the file at `path` begins like a copy."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(_START)) == _START
    except OSError:
        return False


class RowCopyFile:
    """Writes a copy into `directory`, durably batch by batch. Implements `migrating.ports.RowCopy`."""

    def __init__(self, directory: Path, keyring: KeyRing, *, layout: str, source: str, at: datetime) -> None:
        self._directory = directory
        self._keyring = keyring
        self._header = Header(id=uuid4().hex, layout=layout, source=source, at=at.isoformat())
        self.path = directory / f"{layout}-{at:%Y%m%dT%H%M%SZ}-{self._header.id[:8]}.rows"
        self._part = directory / f"{self.path.name}.part"
        self._descriptor: int | None = None
        self._size = self._rows = 0

    async def add(self, rows: Sequence[KeptRow]) -> None:
        """Append rows, durably on return. Raises CopyFailed; the file then holds what it held before."""
        lines = [self._sealed(number, row) for number, row in enumerate(rows, start=self._rows + 1)]
        await asyncio.to_thread(self._append, lines)
        self._rows += len(rows)

    async def finish(self) -> None:
        """Give the copy its name. Raises CopyFailed."""
        end = self._keyring.seal(str(self._rows), token_id=f"{self._header.id}/end", field=FIELD)
        await asyncio.to_thread(self._append, [_END + end])
        await asyncio.to_thread(self._rename)

    def discard(self) -> None:
        """Remove the copy."""
        self.close()
        self._part.unlink(missing_ok=True)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _sealed(self, number: int, row: KeptRow) -> str:
        text = json.dumps([row.name, row.file, row.cells])
        return self._keyring.seal(text, token_id=f"{self._header.id}/{number}", field=FIELD)

    def _append(self, lines: Sequence[str]) -> None:
        data = "".join(f"{line}\n" for line in lines).encode()
        try:
            descriptor = self._opened()
            _write(descriptor, data)
            os.fsync(descriptor)
        except OSError as error:
            self._cut()
            raise self._failed(error) from None
        self._size += len(data)

    def _opened(self) -> int:
        if self._descriptor is None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            header = _START.decode() + f": {_VERSION}, " + json.dumps(_fields(self._header))[1:] + "\n"
            _write(self._descriptor, header.encode())
            self._size = len(header.encode())
            sync_directory(self._directory)
        return self._descriptor

    def _cut(self) -> None:
        """Remove what was written of a batch that failed."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
                os.lseek(self._descriptor, self._size, os.SEEK_SET)

    def _rename(self) -> None:
        self.close()
        try:
            self._part.rename(self.path)
            sync_directory(self._directory)
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> CopyFailed:
        return CopyFailed(
            f"the sealed copy of the rows can't be written to {self._directory} ({error.strerror}), so no row was stored"
            " that it does not hold. Make room there, or name another directory with --backup DIR, and run the import"
            " again: it continues"
        )


def read_header(path: Path) -> Header:
    """Return the header of the copy at `path`. Raises CopyInvalid."""
    try:
        with path.open(encoding="utf-8") as file:
            return _header(path, file.readline())
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def read_rows(path: Path, keyring: KeyRing) -> Iterator[KeptRow]:
    """Yield the rows of the copy at `path`. A last line that is cut off belongs to no stored row, and is left out.

    Raises CopyInvalid.
    """
    try:
        with path.open(encoding="utf-8") as file:
            header = _header(path, file.readline())
            for number, line in enumerate(file, start=1):
                if line.startswith(_END):
                    _check_end(path, keyring, header, line, rows=number - 1)
                    return
                if line.endswith("\n"):
                    yield _row(path, keyring, header, line, number)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _row(path: Path, keyring: KeyRing, header: Header, line: str, number: int) -> KeptRow:
    try:
        name, file, cells = json.loads(
            keyring.open(line.rstrip("\n"), token_id=f"{header.id}/{number}", field=FIELD)
        )
    except DecryptionError as why:
        raise CopyInvalid(f"{path}, line {number + 1}: {why}. Use the file as the import left it") from None
    return KeptRow(name=name, file=file, cells=cells)


def _check_end(path: Path, keyring: KeyRing, header: Header, line: str, *, rows: int) -> None:
    sealed = line.removeprefix(_END).rstrip("\n")
    try:
        whole = keyring.open(sealed, token_id=f"{header.id}/end", field=FIELD) == str(rows)
    except DecryptionError:
        whole = False
    if not whole:
        raise CopyInvalid(f"{path}: rows are missing from it. Use the file as the import left it")


def _header(path: Path, line: str) -> Header:
    try:
        found = json.loads(line)
        version = found.pop("refreshd_rows")
        header = Header(**found)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CopyInvalid(f"{path}: its first line is damaged. Use the file as the import left it") from None
    if version != _VERSION:
        raise CopyInvalid(
            f"{path}: it has version {version!r}, which a later refreshd wrote. Use that one to read it"
        )
    return header


def _fields(header: Header) -> Mapping[str, str]:
    return {"id": header.id, "layout": header.layout, "source": header.source, "at": header.at}


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> CopyInvalid:
    why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
    return CopyInvalid(f"{path} can't be read ({why}). Check the path, and that this user may read the file")


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
