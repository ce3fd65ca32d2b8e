"""Tokens in a PostgreSQL table. Fits `migrating.ports.ForeignStore`.

Every column is read as PostgreSQL's own text and written back as an untyped text, which PostgreSQL converts to the
column's type: no type is lost on the way.
"""

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from psycopg import AsyncConnection, Error, adapters, sql
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import InsufficientPrivilege, LockNotAvailable, QueryCanceled, UndefinedTable
from psycopg.rows import dict_row
from psycopg.types.string import StrDumperUnknown, TextLoader

from daemon.adapters.foreign.json_text import JsonText
from daemon.domain.foreign import LARGEST_ROW, TOO_LARGE, BadRow, Replacement, SourceLost
from daemon.domain.layout import FIELDS, Cells, Layout, Row, RowInvalid
from daemon.domain.layout_reading import key_of
from daemon.domain.secret import Secret, masked

AT_ONCE = 500
CONNECT_WITHIN = timedelta(seconds=10)
LOCKED_FOR = timedelta(seconds=5)
STATEMENT_WITHIN = timedelta(minutes=2)
CHANGED = "another program has changed it in the meantime"
REFUSED = "PostgreSQL refuses the new row"
_LONGEST_LABEL = 200  # characters
_PORTS = re.compile(r"[0-9,]*")

