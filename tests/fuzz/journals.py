"""A journal's file, damaged in any way: it is refused with what to do and left as it is, or every entry in it is there.

The files are real, and the journal that opens them is the daemon's. An entry may be lost only with the write-ahead file:
SQLite drops what follows a damaged frame, as after a power cut.
"""

import asyncio
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from datetime import timedelta
from functools import cache
from pathlib import Path

from hypothesis import strategies as st

from daemon.adapters.journal.inspection import copied, is_whole, listed
from daemon.adapters.journal.journal import JournalDamaged, SqliteJournal
from daemon.adapters.keyring import KeyRing
from daemon.domain.claim import Claim
from daemon.domain.journal_entry import EntryState
from daemon.domain.reply import Reply
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from tests.domain.replies import ASKED

RING = KeyRing({"k": b"k" * 32}, active="k")
BODIES = [b'{"access_token": "a%d"}' % number * (1 + number * 40) for number in range(12)]
PARKED = {2: EntryState.UNPARSED, 5: EntryState.SUPERSEDED}  # entries by their position
UNUSABLE = 7
WAITING = len(BODIES) - len(PARKED)
Files = Mapping[str, bytes]  # by suffix: "" and "-wal"

# What another program can do to the file with SQL. Each leaves a file that SQLite itself finds sound.
STATEMENTS = {
    "another table": "create table other (a)",
    "a trigger": "create trigger t after insert on entries begin delete from entries; end",
    "a view in its place": "alter table entries rename to e2; create view entries as select * from e2",
    "a table of other columns": "drop table entries; create table entries (key integer primary key, token text)",
    "a table of one column more": "alter table entries add column more text",
    "a table of any types": (
        "create table e2 as select * from entries; drop table entries; alter table e2 rename to entries;"
        "update entries set reply = cast(reply as blob), token = 5"
    ),
    "no table": "drop table entries",
    "no probe": "drop table probe",
    "no index": "drop index superseded",
    "an unknown state": "update entries set state = 'waitin' where key = 1",
    "no state": "update entries set state = ''",
    "the largest key": "update entries set key = 9223372036854775807 where key = 1",
    "a negative key": "update entries set key = -5 where key = 1",
    "no time": "update entries set asked_at = 'never'",
    "an odd time": "update entries set asked_at = '0001-01-01T00:00:00+23:59'",
    "no reply": "update entries set reply = ''",
    "a huge reply": "update entries set reply = 'v1.k.' || hex(zeroblob(3000000)) where key = 1",
    "a reply that isn't sealed": "update entries set reply = 'v1.k.x' || char(0) || 'é.' where key = 1",
    "a huge token": "update entries set token = hex(zeroblob(1000000)) where key = 1",
    "an odd claim": "update entries set claim = char(0)",
    "text that isn't UTF-8": "update entries set token = cast(x'ff00fe' as text) where key = 1",
    "an entry twice": "insert into entries select key + 100, token, provider, claim, spent, asked_at, reply, state from entries",
}
KEEPS_ALL = {
    "no index",
    "no probe",
    "an unknown state",
    "no state",
    "a negative key",
    "an entry twice",
    "no time",
}


def cases() -> st.SearchStrategy[dict]:
    places = st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=8
    )
    damage = st.one_of(
        st.fixed_dictionaries({"kind": st.just("flip"), "file": st.sampled_from(["", "-wal"]), "at": places}),
        st.fixed_dictionaries(
            {
                "kind": st.just("cut"),
                "file": st.sampled_from(["", "-wal"]),
                "to": st.floats(0, 1, exclude_max=True),
            }
        ),
        st.fixed_dictionaries(
            {"kind": st.just("pages"), "of": st.integers(0, 11), "onto": st.integers(0, 11)}
        ),
        st.fixed_dictionaries({"kind": st.just("sql"), "what": st.sampled_from(sorted(STATEMENTS))}),
        st.fixed_dictionaries(
            {"kind": st.sampled_from(["no wal", "foreign wal", "wal of noise", "no file"])}
        ),
    )
    return st.fixed_dictionaries({"wal": st.booleans(), "damage": damage})


def check(case: dict) -> None:
    before = sound(wal=case["wal"])
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "state", "journal.db")
        path.parent.mkdir()
        after = damaged(before, case["damage"], Path(directory))
        written(path, after)
        for look in (
            is_whole,
            lambda path: listed(path, RING),
            lambda path: in_a_copy(path, Path(directory)),
        ):
            with suppress(JournalDamaged):
                look(path)
        written(path, after)
        asyncio.run(opened(path, after, may_lose=may_lose(case)))


def may_lose(case: dict) -> bool:
    """Whether entries can be gone without a trace: with their write-ahead file, or because an operator's SQL took them."""
    damage = case["damage"]
    if damage["kind"] == "sql":
        return damage["what"] not in KEEPS_ALL
    emptied = damage["kind"] == "cut" and not damage["file"] and damage["to"] * len(sound(wal=False)[""]) < 1
    return case["wal"] or emptied or damage["kind"] in {"no file", "foreign wal"}


