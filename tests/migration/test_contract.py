"""The contract of all stores, over a table of a real PostgreSQL."""

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from daemon.adapters.foreign.postgresql import TokenTable
from daemon.domain.layout import SourceKind
from daemon.domain.secret import Secret
from tests.adapters.foreign.contract import LAYOUT, Cells, Kind, StoreContract

COLUMNS = {
    "account": "text PRIMARY KEY",
    "access": "text",
    "refresh": "varchar(200)",
    "number": "numeric",
    "at": "timestamptz",
    "raw": "jsonb",
    "odd": "text",
    "nothing": "text",
    "a.b %s": "text[]",
}
TYPED = {
    "number": "1152921504606846976.10",
    "at": "2026-11-29 01:02:03.123+00",
    "raw": '{"b": [null, 1.0]}',
    "odd": "Zo\u00eb \u2028 \U0001f600 \\ ' \" %s",
    "nothing": None,
    "a.b %s": '{a,"b c"}',
}


@pytest.fixture
def kind(postgresql: str) -> Iterator[Kind]:
    """A table in a schema of its own. PostgreSQL's texts are the values."""
    two: list[Cells] = [
        {"account": name, "access": f"at-{name}", "refresh": f"rt-{name}", **TYPED} for name in "ab"
    ]
    names = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    columns = [sql.SQL("{} ").format(sql.Identifier(name)) + sql.SQL(kind) for name, kind in COLUMNS.items()]
    layout = replace(LAYOUT, source=SourceKind.POSTGRESQL, table="theirs.contract")
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS theirs")
        connection.execute("DROP TABLE IF EXISTS theirs.contract")
        connection.execute(sql.SQL("CREATE TABLE theirs.contract ({})").format(sql.SQL(", ").join(columns)))
        for cells in two:
            values = sql.SQL(", ").join(map(sql.Literal, cells.values()))
            connection.execute(sql.SQL("INSERT INTO theirs.contract ({}) VALUES ({})").format(names, values))

        def look() -> list[Cells]:
            texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in COLUMNS)
            connection.execute("SET TimeZone = 'UTC'")
            rows = connection.execute(
                sql.SQL("SELECT {} FROM theirs.contract ORDER BY account").format(texts)
            )
            return [dict(zip(COLUMNS, row, strict=True)) for row in rows.fetchall()]

        yield Kind(layout=layout, store=TokenTable(layout, Secret(postgresql)), two=two, look=look)


class TestTable(StoreContract):
    """PostgreSQL 15."""
