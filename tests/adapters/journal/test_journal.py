"""The notebook on a real SQLite file: what `keep` returned from is there, whatever happens next."""

import asyncio
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.adapters.journal.database import Database
from daemon.adapters.journal.disk_reserve import LEAST_FREE, PER_REPLY, allocated, bytes_for
from daemon.adapters.journal.journal import JournalDamaged, SqliteJournal
from daemon.adapters.journal.parked import LIMIT
from daemon.adapters.journal.row import Row, row_of
from daemon.adapters.journal.sql import EXPIRE, KEEP, SCHEMA
from daemon.adapters.keyring import KeyRing
from daemon.domain.claim import Claim
from daemon.domain.journal_entry import Entry, EntryState
from daemon.domain.reply import Reply
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from tests.faults.small_disk import SmallDisk, small_disk

CANARY = "canary-successor-5417"
NOON = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
RING = KeyRing({"a": b"\x07" * 32}, active="a")


def claim(account: str = "1", spent: str = "v1.a.sealed") -> Claim:
    token = Token(
        id=f"acme:{account}",
        provider="acme",
        account=account,
        state=State.ACTIVE,
        refresh_token=Secret("spent"),
    )
    return Claim(token=token, id=f"claim-{account}", spent=spent, deadline=timedelta(0))


def reply(body: bytes = CANARY.encode(), *, asked_at: datetime = NOON) -> Reply:
    return Reply(
        status=200,
        content_type="application/json",
        retry_after="7",
        location="https://login.example/moved",
        body=body,
        whole=False,
        asked_at=asked_at,
    )


def journal_at(
    path: Path, ring: KeyRing = RING, *, in_flight: int = 0, unbound: bool = True
) -> SqliteJournal:
    return SqliteJournal(path, keyring=lambda: ring, in_flight=in_flight, now=lambda: NOON, unbound=unbound)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SqliteJournal]:
    journal = journal_at(path)
    await journal.open()
    yield journal
    await journal.close()


async def reopened(path: Path, ring: KeyRing = RING) -> list[Entry]:
    """What another process would find."""
    other = journal_at(path, ring)
    await other.open()
    try:
        return list(other.entries())
    finally:
        await other.close()