async def opened(path: Path, files: Files, *, may_lose: bool) -> None:
    """Open the journal as the daemon does, and use it."""
    before = readable_rows(path)
    written(path, files)  # looking at it has made a file of shared memory
    journal = SqliteJournal(path, keyring=lambda: RING, now=lambda: ASKED)
    if (refusal := await _refusal(journal)) is not None:
        assert str(path) in refusal
        assert "move it aside and keep it" in refusal
        after = {suffix: content(path, suffix) for suffix in files}
        assert after == files or readable_rows(path) == before, "a damaged file was changed"
        return
    try:
        assert all(entry.reply.body in BODIES for entry in journal.entries()), (
            "an altered reply passes for a reply"
        )
        assert may_lose or journal.count >= WAITING, (
            f"{WAITING - journal.count} entries are gone, and nothing says so"
        )
        had = journal.count
        assert not {entry.key for entry in journal.entries()} & {one.key for one in journal.locked}
        await journal.keep(claim(99), reply(b"new"))
        await journal.probe()
        trouble = journal.trouble
    finally:
        await journal.close()
    again = SqliteJournal(path, keyring=lambda: RING, now=lambda: ASKED)
    await again.open()
    try:
        assert trouble or again.count == had + 1, "a reply that was kept is gone"
    finally:
        await again.close()


async def _refusal(journal: SqliteJournal) -> str | None:
    try:
        await journal.open()
    except JournalDamaged as why:
        return str(why)
    return None


# ---------------------------------------------------------------- files


@cache
def sound(*, wal: bool, seed: int = 0) -> Files:
    """The files of a journal with entries of each state: after a clean stop, or as a kill leaves them."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "journal.db")
        return asyncio.run(_filled(path, wal=wal, seed=seed))


async def _filled(path: Path, *, wal: bool, seed: int) -> Files:
    journal = SqliteJournal(path, keyring=lambda: RING)
    await journal.open()
    for number, body in enumerate(BODIES):
        entry = await journal.keep(claim(number + seed), reply(body))
        if number in PARKED:
            journal.park(entry, PARKED[number])
        if number == UNUSABLE:
            journal.park(entry, EntryState.UNUSABLE)
        if number == len(BODIES) // 2 and wal:
            await journal._database._off_loop(
                lambda: journal._database._connection.execute("pragma wal_checkpoint(full)").fetchone()
            )
    await journal.probe()
    files = {"": path.read_bytes(), "-wal": content(path, "-wal")}
    await journal.close()
    return files if wal else {"": path.read_bytes()}


def damaged(files: Files, damage: dict, directory: Path) -> Files:  # noqa: PLR0911  one for each kind
    """The files after `damage`."""
    match damage["kind"]:
        case "flip" if files.get(damage["file"]):
            data = bytearray(files[damage["file"]])
            for share, mask in damage["at"]:
                data[int(share * len(data))] ^= mask
            return {**files, damage["file"]: bytes(data)}
        case "cut" if damage["file"] in files:
            data = files[damage["file"]]
            return {**files, damage["file"]: data[: int(damage["to"] * len(data))]}
        case "pages":
            data = bytearray(files[""])
            pages = len(data) // 4096
            of, onto = damage["of"] % pages * 4096, damage["onto"] % pages * 4096
            data[onto : onto + 4096] = data[of : of + 4096]
            return {**files, "": bytes(data)}
        case "sql":
            return changed(files, STATEMENTS[damage["what"]], directory)
        case "no wal":
            return {"": files[""]}
        case "foreign wal":
            return {**files, "-wal": sound(wal=True, seed=50)["-wal"]}
        case "wal of noise":
            return {**files, "-wal": bytes(range(256)) * 200}
        case "no file":
            return {suffix: data for suffix, data in files.items() if suffix}
        case _:
            return files


def changed(files: Files, sql: str, directory: Path) -> Files:
    path = directory / "elsewhere.db"
    written(path, files)
    with closing(sqlite3.connect(path)) as database:
        database.executescript(sql)
    return {"": path.read_bytes()}


def written(path: Path, files: Files) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    for suffix, data in files.items():
        path.with_name(path.name + suffix).write_bytes(data)


def content(path: Path, suffix: str) -> bytes:
    file = path.with_name(path.name + suffix)
    return file.read_bytes() if file.exists() else b""


def readable_rows(path: Path) -> object:
    """The entries as SQLite reads them, or its error: moving the write-ahead file into the file changes neither."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            database.text_factory = bytes
            return database.execute("select * from entries").fetchall()
    except sqlite3.Error as why:
        return str(why)


def in_a_copy(path: Path, directory: Path) -> Sequence[object]:
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        return listed(copied(path, Path(folder), everything=True), RING)


# ---------------------------------------------------------------- entries


def claim(number: int) -> Claim:
    token = Token(
        id=f"acme:{number}",
        provider="acme",
        account=str(number),
        state=State.ACTIVE,
        refresh_token=Secret(f"refresh-{number}"),
    )
    return Claim(token=token, id=f"claim-{number}", spent=f"v1.a.{number}", deadline=timedelta(days=1))


def reply(body: bytes) -> Reply:
    return Reply(
        status=200, content_type="application/json", retry_after=None, whole=True, body=body, asked_at=ASKED
    )
