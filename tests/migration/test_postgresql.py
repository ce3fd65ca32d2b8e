"""A table of a real PostgreSQL as a store of tokens: read, compared, replaced, with every type as it was."""

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from daemon.adapters.foreign.postgresql import TokenTable
from daemon.domain.foreign import BadRow, Replacement, SourceLost
from daemon.domain.layout import Layout, Row, SourceKind, key_of
from daemon.domain.secret import Secret

LAYOUT = Layout(
    name="rows",
    title="",
    source=SourceKind.POSTGRESQL,
    table="tokens",
    provider=("integration",),
    account=("userId",),
    access_token=("access_token",),
    refresh_token=("refresh_token",),
    expires_at=("expires_at",),
)
TABLE = """
CREATE TABLE tokens (
    "userId" bigint, integration text, access_token text, refresh_token text, expires_at timestamptz,
    created timestamp, amount numeric, raw jsonb, flags boolean, bytes bytea, ip inet, ratio double precision,
    tags text[], note varchar(20), PRIMARY KEY ("userId", integration)
)"""
ROW = """
INSERT INTO tokens VALUES (7, 'gmail', 'at-1', 'rt-1', '2026-11-29 10:00:00.123456+02', '2026-01-01 00:00:00',
    12345678901234567890.50, '{"b": 1, "a": [1.0, null]}', true, '\\x00ff', '10.0.0.1', 0.1, '{a,"b c"}', NULL)"""


@pytest.fixture
def database(postgresql: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS tokens")
        connection.execute(TABLE)
        connection.execute(ROW)
        yield connection


@pytest.fixture
def table(postgresql: str, database: psycopg.Connection) -> TokenTable:
    return TokenTable(LAYOUT, Secret(postgresql))


async def only(table: TokenTable) -> Row:
    (row,) = [row async for row in table.rows()]
    assert isinstance(row, Row)
    return row


async def test_every_value_is_read_as_a_text(table: TokenTable) -> None:
    row = await only(table)
    assert key_of(LAYOUT, row) == "gmail:7"
    assert row.cells["expires_at"] == "2026-11-29 08:00:00.123456+00"
    assert row.cells["raw"] == '{"a": [1.0, null], "b": 1}'
    assert row.cells["note"] is None
    assert {type(value) for value in row.cells.values()} == {str, type(None)}
    assert table.decode(table.encode(row.cells)) == row.cells


async def test_a_row_that_was_removed_comes_back_as_it_was(
    table: TokenTable, database: psycopg.Connection
) -> None:
    """From the texts alone, with every type."""
    before = database.execute("SELECT * FROM tokens").fetchall()
    row = await only(table)
    key = key_of(LAYOUT, row)
    assert await table.replace([Replacement(key=key, before=row, after=None)]) == {}
    assert database.execute("SELECT * FROM tokens").fetchall() == []
    assert await table.replace([Replacement(key=key, before=None, after=row)]) == {}
    assert database.execute("SELECT * FROM tokens").fetchall() == before


async def test_only_changed_columns_are_written_and_only_over_what_was_read(
    table: TokenTable, database: psycopg.Connection
) -> None:
    row = await only(table)
    changed = replace(row, cells={**row.cells, "access_token": "at-2"})
    change = Replacement(key="gmail:7", before=row, after=changed)
    assert await table.replace([change]) == {}
    assert (await table.again([row]))["gmail:7"].cells["access_token"] == "at-2"
    assert list(await table.replace([change])) == ["gmail:7"]
    database.execute("UPDATE tokens SET note = 'mine'")
    again = replace(changed, cells={**changed.cells, "access_token": "at-3"})
    assert list(await table.replace([Replacement(key="gmail:7", before=changed, after=again)])) == ["gmail:7"]
    assert (await only(table)).cells["access_token"] == "at-2"


async def test_a_row_that_is_refused_keeps_no_other_from_being_written(table: TokenTable) -> None:
    row = await only(table)
    fine = replace(row, cells={**row.cells, "userId": "8"})
    bad = replace(row, cells={**row.cells, "userId": "9", "expires_at": "no date"})
    refused = await table.replace(
        [Replacement(key="bad", before=None, after=bad), Replacement(key="fine", before=None, after=fine)]
    )
    assert list(refused) == ["bad"]
    assert len([row async for row in table.rows()]) == 2


async def test_a_row_that_was_there_already_is_not_inserted(table: TokenTable) -> None:
    row = await only(table)
    assert list(await table.replace([Replacement(key="gmail:7", before=None, after=row)])) == ["gmail:7"]


async def test_rows_that_are_too_large_are_told_apart(
    table: TokenTable, database: psycopg.Connection
) -> None:
    database.execute(
        "INSERT INTO tokens (\"userId\", integration, access_token) VALUES (8, 'x', repeat('a', 70000))"
    )
    rows = [row async for row in table.rows()]
    assert [type(row) for row in rows] == [Row, BadRow]


@pytest.mark.parametrize("name", ["public.tokens", "tokens"])
async def test_the_table_may_be_named_with_its_schema(
    postgresql: str, database: psycopg.Connection, name: str
) -> None:
    table = TokenTable(replace(LAYOUT, table=name), Secret(postgresql))
    assert key_of(LAYOUT, await only(table)) == "gmail:7"
    assert table.name.endswith(f"/app#{name}")


async def test_a_locked_table_is_one_sentence(table: TokenTable, postgresql: str) -> None:
    with psycopg.connect(postgresql) as other:
        other.execute("LOCK TABLE tokens IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SourceLost, match="Another program locks it"):
            await only(table)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"table": "nothing"}, 'relation "nothing" does not exist'),
        ({"account": ("account_id",)}, "it has no column account_id. Its columns: userId, integration"),
    ],
)
async def test_what_is_not_there_is_named(
    postgresql: str, database: psycopg.Connection, change: dict[str, object], said: str
) -> None:
    table = TokenTable(replace(LAYOUT, **change), Secret(postgresql))  # type: ignore[arg-type]
    with pytest.raises(SourceLost, match=said):
        await table.again([Row(cells={"userId": "7", "integration": "gmail"})])


async def test_a_server_that_is_away_is_one_sentence_without_the_password() -> None:
    table = TokenTable(LAYOUT, Secret("postgresql://app:canary-password@127.0.0.1:1/app"))
    with pytest.raises(SourceLost) as lost:
        await only(table)
    assert "canary" not in str(lost.value)
    assert "postgresql://127.0.0.1:1/app#tokens" in str(lost.value)


async def test_a_name_of_a_table_is_no_way_in(postgresql: str, database: psycopg.Connection) -> None:
    table = TokenTable(replace(LAYOUT, table='tokens"; DROP TABLE tokens; --'), Secret(postgresql))
    with pytest.raises(SourceLost):
        await only(table)
    assert database.execute("SELECT count(*) FROM tokens").fetchone() == (1,)
