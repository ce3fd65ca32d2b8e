"""A table of a real PostgreSQL as a store of tokens: read, compared, replaced, with every type as it was."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from daemon.adapters.foreign.postgresql import TokenTable
from daemon.domain.foreign import BadRow, Replacement, SourceLost
from daemon.domain.layout import Layout, Row, SourceKind, TimeForm, Values
from daemon.domain.layout_reading import key_of
from daemon.domain.layout_writing import write
from daemon.domain.origin import StoredToken
from daemon.domain.secret import Secret
from daemon.migrating.write_back import WriteBack

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
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
        connection.execute("DROP TABLE IF EXISTS tokens, theirs.tokens")
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
    assert rows[1] == BadRow(label="x:8", why="it is larger than 64 KB")


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


async def test_a_table_that_is_not_one_of_tokens_is_refused_as_a_whole(
    postgresql: str, database: psycopg.Connection
) -> None:
    layout = replace(LAYOUT, refresh_token=("refreshToken", "secret"))
    table = TokenTable(layout, Secret(postgresql))
    with pytest.raises(
        SourceLost, match=r"it has no column refreshToken or secret\. Its columns: userId, integration"
    ):
        await only(table)


@pytest.mark.parametrize("password", ["canary-password", "canary%40%2F", "?password=canary-password"])
async def test_a_server_that_is_away_is_one_sentence_without_the_password(password: str) -> None:
    uri = f"postgresql://app:{password}@127.0.0.1:1/app"
    if password.startswith("?"):
        uri = f"postgresql://app@127.0.0.1:1/app{password}"
    table = TokenTable(LAYOUT, Secret(uri))
    with pytest.raises(SourceLost) as lost:
        await only(table)
    assert "canary" not in str(lost.value) + table.name
    assert str(lost.value).startswith("postgresql://127.0.0.1:1/app#tokens: ")
    assert "\n" not in str(lost.value)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("postgresql://app:can/ary@127.0.0.1:1/app", "the URI can't be read"),
        ("postgresql://app:12/canary@127.0.0.1:1/app", "the URI can't be read"),
        ("postgresql://app:canary@127.0.0.1:1/app?canary=1", "the URI can't be read"),
        (
            "postgresql://app:canary@127.0.0.1:1/",
            "names no database. Write it like postgresql://127.0.0.1:1/NAME",
        ),
    ],
)
def test_what_the_uri_lacks_is_said_without_it(uri: str, said: str) -> None:
    with pytest.raises(SourceLost, match=said) as lost:
        TokenTable(LAYOUT, Secret(uri))
    assert "canary" not in str(lost.value)
    with pytest.raises(SourceLost, match=r"no table is named\. Name one with --table"):
        TokenTable(replace(LAYOUT, table=None), Secret("postgresql://localhost/app"))


async def test_the_uris_own_options_stay(postgresql: str, database: psycopg.Connection) -> None:
    """A search path, for one. One URI may also be written in different ways, and names one place."""
    database.execute("DROP SCHEMA IF EXISTS theirs CASCADE")
    database.execute("CREATE SCHEMA theirs")
    database.execute("ALTER TABLE tokens SET SCHEMA theirs")
    table = TokenTable(LAYOUT, Secret(f"{postgresql}?options=-csearch_path%3Dtheirs"))
    assert key_of(LAYOUT, await only(table)) == "gmail:7"
    one, other = ("postgres://a:b@localhost/app", "postgresql://c@localhost:5432/app?sslmode=disable")
    assert TokenTable(LAYOUT, Secret(one)).name == TokenTable(LAYOUT, Secret(other)).name


async def test_a_name_of_a_table_is_no_way_in(postgresql: str, database: psycopg.Connection) -> None:
    table = TokenTable(replace(LAYOUT, table='tokens"; DROP TABLE tokens; --'), Secret(postgresql))
    with pytest.raises(SourceLost):
        await only(table)
    assert database.execute("SELECT count(*) FROM tokens").fetchone() == (1,)


async def test_names_of_columns_and_values_are_no_way_in(
    postgresql: str, database: psycopg.Connection
) -> None:
    odd = 'x"; DROP TABLE tokens; -- %s'
    database.execute(
        psycopg.sql.SQL("ALTER TABLE tokens RENAME access_token TO {}").format(psycopg.sql.Identifier(odd))
    )
    table = TokenTable(replace(LAYOUT, access_token=(odd,)), Secret(postgresql))
    row = await only(table)
    changed = replace(row, cells={**row.cells, odd: "'; DROP TABLE tokens; --"})
    assert await table.replace([Replacement(key="gmail:7", before=row, after=changed)]) == {}
    assert (await only(table)).cells == changed.cells


# ---------------------------------------------------------------- names of columns


async def test_the_case_of_a_column_does_not_matter_if_it_is_the_only_one(
    postgresql: str, database: psycopg.Connection
) -> None:
    """A program that quotes no names has made `userid` of userId. It is read and written under the layout's name."""
    database.execute('ALTER TABLE tokens RENAME "userId" TO userid')
    table = TokenTable(LAYOUT, Secret(postgresql))
    row = await only(table)
    assert row.cells["userId"] == "7"
    assert "userid" not in row.cells
    other = replace(row, cells={**row.cells, "userId": "8"})
    changed = replace(row, cells={**row.cells, "access_token": "at-2"})
    changes = [
        Replacement(key="gmail:8", before=None, after=other),
        Replacement(key="gmail:7", before=row, after=changed),
    ]
    assert await table.replace(changes) == {}
    assert database.execute("SELECT userid, access_token FROM tokens ORDER BY 1").fetchall() == [
        (7, "at-2"),
        (8, "at-1"),
    ]
    assert (await table.again([row]))["gmail:7"].cells == changed.cells
    assert await table.replace([Replacement(key="gmail:7", before=changed, after=None)]) == {}
    database.execute('ALTER TABLE tokens ADD COLUMN "USERID" bigint')
    with pytest.raises(SourceLost, match="it has no column userId"):
        await only(TokenTable(LAYOUT, Secret(postgresql)))


