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
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from daemon.adapters.batcher import Batcher
from daemon.adapters.keyring import KeyRing, Unopenable
from daemon.domain.claim import Claim, Entry
from daemon.domain.dialect import Reply

KEPT_AT_ONCE = 512
SUPERSEDED_FOR = timedelta(days=7)  # a successor that a newer consent overtook can be salvaged this long
WAITING, SUPERSEDED, UNUSABLE = "waiting", "superseded", "unusable"

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

Result = TypeVar("Result")
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
        self._unkept: dict[int, Statement] = {}  # what the disk refused
        self._next_key = 1
        self._works = False
        self._commits: Batcher[Statement, None] = Batcher(self._commit, limit=KEPT_AT_ONCE)
        self._database: sqlite3.Connection

    async def open(self) -> int:
        """Open the file, or make it, and load what waits. Returns how many entries can't be read.

        Raises JournalDamaged; the file is never recreated over what may hold the only copy of a token.
        """
        unusable = await self._off_loop(self._open)
        self._works = True
        return unusable

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
        statement = (
            "insert into entries values (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.key,
                entry.token,
                entry.provider,
                entry.claim,
                entry.spent,
                reply.asked_at.isoformat(),
                self._keyring().seal(_packed(reply), token_id=entry.token, field="journal"),
                WAITING,
            ),
        )
        try:
            await self._commits.submit(statement)
        except sqlite3.Error:
            self._unkept[entry.key] = statement
        return entry

    def forget(self, entry: Entry) -> None:
        """The store has it: drop the entry with the next commit."""
        self._waiting.pop(entry.key, None)
        if self._unkept.pop(entry.key, None) is None:
            self._later(("delete from entries where key = ?", (entry.key,)))

    def retain(self, entry: Entry, why: str) -> None:
        """Keep the entry for people to look at; it is not replayed and blocks nothing."""
        self._waiting.pop(entry.key, None)
        self._later(("update entries set state = ? where key = ?", (why, entry.key)))

    async def entries(self) -> Sequence[Entry]:
        """What waits to be replayed, oldest first. Also finds out anew whether the disk takes writes."""
        await self._probe()
        return list(self._waiting.values())

    @property
    def tokens(self) -> Collection[str]:
        return {entry.token for entry in self._waiting.values()}

    @property
    def writable(self) -> bool:
        return self._works and not self._unkept

    # ---------------------------------------------------------------- for people

    @property
    def count(self) -> int:
        """How many replies wait."""
        return len(self._waiting)

    # ---------------------------------------------------------------- the file

    def _open(self) -> int:
        try:
            self._database = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
            self._path.chmod(0o600)
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = full")
            self._database.executescript(_SCHEMA)
            if self._database.execute("pragma quick_check").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("its integrity check fails")
            self._database.execute(_EXPIRE, (f"-{SUPERSEDED_FOR.days} days",))
            rows = self._database.execute("select * from entries order by key").fetchall()
        except (sqlite3.Error, OSError) as why:
            raise JournalDamaged(
                f"{self._path}: the journal can't be used ({why}). It may hold tokens that exist nowhere else: check"
                " the disk and the permissions; if the file is damaged, move it aside and keep it"
            ) from None
        self._next_key = max((row[0] for row in rows), default=0) + 1
        return sum(not self._load(row) for row in rows if row[7] == WAITING)

    def _load(self, row: tuple[int, str, str, str, str | None, str, str, str]) -> bool:
        key, token, provider, claim, spent, asked_at, sealed, _ = row
        try:
            packed = self._keyring().open(sealed, token_id=token, field="journal")
        except Unopenable:
            self._database.execute("update entries set state = ? where key = ?", (UNUSABLE, key))
            return False
        reply = _unpacked(packed, asked_at=datetime.fromisoformat(asked_at))
        self._waiting[key] = Entry(
            key=key, token=token, provider=provider, claim=claim, spent=spent, reply=reply
        )
        return True

    async def _commit(self, statements: Sequence[Statement]) -> list[None]:
        await self._off_loop(self._transact, statements)
        return [None] * len(statements)

    def _transact(self, statements: Sequence[Statement]) -> None:
        try:
            self._database.execute("begin immediate")
            for statement, values in statements:
                self._database.execute(statement, values)
            self._database.execute("commit")
        except sqlite3.Error:
            self._works = False
            if self._database.in_transaction:
                self._database.execute("rollback")
            raise

    def _later(self, statement: Statement) -> None:
        """Queue a statement that nobody waits for: should it fail, the entry is replayed, which does no harm."""
        self._commits.submit(statement).add_done_callback(lambda done: done.exception())

    async def _probe(self) -> None:
        """Try a write, with whatever could not be written before."""
        unkept = dict(self._unkept)
        try:
            for statement in (
                *unkept.values(),
                ("insert or replace into probe values (1, ?)", (self._next_key,)),
            ):
                await self._commits.submit(statement)
        except sqlite3.Error:
            self._works = False
            return
        for key in unkept:
            self._unkept.pop(key, None)
        self._works = True

    async def _off_loop(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _packed(reply: Reply) -> str:
    return json.dumps(
        [reply.status, reply.content_type, reply.retry_after, reply.whole, b64encode(reply.body).decode()]
    )


def _unpacked(packed: str, *, asked_at: datetime) -> Reply:
    status, content_type, retry_after, whole, body = json.loads(packed)
    return Reply(
        status=status,
        content_type=content_type,
        retry_after=retry_after,
        whole=whole,
        body=b64decode(body),
        asked_at=asked_at,
    )
