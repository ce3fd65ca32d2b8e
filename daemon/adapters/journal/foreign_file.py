"""Safe reading of a journal file that another user may have made.

A SQLite file contains SQL: a view runs when it is read, a trigger when its table is written. So the tables
are compared with those of a journal before any other statement, and a file with anything else is not read. A
path may also lead to something that isn't a regular file of its size: a pipe, a device, a link, or endless
holes.
"""

import os
import re
import sqlite3
import stat
from functools import cache
from pathlib import Path

from daemon.adapters.journal.disk_reserve import shortage
from daemon.adapters.journal.sql import SCHEMA

_LISTED = "select type, name, sql from sqlite_schema limit 100"
_COMMENT = re.compile(r"--[^\n]*")
_AROUND = re.compile(r"\s*([(),;=])\s*")
_STEPS = 100_000  # instructions of SQLite's machine between two checks of the limit
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HOLES = 256 << 20  # bytes: the room that a journal reserves may be a hole in its copy
_PIECE = 1 << 20
_LEAST_STEPS = 10_000_000  # and one more for each byte: a row of a journal takes far fewer than it has bytes


def distrust(database: sqlite3.Connection, *, size: int) -> None:
    """Prepare to read a file of `size` bytes from an untrusted author: its SQL can't have side effects, and
    every statement has a limit.
    """
    database.text_factory = readable
    database.execute("pragma trusted_schema = off")
    database.execute("pragma cell_size_check = on")
    looks = iter(range((_LEAST_STEPS + size) // _STEPS))
    database.set_progress_handler(lambda: next(looks, None) is None, _STEPS)


def readable(text: bytes) -> str:
    """Return a column's text, also if it isn't UTF-8: one flipped bit would hide all other entries, and the error would
    quote the text. Such an entry does not open.
    """
    return text.decode(errors="replace")


def require_ours(database: sqlite3.Connection, *, unmade: bool = False) -> None:
    """Raise sqlite3.DatabaseError unless the file has a journal's tables and nothing else. `unmade`: it may also have
    nothing at all, as after a kill before they were made.
    """
    found = {(kind, name, _plain(str(sql))) for kind, name, sql in database.execute(_LISTED)}
    if foreign := sorted(str(name) for _, name, _ in found - _ours()):
        raise sqlite3.DatabaseError(f"{foreign[0]!r} in it does not belong to a journal")
    if not found and unmade:
        return
    if not any(name == "entries" for _, name, _ in found):
        raise sqlite3.DatabaseError("it has no table 'entries'")


def copy_whole(source: Path, target: Path) -> None:
    """Copy a regular file up to its size at the time of opening. Raises OSError, whose `strerror` is a
    sentence.
    """
    if not stat.S_ISREG(source.lstat().st_mode):
        raise OSError(0, "it is a link, a pipe or a device: name the file itself")
    with os.fdopen(os.open(source, _READ), "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_size > _HOLES + 2 * 512 * found.st_blocks:
            raise OSError(
                0,
                "it is mostly holes, which a journal never is: `cp --sparse=never` makes a copy without holes",
            )
        if (lack := shortage(target.parent, asked=found.st_size)) is not None:
            raise OSError(0, f"{lack}; set TMPDIR to use another directory")
        with target.open("xb") as copy:
            for start in range(0, found.st_size, _PIECE):
                copy.write(file.read(min(_PIECE, found.st_size - start)))


@cache
def _ours() -> frozenset[tuple[str, str, str]]:
    database = sqlite3.connect(":memory:")
    try:
        database.executescript(SCHEMA)
        return frozenset((kind, name, _plain(sql)) for kind, name, sql in database.execute(_LISTED))
    finally:
        database.close()


def _plain(sql: str) -> str:
    """Strip comments and layout, which differ between versions."""
    return _AROUND.sub(r"\1", " ".join(_COMMENT.sub(" ", sql).lower().split()))