def rows(path: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as database:
        found = database.execute("select token, state from entries order by key").fetchall()
    database.close()
    return found


def alter(path: Path, column: str, value: object) -> None:
    """As somebody who may write to the file."""
    with sqlite3.connect(path) as database:
        database.execute(f"update entries set {column} = ?", (value,))
    database.close()


def seal_as_before(path: Path, ring: KeyRing = RING) -> None:
    """Make every row what earlier versions wrote: the reply alone, as a list."""
    with sqlite3.connect(path) as database:
        for key, token, sealed in database.execute("select key, token, reply from entries").fetchall():
            head, body = ring.open(sealed, token_id=token, field="journal").split("\n")
            _, _, status, content_type, retry_after, _, whole = json.loads(head)
            old = [status, content_type, retry_after, whole, body]
            text = ring.seal(json.dumps(old), token_id=token, field="journal")
            database.execute("update entries set reply = ? where key = ?", (text, key))
    database.close()


def connection_of(journal: SqliteJournal) -> sqlite3.Connection:
    return journal._database._connection


def refuse_writes(journal: SqliteJournal, *, refuse: bool = True) -> None:
    connection_of(journal).execute(f"pragma query_only = {int(refuse)}")


# ---------------------------------------------------------------- keep, forget, park


async def test_a_kept_reply_is_found_by_the_next_process_to_the_last_bit(journal, path):
    """Everything that reading it needs comes back: bytes, headers, time of asking, whether it was whole."""
    body = bytes(range(256))
    kept = await journal.keep(claim(), reply(body))
    assert journal.entries() == [kept]
    assert await reopened(path) == [kept]
    assert kept.reply == reply(body)
    assert (kept.token, kept.provider, kept.claim, kept.spent) == ("acme:1", "acme", "claim-1", "v1.a.sealed")


async def test_an_entry_knows_which_field_was_spent(journal, path):
    """An exchange grant presents its access token: a result is fenced on that field, also after a restart."""
    kept = await journal.keep(replace(claim(), spent_field="access_token"), reply())
    assert kept.spent_field == "access_token"
    assert await reopened(path) == [kept]


async def test_no_file_of_the_journal_holds_a_reply_in_the_clear(journal, tmp_path):
    """The canary in the reply is in neither the database nor its -wal, and both are for the owner's eyes alone."""
    await journal.keep(claim(), reply())
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["journal.db", "journal.db-shm", "journal.db-wal"]
    for file in files:
        assert CANARY.encode() not in file.read_bytes()
        assert file.stat().st_mode & 0o077 == 0
    assert b"acme:1" in (tmp_path / "journal.db-wal").read_bytes()  # the search would have found it


async def test_an_entry_does_not_print_its_reply(journal):
    """What the provider sent is in no repr of the entry."""
    assert CANARY not in repr(await journal.keep(claim(), reply()))


async def test_a_forgotten_entry_is_gone_for_good(journal, path):
    """Not waiting any more, not blocking its token, and not found by the next process."""
    kept = await journal.keep(claim(), reply())
    assert journal.tokens == {"acme:1"}
    journal.forget(kept)
    assert journal.tokens == set()
    await journal.probe()
    assert journal.entries() == []
    assert await reopened(path) == []
    assert rows(path) == []


async def test_a_forgotten_entry_is_deleted_with_the_next_reply(journal, path):
    """One transaction for both, since nobody waits for the deletion."""
    journal.forget(await journal.keep(claim(), reply()))
    await journal.keep(claim("2"), reply())
    assert rows(path) == [("acme:2", "waiting")]


async def test_what_nobody_awaits_is_written_before_the_file_is_closed(path):
    """A clean end leaves nothing to the next start."""
    database = Database(path, reserve_bytes=0)
    await database.open(SCHEMA)
    database.write_later(
        (KEEP, Row(1, "acme:1", "acme", "claim-1", None, NOON.isoformat(), "v1.a.x", "waiting"))
    )
    await database.close()
    assert rows(path) == [("acme:1", "waiting")]


@pytest.mark.parametrize("state", [EntryState.UNPARSED, EntryState.SUPERSEDED])
async def test_a_parked_entry_stays_in_the_file_and_blocks_nothing(journal, path, state):
    """It waits for people: marked in the file, neither replayed nor in its token's way, now and after a restart."""
    journal.park(await journal.keep(claim(), reply()), state)
    assert journal.tokens == set()
    await journal.probe()
    assert journal.entries() == []
    assert await reopened(path) == []
    assert rows(path) == [("acme:1", state)]


async def test_a_token_is_blocked_until_the_last_of_its_entries_is_gone(journal):
    """Two replies of one token, one of another: each is counted, and forgotten twice is forgotten once."""
    first, second = [await journal.keep(claim(), reply()) for _ in range(2)]
    other = await journal.keep(claim("2"), reply())
    journal.forget(first)
    journal.forget(first)
    assert journal.tokens == {"acme:1", "acme:2"}
    journal.park(second, EntryState.SUPERSEDED)
    journal.park(second, EntryState.SUPERSEDED)
    assert journal.tokens == {"acme:2"}
    journal.forget(other)
    assert journal.tokens == set()


async def test_an_unusable_entry_goes_on_blocking_its_token(journal, path):
    """Its reply may hold the only successor: until it can be replayed, what it spent is not presented again."""
    kept = await journal.keep(claim(), reply())
    journal.park(kept, EntryState.UNUSABLE)
    assert journal.tokens == {"acme:1"}
    await journal.probe()
    assert journal.entries() == [kept]
    assert rows(path) == [("acme:1", "unusable")]
    assert await reopened(path) == [kept]
    journal.forget(kept)
    await journal.probe()
    assert journal.entries() == []
    assert await reopened(path) == []


async def test_keys_go_on_after_a_restart(path):
    """A new entry never takes the place of one that is still there."""
    first = journal_at(path)
    await first.open()
    kept = [await first.keep(claim(name), reply()) for name in "abc"]
    first.forget(kept[0])
    await first.close()
    second = journal_at(path)
    await second.open()
    later = await second.keep(claim("d"), reply())
    assert later.key > kept[-1].key
    assert [entry.token for entry in second.entries()] == ["acme:b", "acme:c", "acme:d"]
    await second.close()


@pytest.mark.parametrize("restarted", [True, False], ids=["at a start", "while running"])
async def test_superseded_entries_are_kept_for_seven_days(path, restarted):
    """A successor that a newer consent overtook can be salvaged for a week, and is then dropped."""
    journal = journal_at(path)
    await journal.open()
    for name, age in (("old", timedelta(days=8)), ("young", timedelta(days=6))):
        journal.park(await journal.keep(claim(name), reply(asked_at=NOON - age)), EntryState.SUPERSEDED)
    long_ago = NOON - timedelta(days=400)
    journal.park(await journal.keep(claim("unparsed"), reply(asked_at=long_ago)), EntryState.UNPARSED)
    waiting = await journal.keep(claim("waiting"), reply(asked_at=long_ago))
    if restarted:
        await journal.close()
        assert await reopened(path) == [waiting]
    else:
        await journal.probe()
        assert journal.entries() == [waiting]
    assert rows(path) == [
        ("acme:young", "superseded"),
        ("acme:unparsed", "unparsed"),
        ("acme:waiting", "waiting"),
    ]
    if not restarted:
        await journal.close()


async def test_the_drop_of_old_entries_costs_nothing_while_there_are_none(journal):
    """It is tried with every probe, so it must go by an index that holds superseded entries alone."""
    plan = connection_of(journal).execute(f"explain query plan {EXPIRE}", ("2026-11-21",)).fetchall()
    assert [step[3] for step in plan] == ["SCAN entries USING INDEX superseded"]


# ---------------------------------------------------------------- many at once


async def test_a_thousand_replies_at_once_share_a_few_transactions(journal):
    """All are durable when their callers go on, at the price of a handful of fsyncs."""
    transactions = []
    connection_of(journal).set_trace_callback(
        lambda statement: transactions.append(statement) if statement.lower() == "commit" else None
    )
    kept = await asyncio.gather(*(journal.keep(claim(str(n)), reply()) for n in range(1000)))
    assert len({entry.key for entry in kept}) == 1000
    assert 1 <= len(transactions) <= 4
    assert journal.count == 1000


async def test_a_lone_reply_is_durable_before_keep_returns(journal, path):
    """At the very moment that keep returns, another connection sees the entry."""
    await journal.keep(claim(), reply())
    assert rows(path) == [("acme:1", "waiting")]


async def test_every_commit_is_synced_to_the_disk(journal):
    """The settings that make a commit survive a power cut."""
    assert connection_of(journal).execute("pragma synchronous").fetchone() == (2,)
    assert connection_of(journal).execute("pragma journal_mode").fetchone() == ("wal",)


CHILD = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = [sys.argv[2]]
from test_journal import claim, journal_at, reply

async def main():
    journal = journal_at(Path(sys.argv[1]))
    await journal.open()
    await asyncio.gather(*(journal.keep(claim(str(n)), reply()) for n in range(20)))
    print("kept", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def child(path: Path) -> Iterator[list[asyncio.subprocess.Process]]:
    children: list[asyncio.subprocess.Process] = []
    yield children
    for one in children:
        if one.returncode is None:
            one.kill()


async def test_replies_survive_a_kill_right_after_keep(path, child):
    """SIGKILL gives no time to close anything; the next process finds every reply that keep returned from."""
    process = await kept_in_a_child(path, child)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert [entry.token for entry in await reopened(path)] == [f"acme:{n}" for n in range(20)]


async def kept_in_a_child(path: Path, child: list[asyncio.subprocess.Process]) -> asyncio.subprocess.Process:
    """Another process with a journal at `path`, in which it has kept twenty replies."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CHILD,
        str(path),
        str(Path(__file__).parent),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    child.append(process)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"kept\n"
    return process


# ---------------------------------------------------------------- a disk that refuses


async def test_a_disk_that_refuses_fails_no_keep_but_stops_the_asking(journal):
    """The reply is held in memory, its token is blocked, and `writable` says that nothing more may be asked."""
    assert journal.writable
    refuse_writes(journal)
    kept = await journal.keep(claim(), reply())
    assert not journal.writable
    assert journal.tokens == {"acme:1"}
    await journal.probe()
    assert journal.entries() == [kept]
    assert not journal.writable


async def test_it_recovers_by_itself_once_the_disk_takes_writes_again(journal, path):
    """The next probe, and nothing before it, writes the replies that were held in memory."""
    refuse_writes(journal)
    kept = [await journal.keep(claim(name), reply()) for name in "ab"]
    refuse_writes(journal, refuse=False)
    assert journal.entries() == kept
    assert not journal.writable
    await journal.probe()
    assert journal.entries() == kept
    assert journal.writable
    assert await reopened(path) == kept


@pytest.mark.parametrize("gone", ["journal.db", "journal.db-wal", "all", "directory", "replaced"])
async def test_a_file_that_is_gone_from_its_place_keeps_nothing(tmp_path, gone):
    """SQLite goes on with the old file, and a reply in it would be lost with the process."""
    home = tmp_path / "state"
    home.mkdir()
    path = home / "journal.db"
    journal = journal_at(path)
    await journal.open()
    await journal.keep(claim("0"), reply())
    away = tmp_path / "away"
    if gone == "directory":
        home.rename(away)
        home.mkdir()
    else:
        away.mkdir()
        for file in list(home.iterdir()) if gone in {"all", "replaced"} else [home / gone]:
            file.rename(away / file.name)
    if gone == "replaced":
        other = journal_at(path)
        await other.open()
        await other.close()
    kept = await journal.keep(claim("1"), reply())
    assert not journal.writable
    assert "was removed or replaced" in (journal.trouble or "")
    assert kept in journal.entries()
    await journal.probe()
    assert not journal.writable
    for file in away.iterdir():  # put back
        file.replace(home / file.name)
    await journal.probe()
    assert journal.writable
    assert [one.token for one in await reopened(path)] == ["acme:0", "acme:1"]
    await journal.close()


async def test_what_mongodb_has_by_then_needs_no_disk(journal, path):
    """Forgotten while it was only in memory, it is not written later; asking goes on once the disk is back."""
    refuse_writes(journal)
    kept = await journal.keep(claim(), reply())
    journal.forget(kept)
    await journal.probe()
    assert journal.entries() == []
    assert not journal.writable
    refuse_writes(journal, refuse=False)
    await journal.probe()
    assert journal.writable
    assert rows(path) == []


async def test_forgotten_while_it_was_being_rescued_it_does_not_come_back(journal, path):
    """A rescue to the disk that is under way when MongoDB confirms leaves nothing behind."""
    refuse_writes(journal)
    kept = await journal.keep(claim(), reply())
    refuse_writes(journal, refuse=False)
    rescue = asyncio.ensure_future(journal.probe())
    await asyncio.sleep(0)
    journal.forget(kept)
    await rescue
    await journal.probe()
    assert rows(path) == []


async def test_an_entry_that_an_earlier_version_named_unread_is_unparsed(path):
    """It is counted as such, and nothing presents its token again."""
    journal = journal_at(path)
    await journal.open()
    journal.park(await journal.keep(claim(), reply()), EntryState.UNPARSED)
    await journal.close()
    alter(path, "state", "unread")
    later = journal_at(path)
    await later.open()
    assert later.entries() == []
    assert later.bytes_by_state["unparsed"] > 0
    await later.close()
    assert rows(path) == [("acme:1", "unparsed")]


async def test_parked_while_it_was_only_in_memory_it_is_written_with_its_mark(journal, path):
    """An unread reply that the disk first refused is not taken for one to replay after a restart."""
    refuse_writes(journal)
    kept = await journal.keep(claim(), reply())
    refuse_writes(journal, refuse=False)
    journal.park(kept, EntryState.UNPARSED)
    await journal.probe()
    assert journal.writable
    assert rows(path) == [("acme:1", "unparsed")]


async def test_a_commit_that_failed_after_it_was_durable_does_no_harm(journal, path):
    """The entry is on the disk although its commit was reported as failed: trying again must not trip over it."""
    kept = await journal.keep(claim(), reply())
    journal._refused[kept.key] = row_of(kept, RING)
    await journal.probe()
    assert journal.entries() == [kept]
    assert journal.writable
    assert rows(path) == [("acme:1", "waiting")]


async def test_a_closed_database_fails_no_keep(path):
    """Even with the file closed underneath, a reply that came is not lost: memory has it."""
    journal = journal_at(path)
    await journal.open()
    connection_of(journal).close()
    kept = await journal.keep(claim(), reply())
    assert not journal.writable
    await journal.probe()
    assert journal.entries() == [kept]
    journal._database._thread.shutdown()


async def test_one_bad_statement_takes_no_other_with_it(journal, path):
    """A reply that can't be written, whatever the reason, fails alone; those of the same batch are durable."""
    kept = await asyncio.gather(
        *(journal.keep(one, reply()) for one in (claim("a"), claim("b"))),
        _keep_badly(journal),
    )
    assert rows(path) == [("acme:a", "waiting"), ("acme:b", "waiting")]
    assert [entry.token for entry in kept if entry] == ["acme:a", "acme:b"]
    await journal.probe()
    assert journal.writable


async def _keep_badly(journal: SqliteJournal) -> None:
    """An entry with an id that SQLite can't encode; the seal would refuse it before."""
    row = (99, "acme:\udcff", "acme", "c", None, "", "", "waiting")
    with pytest.raises(UnicodeEncodeError):
        await journal._database._commits.submit(("insert into entries values (?, ?, ?, ?, ?, ?, ?, ?)", row))


async def test_what_troubles_the_disk_is_said(journal):
    """For people: nothing while all is well, the refusal while it lasts, and what is held in memory meanwhile."""
    assert journal.trouble is None
    refuse_writes(journal)
    await journal.probe()
    refusal = "attempt to write a readonly database"
    assert journal.trouble == refusal
    await journal.keep(claim(), reply())
    assert journal.trouble == f"the disk rejected replies, which are held in memory: 1 ({refusal})"
    refuse_writes(journal, refuse=False)
    await journal.probe()
    assert journal.trouble is None


# ---------------------------------------------------------------- room beforehand


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", mebibytes=16) as disk:
        yield disk


async def test_room_is_allocated_before_anything_is_asked(path):
    """Open, a journal has its reserve on the disk already; it does not grow with use, and nothing is lost in it."""
    journal = journal_at(path, in_flight=32)
    await journal.open()
    wal = path.with_name("journal.db-wal")
    assert journal.writable
    assert allocated(wal) >= bytes_for(32)
    for n in range(500):
        journal.forget(await journal.keep(claim(str(n)), reply(b"x" * 4000)))
        if n % 50 == 0:
            await journal.probe()
    kept = await journal.keep(claim("last"), reply())
    assert allocated(wal) < bytes_for(32) + (5 << 20)  # SQLite starts the file anew with each thousand pages
    assert await reopened(path) == [kept]
    await journal.close()


async def test_more_room_can_be_asked_for_while_it_runs(path):
    """After a reload there may be more providers: the next probe reserves it."""
    journal = journal_at(path, in_flight=8)
    await journal.open()
    wal = path.with_name("journal.db-wal")
    assert allocated(wal) < bytes_for(16)
    journal.allow(64)
    await journal.probe()
    assert journal.writable
    assert allocated(wal) >= bytes_for(64)
    await journal.close()


async def test_a_disk_without_room_for_all_that_can_be_in_flight_is_not_asked_for(path):
    """Too little for so many replies: nothing is allocated, nothing may be asked, and both figures are told."""
    journal = journal_at(path, in_flight=1 << 50)
    await journal.open()
    assert not journal.writable
    assert re.fullmatch(rf"{path.parent} has [0-9.]+ MiB free and needs 7036\d+\.\d MiB", journal.trouble)
    assert allocated(path.with_name("journal.db-wal")) < 1 << 20
    await journal.close()


@pytest.mark.parametrize(
    ("size", "forgotten"), [(4_000, False), (30_000, False), (4_000, True), (8_000, True)]
)
async def test_every_reply_in_flight_finds_room_on_a_full_disk(path, disk, size, forgotten):
    """The disk is full to the last page when they come, each in a transaction of its own: all are durable."""
    journal = journal_at(disk.directory / "journal.db", in_flight=64)
    await journal.open()
    assert journal.writable
    disk.fill()
    kept = [await journal.keep(claim(str(n)), reply(bytes([n]) * size)) for n in range(64)]
    assert journal._refused == {}
    if forgotten:
        for entry in kept[1:]:
            journal.forget(entry)
            await journal._database._commits.flush()  # one transaction each: the dearest way
        kept = kept[:1]
    assert disk.free == 0
    shutil.copytree(disk.directory, path.parent / "after a crash", ignore=lambda *_: ["hog"])
    assert await reopened(path.parent / "after a crash" / "journal.db") == kept
    await journal.close()


async def test_a_disk_that_fills_up_stops_the_asking_with_the_next_commit(disk):
    """No probe is needed to see it. It recovers with the first probe that finds room again."""
    journal = journal_at(disk.directory / "journal.db", in_flight=64)
    await journal.open()
    disk.fill()
    assert journal.writable
    kept = await journal.keep(claim(), reply())
    assert not journal.writable
    assert journal.trouble == f"{disk.directory} has 0.0 MiB free and needs 4.0 MiB"
    await journal.probe()
    assert journal.entries() == [kept]
    assert not journal.writable
    disk.clear()
    assert not journal.writable
    await journal.probe()
    assert journal.writable
    await journal.close()


async def test_the_waiting_time_of_a_full_disk_does_not_eat_the_reserve(disk):
    """A disk may be full for weeks: what is tried meanwhile takes nothing of what is kept for replies."""
    journal = journal_at(disk.directory / "journal.db", in_flight=64)
    await journal.open()
    await journal.keep(claim(), reply())
    disk.fill()
    await journal.probe()
    used = connection_of(journal).total_changes
    for _ in range(100):
        await journal.probe()
    assert connection_of(journal).total_changes == used
    await journal.close()


async def test_a_journal_opens_on_a_full_disk_and_has_what_was_kept(disk, child):
    """The process was killed, and its disk is full when the next one starts: it replays, and asks nothing."""
    path = disk.directory / "journal.db"
    process = await kept_in_a_child(path, child)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    disk.fill()
    journal = journal_at(path, in_flight=64)
    await journal.open()
    await journal.probe()
    assert len(journal.entries()) == 20
    assert not journal.writable
    disk.clear()
    await journal.probe()
    assert len(journal.entries()) == 20
    assert journal.writable
    await journal.close()


def test_the_default_needs_no_big_disk():
    """256 requests in flight, and what must be free beside: a machine with 20 MiB to spare will do."""
    assert bytes_for(256) + LEAST_FREE == 20 << 20
    assert PER_REPLY == 64 << 10


async def test_the_room_is_behind_what_the_write_ahead_file_holds_and_not_from_its_beginning(path):
    """While somebody reads, frames stay where they are: the replies of the next sweep find room after them."""
    journal = journal_at(path, in_flight=32)
    await journal.open()
    wal = path.with_name("journal.db-wal")
    with sqlite3.connect(path) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from entries").fetchone()
        for n in range(100):
            await journal.keep(claim(str(n)), reply(b"x" * 20_000))
        _, frames, _ = connection_of(journal).execute("pragma wal_checkpoint(passive)").fetchone()
        await journal.probe()
    reader.close()
    assert frames * 4096 > bytes_for(32)
    assert allocated(wal) >= frames * 4096 + bytes_for(32)
    await journal.close()


# ---------------------------------------------------------------- what it takes of the disk


async def test_the_bytes_are_known_by_state_through_an_entrys_life(path):
    """What waits, what can't be replayed, what is kept for people; a restart counts the same."""
    journal = journal_at(path)
    await journal.open()
    kept = [await journal.keep(claim(str(n)), reply(bytes(100 * n))) for n in range(5)]
    sizes = dict(
        enumerate(size for (size,) in connection_of(journal).execute("select length(reply) from entries"))
    )
    assert journal.bytes_by_state == dict.fromkeys(("unparsed", "superseded", "unusable"), 0) | {
        "waiting": sum(sizes.values())
    }
    parked = (EntryState.UNPARSED, EntryState.SUPERSEDED, EntryState.UNUSABLE, EntryState.UNUSABLE)
    for entry, state in zip(kept, parked, strict=False):
        journal.park(entry, state)
    journal.park(kept[2], EntryState.UNUSABLE)
    expected = {"waiting": 4, "unparsed": 0, "superseded": 1}
    by_state = {state: sizes[n] for state, n in expected.items()} | {"unusable": sizes[2] + sizes[3]}
    assert journal.bytes_by_state == by_state
    await journal.close()
    again = journal_at(path)
    await again.open()
    assert again.bytes_by_state == by_state
    journal = again
    for entry in journal.entries():
        journal.forget(entry)
    assert journal.bytes_by_state == by_state | {"waiting": 0, "unusable": 0}
    await journal.close()


async def test_it_is_known_which_keys_its_entries_need(path):
    """By key id: what waits, also unusable or sealed with a key that is not here; and what is kept for people."""
    journal = journal_at(path)
    await journal.open()
    await journal.keep(claim("waiting"), reply())
    journal.park(await journal.keep(claim("unparsed"), reply()), EntryState.UNPARSED)
    await journal.close()
    journal = journal_at(path, KeyRing({"b": b"\x08" * 32}, active="b"))
    await journal.open()
    journal.forget(await journal.keep(claim("forgotten"), reply()))
    assert journal.sealed_with == {"a": (1, 1)}
    journal.park(await journal.keep(claim("superseded"), reply()), EntryState.SUPERSEDED)
    assert journal.sealed_with == {"a": (1, 1), "b": (0, 1)}
    await journal.close()


async def test_what_is_dropped_for_its_age_is_counted_no_more(path):
    """The sums follow the seven days of what was superseded."""
    journal = journal_at(path)
    await journal.open()
    journal.park(await journal.keep(claim(), reply(asked_at=NOON - timedelta(days=8))), EntryState.SUPERSEDED)
    assert journal.bytes_by_state["superseded"] > 0
    await journal.probe()  # writes the mark
    await journal.probe()
    assert rows(path) == []
    assert (journal.bytes_by_state["superseded"], journal.sealed_with) == (0, {})
    await journal.close()


async def test_a_provider_whose_parked_replies_fill_its_share_of_the_disk_is_crowded(path):
    """It alone, also after a restart; nothing is deleted, since any of them may hold the only copy of a token."""
    journal = journal_at(path)
    await journal.open()
    page, count = bytes(1 << 20), 0
    while "acme" not in journal.crowded:
        assert journal.bytes_by_state["unparsed"] <= LIMIT
        journal.park(await journal.keep(claim(str(count)), reply(page)), EntryState.UNPARSED)
        count += 1
    assert journal.bytes_by_state["unparsed"] > LIMIT
    assert journal.writable
    other = replace(claim(), token=replace(claim().token, id="other:1", provider="other"))
    journal.park(await journal.keep(other, reply(page)), EntryState.SUPERSEDED)
    assert journal.crowded == {"acme"}
    await journal.close()
    again = journal_at(path)
    await again.open()
    assert again.crowded == {"acme"}
    await again.probe()
    await again.close()
    assert len(rows(path)) == count + 1


async def test_what_waits_crowds_nobody(journal):
    """During an outage of MongoDB replies pile up: that is not the provider's heap."""
    for n in range(20):
        await journal.keep(claim(str(n)), reply(bytes(1 << 20)))
    assert journal.bytes_by_state["waiting"] > LIMIT
    assert not journal.crowded


# ---------------------------------------------------------------- rows that somebody changed


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("token", "acme:2"),
        ("provider", "other"),
        ("claim", "claim-2"),
        ("spent", "v1.a.what-the-database-holds-now"),
        ("spent", None),
        ("asked_at", "2026-11-21T12:00:01+00:00"),
        ("asked_at", "2026-11-21 12:00:00.123456+00:00"),
        ("reply", "v1.a.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        ("reply", "v1.$a.x"),
    ],
)
async def test_a_row_that_was_changed_does_not_open(path, column, value):
    """It can't lay its reply over another value. It is marked, counted, blocks its token, and is never deleted."""
    journal = journal_at(path)
    await journal.open()
    await journal.keep(claim(), reply())
    await journal.close()
    alter(path, column, value)
    journal = journal_at(path)
    assert await journal.open() == 1
    await journal.probe()
    assert journal.entries() == []
    token = value if column == "token" else "acme:1"
    assert (journal.tokens, journal.count, journal.bytes_by_state["waiting"]) == ({token}, 1, 0)
    assert journal.bytes_by_state["unusable"] > 0
    assert set(journal.sealed_with) == (set() if value == "v1.$a.x" else {"a"})
    assert [(one.token, one.key) for one in journal.locked] == [(token, 1)]
    await journal.close()
    assert rows(path) == [(token, "unusable")]


async def test_a_reply_under_another_rows_columns_does_not_open(journal, path):
    """Two replies of one token change places: neither opens."""
    first, second = [await journal.keep(claim(spent=spent), reply()) for spent in ("v1.a.one", "v1.a.two")]
    with sqlite3.connect(path) as database:
        sealed = dict(database.execute("select key, reply from entries"))
        database.execute("update entries set reply = ? where key = ?", (sealed[second.key], first.key))
        database.execute("update entries set reply = ? where key = ?", (sealed[first.key], second.key))
    database.close()
    other = journal_at(path)
    assert await other.open() == 2
    assert {one.why for one in other.locked} == {"its row was altered"}
    await other.close()


async def test_rows_of_an_earlier_version_are_replayed_from_the_own_file_after_an_upgrade(path):
    """Nothing that waited is lost by an update, and it blocks its token as before."""
    journal = journal_at(path)
    await journal.open()
    kept = await journal.keep(claim(), replace(reply(), location=None))
    await journal.close()
    seal_as_before(path)
    assert await reopened(path) == [kept]
    refusing = journal_at(path, unbound=False)
    assert await refusing.open() == 1
    assert "--old-entries" in refusing.locked[0].why
    await refusing.close()


@pytest.mark.parametrize("asked_at", ["nonsense", "2026-11-21T12:00:00"])
async def test_a_row_of_an_earlier_version_without_a_time_is_unusable_and_nothing_worse(path, asked_at):
    """Its columns prove nothing: what can't be compared with other times is not let in."""
    journal = journal_at(path)
    await journal.open()
    await journal.keep(claim(), reply())
    await journal.close()
    seal_as_before(path)
    alter(path, "asked_at", asked_at)
    journal = journal_at(path)
    assert await journal.open() == 1
    assert [one.asked_at for one in journal.locked] == [None]
    await journal.close()


async def test_a_locked_entry_that_a_newer_consent_overtook_blocks_no_more(path):
    """Set aside by the sweep, it is kept for its seven days like any other successor that came too late."""
    journal = journal_at(path)
    await journal.open()
    await journal.keep(claim(), reply())
    await journal.close()
    journal = journal_at(path, KeyRing({"b": b"\x08" * 32}, active="b"))
    await journal.open()
    (locked,) = journal.locked
    assert (locked.spent, locked.asked_at, locked.provider) == ("v1.a.sealed", NOON, "acme")
    journal.park(locked, EntryState.SUPERSEDED)
    assert (journal.tokens, journal.count, journal.locked) == (set(), 0, [])
    await journal.probe()
    assert journal.entries() == []
    await journal.close()
    assert rows(path) == [("acme:1", "superseded")]


# ---------------------------------------------------------------- files and keys that don't fit


async def test_a_file_that_is_no_database_is_refused_and_left_alone(path):
    """Whatever it is, it may hold tokens: named in the message, not touched."""
    path.write_bytes(b"this was a journal once" * 100)
    with pytest.raises(JournalDamaged, match=r"journal\.db.*move it aside"):
        await journal_at(path).open()
    assert path.read_bytes() == b"this was a journal once" * 100


async def test_a_damaged_file_is_refused_and_left_alone_with_its_wal(path, tmp_path):
    """A page that makes no sense: neither the file nor what its -wal holds is changed by looking at it."""
    journal = journal_at(path)
    await journal.open()
    for n in range(200):
        await journal.keep(claim(str(n)), reply(b"x" * 500))
    connection_of(journal).execute("pragma wal_checkpoint(truncate)")
    await journal.keep(claim("last"), reply())
    with path.open("r+b") as file:
        for page in range(3, 12):
            file.seek(page * 4096)
            file.write(b"\xff" * 200)
    before = {name: (tmp_path / name).read_bytes() for name in ("journal.db", "journal.db-wal")}
    assert before["journal.db-wal"]
    with pytest.raises(JournalDamaged, match=r"journal\.db"):
        await journal_at(path).open()
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    connection_of(journal).close()
    journal._database._thread.shutdown()


async def test_a_file_that_opens_and_contradicts_itself_is_refused_and_left_alone(path):
    """Every page can be read, but its count of free ones is wrong: made anew, it would lose what it holds."""
    journal = journal_at(path)
    await journal.open()
    await journal.keep(claim("1"), reply())
    await journal.close()
    with path.open("r+b") as file:
        file.seek(36)  # sqlite.org/fileformat2.html: the number of freelist pages
        file.write((5).to_bytes(4, "big"))
    before = path.read_bytes()
    with pytest.raises(JournalDamaged, match="integrity check"):
        await journal_at(path).open()
    assert path.read_bytes() == before


async def changed_by_sql(path: Path, sql: str) -> None:
    """A journal with one reply, in which another program has run `sql`."""
    journal = journal_at(path)
    await journal.open()
    await journal.keep(claim("1"), reply())
    await journal.close()
    with closing(sqlite3.connect(path)) as database:
        database.executescript(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "create trigger t after insert on entries begin delete from entries; end",
        "alter table entries add column more text",
        "create table e2 as select * from entries; drop table entries; alter table e2 rename to entries",
        "drop table entries",
        "update entries set key = 9223372036854775807",
    ],
    ids=["a trigger", "a column more", "a table without types", "no table", "the last key"],
)
async def test_a_file_that_is_not_as_a_journal_makes_it_is_refused_and_left_alone(path, sql):
    """SQLite finds it sound. The trigger would delete every reply that is kept, and the others end in a traceback."""
    await changed_by_sql(path, sql)
    before = path.read_bytes()
    with pytest.raises(JournalDamaged, match=r"journal\.db.*move it aside"):
        await journal_at(path).open()
    assert path.read_bytes() == before


