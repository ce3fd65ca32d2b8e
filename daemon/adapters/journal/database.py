"""One SQLite file, and the thread that uses it: durable transactions, and room on the disk for those to come.

Concurrent writes share one transaction, and so one fsync. Room is reserved behind the end of the write-ahead file, and
checked with every commit and every probe: `disk_reserve.py` has the reasons. Nothing here depends on what a row means.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from daemon.adapters.batcher import Batcher
from daemon.adapters.journal.disk_reserve import reserve, shortage
from daemon.adapters.journal.foreign_file import readable, require_ours
from daemon.adapters.journal.sql import PROBE, Statement, together

LARGEST_BATCH = 512  # statements in one transaction
# A statement that nobody awaits shares the transaction of the next reply. A third of all transactions held nothing else.
SHARED_WITHIN = timedelta(milliseconds=100)
_MAGIC = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat.html §1.3.1
_FRAME = 4096 + 24  # bytes that one page takes in the write-ahead file

Result = TypeVar("Result")


class Database:
    """A file that takes statements from the event loop and commits them, synced, in a thread of its own."""

    def __init__(self, path: Path, *, reserve_bytes: int) -> None:
        """Reserve `room` bytes for transactions. With 0 none are reserved, and the disk may be filled."""
        self.path = path
        self.reserve_bytes = reserve_bytes
        self.failure: str | None = "it is not open yet"  # of the last write
        self.shortage: str | None = None  # of disk space, when last checked
        self._wal = path.with_name(path.name + "-wal")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._opened: sqlite3.Connection | None = None
        self._places: dict[Path, tuple[int, int]] = {}  # device and inode of each file, as they were opened
        self._commits: Batcher[Statement, None] = Batcher(
            self._commit, limit=LARGEST_BATCH, patience=SHARED_WITHIN
        )

    @property
    def trouble(self) -> str | None:
        """Why a write might fail now; None: it would succeed."""
        return self.shortage or self.failure

    async def open(self, schema: str) -> None:
        """Open the file, or create it, and run `schema`. Raises sqlite3.Error or OSError; a file that is damaged stays
        as it is.
        """
        await self._off_loop(self._open, schema)

    async def close(self) -> None:
        """Commit what waits, and close the file."""
        await self._commits.flush()
        await self._off_loop(self._connection.close)
        self._thread.shutdown()

    async def give_up(self) -> None:
        """Close a file that can't be used, without writing anything more."""
        if self._opened is not None:
            await self._off_loop(self._opened.close)
        self._thread.shutdown(wait=False)

    async def execute(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        """Run one statement by itself and return its rows. Raises sqlite3.Error."""
        return await self._off_loop(self._execute, sql, values)

    # ---------------------------------------------------------------- writes

    async def write(self, statement: Statement) -> None:
        """Return when `statement` is durable. Raises the exception that its commit failed with."""
        try:
            await self._commits.submit(statement)
        except Exception as why:
            self.failure = str(why)
            raise

    def write_later(self, statement: Statement) -> None:
        """Put `statement` into the next commit, within SHARED_WITHIN. Its failure is raised to no caller."""
        self._commits.put(statement)

    # ---------------------------------------------------------------- probes

    async def make_room(self) -> None:
        """Move the content of the write-ahead file to its place, reserve space behind its end, and note a shortage."""
        self.shortage = await self._off_loop(self._make_room)

    async def try_writes(self, statements: Sequence[Statement]) -> Sequence[BaseException | None]:
        """Write `statements`, and, unless room is short, a row of the probe's own. Note whether the disk takes writes.

        Returns each statement's failure. All of them are queued before the first await: what a caller queues during
        the commit comes after them.
        """
        tries = [self._commits.submit(statement) for statement in statements]
        if self.shortage is None:
            tries.append(self._commits.submit((PROBE, ())))
        results = await asyncio.gather(*tries, return_exceptions=True)
        if results:
            failures = [str(result) for result in results if result is not None]
            self.failure = failures[-1] if failures else None
        return results[: len(statements)]

    # ---------------------------------------------------------------- batches, on the event loop

    async def _commit(self, statements: Sequence[Statement]) -> list[BaseException | None]:
        """Commit all in one transaction. If that fails for another reason than the disk, commit each in its own: a bad
        statement must not take the others with it.
        """
        try:
            short = await self._off_loop(self._write, statements)
        except Exception as why:
            self.failure = str(why)
            if isinstance(why, sqlite3.OperationalError) or len(statements) == 1:
                raise
            return [await self._commit_alone(statement) for statement in statements]
        self.shortage = short or self.shortage  # only a probe ends a shortage
        return [None] * len(statements)

    async def _commit_alone(self, statement: Statement) -> BaseException | None:
        try:
            await self._off_loop(self._transact, [statement])
        except Exception as why:  # noqa: BLE001  it is the caller's, if one waits
            return why
        return None

    async def _off_loop(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    # ---------------------------------------------------------------- the file, in its thread

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            raise sqlite3.ProgrammingError("the file is not open")
        return self._opened

    def _open(self, schema: str) -> None:
        self._check()
        self._opened = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        self._opened.text_factory = readable
        self._opened.execute("pragma trusted_schema = off")
        self._opened.execute("pragma journal_mode = wal")
        self._opened.execute("pragma synchronous = full")
        self._opened.executescript(schema)
        self._require_places()

    def _require_places(self) -> None:
        """Raise sqlite3.OperationalError if a file was removed or replaced. SQLite would go on with the old one, which no
        other process finds again.
        """
        for file in (self.path, self._wal):
            try:
                found = file.stat()
            except FileNotFoundError:
                if file not in self._places:
                    continue  # there is no write-ahead file before the first transaction
            else:
                place = (found.st_dev, found.st_ino)
                if self._places.setdefault(file, place) == place:
                    continue
            raise sqlite3.OperationalError(
                f"{file} was removed or replaced while it was in use: put it back, or restart refreshd"
            )

    def _check(self) -> None:
        """Check the file before anything is written: SQLite would repair it, or start a new one, and lose rows."""
        if not self.path.exists() or not self.path.stat().st_size:
            if self._wal.exists() and self._wal.stat().st_size:
                raise sqlite3.DatabaseError(
                    f"{self._wal.name} holds entries, but the file that it belongs to is gone"
                )
            self.path.touch(mode=0o600)
            return
        with self.path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:  # SQLite takes a file of a few bytes for an empty one
                raise sqlite3.DatabaseError("file is not a database")
        with closing(read_only(self.path)) as connection:
            if not passes_check(connection):
                raise sqlite3.DatabaseError("its integrity check fails")
            # A trigger could delete each reply that is kept, and a column more or of another type opens no entry.
            require_ours(connection, unmade=True)

    def _execute(self, sql: str, values: Sequence[object]) -> list[Any]:
        return self._connection.execute(sql, values).fetchall()

    def _write(self, statements: Sequence[Statement]) -> str | None:
        """Commit `statements`, then check for a shortage, so that claims stop before a sweep ends."""
        self._transact(statements)
        return shortage(self.path.parent) if self.reserve_bytes else None

    def _transact(self, statements: Sequence[Statement]) -> None:
        connection = self._connection
        try:
            connection.execute("begin immediate")
            for statement, values in together(statements):
                connection.execute(statement, values)
            connection.execute("commit")
        except BaseException:
            if connection.in_transaction:
                connection.execute("rollback")
            raise
        self._require_places()

    def _make_room(self) -> str | None:
        """Return the shortage, if there is one."""
        if not self.reserve_bytes:
            return None
        try:
            self._require_places()
            if (short := shortage(self.path.parent)) is not None:
                return short
            _, frames, _ = self._connection.execute("pragma wal_checkpoint(passive)").fetchone()
            return reserve(self._wal, used=max(0, frames) * _FRAME, ahead=self.reserve_bytes)
        except (sqlite3.Error, OSError) as why:
            return str(why)


def read_only(path: Path) -> sqlite3.Connection:
    """A connection that neither creates nor changes the file. Raises sqlite3.Error."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def passes_check(connection: sqlite3.Connection) -> bool:
    """Whether the file's structure is sound. Raises sqlite3.Error if it can't be read."""
    return bool(connection.execute("pragma quick_check").fetchone() == ("ok",))
