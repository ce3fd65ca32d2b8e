"""Our own notebook of provider replies that MongoDB has not confirmed: SQLite, fsynced, sealed.

A reply is durable here before anything reads it, because it may hold the only copy of the next refresh token. Many
callers share one transaction, and so one fsync; SQLite runs in a thread of its own, off the event loop.
"""

import asyncio
import json
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from daemon.adapters.batcher import Batcher
from daemon.adapters.keyring import KeyRing, Unopenable
from daemon.domain.claim import Claim, Entry
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
create table if not exists probe (id integer primary key, at integer not null) strict;
"""

_EXPIRE = "delete from entries where state = 'superseded' and datetime(asked_at) < datetime('now', ?)"
# Or replace: a commit that failed may have been durable all the same, and is then tried again.
_KEEP = "insert or replace into entries values (?, ?, ?, ?, ?, ?, ?, ?)"
_FORGET = "delete from entries where key = ?"
_MARK = "update entries set state = ? where key = ?"
_PROBE = "insert or replace into probe values (1, ?)"

Result = TypeVar("Result")
Row = tuple[int, str, str, str, str | None, str, str, str]
Statement = tuple[str, tuple[object, ...]]


class JournalDamaged(Exception):
    """The journal's file can't be used. It was left as it is; the text says where and what to do."""


class SqliteJournal:
    """Fits `refreshing.ports.Journal`."""

    def __init__(self, path: Path, *, keyring: Callable[[], KeyRing]) -> None:
        self._path = path
        self._keyring = keyring
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._waiting: dict[int, Entry] = {}
        self._locked: dict[int, Row] = {}  # what no key on the ring opens: it blocks its token all the same
        self._unusable: set[int] = set()  # which of these are marked so in the file
        self._unkept: dict[int, Row] = {}  # what the disk refused
        self._next_key = 1
        self._works = False
        self._commits: Batcher[Statement, None] = Batcher(self._commit, limit=KEPT_AT_ONCE)
        self._database: sqlite3.Connection

    async def open(self) -> int:
        """Open the file, or make it, and load what waits. Returns how many entries can't be read.

        Raises JournalDamaged; the file is never recreated over what may hold the only copy of a token.
        """
        rows = await self._off_loop(self._open)
        self._next_key = max((row[0] for row in rows), default=0) + 1
        for row in rows:
            if row[7] in (WAITING, UNUSABLE):
                self._load(row)
        self._works = True
        return len(self._locked)

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
        except Exception:  # noqa: BLE001  whatever it was: a reply in hand is not thrown away
            self._works = False
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
        """What waits to be replayed, oldest first. Also finds out anew whether the disk takes writes, and whether a
        key has come back that opens what was locked.
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
        return self._works and not self._unkept

    # ---------------------------------------------------------------- for people

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
            self._database.execute(_EXPIRE, (f"-{SUPERSEDED_FOR.days} days",))
            rows: list[Row] = self._database.execute("select * from entries order by key").fetchall()
        except (sqlite3.Error, OSError) as why:
            raise JournalDamaged(
                f"{self._path}: the journal can't be used ({why}). It may hold tokens that exist nowhere else: check"
                " the disk and the permissions; if the file is damaged, move it aside and keep it"
            ) from None
        return rows

    def _check(self) -> None:
        """Look before anything is written: SQLite would mend, or begin anew, over what may hold tokens."""
        wal = self._path.with_name(self._path.name + "-wal")
        if not self._path.exists() or not self._path.stat().st_size:
            if wal.exists() and wal.stat().st_size:
                raise sqlite3.DatabaseError(
                    f"{wal.name} holds entries, but the file that it belongs to is gone"
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
            await self._off_loop(self._transact, statements)
        except Exception as why:
            self._works = False
            if isinstance(why, sqlite3.OperationalError) or len(statements) == 1:
                raise
            return [await self._alone(statement) for statement in statements]
        return [None] * len(statements)

    async def _alone(self, statement: Statement) -> BaseException | None:
        try:
            await self._off_loop(self._transact, [statement])
        except Exception as why:  # noqa: BLE001  it is the caller's, who may have nobody waiting
            return why
        return None

    def _transact(self, statements: Sequence[Statement]) -> None:
        try:
            self._database.execute("begin immediate")
            for statement, values in statements:
                self._database.execute(statement, values)
            self._database.execute("commit")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("rollback")
            raise

    def _later(self, statement: Statement) -> None:
        """Queue a statement that nobody waits for: should it fail, the entry is replayed, which does no harm."""
        self._commits.submit(statement).add_done_callback(lambda done: done.exception())

    async def _probe(self) -> None:
        """Try a write, with whatever could not be written before."""
        unkept = list(self._unkept.items())
        # All are queued before the first is awaited: whoever forgets one meanwhile deletes it after its insert.
        tries = [self._commits.submit((_KEEP, row)) for _, row in unkept]
        tries.append(self._commits.submit((_PROBE, (self._next_key,))))
        failures = await asyncio.gather(*tries, return_exceptions=True)
        for (key, _), failure in zip(unkept, failures, strict=False):
            if failure is None:
                self._unkept.pop(key, None)
        self._works = failures[-1] is None

    async def _off_loop(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


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