async def test_an_entry_with_an_unknown_state_waits(path):
    """The state is not sealed. An entry that is not read would be lost without a word."""
    await changed_by_sql(path, "update entries set state = 'waitinh'")
    [entry] = await reopened(path)
    assert entry.reply == reply()


async def test_a_text_that_is_not_utf_8_hides_no_other_entry(path):
    """One flipped bit. The whole file was refused for it, with the text in the message."""
    journal = journal_at(path)
    await journal.open()
    for number in (1, 2):
        await journal.keep(claim(str(number)), reply())
    await journal.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("update entries set token = cast(x'ff61' as text) where key = 1")
    again = journal_at(path)
    assert await again.open() == 1
    assert [entry.token for entry in again.entries()] == ["acme:2"]
    assert [one.key for one in again.locked] == [1]
    await again.close()


@pytest.mark.parametrize("size", [1, 15, 16, 100])
async def test_the_beginning_of_a_file_is_no_new_journal(path, size):
    """SQLite takes a file of a few bytes for an empty database, and would begin it again."""
    journal = journal_at(path)
    await journal.open()
    await journal.keep(claim("1"), reply())
    await journal.close()
    beginning = path.read_bytes()[:size]
    path.write_bytes(beginning)
    with pytest.raises(JournalDamaged, match="move it aside"):
        await journal_at(path).open()
    assert path.read_bytes() == beginning


