"""A journal's file as people handle it: looked at while its daemon writes, an entry thrown away, a copy to salvage.

Nothing here makes or mends a file: it may hold the only copy of a token.
"""

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from daemon.adapters.journal import WAITING, JournalDamaged, unpacked
from daemon.adapters.keyring import KeyRing, Unopenable

_COLUMNS = "key, token, provider, state, asked_at, reply"
_BUSY = 5  # seconds: a daemon that opens or closes its journal has it to itself for a moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One entry without its reply. `status` is the reply's; None: no key on the ring opens it."""

    key: int
    token: str
    provider: str
    state: str  # waiting | unread | superseded | unusable
    asked_at: str  # RFC 3339
    status: int | None


def listed(path: Path, keyring: KeyRing) -> Sequence[Listed]:
    """What the file holds, oldest first; also while a daemon writes to it. Raises JournalDamaged."""
    with _opened(path, "ro") as database:
        rows = database.execute(f"select {_COLUMNS} from entries order by key").fetchall()  # noqa: S608  ours
    return [_listed(row, keyring) for row in rows]


def discard(path: Path, key: int) -> bool:
    """Delete one entry for good; whether it was there. The file must be nobody else's. Raises JournalDamaged."""
    with _opened(path, "rw") as database:
        database.execute("pragma synchronous = full")
        return database.execute("delete from entries where key = ?", (key,)).rowcount == 1


def copied(path: Path, directory: Path, *, everything: bool) -> Path:
    """A copy of the file in `directory`, to be opened as a journal; `everything`: what was done with waits again.

    Raises JournalDamaged.
    """
    copy = directory / "journal.db"
    try:
        for suffix in ("", "-wal"):  # the latter holds what was kept last, when its daemon died
            source = path.with_name(path.name + suffix)
            if not suffix or source.exists():
                shutil.copyfile(source, copy.with_name(copy.name + suffix))
    except OSError as why:
        raise JournalDamaged(f"{path}: it can't be copied ({why.strerror or why})") from None
    with _opened(copy, "rw", told=path) as database:
        if database.execute("pragma quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("its integrity check fails")
        database.execute("select state from entries limit 1")
        if everything:
            database.execute("update entries set state = ?", (WAITING,))
    return copy


@contextmanager
def _opened(path: Path, mode: str, *, told: Path | None = None) -> Iterator[sqlite3.Connection]:
    """A connection that makes no file. `told` names the file in what is said about it."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY)) as database:
            yield database
    except sqlite3.Error as why:
        raise JournalDamaged(
            f"{told or path}: this can't be read as a journal ({why}). Check its owner and mode, and keep the file: it"
            " may hold tokens that exist nowhere else"
        ) from None


def _listed(row: tuple[int, str, str, str, str, str], keyring: KeyRing) -> Listed:
    key, token, provider, state, asked_at, sealed = row
    try:
        packed = keyring.open(sealed, token_id=token, field="journal")
        status = unpacked(packed, asked_at=datetime.fromisoformat(asked_at)).status
    except (Unopenable, ValueError):
        status = None
    return Listed(key=key, token=token, provider=provider, state=state, asked_at=asked_at, status=status)
