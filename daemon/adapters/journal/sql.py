"""The journal's SQL: its tables and statements. Statements of one kind are merged."""

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter

UNPARSED_BEFORE = "unread"  # the name that earlier versions wrote for `unparsed`
SCHEMA = """
create table if not exists entries (
  key integer primary key,
  token text not null, provider text not null, claim text not null,
  spent text,               -- the sealed token that was presented
  asked_at text not null,
  reply text not null,      -- sealed, and bound to the columns before it
  state text not null       -- waiting | unparsed | superseded | unusable
) strict;
create index if not exists superseded on entries (asked_at) where state = 'superseded';
create table if not exists probe (id integer primary key, at integer not null) strict;
"""

RENAME = "update entries set state = 'unparsed' where state = 'unread'"
Statement = tuple[str, tuple[object, ...]]

# With each probe: by its index it looks at nothing but superseded entries, of which there are hardly any.
EXPIRE = (
    "delete from entries where state = 'superseded' and datetime(asked_at) < datetime(?)"
    " returning provider, substr(reply, 1, 80), length(reply)"
)
PENDING = "select * from entries where state in ('waiting', 'unusable') order by key"
RETAINED = "select state, provider, substr(reply, 1, 80), length(reply) from entries where state in ('unparsed', 'superseded')"
# Or replace: a failed commit may have been durable anyway, and is then tried again.
KEEP = "insert or replace into entries values (?, ?, ?, ?, ?, ?, ?, ?)"
FORGET = "delete from entries where key in (?)"
MARK = "update entries set state = ? where key = ?"
PROBE = "insert or replace into probe values (1, ?)"

# Rows per step, largest first: at each step SQLite releases and re-acquires the interpreter.
_ROWS = (64, 16, 4, 1)
_ROW = KEEP[KEEP.index("(") :]
_TOGETHER = {
    KEEP: {rows: KEEP + f", {_ROW}" * (rows - 1) for rows in _ROWS},
    FORGET: {rows: FORGET.replace("?", ", ".join("?" * rows)) for rows in _ROWS},
}


def together(statements: Sequence[Statement]) -> Iterator[Statement]:
    """Merge neighbouring statements that differ only in their values."""
    for statement, alike in groupby(statements, key=itemgetter(0)):
        left = [values for _, values in alike]
        for rows, repeated in _TOGETHER.get(statement, {1: statement}).items():
            while len(left) >= rows:
                yield repeated, tuple(chain.from_iterable(left[:rows]))
                del left[:rows]
