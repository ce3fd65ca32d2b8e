"""Files that somebody else may have made: none of their SQL runs, none is copied without an end."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from daemon.adapters.journal.foreign_file import copy_whole, distrust, require_ours
from daemon.adapters.journal.inspection import copied, listed, revealed
from daemon.adapters.journal.journal import JournalDamaged
from daemon.adapters.journal.sql import SCHEMA
from daemon.adapters.keyring import KeyRing
from tests.faults.small_disk import small_disk

RING = KeyRing({"a": b"\x07" * 32}, active="a")
FIRST_SCHEMA = """
create table entries (key integer primary key, token text not null, provider text not null, claim text not null,
  spent text, -- the sealed refresh token that was presented
  asked_at text not null, reply text not null, state text not null) strict;
create table probe (id integer primary key, at integer not null) strict;
"""
ENDLESS = "with recursive r(n) as (select 1 union all select n + 1 from r) select n from r"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "found.db"


def make(file: Path, sql: str) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.executescript(sql)


def refused(file: Path, tmp_path: Path) -> str:
    """What is said of a file that is not even copied to be opened; listing and revealing refuse it, too."""
    said = set()
    copies = tmp_path / "copies"
    copies.mkdir()
    for look in (
        lambda: copied(file, copies, everything=True),
        lambda: listed(file, RING),
        lambda: revealed(file, 1, RING),
    ):
        with pytest.raises(JournalDamaged) as why:
            look()
        said.add(str(why.value))
    assert len(said) == 1
    return said.pop()


@pytest.mark.parametrize(
    "sql",
    [
        f"create view entries as {ENDLESS}",
        f"create table z (a); create index superseded on z (a); create view entries as {ENDLESS}",
        SCHEMA + "create trigger t after insert on probe begin delete from entries; end",
        SCHEMA + "create view v as select 1",
        SCHEMA + "create table other (a)",
        SCHEMA + "create index other on entries (token)",
        SCHEMA.replace("state text not null", "state text as (hex(token))"),
        SCHEMA.replace("state text not null", "state text not null check (length(state) > 0)"),
        SCHEMA.replace(" strict", ""),
        SCHEMA.replace("text not null", "blob not null"),
        SCHEMA.replace("where state = 'superseded'", "where state = 'waiting'"),
        SCHEMA.replace("on entries (asked_at)", "on entries (hex(asked_at))"),
        "create virtual table entries using fts5(key, token)",
        "create table probe (id integer primary key, at integer not null) strict",
        'create table "quoted \' name\x1b[2J" (a)',
    ],
)
def test_a_file_with_any_other_tables_than_a_journals_is_refused(file, tmp_path, sql):
    """Before anything is read from it: a view's SQL would run, and need never end."""
    make(file, sql)
    said = refused(file, tmp_path)
    assert "can't read this as a journal" in said
    assert said.isprintable()


@pytest.mark.parametrize("sql", [FIRST_SCHEMA, SCHEMA, SCHEMA.replace("--", "-- another comment; drop")])
def test_a_journal_of_any_version_is_known_by_its_tables(file, tmp_path, sql):
    """Comments and layout differ between versions, and the first ones had no index."""
    make(file, sql)
    assert listed(file, RING) == []
    assert copied(file, tmp_path, everything=True).exists()


def test_rows_of_other_types_than_the_tables_are_refused(file, tmp_path):
    """A table says that it is strict; what stands in it was written before it said so."""
    loose = SCHEMA.replace(" strict", "").replace(" not null", "")
    make(file, loose + "insert into entries values (1, 5, null, x'00', 3.5, 7, x'0001', 'waiting');")
    with closing(sqlite3.connect(file)) as database:
        database.execute("pragma writable_schema = on")
        with closing(sqlite3.connect(":memory:")) as ours:
            ours.executescript(SCHEMA)
            for name, sql in ours.execute("select name, sql from sqlite_schema").fetchall():
                database.execute("update sqlite_schema set sql = ? where name = ?", (sql, name))
        database.commit()
    for look in (lambda: listed(file, RING), lambda: revealed(file, 1, RING)):
        with pytest.raises(JournalDamaged, match="wrong types"):
            look()
    with pytest.raises(JournalDamaged, match="integrity check"):
        copied(file, tmp_path, everything=False)


def test_a_statement_without_an_end_is_interrupted():
    """Should SQL of a file's author ever run, it does not run for long; and a small file's share is enough for it."""
    with closing(sqlite3.connect(":memory:")) as database:
        distrust(database, size=0)
        database.executescript(SCHEMA)
        require_ours(database)
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            database.execute(f"select max(n) from ({ENDLESS})").fetchone()


def test_a_journal_takes_fewer_steps_than_it_has_bytes(file):
    """The limit grows with the file, one step for each byte: no journal's own size interrupts its reading."""
    make(
        file,
        SCHEMA
        + "insert into entries with recursive r(n) as (select 1 union all select n + 1 from r limit 2000)"
        " select n, 'acme:' || n, 'acme', hex(randomblob(16)), null, '2026-11-21T12:00:00+00:00',"
        " 'v1.a.' || hex(randomblob(200)), 'superseded' from r;",
    )
    steps = iter(range(file.stat().st_size))
    with closing(sqlite3.connect(file)) as database:
        database.set_progress_handler(lambda: next(steps, None) is None, 1)
        assert database.execute("pragma quick_check").fetchone() == ("ok",)
        assert len(database.execute("select * from entries order by key").fetchall()) == 2000


# ---------------------------------------------------------------- copies


def test_only_a_regular_file_is_copied(file, tmp_path):
    """A pipe has no end, a device may be anything, and a link may lead to what only root may read."""
    target = tmp_path / "copy"
    os.mkfifo(file)
    (tmp_path / "link").symlink_to(__file__)
    for source in (file, tmp_path / "link", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="a link, a pipe or a device"):
            copy_whole(source, target)
    assert not target.exists()


def test_a_write_ahead_file_is_looked_at_like_the_file_itself(file, tmp_path):
    """Beside a good journal a link would be followed into the copy."""
    make(file, SCHEMA)
    file.with_name("found.db-wal").symlink_to("/etc/hostname")
    with pytest.raises(JournalDamaged, match=r"found\.db-wal: can't copy it \(it is a link"):
        copied(file, tmp_path, everything=False)


def test_a_file_of_holes_is_not_copied_but_a_small_one_is(file, tmp_path):
    """A hole costs its author nothing. The room that a journal reserves may have become one in its copy."""
    with file.open("wb") as holes:
        holes.truncate(40 << 30)
    with pytest.raises(OSError, match="it is mostly holes"):
        copy_whole(file, tmp_path / "copy")
    with file.open("wb") as holes:
        holes.write(b"begin")
        holes.truncate(16 << 20)
    copy_whole(file, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()


def test_no_copy_fills_the_disk_that_it_is_made_on(file, tmp_path):
    """It is said beforehand, and how to name another directory."""
    with small_disk(tmp_path / "small", mebibytes=16) as small:
        file.write_bytes(bytes(14 << 20))
        with pytest.raises(OSError, match=r"has .* MiB free and needs .*TMPDIR"):
            copy_whole(file, small.directory / "copy")
        assert small.free > 14 << 20