async def test_a_new_row_is_written_under_the_names_that_the_table_has(
    postgresql: str, database: psycopg.Connection
) -> None:
    """The layout's first alternative is for tables that have it. What the table has no column for is left out."""
    layout = replace(
        LAYOUT,
        account=("accountId", "account_id", "userId"),
        access_token=("accessToken", "access_token"),
        issued_at=("issued_at",),
        time=TimeForm.ISO,
    )
    table = TokenTable(layout, Secret(postgresql))
    values = Values(
        provider="gmail",
        account="8",
        access_token=Secret("at-8"),
        refresh_token=Secret("rt-8"),
        issued_at=NOW,
        expires_at=NOW,
    )
    new = Row(cells=write(layout, None, values, None, now=NOW))
    assert set(new.cells) == {
        "accountId",
        "integration",
        "accessToken",
        "refresh_token",
        "issued_at",
        "expires_at",
    }
    assert await table.replace([Replacement(key="gmail:8", before=None, after=new)]) == {}
    shown = (await table.as_written([new]))["gmail:8"]
    assert (shown.cells["userId"], shown.cells["access_token"]) == ("8", "at-8")
    assert shown.cells["expires_at"] == "2026-11-29 12:00:00+00"


# ---------------------------------------------------------------- faults in the middle


async def test_the_reason_of_a_refusal_contains_no_value(
    table: TokenTable, database: psycopg.Connection
) -> None:
    database.execute("ALTER TABLE tokens ADD CONSTRAINT short CHECK (length(access_token) < 10)")
    database.execute("CREATE UNIQUE INDEX one_grant ON tokens (refresh_token)")
    row = await only(table)
    bad = {
        "expires_at": "canary",
        "note": "canary" * 9,
        "access_token": "canary canary",
        "refresh_token": "rt-1",
    }
    changes = []
    for number, (name, value) in enumerate(bad.items()):
        cells = {**row.cells, "userId": str(20 + number), "refresh_token": f"rt-{number + 20}", name: value}
        changes.append(Replacement(key=name, before=None, after=replace(row, cells=cells)))
    assert await table.replace(changes) == {
        "expires_at": "PostgreSQL refuses the new row: invalid datetime format",
        "note": "PostgreSQL refuses the new row: string data right truncation",
        "access_token": "PostgreSQL refuses the new row: check violation (short)",
        "refresh_token": "PostgreSQL refuses the new row: unique violation (one_grant)",
    }


async def test_a_lost_connection_changes_nothing(table: TokenTable, database: psycopg.Connection) -> None:
    """A trigger ends the connection at the second row."""
    row = await only(table)
    database.execute(
        """CREATE OR REPLACE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.note = 'cut' THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NEW; END $$"""
    )
    database.execute("CREATE TRIGGER cut BEFORE INSERT ON tokens FOR EACH ROW EXECUTE FUNCTION cut()")
    rows = [
        replace(row, cells={**row.cells, "userId": str(n), "note": note})
        for n, note in ((8, "a"), (9, "cut"))
    ]
    changes = [Replacement(key=key_of(LAYOUT, one), before=None, after=one) for one in rows]
    with pytest.raises(SourceLost, match=r"terminating connection.*or try again when PostgreSQL is back"):
        await table.replace(changes)
    assert len([one async for one in table.rows()]) == 1


