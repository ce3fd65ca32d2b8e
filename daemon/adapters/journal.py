"""Our own notebook of provider replies that MongoDB has not confirmed: SQLite, fsynced, sealed.

A reply is durable here before anything reads it, because it may hold the only copy of the next refresh token. Many
callers share one transaction, and so one fsync; SQLite runs in a thread of its own, off the event loop. Room for the
replies in flight is reserved beforehand (`room.py`), and looked after with every commit and every probe.
"""

import asyncio
import json
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import datetime, timedelta
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

from daemon.adapters.batcher import Batcher
from daemon.adapters.keyring import KeyRing, Unopenable
from daemon.adapters.room import reserve, room_for, shortage
from daemon.domain.claim import Claim, Entry, StoreLost
from daemon.domain.dialect import Reply

KEPT_AT_ONCE = 512
SUPERSEDED_FOR = timedelta(days=7)  # a successor that a newer consent overtook can be salvaged this long
WAITING, UNUSABLE = "waiting", "unusable"

_SCHEMA = """
create table if not exists entries (
  key integer primary key,
  token text not null, provider text not null, claim text not null,
  spent text,               -- the sealed refresh token that was presented
  asked_at text not null,
  reply text not null,      -- sealed
  state text not null       -- waiting | unread | superseded | unusable
) strict;
create index if not exists superseded on entries (asked_at) where state = 'superseded';
create table if not exists probe (id integer primary key, at integer not null) strict;
"""
_FRAME = 4096 + 24  # bytes that one page takes in the write-ahead file

# With each probe: by its index it looks at nothing but superseded entries, of which there are hardly any.
_EXPIRE = "delete from entries where state = 'superseded' and datetime(asked_at) < datetime(?)"
# Or replace: a commit that failed may have been durable all the same, and is then tried again.
_KEEP = "insert or replace into entries values (?, ?, ?, ?, ?, ?, ?, ?)"
_FORGET = "delete from entries where key in (?)"
_MARK = "update entries set state = ? where key = ?"
_PROBE = "insert or replace into probe values (1, ?)"

# So many rows at once, the most that there are first: with each step SQLite gives the interpreter away and wants it back.
_ROWS = (64, 16, 4, 1)
_ROW = _KEEP[_KEEP.index("(") :]
_TOGETHER = {
    _KEEP: {rows: _KEEP + f", {_ROW}" * (rows - 1) for rows in _ROWS},
    _FORGET: {rows: _FORGET.replace("?", ", ".join("?" * rows)) for rows in _ROWS},
}

Result = TypeVar("Result")
Row = tuple[int, str, str, str, str | None, str, str, str]
Statement = tuple[str, tuple[object, ...]]


class JournalDamaged(Exception):
    """The journal's file can't be used. It was left as it is; the text says where and what to do."""


class JournalFull(JournalDamaged):
    """There is no room to open the file: once there is, a new start will do."""


