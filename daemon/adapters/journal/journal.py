"""The journal: provider replies that MongoDB has not confirmed, durable in SQLite and sealed.

A reply is durable here before anything reads it, because it may hold the only copy of the next refresh token. The file
and its thread are in `database.py`, a row and its seal in `row.py`. `pending.py` has the entries that block their tokens,
`parked.py` the sums over those that are kept for operators.
"""

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from daemon.adapters.journal.database import Database
from daemon.adapters.journal.disk_reserve import bytes_for, shortage
from daemon.adapters.journal.parked import Parked, Share, share_of
from daemon.adapters.journal.pending import Pending
from daemon.adapters.journal.row import KEY_ID, Row, entry_of, locked_of, row_of
from daemon.adapters.journal.sql import EXPIRE, FORGET, KEEP, LAST_KEY, MARK, PARKED, PENDING, RENAME, SCHEMA
from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.domain.claim import Claim, StoreLost
from daemon.domain.journal_entry import Entry, EntryState
from daemon.domain.locked import Locked
from daemon.domain.reply import Reply

LARGEST_KEY = 1 << 62  # no journal has ever so many entries, and SQLite's keys end soon behind it
SUPERSEDED_FOR = timedelta(days=7)  # a successor that a newer consent overtook can be salvaged this long


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
        """Reserve disk space for `in_flight` replies. Drop superseded entries that are old by `now`, the store's time.
        Omit both when opening a read-only copy. `unbound`: accept the rows of earlier versions.
        """
        self._database = Database(path, reserve_bytes=bytes_for(in_flight))
        self._keyring = keyring
        self._now = now
        self._unbound = unbound
        self._pending = Pending()
        self._parked = Parked()
        self._refused: dict[int, Row] = {}  # pending rows that the disk has not taken yet
        self._next_key = 1

    async def open(self) -> int:
        """Open the file, or create it, and load the waiting entries. Returns how many can't be opened.

        Raises JournalDamaged, or JournalFull; the file is never replaced, as it may hold the only copy of a token.
        """
        for row in await self._read():
            self._pending.add(self._opened(row), row)
        locked = self.locked
        for one in locked:
            self._mark_unusable(one.key)
        await self._probe_disk()
        return len(locked)

    def allow(self, in_flight: int) -> None:
        """Reserve room for so many replies, with the next probe."""
        self._database.reserve_bytes = bytes_for(in_flight)

    async def close(self) -> None:
        """Write the queued statements and close."""
        await self._probe_disk()
        await self._database.close()

    # ---------------------------------------------------------------- the port

    async def keep(self, claim: Claim, reply: Reply) -> Entry:
        """Make `reply` durable. Never fails: a reply that the disk refuses is held in memory, and `writable` is false."""
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
        self._pending.add(entry, row)
        try:
            await self._database.write((KEEP, row))
        except Exception:  # noqa: BLE001  whatever it was: a reply in hand is not thrown away
            self._refused[entry.key] = row
        return entry

    def forget(self, entry: Entry) -> None:
        """The store has it: drop the entry with the next commit."""
        self._pending.drop(entry.key)
        self._refused.pop(entry.key, None)
        self._database.write_later((FORGET, (entry.key,)))

    def park(self, entry: Entry | Locked, state: EntryState) -> None:
        """Keep the entry for operators. An unusable one still blocks its token and is tried again with each replay; any
        other is done with.
        """
        if state is EntryState.UNUSABLE:
            self._mark_unusable(entry.key)
            return
        if (dropped := self._pending.drop(entry.key)) is not None:
            self._parked.add(state, Share(entry.provider, dropped.key_id, dropped.size))
        refused = self._refused.pop(entry.key, None)
        # If the mark is not written, the entry is replayed after a restart, which does no harm.
        mark = (MARK, (state, entry.key)) if refused is None else (KEEP, refused._replace(state=state))
        self._database.write_later(mark)

    async def probe(self) -> None:
        """Find out whether the disk takes writes and has room, write what it refused before, and open the entries whose
        key is back.
        """
        await self._probe_disk()
        self._pending.unlock(self._opened)

    def entries(self) -> Sequence[Entry]:
        """The entries to be replayed, oldest first."""
        return self._pending.entries

    @property
    def tokens(self) -> Collection[str]:
        return self._pending.tokens

    @property
    def locked(self) -> Sequence[Locked]:
        """The entries that can't be opened. The first probe after their key is back opens them."""
        return self._pending.locked

    @property
    def crowded(self) -> Collection[str]:
        """The providers whose parked replies take so much of the disk that no more may come."""
        return self._parked.crowded

    @property
    def writable(self) -> bool:
        return self.trouble is None

    # ---------------------------------------------------------------- for people

    @property
    def trouble(self) -> str | None:
        """Why a reply that comes now might not be kept; None: it would be."""
        if self._refused:
            count, why = len(self._refused), self._database.failure
            return f"the disk rejected replies, which are held in memory: {count} ({why})"
        return self._database.trouble

    @property
    def count(self) -> int:
        """How many replies wait, including those that can't be replayed now."""
        return len(self._pending)

    @property
    def bytes_by_state(self) -> Mapping[str, int]:
        """How many bytes of sealed replies the journal has, in each state."""
        sums = self._pending.bytes + self._parked.bytes
        return {state: sums[state] for state in EntryState}

    @property
    def sealed_with(self) -> Mapping[str, tuple[int, int]]:
        """How many entries each key has sealed, by its id: those that wait or are unusable, those that are parked."""
        pending, parked = self._pending.sealed_with, self._parked.sealed_with
        ids = {key_id for key_id in pending + parked if KEY_ID.fullmatch(key_id)}
        return {key_id: (pending[key_id], parked[key_id]) for key_id in ids}

    # ---------------------------------------------------------------- entries

    def _opened(self, row: Row) -> Entry | Locked:
        try:
            return entry_of(row, self._keyring(), unbound=self._unbound)
        except DecryptionError as why:
            return locked_of(row, str(why))

    def _mark_unusable(self, key: int) -> None:
        if self._pending.mark_unusable(key):
            self._database.write_later((MARK, (EntryState.UNUSABLE, key)))

    # ---------------------------------------------------------------- the file

    async def _read(self) -> Sequence[Row]:
        """Open the file and return the rows of the entries that wait. Parked ones are only counted: they may be large.

        Raises JournalDamaged, JournalFull.
        """
        try:
            await self._database.open(SCHEMA)
            await self._database.execute(RENAME)
            for state, *one in await self._database.execute(PARKED):
                self._parked.add(EntryState(state), share_of(*one))
            ((last,),) = await self._database.execute(LAST_KEY)
            if last is not None and last >= LARGEST_KEY:
                raise sqlite3.DatabaseError("a key in it is out of range")
            self._next_key = (last or 0) + 1
            return [_pending(row) for row in await self._database.execute(PENDING)]
        except (sqlite3.Error, OSError) as why:
            await self._database.give_up()
            raise _unopened(self._database.path, why) from None

    async def _probe_disk(self) -> None:
        await self._database.make_room()
        if self._database.shortage is None:  # else the reserve is for replies
            await self._expire()
        refused = list(self._refused.items())
        # An entry that is forgotten during these writes is deleted after its insert.
        failures = await self._database.try_writes([(KEEP, row) for _, row in refused])
        for (key, _), failure in zip(refused, failures, strict=True):
            if failure is None:
                self._refused.pop(key, None)

    async def _expire(self) -> None:
        """Drop what was superseded long ago, by the store's time, which no jump of this machine's clock moves; not
        before that is known. A disk that refuses is noticed by the probe's own write.
        """
        with suppress(StoreLost, sqlite3.Error):
            if self._now is not None:
                before = (self._now() - SUPERSEDED_FOR).isoformat()
                for one in await self._database.execute(EXPIRE, (before,)):
                    self._parked.remove(EntryState.SUPERSEDED, share_of(*one))


def _pending(columns: Sequence[Any]) -> Row:
    """Return the row of an entry that blocks its token. One with an unknown state waits: its replay does no harm."""
    row = Row._make(columns)
    return (
        row
        if row.state in (EntryState.WAITING, EntryState.UNUSABLE)
        else row._replace(state=EntryState.WAITING)
    )


def _unopened(path: Path, why: Exception) -> JournalDamaged:
    """Explain why the file could not be opened."""
    if path.parent.is_dir() and (lack := shortage(path.parent)) is not None:
        return JournalFull(f"the journal can't be opened ({why}): {lack}. Make room")
    return JournalDamaged(
        f"{path}: the journal can't be used ({why}). It may hold tokens that exist nowhere else: check"
        " the disk and the permissions; if the file is damaged, move it aside and keep it"
    )
