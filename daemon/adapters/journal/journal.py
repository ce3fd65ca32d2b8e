"""The journal of provider replies that MongoDB has not confirmed: SQLite, fsynced, sealed.

A reply is durable here before any code reads it, because it may hold the only copy of the next refresh token.
Many callers share one transaction and so one fsync. SQLite runs in its own thread, off the event loop. Disk
space for the replies in flight is reserved beforehand (`disk_reserve.py`) and checked at every commit and
every probe. `row.py` defines the content of a row, `retained.py` the limits for entries that are retained for
operators.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from daemon.adapters.batcher import Batcher
from daemon.adapters.journal.disk_reserve import reserve, room_for, shortage
from daemon.adapters.journal.retained import Retained, Share, share_of
from daemon.adapters.journal.row import (
    KEY_ID,
    STATES,
    SUPERSEDED,
    UNUSABLE,
    WAITING,
    Row,
    entry_of,
    key_of,
    locked_of,
    row_of,
)
from daemon.adapters.journal.sql import (
    EXPIRE,
    FORGET,
    KEEP,
    MARK,
    PENDING,
    PROBE,
    RENAME,
    RETAINED,
    SCHEMA,
    Statement,
    together,
)
from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.domain.claim import Claim, StoreLost
from daemon.domain.journal_entry import Entry
from daemon.domain.locked import Locked
from daemon.domain.reply import Reply

KEPT_AT_ONCE = 512
SUPERSEDED_FOR = timedelta(days=7)  # a successor that a newer consent overtook can be salvaged this long
_FRAME = 4096 + 24  # bytes that one page takes in the write-ahead file

Result = TypeVar("Result")


class JournalDamaged(Exception):
    """The journal's file can't be used. It was not changed; the text names the place and the remedy."""


class JournalFull(JournalDamaged):
    """The disk has no space to open the file. Once it has, a new start succeeds."""


class SqliteJournal:
    """Implements `refreshing.ports.Journal`."""

    def __init__(
        self,
        path: Path,
        *,
        keyring: Callable[[], KeyRing],
        in_flight: int = 0,
        now: Callable[[], datetime] | None = None,
        unbound: bool = True,
    ) -> None:
        """Create a journal that reserves space for `in_flight` replies and drops old entries by `now`, the
        store's time.

        Omit both when opening a read-only copy. `unbound`: accept the rows of earlier versions.
        """
        self._path = path
        self._wal = path.with_name(path.name + "-wal")
        self._keyring = keyring
        self._now = now
        self._room = room_for(in_flight)
        self._unbound = unbound
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._waiting: dict[int, Entry] = {}
        # An entry that can't be opened still blocks its token.
        self._locked: dict[int, tuple[Row, Locked]] = {}
        self._tokens: dict[str, int] = {}  # how many of both each token has
        self._sizes: dict[int, int] = {}  # of the sealed replies of both, by key
        self._sealed_with: dict[int, str] = {}  # the id of the key that sealed each
        self._retained = Retained()
        self._unusable: set[int] = set()  # which of these are marked so in the file
        self._unkept: dict[int, Row] = {}  # statements that the disk rejected
        self._next_key = 1
        self._failure: str | None = "the journal is not open yet"  # of the last write
        self._shortage: str | None = None  # of room, when last looked at
        self._commits: Batcher[Statement, None] = Batcher(self._commit, limit=KEPT_AT_ONCE)
        self._database: sqlite3.Connection

    async def open(self) -> int:
        """Open or create the file and load the waiting entries. Returns how many entries can't be read.

        Raises JournalDamaged or JournalFull. It never recreates a file that may hold the only copy of a
        token.
        """
        self._next_key, rows = await self._off_loop(self._open)
        for row in rows:
            self._block(row)
            self._load(row)
        for key in self._locked:
            self._mark_unusable(key)
        await self._probe()
        return len(self._locked)

    def allow(self, in_flight: int) -> None:
        """Reserve space for this many replies, from the next probe on."""
        self._room = room_for(in_flight)

    async def close(self) -> None:
        """Write the queued statements and close the file."""
        await self._probe()
        await self._off_loop(self._database.close)
        self._thread.shutdown()

    # ---------------------------------------------------------------- the port

    async def keep(self, claim: Claim, reply: Reply) -> Entry:
        """Make `reply` durable. Never fails: if the disk rejects it, it is held in memory and `writable` is
        false.
        """
        token = claim.token
        entry = Entry(
            key=self._next_key,
            token=token.id,
            provider=token.provider,
            claim=claim.id,
            spent=claim.spent,
            spent_field=claim.spent_field,
            reply=reply,
        )
        self._next_key += 1
        row = row_of(entry, self._keyring())
        self._waiting[entry.key] = entry
        self._block(row)
        try:
            await self._commits.submit((KEEP, row))
        except Exception as why:  # noqa: BLE001  whatever it was: a reply in hand is not thrown away
            self._failure = str(why)
            self._unkept[entry.key] = row
        return entry

    def forget(self, entry: Entry) -> None:
        """Drop the entry with the next commit, since MongoDB has confirmed it."""
        self._drop(entry)
        self._later((FORGET, (entry.key,)))

    def retain(self, entry: Entry | Locked, why: str) -> None:
        """Keep the entry for operators to inspect. An `unusable` one still blocks its token and is retried
        with each replay; any other is finished.
        """
        if why == UNUSABLE:
            self._mark_unusable(entry.key)
            return
        row = self._unkept.get(entry.key)
        if entry.key in self._sizes:
            share = Share(entry.provider, self._sealed_with[entry.key], self._sizes[entry.key])
            self._retained.add(why, share)
        self._drop(entry)
        self._later((KEEP, (*row[:7], why)) if row else (MARK, (why, entry.key)))

    async def entries(self) -> Sequence[Entry]:
        """Return the entries that wait for a replay, oldest first.

        Also checks whether the disk is writable and has space, and whether a key has returned that opens
        locked entries.
        """
        await self._probe()
        for row, _ in list(self._locked.values()):
            self._load(row)
        return sorted(self._waiting.values(), key=lambda entry: entry.key)

    @property
    def tokens(self) -> Collection[str]:
        return self._tokens.keys()

    @property
    def locked(self) -> Sequence[Locked]:
        """Return the entries that can't be opened. They are part of `entries()` as soon as their key is
        back.
        """
        return [locked for _, locked in self._locked.values()]

    @property
    def crowded(self) -> Collection[str]:
        """Return the providers whose retained replies take so much of the disk that no more may be added."""
        return self._retained.crowded

    @property
    def writable(self) -> bool:
        return self.trouble is None

    # ---------------------------------------------------------------- for people

    @property
    def trouble(self) -> str | None:
        """Return why a reply might not be kept now, or None if it would be."""
        if self._unkept:
            return (
                f"the disk rejected replies, which are held in memory: {len(self._unkept)} ({self._failure})"
            )
        return self._shortage or self._failure

    @property
    def count(self) -> int:
        """Return how many replies wait, including those that can't be replayed now."""
        return len(self._waiting) + len(self._locked)

    @property
    def bytes_by_state(self) -> Mapping[str, int]:
        """Return the bytes of sealed replies in the journal, by state."""
        sums = Counter(self._retained.bytes)
        for key, size in self._sizes.items():
            sums[UNUSABLE if key in self._unusable else WAITING] += size
        return {state: sums[state] for state in STATES}

    @property
    def sealed_with(self) -> Mapping[str, tuple[int, int]]:
        """Return how many entries each key has sealed, by key id: waiting or unusable ones, and retained
        ones.
        """
        pending = Counter(self._sealed_with.values())
        retained = self._retained.sealed_with
        ids = {key_id for key_id in pending + retained if KEY_ID.fullmatch(key_id)}
        return {key_id: (pending[key_id], retained[key_id]) for key_id in ids}

    # ---------------------------------------------------------------- entries and rows

    def _load(self, row: Row) -> None:
        """Open a row if its key is available."""
        try:
            entry = entry_of(row, self._keyring(), unbound=self._unbound)
        except DecryptionError as why:
            self._locked[row[0]] = row, locked_of(row, str(why))
            return
        self._locked.pop(entry.key, None)
        self._waiting[entry.key] = entry

    def _block(self, row: Row) -> None:
        """Let this row block its token."""
        key, token, sealed, state = row[0], row[1], row[6], row[7]
        self._sizes[key], self._sealed_with[key] = len(sealed), key_of(sealed)
        self._tokens[token] = self._tokens.get(token, 0) + 1
        if state == UNUSABLE:
            self._unusable.add(key)

    def _mark_unusable(self, key: int) -> None:
        if key in self._sizes and key not in self._unusable:
            self._unusable.add(key)
            self._later((MARK, (UNUSABLE, key)))

    def _drop(self, entry: Entry | Locked) -> None:
        """Stop the entry from blocking its token."""
        key, token = entry.key, entry.token
        if self._sizes.pop(key, None) is None:
            return
        del self._sealed_with[key]
        self._waiting.pop(key, None)
        self._locked.pop(key, None)
        self._unkept.pop(key, None)
        self._unusable.discard(key)
        self._tokens[token] -= 1
        if not self._tokens[token]:
            del self._tokens[token]

    # ---------------------------------------------------------------- the file

    def _open(self) -> tuple[int, list[Row]]:
        """Return the first free key and the waiting rows. Retained rows are only counted, since they may be
        large.
        """
        try:
            self._check()
            self._database = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
            self._database.execute("pragma trusted_schema = off")
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = full")
            self._database.executescript(SCHEMA)
            self._database.execute(RENAME)
            for state, *one in self._database.execute(RETAINED):
                self._retained.add(state, share_of(*one))
            (last,) = self._database.execute("select max(key) from entries").fetchone()
            return (last or 0) + 1, self._database.execute(PENDING).fetchall()
        except (sqlite3.Error, OSError) as why:
            directory = self._path.parent
            if directory.is_dir() and (lack := shortage(directory)) is not None:
                raise JournalFull(f"can't open the journal ({why}): {lack}. Free some space") from None
            raise JournalDamaged(
                f"{self._path}: can't use the journal ({why}). Check the disk and the permissions. If the file is damaged,"
                " move it aside and keep it: it may hold the only copy of a token"
            ) from None

    def _check(self) -> None:
        """Check the files before anything is written: SQLite would repair or replace a file that may hold
        tokens.
        """
        if not self._path.exists() or not self._path.stat().st_size:
            if self._wal.exists() and self._wal.stat().st_size:
                raise sqlite3.DatabaseError(
                    f"{self._wal.name} holds entries, but the journal file that it belongs to is missing"
                )
            self._path.touch(mode=0o600)
            return
        with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            if database.execute("pragma quick_check").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("its integrity check fails")

    async def _commit(self, statements: Sequence[Statement]) -> list[BaseException | None]:
        """Commit all statements in one transaction. If that fails and the disk is not the cause, commit each
        one separately, so that a bad statement does not spoil the others.
        """
        try:
            short = await self._off_loop(self._write, statements)
        except Exception as why:
            self._failure = str(why)
            if isinstance(why, sqlite3.OperationalError) or len(statements) == 1:
                raise
            return [await self._alone(statement) for statement in statements]
        self._shortage = short or self._shortage  # that there is room again is for the probe to say
        return [None] * len(statements)

    async def _alone(self, statement: Statement) -> BaseException | None:
        try:
            await self._off_loop(self._transact, [statement])
        except Exception as why:  # noqa: BLE001  it is the caller's, who may have nobody waiting
            return why
        return None

    def _write(self, statements: Sequence[Statement]) -> str | None:
        """Commit `statements`, then check the remaining space, so that claims stop before a sweep ends."""
        self._transact(statements)
        return shortage(self._path.parent) if self._room else None

    def _transact(self, statements: Sequence[Statement]) -> None:
        try:
            self._database.execute("begin immediate")
            for statement, values in together(statements):
                self._database.execute(statement, values)
            self._database.execute("commit")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("rollback")
            raise

    def _later(self, statement: Statement) -> None:
        """Queue a statement without waiting for it. If it fails, the entry is replayed, which is harmless."""
        self._commits.put(statement)

    async def _expire(self) -> None:
        """Drop entries that were superseded long ago, by the store's time, which jumps of this machine's
        clock do not move.

        Does nothing until that time is known. The probe reports a disk that rejects writes.
        """
        with suppress(StoreLost, sqlite3.Error):
            if self._now is not None:
                before = (self._now() - SUPERSEDED_FOR).isoformat()
                for one in await self._off_loop(self._expired, before):
                    self._retained.remove(SUPERSEDED, share_of(*one))

    def _expired(self, before: str) -> list[tuple[str, str, int]]:
        return self._database.execute(EXPIRE, (before,)).fetchall()

    async def _probe(self) -> None:
        """Reserve space and try a write, including earlier statements that the disk rejected."""
        self._shortage = await self._off_loop(self._see_to_room)
        if self._shortage is None:  # else the reserve is for replies
            await self._expire()
        unkept = list(self._unkept.items())
        # All are queued before the first is awaited, so that a concurrent `forget` deletes an entry after its insert.
        tries = [self._commits.submit((KEEP, row)) for _, row in unkept]
        if self._shortage is None:
            tries.append(self._commits.submit((PROBE, (self._next_key,))))
        failures = await asyncio.gather(*tries, return_exceptions=True)
        for (key, _), failure in zip(unkept, failures, strict=False):
            if failure is None:
                self._unkept.pop(key, None)
        refused = [str(failure) for failure in failures if failure is not None]
        if failures:
            self._failure = refused[-1] if refused else None

    def _see_to_room(self) -> str | None:
        """Move the content of the write-ahead file into the database and reserve space behind its end.
        Returns why not, if that fails.
        """
        if not self._room:
            return None
        try:
            if (short := shortage(self._path.parent)) is not None:
                return short
            _, frames, _ = self._database.execute("pragma wal_checkpoint(passive)").fetchone()
            return reserve(self._wal, used=max(0, frames) * _FRAME, room=self._room)
        except (sqlite3.Error, OSError) as why:
            return str(why)

    async def _off_loop(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