async def test_a_connection_that_is_lost_while_reading_is_one_sentence(
    table: TokenTable, database: psycopg.Connection
) -> None:
    database.execute(
        "INSERT INTO tokens (\"userId\", integration, access_token) SELECT n, 'x', 'a' FROM generate_series(100, 2100) n"
    )
    rows = table.rows()
    for _ in range(600):
        await anext(rows)
    database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'refreshd'"
    )
    with pytest.raises(SourceLost, match="or try again when PostgreSQL is back"):
        _ = [row async for row in rows]


async def test_rows_arrive_in_batches(table: TokenTable, database: psycopg.Connection) -> None:
    """The table is larger than what may stay in memory, so the server holds the rest."""
    database.execute(
        "INSERT INTO tokens (\"userId\", integration, note) SELECT n, 'x', 'a' FROM generate_series(100, 2100) n"
    )
    rows = table.rows()
    await anext(rows)
    found = database.execute(
        "SELECT query FROM pg_stat_activity WHERE application_name = 'refreshd'"
    ).fetchall()
    assert ["FETCH FORWARD 500" in query for (query,) in found] == [True]
    await rows.aclose()  # type: ignore[attr-defined]


async def test_missing_rights_are_one_sentence(postgresql: str, database: psycopg.Connection) -> None:
    database.execute("DROP ROLE IF EXISTS reader")
    database.execute("CREATE ROLE reader LOGIN")
    table = TokenTable(LAYOUT, Secret(postgresql.replace("app@", "reader@")))
    with pytest.raises(SourceLost, match=r"permission denied for table tokens\. Grant the right"):
        await only(table)
    database.execute("GRANT SELECT ON tokens TO reader")
    row = await only(table)
    changed = replace(row, cells={**row.cells, "access_token": "at-2"})
    with pytest.raises(SourceLost, match="Grant the right, or use another user"):
        await table.replace([Replacement(key="gmail:7", before=row, after=changed)])
    database.execute("REVOKE ALL ON tokens FROM reader")


async def test_a_database_that_only_reads_is_one_sentence(
    postgresql: str, database: psycopg.Connection
) -> None:
    table = TokenTable(LAYOUT, Secret(f"{postgresql}?options=-cdefault_transaction_read_only%3Don"))
    row = await only(table)
    with pytest.raises(SourceLost, match="Name the primary server"):
        await table.replace([Replacement(key="gmail:7", before=row, after=None)])


# ---------------------------------------------------------------- as another program's writes are recognized


class Digests:
    """Stands in for the keyring: the text is its own digest."""

    def digest(self, text: str) -> str:
        return text

    def matches(self, text: str, digest: str) -> bool:
        return text == digest


async def test_a_row_that_was_written_is_recognized_in_postgresqls_own_form(
    table: TokenTable, database: psycopg.Connection
) -> None:
    """It prints a date without zeros at the end, and a trigger of the application's may set a column. Neither is another
    program's change. One that comes after the write is.
    """
    database.execute(
        """CREATE OR REPLACE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        NEW.note = 'stamped ' || NEW.access_token; RETURN NEW; END $$"""
    )
    database.execute(
        "CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON tokens FOR EACH ROW EXECUTE FUNCTION stamp()"
    )
    layout = replace(LAYOUT, time=TimeForm.ISO)
    write_back = WriteBack(layout=layout, place=table, cipher=None, digests=Digests())
    last = {f"gmail:{n}": (table.encode((await only(table)).cells),) for n in (7,)}

    def token(account: str, number: int) -> StoredToken:
        values = Values(
            provider="gmail",
            account=account,
            access_token=Secret(f"at-{number}"),
            refresh_token=Secret(f"rt-{number}"),
            expires_at=NOW,
        )
        return StoredToken(id=f"gmail:{account}", values=values, origin=None, usable=True, unsettled=False)

    for number in (2, 3):
        outcome = await write_back.bring([token("7", number), token("8", number)], last, now=NOW)
        assert outcome.refused == {}
        assert set(outcome.written) == {"gmail:7", "gmail:8"}
        last = {name: (digest,) for name, digest in outcome.written.items()}
    database.execute("""UPDATE tokens SET refresh_token = 'theirs' WHERE "userId" = 8""")
    outcome = await write_back.bring([token("7", 4), token("8", 4)], last, now=NOW)
    assert (set(outcome.written), set(outcome.refused)) == ({"gmail:7"}, {"gmail:8"})
