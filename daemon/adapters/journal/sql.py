"""The journal's tables and statements, and many statements of one kind in few."""

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter

from daemon.adapters.journal.row import Row

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

Statement = tuple[str, tuple[object, ...]]


def _repeated(item: str, times: int) -> str:
    return ", ".join([item] * times)


_ROW = f"({_repeated('?', len(Row._fields))})"


def _keep(rows: int) -> str:
    """Insert, or replace: a commit that failed may have been durable nevertheless, and is then tried again."""
    return f"insert or replace into entries values {_repeated(_ROW, rows)}"  # noqa: S608  constants only


def _forget(rows: int) -> str:
    return f"delete from entries where key in ({_repeated('?', rows)})"  # noqa: S608  constants only


RENAME = "update entries set state = 'unparsed' where state = 'unread'"
# With each probe: by its index it reads only superseded entries, of which there are hardly any.
EXPIRE = (
    "delete from entries where state = 'superseded' and datetime(asked_at) < datetime(?)"
    " returning provider, substr(reply, 1, 80), length(reply)"
)
# Also those with a state that nobody wrote: the state is not sealed, and an entry that is not seen is lost.
PENDING = "select * from entries where state not in ('unparsed', 'superseded') order by key"
PARKED = "select state, provider, substr(reply, 1, 80), length(reply) from entries where state in ('unparsed', 'superseded')"
LAST_KEY = "select max(key) from entries"
KEEP = _keep(1)
FORGET = _forget(1)
MARK = "update entries set state = ? where key = ?"
PROBE = "insert or replace into probe values (1, random())"

# Statements for many rows, because after each step of a statement SQLite releases the interpreter's lock and takes it
# again. Of these sizes the largest that the rows still fill is used first.
_SIZES = (64, 16, 4, 1)
_FOR_MANY = {
    KEEP: {rows: _keep(rows) for rows in _SIZES},
    FORGET: {rows: _forget(rows) for rows in _SIZES},
}


def together(statements: Sequence[Statement]) -> Iterator[Statement]:
    """Merge neighbouring statements that differ only in their values."""
    for statement, alike in groupby(statements, key=itemgetter(0)):
        left = [values for _, values in alike]
        for rows, for_many in _FOR_MANY.get(statement, {1: statement}).items():
            while len(left) >= rows:
                yield for_many, tuple(chain.from_iterable(left[:rows]))
                del left[:rows]
