"""How many entries of a journal each key has sealed."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from daemon.adapters.journal import SqliteJournal
from daemon.adapters.journal_keys import Entries, entries_by_key
from daemon.adapters.keyring import KeyRing
from daemon.domain.claim import Claim
from daemon.domain.dialect import Reply
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token

KEYS = {"old": b"o" * 32, "new-1_A": b"n" * 32}


def claim(account):
    token = Token(
        id=f"xero:{account}",
        provider="xero",
        account=account,
        state=State.ACTIVE,
        refresh_token=Secret("refresh"),
    )
    return Claim(token=token, id="c", spent="sealed", deadline=timedelta(0))


REPLY = Reply(
    status=200,
    content_type="application/json",
    retry_after=None,
    whole=True,
    body=b"{}",
    asked_at=datetime(2026, 1, 1, tzinfo=UTC),
)


async def test_entries_are_counted_by_the_key_that_sealed_them(tmp_path):
    """What waits or is unusable, and what is kept for people; read beside the daemon that writes."""
    ring = KeyRing(KEYS, active="old")
    journal = SqliteJournal(tmp_path / "journal.db", keyring=lambda: ring)
    await journal.open()
    assert entries_by_key(tmp_path / "journal.db") == {}
    old = [await journal.keep(claim(f"old-{n}"), REPLY) for n in range(4)]
    ring = KeyRing(KEYS, active="new-1_A")
    await journal.keep(claim("new"), REPLY)
    journal.retain(old[0], "superseded")
    journal.retain(old[1], "unread")
    journal.retain(old[2], "unusable")
    await journal.entries()
    assert entries_by_key(tmp_path / "journal.db") == {
        "old": Entries(journal=2, kept=2),
        "new-1_A": Entries(journal=1, kept=0),
    }
    await journal.close()


def test_a_file_that_is_no_journal_is_not_counted_as_empty(tmp_path):
    """Else somebody would take a key away that it needs."""
    (tmp_path / "journal.db").write_bytes(b"SQLite format 3\x00 but not really" * 100)
    with pytest.raises(sqlite3.Error):
        entries_by_key(tmp_path / "journal.db")
    with pytest.raises(sqlite3.Error):
        entries_by_key(tmp_path / "gone.db")