async def test_a_wal_without_its_file_is_refused_and_left_alone(path, tmp_path):
    """Somebody deleted the main file: SQLite would begin anew and delete the rest with the replies in it."""
    wal = tmp_path / "journal.db-wal"
    wal.write_bytes(b"replies" * 100)
    with pytest.raises(JournalDamaged, match="-wal"):
        await journal_at(path).open()
    assert wal.read_bytes() == b"replies" * 100
    assert not path.exists()


async def test_a_directory_that_is_not_there_is_said_so(tmp_path):
    """A path that can't be opened is one sentence with the path in it."""
    with pytest.raises(JournalDamaged, match="missing"):
        await journal_at(tmp_path / "missing" / "journal.db").open()


async def test_an_entry_without_its_key_blocks_its_token_until_the_key_is_back(path):
    """Sealed with a key that is not on the ring: counted, never presented again meanwhile, replayed afterwards."""
    ring = {"ring": RING}
    first = journal_at(path)
    await first.open()
    kept = await first.keep(claim(), reply())
    await first.close()
    ring["ring"] = KeyRing({"b": b"\x08" * 32}, active="b")
    second = SqliteJournal(path, keyring=lambda: ring["ring"])
    assert await second.open() == 1
    assert (second.tokens, second.count) == ({"acme:1"}, 1)
    await second.probe()
    assert second.entries() == []
    ring["ring"] = KeyRing({"a": b"\x07" * 32, "b": b"\x08" * 32}, active="b")
    await second.probe()
    assert second.entries() == [kept]
    assert (second.tokens, second.count) == ({"acme:1"}, 1)
    await second.close()


