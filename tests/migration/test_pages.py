"""The pages on tokens in a database, run as they stand: docs/migration-mongodb.md and docs/migration-postgresql.md.

A reader writes the configuration of docs/migration.md, and the rows have the shape that the page shows. Node encrypts
and decrypts them, as the application does. The consent that `add` stores stands for a renewal.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pymongo import MongoClient
from pymongo.collection import Collection

from tests.support.pages import Shell, blocks, shell_for

PAGE = "migration.md"
MONGODB = "migration-mongodb.md"
POSTGRESQL = "migration-postgresql.md"
MASTER = hashlib.sha256(b"for these tests").digest()
KEY = bytes(range(7, 39))  # the application's
ENDS = datetime(2030, 1, 1, tzinfo=UTC)
RENEWED = '{"access_token": "at-renewed", "refresh_token": "rt-renewed", "expires_in": 1800}'

Document = dict[str, Any]
RunNode = Callable[[str, object], Any]


def encrypted(run_node: RunNode, form: str, *texts: str) -> list[str]:
    cells: list[str] = run_node(
        "encrypt.mjs", [{"form": form, "key": KEY.hex(), "text": text} for text in texts]
    )
    return cells


def decrypted(run_node: RunNode, form: str, *cells: str) -> list[str]:
    texts: list[str] = run_node(
        "decrypt.mjs", [{"form": form, "key": KEY.hex(), "cell": cell} for cell in cells]
    )
    return texts


@pytest.fixture
def tokens(mongo_client: MongoClient[Document], database_name: str) -> Collection[Document]:
    """What refreshd has stored, seen past the command line."""
    return mongo_client[database_name]["tokens"]


@pytest.fixture
def documents(mongod: str, database_name: str) -> Iterator[Collection[Document]]:
    """The application's collection, in a database of its own."""
    theirs = f"{database_name}_theirs"
    with MongoClient[Document](mongod, tz_aware=True) as client:
        yield client[theirs]["auth_tokens"]
        client.drop_database(theirs)


@pytest.fixture
def table(postgresql: str) -> Iterator[psycopg.Connection]:
    """The table of the page, empty."""
    (create,) = blocks(POSTGRESQL, "sql")
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS oauth_tokens")
        connection.execute(create)
        yield connection
        connection.execute("DROP TABLE oauth_tokens")


@pytest.fixture
def made(mongod: str, database_name: str) -> dict[str, str]:
    """The environment that docs/migration.md asks for."""
    return {
        "MONGODB_URI": mongod,
        "REFRESHD_STORE__DATABASE": database_name,
        "REFRESHD_KEY": base64.b64encode(MASTER).decode(),
    }


def lead_in(shell: Shell, steps: str, tokens: Collection[Document], *, count: int) -> None:
    """Run the first block of a page: a dry run, an import, a comparison, and the activation of all."""
    dry_run, store, compare, activate = steps.splitlines()
    counts = f"{count} found = {count} "
    assert f"{counts}would be imported" in shell.run(dry_run)
    assert tokens.count_documents({}) == 0
    assert f"{counts}imported" in shell.run(store)
    assert tokens.count_documents({"state": "paused"}) == count
    assert re.search(rf"equal +{count} ", shell.run(compare))
    assert f"{count} tokens activated" in shell.run(activate)
    assert tokens.count_documents({"state": "active"}) == count


def lead_out(shell: Shell, steps: str, tokens: Collection[Document], *, provider: str) -> str:
    """Run the last block, after one of two tokens was renewed. Returns what the export prints."""
    pause, export = steps.splitlines()
    assert "2 " in shell.run(pause)
    assert tokens.count_documents({"provider": provider, "state": "paused"}) == 2
    return shell.run(export)


