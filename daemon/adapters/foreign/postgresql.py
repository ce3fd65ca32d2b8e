"""Tokens in a PostgreSQL table. Fits `migrating.ports.ForeignStore`.

Every column is read as PostgreSQL's own text and written back as an untyped text, which PostgreSQL converts to the
column's type: no type is lost on the way.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from psycopg import AsyncConnection, Error, adapters, sql
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import (
    InsufficientPrivilege,
    LockNotAvailable,
    QueryCanceled,
    UndefinedTable,
)
from psycopg.rows import dict_row
from psycopg.types.string import StrDumperUnknown, TextLoader

from daemon.adapters.foreign.json_text import JsonText
from daemon.domain.foreign import LARGEST_ROW, TOO_LARGE, BadRow, Replacement, SourceLost
from daemon.domain.layout import Cells, Layout, Row, key_of
from daemon.domain.secret import Secret, masked

AT_ONCE = 500
CONNECT_WITHIN = timedelta(seconds=10)
LOCKED_FOR = timedelta(seconds=5)
STATEMENT_WITHIN = timedelta(minutes=2)
CHANGED = "another program has changed it in the meantime"
REFUSED = "PostgreSQL refuses the new row"


class TokenTable(JsonText):
    """The table of a layout. `uri` names its database, and may hold a password, which is never printed."""

    def __init__(self, layout: Layout, uri: Secret) -> None:
        self._layout = layout
        self._uri = uri
        self._table = layout.table or ""
        self._columns: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        return f"{_without_password(self._uri.reveal())}#{self._table}"

    async def rows(self, *, new: bool = False) -> AsyncIterator[Row | BadRow]:  # noqa: ARG002  a table must exist
        """Yield every row, read in one snapshot. Raises SourceLost."""
        async with self._connected() as connection:
            query = sql.SQL("SELECT * FROM {}").format(self._name)
            async with connection.cursor("refreshd", row_factory=dict_row) as cursor:
                cursor.itersize = AT_ONCE
                await cursor.execute(query)
                number = 0
                async for cells in cursor:
                    number += 1
                    yield _row(cells, number)

    async def again(self, rows: Sequence[Row]) -> Mapping[str, Row]:
        """Return the present content of these rows, by key. Raises SourceLost."""
        if not rows:
            return {}
        async with self._connected() as connection:
            columns = await self._key_columns(connection)
            wanted = [tuple(row.cells.get(column) for column in columns) for row in rows]
            found: dict[str, Row] = {}
            for cells in await self._select(connection, columns, wanted):
                row = _row(cells, 0)
                if isinstance(row, Row):
                    found[key_of(self._layout, row)] = row
            return found

    async def replace(self, changes: Sequence[Replacement]) -> Mapping[str, str]:
        """Make the changes in one transaction. Returns those that were not made. Raises SourceLost."""
        refused: dict[str, str] = {}
        async with self._connected() as connection:
            columns = await self._key_columns(connection)
            for change in changes:
                try:
                    async with connection.transaction():
                        done = await self._replace(connection, change, columns)
                except (InsufficientPrivilege, LockNotAvailable, QueryCanceled):
                    raise
                except Error as error:
                    if connection.broken:
                        raise
                    refused[change.key] = f"{REFUSED}: {_reason(error)}"
                    continue
                if not done:
                    refused[change.key] = CHANGED
            await connection.commit()
        return refused

    # ---------------------------------------------------------------- statements

    async def _replace(
        self, connection: AsyncConnection[Any], change: Replacement, keys: Sequence[str]
    ) -> bool:
        """Insert, update or delete one row. Returns False unless the row stood as expected."""
        before, after = change.before, change.after
        row = before or after
        if row is None:
            return True
        place = tuple(row.cells.get(key) for key in keys)
        standing = await self._select(connection, keys, [place], locking=True)
        if [dict(cells) for cells in standing] != ([dict(before.cells)] if before is not None else []):
            return False
        here = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(key)) for key in keys)
        if after is None:
            query = sql.SQL("DELETE FROM {} WHERE {}").format(self._name, here)
            await connection.execute(query, list(place))
        elif before is None:
            await connection.execute(self._insert(after.cells), list(after.cells.values()))
        elif changed := [name for name, value in after.cells.items() if before.cells.get(name) != value]:
            setting = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in changed)
            query = sql.SQL("UPDATE {} SET {} WHERE {}").format(self._name, setting, here)
            await connection.execute(query, [*(after.cells[name] for name in changed), *place])
        return True

    def _insert(self, cells: Cells) -> sql.Composed:
        columns = sql.SQL(", ").join(map(sql.Identifier, cells))
        values = sql.SQL(", ").join([sql.SQL("%s")] * len(cells))
        return sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(self._name, columns, values)

    async def _select(
        self,
        connection: AsyncConnection[Any],
        columns: Sequence[str],
        keys: Sequence[tuple[object, ...]],
        *,
        locking: bool = False,
    ) -> Sequence[Mapping[str, object]]:
        row = sql.SQL("({})").format(sql.SQL(", ").join([sql.SQL("%s")] * len(columns)))
        query = sql.SQL("SELECT * FROM {} WHERE ({}) IN ({}){}").format(
            self._name,
            sql.SQL(", ").join(sql.Identifier(column) for column in columns),
            sql.SQL(", ").join([row] * len(keys)),
            sql.SQL(" FOR UPDATE" if locking else ""),
        )
        async with connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query, [value for key in keys for value in key])
            return await cursor.fetchall()

    async def _key_columns(self, connection: AsyncConnection[Any]) -> tuple[str, ...]:
        """Return the columns that identify a row: the provider's, if it has one, and the account's. Raises SourceLost."""
        if self._columns is None:
            query = sql.SQL("SELECT * FROM {} LIMIT 0").format(self._name)
            async with connection.cursor() as cursor:
                await cursor.execute(query)
                there = [column.name for column in cursor.description or ()]
            groups = [group for group in (self._layout.provider, self._layout.account) if group]
            found = [next((path for path in group if path in there), None) for group in groups]
            for group, column in zip(groups, found, strict=True):
                if column is None:
                    raise SourceLost(
                        f"{self.name}: it has no column {' or '.join(group)}. Its columns: {', '.join(there)}. Write a layout"
                        " with the right names, or name another table"
                    )
            self._columns = tuple(column for column in found if column is not None)
        return self._columns

    @property
    def _name(self) -> sql.Composable:
        return sql.Identifier(*self._table.split("."))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A connection that reads and writes texts. Raises SourceLost for whatever goes wrong in it."""
        try:
            connection = await AsyncConnection.connect(
                self._conninfo(), context=_texts(), prepare_threshold=None
            )
            async with connection:
                yield connection
        except Error as error:
            raise SourceLost(self._sentence(error)) from None

    def _conninfo(self) -> str:
        limits = {"lock_timeout": LOCKED_FOR, "statement_timeout": STATEMENT_WITHIN}
        options = " ".join(f"-c {name}={span // timedelta(milliseconds=1)}" for name, span in limits.items())
        return make_conninfo(
            self._uri.reveal(),
            connect_timeout=int(CONNECT_WITHIN.total_seconds()),
            application_name="refreshd",
            options=f"{options} -c TimeZone=UTC -c DateStyle=ISO -c extra_float_digits=1",
        )

    def _sentence(self, error: Error) -> str:
        match error:
            case UndefinedTable():
                do = "Name the right table with --table, and its schema before a dot"
            case LockNotAvailable() | QueryCanceled():
                do = "Another program locks it: end that, and run the command again"
            case InsufficientPrivilege():
                do = "Grant the right, or use another user"
            case _:
                do = "Correct the URI, or try again when PostgreSQL is back"
        return f"{self.name}: {_reason(error, self._uri)}. {do}"


def _texts() -> AdaptersMap:
    """Return adapters that load every type as text, and dump every text without a type."""
    texts = AdaptersMap(adapters)
    for kind in adapters.types:
        for oid in filter(None, (kind.oid, kind.array_oid)):
            texts.register_loader(oid, TextLoader)
    texts.register_dumper(str, StrDumperUnknown)
    return texts


def _row(cells: Mapping[str, object], number: int) -> Row | BadRow:
    if sum(len(value) for value in cells.values() if isinstance(value, str)) > LARGEST_ROW:
        return BadRow(label=f"row {number}", why=TOO_LARGE)
    return Row(cells=dict(cells))


def _without_password(uri: str) -> str:
    """Return what identifies the database: host, port and name."""
    parts = conninfo_to_dict(uri)
    host, port = parts.get("host") or "localhost", parts.get("port") or "5432"
    return urlunsplit(("postgresql", f"{host}:{port}", f"/{parts.get('dbname') or ''}", "", ""))


def _reason(error: Error, *secrets: Secret) -> str:
    """Return the first line of PostgreSQL's message, without values of a row."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    password = urlsplit(secrets[0].reveal()).password if secrets else None
    return masked(text, [*secrets, Secret(password)] if password else secrets).rstrip(".")