class SqliteJournal:
    """Fits `refreshing.ports.Journal`."""

    def __init__(
        self,
        path: Path,
        *,
        keyring: Callable[[], KeyRing],
        in_flight: int = 0,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        """Room is reserved for `in_flight` replies. `now` is the store's time: what it calls old is dropped. Neither is
        for a copy that is only read from: that may fill its disk, and keeps everything.
        """
        self._path = path
        self._wal = path.with_name(path.name + "-wal")
        self._keyring = keyring
        self._now = now
        self._room = room_for(in_flight)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._waiting: dict[int, Entry] = {}
        self._locked: dict[int, Row] = {}  # what no key on the ring opens: it blocks its token all the same
        self._unusable: set[int] = set()  # which of these are marked so in the file
        self._unkept: dict[int, Row] = {}  # what the disk refused
        self._next_key = 1
        self._failure: str | None = "it is not open yet"  # of the last write
        self._shortage: str | None = None  # of room, when last looked at
        self._commits: Batcher[Statement, None] = Batcher(self._commit, limit=KEPT_AT_ONCE)
        self._database: sqlite3.Connection

    async def open(self) -> int:
        """Open the file, or make it, and load what waits. Returns how many entries can't be read.

        Raises JournalDamaged, or JournalFull; the file is never recreated over what may hold the only copy of a token.
        """
        rows = await self._off_loop(self._open)
        self._next_key = max((row[0] for row in rows), default=0) + 1
        for row in rows:
            if row[7] in (WAITING, UNUSABLE):
                self._load(row)
        await self._probe()
        return len(self._locked)

    def allow(self, in_flight: int) -> None:
        """Reserve room for so many replies, with the next probe."""
        self._room = room_for(in_flight)

    async def close(self) -> None:
        """Write what is still queued and close."""
        await self._probe()
        await self._off_loop(self._database.close)
        self._thread.shutdown()

    # ---------------------------------------------------------------- the port

    async def keep(self, claim: Claim, reply: Reply) -> Entry:
        """Make `reply` durable. Never fails: what the disk refuses is held in memory, and `writable` is false."""
        token = claim.token
        entry = Entry(
            key=self._next_key,
            token=token.id,
            provider=token.provider,
            claim=claim.id,
            spent=claim.spent,
            reply=reply,
        )
        self._next_key += 1
        self._waiting[entry.key] = entry
        row = self._row(entry)
        try:
            await self._commits.submit((_KEEP, row))
        except Exception as why:  # noqa: BLE001  whatever it was: a reply in hand is not thrown away
            self._failure = str(why)
            self._unkept[entry.key] = row
        return entry

    def forget(self, entry: Entry) -> None:
        """The store has it: drop the entry with the next commit."""
        self._drop(entry.key)
        self._later((_FORGET, (entry.key,)))

    def retain(self, entry: Entry, why: str) -> None:
        """Keep the entry for people to look at. One that is `unusable` still blocks its token, and is tried again
        with each replay; any other is done with.
        """
        if why != UNUSABLE:
            row = self._unkept.get(entry.key)
            self._drop(entry.key)
            self._later((_KEEP, (*row[:7], why)) if row else (_MARK, (why, entry.key)))
        elif entry.key not in self._unusable:
            self._unusable.add(entry.key)
            self._later((_MARK, (why, entry.key)))

    async def entries(self) -> Sequence[Entry]:
        """What waits to be replayed, oldest first. Also finds out anew whether the disk takes writes and has room, and
        whether a key has come back that opens what was locked.
        """
        await self._probe()
        for row in list(self._locked.values()):
            self._load(row)
        return sorted(self._waiting.values(), key=lambda entry: entry.key)

    @property
    def tokens(self) -> Collection[str]:
        waiting = {entry.token for entry in self._waiting.values()}
        return waiting | {row[1] for row in self._locked.values()}

    @property
    def writable(self) -> bool:
        return self.trouble is None

    # ---------------------------------------------------------------- for people

    @property
    def trouble(self) -> str | None:
        """Why a reply that comes now might not be kept; None: it would be."""
        if self._unkept:
            return f"the disk refused replies, which memory holds: {len(self._unkept)} ({self._failure})"
        return self._shortage or self._failure

    @property
    def count(self) -> int:
        """How many replies wait, those included that can't be replayed now."""
        return len(self._waiting) + len(self._locked)

    # ---------------------------------------------------------------- entries and rows

    def _row(self, entry: Entry) -> Row:
        sealed = self._keyring().seal(_packed(entry.reply), token_id=entry.token, field="journal")
        asked_at = entry.reply.asked_at.isoformat()
        return entry.key, entry.token, entry.provider, entry.claim, entry.spent, asked_at, sealed, WAITING

    def _load(self, row: Row) -> None:
        key, token, provider, claim, spent, asked_at, sealed, _ = row
        try:
            packed = self._keyring().open(sealed, token_id=token, field="journal")
            reply = unpacked(packed, asked_at=datetime.fromisoformat(asked_at))
        except (Unopenable, ValueError):
            self._locked[key] = row
            return
        self._locked.pop(key, None)
        self._waiting[key] = Entry(
            key=key, token=token, provider=provider, claim=claim, spent=spent, reply=reply
        )

    def _drop(self, key: int) -> None:
        self._waiting.pop(key, None)
        self._unkept.pop(key, None)
        self._unusable.discard(key)

    # ---------------------------------------------------------------- the file

    def _open(self) -> list[Row]:
        try:
            self._check()
            self._database = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = full")
            self._database.executescript(_SCHEMA)
            rows: list[Row] = self._database.execute("select * from entries order by key").fetchall()
        except (sqlite3.Error, OSError) as why:
            directory = self._path.parent
            if directory.is_dir() and (lack := shortage(directory)) is not None:
                raise JournalFull(f"the journal can't be opened ({why}): {lack}. Make room") from None
            raise JournalDamaged(
                f"{self._path}: the journal can't be used ({why}). It may hold tokens that exist nowhere else: check"
                " the disk and the permissions; if the file is damaged, move it aside and keep it"
            ) from None
        return rows

    def _check(self) -> None:
        """Look before anything is written: SQLite would mend, or begin anew, over what may hold tokens."""
        if not self._path.exists() or not self._path.stat().st_size:
            if self._wal.exists() and self._wal.stat().st_size:
                raise sqlite3.DatabaseError(
                    f"{self._wal.name} holds entries, but the file that it belongs to is gone"
                )
            self._path.touch(mode=0o600)
            return
        with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            if database.execute("pragma quick_check").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("its integrity check fails")

    async def _commit(self, statements: Sequence[Statement]) -> list[BaseException | None]:
        """All in one transaction. Where the disk is not to blame for its failure, each in one of its own: a bad one
        must not take the others with it.
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
        """Commit `statements`; then look at what is left of the disk, so that claims stop before a sweep ends."""
        self._transact(statements)
        return shortage(self._path.parent) if self._room else None

    def _transact(self, statements: Sequence[Statement]) -> None:
        try:
            self._database.execute("begin immediate")
            for statement, values in _together(statements):
                self._database.execute(statement, values)
            self._database.execute("commit")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("rollback")
            raise

    def _later(self, statement: Statement) -> None:
        """Queue a statement that nobody waits for: should it fail, the entry is replayed, which does no harm."""
        self._commits.put(statement)

    def _expire(self) -> None:
        """By the store's time, which no jump of this machine's clock moves; not before it is known."""
        with suppress(StoreLost):
            if self._now is not None:
                self._later((_EXPIRE, ((self._now() - SUPERSEDED_FOR).isoformat(),)))

    async def _probe(self) -> None:
        """See to the room, and try a write, with whatever could not be written before."""
        self._shortage = await self._off_loop(self._see_to_room)
        unkept = list(self._unkept.items())
        # All are queued before the first is awaited: whoever forgets one meanwhile deletes it after its insert.
        tries = [self._commits.submit((_KEEP, row)) for _, row in unkept]
        if self._shortage is None:  # else the reserve is for replies
            self._expire()
            tries.append(self._commits.submit((_PROBE, (self._next_key,))))
        failures = await asyncio.gather(*tries, return_exceptions=True)
        for (key, _), failure in zip(unkept, failures, strict=False):
            if failure is None:
                self._unkept.pop(key, None)
        refused = [str(failure) for failure in failures if failure is not None]
        if failures:
            self._failure = refused[-1] if refused else None

    def _see_to_room(self) -> str | None:
        """Move what the write-ahead file holds to where it belongs, and reserve room behind its end. Why not, if so."""
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


def _together(statements: Sequence[Statement]) -> Iterator[Statement]:
    """The same in fewer statements: neighbours that differ in their values only become one."""
    for statement, alike in groupby(statements, key=itemgetter(0)):
        left = [values for _, values in alike]
        for rows, repeated in _TOGETHER.get(statement, {1: statement}).items():
            while len(left) >= rows:
                yield repeated, tuple(chain.from_iterable(left[:rows]))
                del left[:rows]


def _packed(reply: Reply) -> str:
    return json.dumps(
        [reply.status, reply.content_type, reply.retry_after, reply.whole, b64encode(reply.body).decode()]
    )


def unpacked(packed: str, *, asked_at: datetime) -> Reply:
    """The reply that an entry's opened text holds. Raises ValueError."""
    status, content_type, retry_after, whole, body = json.loads(packed)
    return Reply(
        status=status,
        content_type=content_type,
        retry_after=retry_after,
        whole=whole,
        body=b64decode(body),
        asked_at=asked_at,
    )
