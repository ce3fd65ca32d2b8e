"""Operators' access to a journal file: list it while its daemon writes, discard an entry, copy it for
salvage.

Nothing here creates or repairs a file: it may hold the only copy of a token.
"""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.adapters.journal.database import passes_check, read_only
from daemon.adapters.journal.foreign_file import copy_whole, distrust, require_ours
from daemon.adapters.journal.journal import JournalDamaged
from daemon.adapters.journal.row import Row, entry_of
from daemon.adapters.journal.sql import UNPARSED_BEFORE
from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.adapters.state_files import JOURNAL
from daemon.domain.journal_entry import EntryKind, EntryState, kind_of
from daemon.domain.reply import Reply

_BUSY = 5  # seconds: a daemon that opens or closes its journal has it to itself for a moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One entry without its reply. `status` is the reply's status, or None if the entry can't be opened."""

    key: int
    token: str
    provider: str
    state: str  # an EntryState's value; a file from elsewhere may have another text
    asked_at: str  # RFC 3339
    bytes: int  # of the sealed reply
    status: int | None
    kind: EntryKind = EntryKind.REFRESH


def listed(path: Path, keyring: KeyRing) -> Sequence[Listed]:
    """List the entries of the file, oldest first, also while a daemon writes to it. Raises JournalDamaged."""
    with _opened(path, "ro") as database:
        rows = database.execute("select * from entries order by key")
        return [_listed(_typed(row), keyring) for row in rows]


def revealed(path: Path, key: int, keyring: KeyRing) -> tuple[Listed, Reply] | None:
    """Return one entry with its reply, or None if it does not exist. Raises JournalDamaged,
    DecryptionError.
    """
    with _opened(path, "ro") as database:
        found = database.execute("select * from entries where key = ?", (key,)).fetchone()
        row = None if found is None else _typed(found)
    return None if row is None else (_listed(row, keyring), entry_of(row, keyring, unbound=True).reply)


def discard(path: Path, keys: Collection[int]) -> None:
    """Delete entries for good. No other process may use the file. Raises JournalDamaged."""
    with _opened(path, "rw") as database:
        database.execute("pragma synchronous = full")
        database.executemany("delete from entries where key = ?", [(key,) for key in keys])


def is_whole(path: Path) -> bool:
    """Return whether the file can be read and its integrity check passes."""
    try:
        with closing(read_only(path)) as database:
            return passes_check(database)
    except sqlite3.Error:
        return False


def copied(path: Path, directory: Path, *, everything: bool) -> Path:
    """Copy the file to `directory`, to be opened as a journal. `everything`: finished entries wait again.

    Raises JournalDamaged.
    """
    copy = directory / JOURNAL
    try:
        for suffix in ("", "-wal"):  # the latter holds the newest entries if the daemon died
            source = path.with_name(path.name + suffix)
            if not suffix or source.exists():
                copy_whole(source, copy.with_name(copy.name + suffix))
    except OSError as why:
        raise JournalDamaged(f"{source}: can't copy it ({why.strerror or why})") from None
    with _opened(copy, "rw", original=path) as database:
        if not passes_check(database):
            raise sqlite3.DatabaseError("its integrity check fails")
        if everything:
            database.execute("update entries set state = ?", (EntryState.WAITING,))
    return copy


@contextmanager
def _opened(path: Path, mode: str, *, original: Path | None = None) -> Iterator[sqlite3.Connection]:
    """Connect to a journal, without creating a file. Errors name `original` in place of its copy at `path`."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY)) as database:
            files = (path, path.with_name(path.name + "-wal"))
            distrust(database, size=sum(file.stat().st_size for file in files if file.exists()))
            require_ours(database)
            yield database
    except (sqlite3.Error, OSError) as why:
        raise JournalDamaged(
            f"{original or path}: can't read this as a journal ({why}). Check its owner and mode, and keep the file: it"
            " may hold the only copy of a token"
        ) from None


def _typed(columns: Sequence[Any]) -> Row:
    """Check the types, which a file need not keep to, and return the row. Raises sqlite3.DatabaseError."""
    row = Row._make(columns)
    if not all(isinstance(text, str) for text in row._replace(spent=row.spent or "")[1:]):
        raise sqlite3.DatabaseError("a row in it has wrong types")
    return row


def _listed(row: Row, keyring: KeyRing) -> Listed:
    try:
        status = entry_of(row, keyring, unbound=True).reply.status
    except DecryptionError:
        status = None
    return Listed(
        key=row.key,
        token=row.token,
        provider=row.provider,
        state=EntryState.UNPARSED if row.state == UNPARSED_BEFORE else row.state,
        asked_at=row.asked_at,
        bytes=len(row.sealed),
        status=status,
        kind=kind_of(row.claim),
    )