async def test_an_entry_of_the_earlier_key_is_replayed_after_another_became_active(path):
    """A reload puts a new key first and keeps the old one: what waits stays readable, in this process and the next."""
    ring = {"ring": RING}
    journal = SqliteJournal(path, keyring=lambda: ring["ring"])
    await journal.open()
    before = await journal.keep(claim("before"), reply(b"of the old key"))
    ring["ring"] = KeyRing({"a": b"\x07" * 32, "b": b"\x08" * 32}, active="b")
    after = await journal.keep(claim("after"), reply(b"of the new key"))
    assert journal.entries() == [before, after]
    await journal.close()
    assert await reopened(path, ring["ring"]) == [before, after]
    with sqlite3.connect(path) as database:
        sealed = [text for (text,) in database.execute("select reply from entries order by key")]
    database.close()
    assert [text.split(".")[1] for text in sealed] == ["a", "b"]


async def test_an_entry_whose_key_comes_back_while_it_is_marked_goes_on_being_counted_once(path):
    """Refused before for another reason, then without its key, then with it again: one entry, one token, all along."""
    first = journal_at(path)
    await first.open()
    kept = await first.keep(claim(), reply())
    first.park(kept, EntryState.UNUSABLE)
    await first.close()
    ring = {"ring": KeyRing({"b": b"\x08" * 32}, active="b")}
    second = SqliteJournal(path, keyring=lambda: ring["ring"])
    assert await second.open() == 1
    other = await second.keep(claim("2"), reply())
    assert (second.tokens, second.count) == ({"acme:1", "acme:2"}, 2)
    await second.probe()
    assert second.entries() == [other]
    ring["ring"] = KeyRing({"a": b"\x07" * 32, "b": b"\x08" * 32}, active="a")
    await second.probe()
    assert second.entries() == [kept, other]
    assert second.count == 2
    second.forget(kept)
    assert (second.tokens, second.count) == ({"acme:2"}, 1)
    await second.close()
    assert rows(path) == [("acme:2", "waiting")]