def test_the_page_on_mongodb_leads_in_and_out_again(
    run_node: RunNode,
    made: dict[str, str],
    mongod: str,
    documents: Collection[Document],
    tokens: Collection[Document],
    tmp_path: Path,
) -> None:
    (shown,) = blocks(MONGODB, "json")
    shape = json.loads(shown)
    sealed = ("encryptedAccessToken", "encryptedRefreshToken")

    def document(company: int, service: str) -> Document:
        cells = encrypted(run_node, "json", f"at-{company}", f"rt-{company}-{service}")
        assert json.loads(cells[0]).keys() == json.loads(shape[sealed[0]]).keys()
        own = {"companyId": company, "service": service, "expiresAt": ENDS}
        return {**shape, **dict(zip(sealed, cells, strict=True)), **own}

    documents.insert_many([document(13961027, "xero"), document(14500312, "xero"), document(7, "pipedrive")])
    before = list(documents.find())
    config, *_ = blocks(PAGE, "toml")
    shell = shell_for(
        MONGODB,
        tmp_path,
        config=config.replace("YOUR-CLIENT-ID", "a-client-id"),
        PIPEDRIVE_CLIENT_SECRET="a-client-secret",
        XERO_CLIENT_SECRET="another-client-secret",
        APP_URI=mongod.replace("/?", f"/{documents.database.name}?"),
        TOKEN_ENCRYPTION_KEY=KEY.hex(),
        **made,
    )
    steps_in, steps_out = shell.commands
    lead_in(shell, steps_in, tokens, count=3)
    assert list(documents.find()) == before
    shell.run(f"refreshd add xero 13961027 <<< '{RENEWED}'")
    assert "1 written, 1 unchanged, 0 refused" in lead_out(shell, steps_out, tokens, provider="xero")
    renewed, *others = documents.find()
    assert others == before[1:]
    assert renewed.keys() == before[0].keys()
    written = (*sealed, "expiresAt")
    assert {name: renewed[name] for name in renewed if name not in written} == {
        name: value for name, value in before[0].items() if name not in written
    }
    assert isinstance(renewed["expiresAt"], datetime)
    assert decrypted(run_node, "json", *(renewed[name] for name in sealed)) == ["at-renewed", "rt-renewed"]
    assert len({json.loads(one[name])["iv"] for one in (before[0], renewed) for name in sealed}) == 4


def test_the_page_on_postgresql_leads_in_and_out_again(
    run_node: RunNode,
    made: dict[str, str],
    postgresql: str,
    table: psycopg.Connection,
    tokens: Collection[Document],
    tmp_path: Path,
) -> None:
    users = [("1", "gmail"), ("2", "gmail"), ("1", "outlook")]
    for user, integration in users:
        cells = encrypted(run_node, "colons", f"at-{user}", f"rt-{user}-{integration}")
        assert len(base64.b64decode(cells[0].partition(":")[0])) == 16
        table.execute(
            "INSERT INTO oauth_tokens VALUES (%s, %s, %s, %s, %s, 'read', 'Bearer', %s, %s, '10.1.2.3', 'Firefox')",
            (
                user,
                integration,
                *cells,
                ENDS,
                datetime(2026, 11, 1, tzinfo=UTC),
                datetime(2026, 11, 2, tzinfo=UTC),
            ),
        )

    def rows() -> list[tuple[Any, ...]]:
        return table.execute('SELECT * FROM oauth_tokens ORDER BY integration, "userId"').fetchall()

    before = rows()
    config, *_ = blocks(PAGE, "toml")
    (providers,) = blocks(POSTGRESQL, "toml")
    shell = shell_for(
        POSTGRESQL,
        tmp_path,
        config=config.partition("[providers.")[0] + providers.replace("YOUR-CLIENT-ID", "a-client-id"),
        GOOGLE_CLIENT_SECRET="a-client-secret",
        MICROSOFT_CLIENT_SECRET="another-client-secret",
        APP_URI=postgresql,
        ENCRYPTION_KEY=base64.b64encode(KEY).decode(),
        **made,
    )
    steps_in, steps_out = shell.commands
    lead_in(shell, steps_in, tokens, count=3)
    assert rows() == before
    stored = tokens.find_one({"_id": "google:1"}) or {}
    assert stored["meta"] == {"ip": "10.1.2.3", "device": "Firefox"}
    shell.run(f"refreshd add google 1 <<< '{RENEWED}'")
    assert "1 written, 1 unchanged, 0 refused" in lead_out(shell, steps_out, tokens, provider="google")
    renewed, *others = rows()
    assert others == before[1:]
    names = [column.name for column in table.execute("SELECT * FROM oauth_tokens LIMIT 0").description or ()]
    now, then = dict(zip(names, renewed, strict=True)), dict(zip(names, before[0], strict=True))
    assert {name for name in names if now[name] != then[name]} >= {
        "access_token",
        "refresh_token",
        "expires_at",
    }
    for name in ("userId", "integration", "last_used", "ip_address", "user_agent"):
        assert now[name] == then[name]
    assert decrypted(run_node, "colons", now["access_token"], now["refresh_token"]) == [
        "at-renewed",
        "rt-renewed",
    ]