# For the one transaction that each connection makes. As statements, because a pooler refuses them at the start of a session.
_SETTINGS = {
    "lock_timeout": str(LOCKED_FOR // timedelta(milliseconds=1)),
    "statement_timeout": str(STATEMENT_WITHIN // timedelta(milliseconds=1)),
    "idle_in_transaction_session_timeout": "0",
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}
_DURABLE = (
    "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
)
# Classes of SQLSTATE: data, constraints, a view's check, a trigger's refusal
_OF_ONE_ROW = (
    "22",
    "23",
    "44",
    "P0",
)
# Whose messages quote no value of a row
_WITHOUT_VALUES = (
    "08",
    "25",
    "28",
    "3D",
    "3F",
    "40",
    "42",
    "53",
    "55",
    "57",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """The table's columns. `names`: by column, the layout's name for it, if that differs in case only."""

    there: tuple[str, ...]
    names: Mapping[str, str]

    def cells(self, row: Mapping[str, object]) -> dict[str, object]:
        """Return a row under the layout's names."""
        return {self.names.get(column, column): value for column, value in row.items()}

    def column(self, name: str) -> str | None:
        """Return the column that `name` stands for; None if the table has none."""
        if name in self.there:
            return name
        return next((column for column, other in self.names.items() if other == name), None)


class TokenTable(JsonText):
    """The table of a layout. `uri` names its database, and may hold a password, which is never printed.

    Raises SourceLost if the URI or the layout can't be used.
    """

    def __init__(self, layout: Layout, uri: Secret) -> None:
        self._layout = layout
        self._uri = uri
        self._parts = _parts(uri)
        if not layout.table:
            raise SourceLost(f"{_address(self._parts)}: no table is named. Name one with --table")
        self._table = layout.table
        self._found: _Columns | None = None

    @property
    def name(self) -> str:
        return f"{_address(self._parts)}#{self._table}"

    async def rows(self, *, new: bool = False) -> AsyncIterator[Row | BadRow]:  # noqa: ARG002  a table must exist
        """Yield every row, read in one snapshot. Raises SourceLost."""
        async with self._connected() as connection:
            columns = await self._columns(connection)
            query = sql.SQL("SELECT * FROM {}").format(self._name)
            async with connection.cursor("refreshd", row_factory=dict_row) as cursor:
                cursor.itersize = AT_ONCE
                await cursor.execute(query, ())
                number = 0
                async for row in cursor:
                    number += 1
                    yield self._row(columns.cells(row), number)

    async def again(self, rows: Sequence[Row]) -> Mapping[str, Row]:
        """Return the present content of these rows, by key. Raises SourceLost."""
        if not rows:
            return {}
        async with self._connected() as connection:
            columns = await self._columns(connection)
            names = self._key_names(columns)
            found: dict[str, Row] = {}
            for start in range(0, len(rows), AT_ONCE):
                some = rows[start : start + AT_ONCE]
                wanted = [tuple(self._cell(row.cells, name, columns) for name in names) for row in some]
                for cells in await self._select(connection, columns, wanted):
                    row = self._row(cells, 0)
                    if isinstance(row, Row):
                        found[key_of(self._layout, row)] = row
            return found

    async def replace(self, changes: Sequence[Replacement]) -> Mapping[str, str]:
        """Make the changes in one transaction. Returns those that were not made. Raises SourceLost."""
        refused: dict[str, str] = {}
        async with self._connected() as connection:
            columns = await self._columns(connection)
            for change in changes:
                try:
                    async with connection.transaction():
                        done = await self._replace(connection, change, columns)
                except Error as error:
                    if (error.sqlstate or "")[:2] not in _OF_ONE_ROW:
                        raise
                    refused[change.key] = f"{REFUSED}: {_reason(error)}"
                    continue
                if not done:
                    refused[change.key] = CHANGED
            await connection.commit()
        return refused

    async def as_written(self, rows: Sequence[Row]) -> Mapping[str, Row]:
        """Return rows that `replace` has written, by key, as PostgreSQL shows them: it has a form of its own for a date,
        and fills the columns that a new row leaves out. Raises SourceLost.
        """
        return await self.again(rows)

    # ---------------------------------------------------------------- statements

    async def _replace(
        self, connection: AsyncConnection[Any], change: Replacement, columns: _Columns
    ) -> bool:
        """Insert, update or delete one row. Returns False unless the row stood as expected."""
        before, after = change.before, change.after
        row = before or after
        if row is None:
            return True
        names = self._key_names(columns)
        place = tuple(self._cell(row.cells, name, columns) for name in names)
        standing = await self._select(connection, columns, [place], locking=True)
        if [dict(cells) for cells in standing] != ([dict(before.cells)] if before is not None else []):
            return False
        keys = [columns.column(name) or name for name in names]
        here = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(_identifier(key)) for key in keys)
        if after is None:
            query = sql.SQL("DELETE FROM {} WHERE {}").format(self._name, here)
            await connection.execute(query, list(place))
        elif before is None:
            new = dict(self._new(after.cells, columns))
            await connection.execute(self._insert(new), list(new.values()))
        elif changed := dict(self._new(_changed(before.cells, after.cells), columns)):
            setting = sql.SQL(", ").join(sql.SQL("{} = %s").format(_identifier(name)) for name in changed)
            query = sql.SQL("UPDATE {} SET {} WHERE {}").format(self._name, setting, here)
            await connection.execute(query, [*changed.values(), *place])
        return True

    def _insert(self, cells: Cells) -> sql.Composed:
        columns = sql.SQL(", ").join(map(_identifier, cells))
        values = sql.SQL(", ").join([sql.SQL("%s")] * len(cells))
        return sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(self._name, columns, values)

    async def _select(
        self,
        connection: AsyncConnection[Any],
        columns: _Columns,
        keys: Sequence[tuple[object, ...]],
        *,
        locking: bool = False,
    ) -> Sequence[Mapping[str, object]]:
        names = [columns.column(name) or name for name in self._key_names(columns)]
        row = sql.SQL("({})").format(sql.SQL(", ").join([sql.SQL("%s")] * len(names)))
        query = sql.SQL("SELECT * FROM {} WHERE ({}) IN ({}){}").format(
            self._name,
            sql.SQL(", ").join(map(_identifier, names)),
            sql.SQL(", ").join([row] * len(keys)),
            sql.SQL(" FOR UPDATE" if locking else ""),
        )
        async with connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query, [value for key in keys for value in key])
            return [columns.cells(found) for found in await cursor.fetchall()]

    # ---------------------------------------------------------------- columns

    async def _columns(self, connection: AsyncConnection[Any]) -> _Columns:
        """Return the table's columns. Raises SourceLost if it lacks one that identifies a row or holds a token."""
        if self._found is None:
            query = sql.SQL("SELECT * FROM {} LIMIT 0").format(self._name)
            async with connection.cursor() as cursor:
                await cursor.execute(query, ())
                there = tuple(column.name for column in cursor.description or ())
            self._found = _Columns(there=there, names=dict(self._other_cases(there)))
            layout = self._layout
            for group in (layout.provider, layout.account, layout.access_token, layout.refresh_token):
                if group and not any(self._found.column(name) for name in group):
                    raise SourceLost(
                        f"{self.name}: it has no column {' or '.join(group)}. Its columns: {', '.join(there)}. Write a layout"
                        " with the right names, or name another table"
                    )
        return self._found

    def _other_cases(self, there: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield columns, each with the layout's name that differs from it in case only. PostgreSQL folds the case of
        names that a program does not quote.
        """
        names = {name for group in self._groups() for name in group}
        taken: set[str] = set()
        for name in sorted(names - set(there)):
            found = [column for column in there if column.lower() == name.lower()]
            if len(found) == 1 and not {found[0]} & (names | taken):
                taken.add(found[0])
                yield found[0], name

    def _groups(self) -> Iterator[Sequence[str]]:
        """Yield the layout's alternatives for each field."""
        layout = self._layout
        yield from (layout.provider, layout.account, *(getattr(layout, field) for field in FIELDS))
        yield from ((name,) for name in (*layout.meta.values(), *layout.vars.values()))

    def _key_names(self, columns: _Columns) -> tuple[str, ...]:
        """Return the layout's names of the columns that identify a row."""
        groups = [group for group in (self._layout.provider, self._layout.account) if group]
        return tuple(next(name for name in group if columns.column(name)) for group in groups)

    def _new(self, cells: Cells, columns: _Columns) -> Iterator[tuple[str, object]]:
        """Yield the values to write, by column. A value for which the table has no column is left out."""
        for name, value in cells.items():
            groups = (group for group in self._groups() if name in group)
            names = (name, *(other for group in groups for other in group))
            column = next(filter(None, map(columns.column, names)), None)
            if column is not None:
                yield column, None if value is None else str(value)

    def _cell(self, cells: Cells, name: str, columns: _Columns) -> object:
        """Return the value for the column `name`: a new row has it under the first of the layout's alternatives."""
        if name in cells:
            return cells[name]
        return dict(self._new(cells, columns)).get(columns.column(name) or name)

    def _row(self, cells: Mapping[str, object], number: int) -> Row | BadRow:
        row = Row(cells=dict(cells))
        if sum(len(value) for value in cells.values() if isinstance(value, str)) <= LARGEST_ROW:
            return row
        try:
            label = key_of(self._layout, row)[:_LONGEST_LABEL]
        except RowInvalid:
            label = f"row {number}"
        return BadRow(label=label, why=TOO_LARGE)

    # ---------------------------------------------------------------- connections

    @property
    def _name(self) -> sql.Composable:
        return _identifier(*self._table.split("."))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A connection that reads and writes texts, in a transaction. Raises SourceLost for whatever goes wrong in it."""
        try:
            connection = await AsyncConnection.connect(
                make_conninfo(
                    self._uri.reveal(),
                    connect_timeout=int(CONNECT_WITHIN.total_seconds()),
                    application_name="refreshd",
                ),
                context=_texts(),
                prepare_threshold=None,
            )
            async with connection:
                each = sql.SQL(", ").join([sql.SQL("set_config(%s, %s, true)")] * len(_SETTINGS))
                await connection.execute(
                    sql.SQL("SELECT {}").format(each), [text for pair in _SETTINGS.items() for text in pair]
                )
                await connection.execute(_DURABLE)
                yield connection
        except Error as error:
            raise SourceLost(self._sentence(error)) from None

    def _sentence(self, error: Error) -> str:
        state = (error.sqlstate or "")[:2]
        match error:
            case UndefinedTable():
                do = "Name the right table with --table, and its schema before a dot"
            case LockNotAvailable() | QueryCanceled():
                do = "Another program locks it: end that, and run the command again"
            case InsufficientPrivilege():
                do = "Grant the right, or use another user"
            case _ if state in ("40", "53"):
                do = "Run the command again"
            case _ if state == "25":
                do = "Name the primary server"
            case _ if state == "23":
                do = "Nothing was changed. Correct the rows that the constraint concerns"
            case _:
                do = "Correct the URI, or try again when PostgreSQL is back"
        return f"{self.name}: {_reason(error, self._uri, self._parts.get('password'))}. {do}"


def _identifier(*names: str) -> sql.Identifier:
    """Return a quoted name for a query with parameters, in which a percent sign must be doubled."""
    return sql.Identifier(*(name.replace("%", "%%") for name in names))


def _changed(before: Cells, after: Cells) -> Cells:
    return {name: value for name, value in after.items() if before.get(name) != value}


def _texts() -> AdaptersMap:
    """Return adapters that load every type as text, and dump every text without a type."""
    texts = AdaptersMap(adapters)
    for kind in adapters.types:
        for oid in filter(None, (kind.oid, kind.array_oid)):
            texts.register_loader(oid, TextLoader)
    texts.register_dumper(str, StrDumperUnknown)
    return texts


def _parts(uri: Secret) -> Mapping[str, Any]:
    """Return the parameters in `uri`. Raises SourceLost, which does not quote it."""
    try:
        parts = conninfo_to_dict(uri.reveal())
        misread = "@" in urlsplit(uri.reveal()).path or not _PORTS.fullmatch(str(parts.get("port") or ""))
    except (Error, ValueError):
        misread = True
    if (
        misread
    ):  # a slash in the password ends the host, and the rest of the password becomes the database's name
        raise SourceLost(
            "postgresql://: the URI can't be read. Write it like postgresql://USER@HOST/DATABASE, and percent-encode a"
            " reserved character in its password"
        )
    if not parts.get("dbname"):
        address = _address(parts)
        raise SourceLost(f"{address}: the URI names no database. Write it like {address}NAME")
    return parts


def _address(parts: Mapping[str, Any]) -> str:
    """Return what identifies the database: host, port and name."""
    host, port = parts.get("host") or "localhost", parts.get("port") or "5432"
    return urlunsplit(("postgresql", f"{host}:{port}", f"/{parts.get('dbname') or ''}", "", ""))


def _reason(error: Error, uri: Secret | None = None, password: str | None = None) -> str:
    """Return why PostgreSQL or its library refuses. A message that may quote a row's value is replaced by its kind."""
    state = error.sqlstate
    if state is not None and state[:2] not in _WITHOUT_VALUES:
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
        where = error.diag.constraint_name or error.diag.column_name
        return f"{kind} ({where})" if where else kind
    text = str(error).strip()
    line = error.diag.message_primary or (text.splitlines()[0] if text else type(error).__name__)
    secrets = [uri] if uri is not None else []
    return masked(line, [*secrets, Secret(password)] if password else secrets).rstrip(".")
