"""Which keys a journal's entries are sealed with: while there is one, its key can't leave the ring."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from daemon.adapters.journal_row import UNUSABLE, WAITING

# The key's id stands between the first two dots of a sealed text.
_COUNT = f"""
select substr(reply, 4, instr(substr(reply, 4), '.') - 1), state in ('{WAITING}', '{UNUSABLE}'), count(*)
from entries where reply like 'v1.%' group by 1, 2
"""  # noqa: S608  constants
_BUSY = 5  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """How many entries one key has sealed: `journal` waits for the store, `kept` is retained for people."""

    journal: int = 0
    kept: int = 0


def entries_by_key(path: Path) -> Mapping[str, Entries]:
    """The entries of the file by key id, read beside the daemon that writes it. Raises sqlite3.Error."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY)) as database:
        rows = database.execute(_COUNT).fetchall()
    waiting = {key_id: count for key_id, waits, count in rows if waits}
    kept = {key_id: count for key_id, waits, count in rows if not waits}
    return {
        key_id: Entries(journal=waiting.get(key_id, 0), kept=kept.get(key_id, 0))
        for key_id in waiting.keys() | kept.keys()
    }
