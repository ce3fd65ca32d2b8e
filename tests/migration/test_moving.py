"""Moving in and out, from three kinds of store: dry run, import, a renewal at a provider that rotates, and back.

At the end the old application's own code, in Node, still reads its store: nothing but the tokens and their dates has
changed there.
"""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pymongo import MongoClient

from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import Installation
from tests.support import wall_clock

KEY = bytes(range(7, 39)).hex()
COUNT = 20
Cells = dict[str, Any]
RunNode = Callable[[str, object], Any]
TABLE = """
CREATE TABLE oauth_tokens (
    "userId" text, integration text, access_token text, refresh_token text, expires_at timestamptz, scope text,
    token_type text, issued_at timestamptz, last_used timestamptz, ip_address inet, user_agent text, payload jsonb,
    PRIMARY KEY ("userId", integration)
)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OldStore:
    """One kind of store: how `refreshd` names it, and how the old application reads it: (access, refresh, rest) each."""

    arguments: list[str]
    environment: dict[str, str]
    read: Callable[[], dict[str, tuple[str, str, Cells]]]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """It rotates every refresh token, without grace, and revokes a grant when one is used again."""
    async with Sandbox(SandboxOptions(grace=timedelta(), lifetime=timedelta(minutes=30))) as made:
        yield made


@pytest.fixture(params=["files", "mongodb", "postgresql"])
def old(
    request: pytest.FixtureRequest,
    run_node: RunNode,
    tmp_path: Path,
    sandbox: Sandbox,
    mongod: str,
    database_name: str,
) -> OldStore:
    """Twenty grants of the sandbox, stored as that application stores them."""
    grants = [
        (str(one["grant"]), str(one["access_token"]), str(one["refresh_token"]))
        for one in sandbox.consent(COUNT)
    ]
    ends = wall_clock.now().replace(microsecond=0) + timedelta(minutes=3)
    made: OldStore = {"files": _files, "mongodb": _mongodb, "postgresql": _postgresql}[request.param](
        request, run_node, tmp_path, grants, ends, mongod, database_name
    )
    return made


Grants = list[tuple[str, str, str]]


def _files(
    _request: pytest.FixtureRequest, run_node: RunNode, home: Path, grants: Grants, ends: datetime, *_: str
) -> OldStore:
    file = home / "tokens.json"
    rows = {
        account: {"accessToken": access, "refreshToken": refresh, "apiDomain": f"https://{account}.example"}
        | ({"expiresAt": int(ends.timestamp() * 1000)} if number % 2 else {})
        for number, (account, access, refresh) in enumerate(grants)
    }
    file.write_text(json.dumps(rows, indent=2))

    def read() -> dict[str, tuple[str, str, Cells]]:
        tokens = run_node("read-files.mjs", str(file))
        own = ("accessToken", "refreshToken", "expiresAt", "isDue")
        return {
            account: (one["accessToken"], one["refreshToken"], {k: v for k, v in one.items() if k not in own})
            for account, one in tokens.items()
        }

    return OldStore(arguments=["token-files", str(file), "--provider", "sandbox"], environment={}, read=read)


def _mongodb(
    _request: pytest.FixtureRequest,
    run_node: RunNode,
    _home: Path,
    grants: Grants,
    ends: datetime,
    mongod: str,
    database: str,
) -> OldStore:
    theirs = f"{database}_theirs"
    texts = [{"form": "json", "key": KEY, "text": text} for _, *pair in grants for text in pair]
    cells = run_node("encrypt.mjs", texts)
    documents = [
        {
            "companyId": account,
            "service": "sandbox",
            "encryptedAccessToken": cells[2 * number],
            "encryptedRefreshToken": cells[2 * number + 1],
            "expiresAt": ends,
            "tenantId": f"tenant-{number}",
            "settings": {"sync": [1, 2.5, None]},
        }
        for number, (account, _, _) in enumerate(grants)
    ]
    client: MongoClient[Cells] = MongoClient(mongod, tz_aware=True)
    _request.addfinalizer(client.close)
    _request.addfinalizer(lambda: client.drop_database(theirs))
    client[theirs].auth_tokens.insert_many(documents)

    def read() -> dict[str, tuple[str, str, Cells]]:
        found = list(client[theirs].auth_tokens.find())
        sealed = [one[f"encrypted{kind}Token"] for one in found for kind in ("Access", "Refresh")]
        texts = run_node("decrypt.mjs", [{"form": "json", "key": KEY, "cell": cell} for cell in sealed])
        assert all(one["expiresAt"] > wall_clock.now() for one in found)
        own = ("encryptedAccessToken", "encryptedRefreshToken", "expiresAt")
        return {
            one["companyId"]: (
                texts[2 * number],
                texts[2 * number + 1],
                {k: v for k, v in one.items() if k not in own},
            )
            for number, one in enumerate(found)
        }

    arguments = [
        "encrypted-mongodb",
        mongod.replace("/?", f"/{theirs}?"),
        "--key-env",
        "TOKEN_ENCRYPTION_KEY",
    ]
    return OldStore(arguments=arguments, environment={"TOKEN_ENCRYPTION_KEY": KEY}, read=read)


def _postgresql(
    request: pytest.FixtureRequest, run_node: RunNode, _home: Path, grants: Grants, ends: datetime, *_: str
) -> OldStore:
    uri = request.getfixturevalue("postgresql")
    connection = psycopg.connect(uri, autocommit=True)
    request.addfinalizer(connection.close)
    connection.execute("DROP TABLE IF EXISTS oauth_tokens")
    connection.execute(TABLE)
    texts = [{"form": "colons", "key": KEY, "text": text} for _, *pair in grants for text in pair]
    cells = run_node("encrypt.mjs", texts)
    born = datetime(2026, 11, 1, tzinfo=UTC)
    for number, (account, _, _) in enumerate(grants):
        row = (
            account,
            "box",
            cells[2 * number],
            cells[2 * number + 1],
            ends,
            "read write",
            "Bearer",
            born,
            born,
        )
        connection.execute(
            "INSERT INTO oauth_tokens VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, '10.1.2.3', 'Firefox', %s)",
            (*row, json.dumps({"plan": [1, None], "n": number})),
        )

    def read() -> dict[str, tuple[str, str, Cells]]:
        rows = connection.execute(
            'SELECT "userId", access_token, refresh_token, expires_at, integration, last_used, ip_address::text,'
            ' user_agent, payload FROM oauth_tokens ORDER BY "userId"'
        ).fetchall()
        sealed = [{"form": "colons", "key": KEY, "cell": cell} for row in rows for cell in row[1:3]]
        texts = run_node("decrypt.mjs", sealed)
        assert all(row[3] > wall_clock.now() for row in rows)
        return {
            row[0]: (texts[2 * number], texts[2 * number + 1], {"rest": row[4:]})
            for number, row in enumerate(rows)
        }

    arguments = [
        "encrypted-postgresql",
        uri,
        "--key-env",
        "ENCRYPTION_KEY",
        "--map",
        "integration.box=sandbox",
    ]
    return OldStore(arguments=arguments, environment={"ENCRYPTION_KEY": KEY}, read=read)


async def test_tokens_move_in_are_renewed_and_move_out_again(
    old: OldStore, sandbox: Sandbox, tmp_path: Path, mongod: str, database_name: str
) -> None:
    """The grants are alive at the provider at the end, and the old application holds their current refresh tokens."""
    client = {"client_id": sandbox.client_id, "client_secret": sandbox.client_secret}
    here = Installation(
        tmp_path / "refreshd",
        uri=mongod,
        database=database_name,
        providers={"sandbox": {"token_url": sandbox.token_url, **client}},
    )
    before = old.read()

    async def refreshd(*arguments: str, code: int = 0) -> Any:
        done = await here.refreshd(*arguments, "--json", **old.environment)
        assert done.code == code, done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    async def counts(*options: str) -> Cells:
        (report,) = await refreshd("import", *old.arguments, *options)
        assert report["found"] == sum(report[kind] for kind in ("imported", "updated", "already_there"))
        return {kind: report[kind] for kind in ("found", "imported", "already_there", "activated", "refused")}

    none = {"found": COUNT, "imported": 0, "already_there": 0, "activated": 0, "refused": []}
    assert await counts("--dry-run") == {**none, "imported": COUNT}
    assert len(await refreshd("list")) == 0
    assert await counts() == {**none, "imported": COUNT}
    assert await counts() == {**none, "already_there": COUNT}
    (compared,) = await refreshd("compare", *old.arguments)
    assert (compared["equal"], compared["only_here"], compared["only_there"]) == (COUNT, 0, 0)
    assert await counts("--activate", "all") == {**none, "already_there": COUNT, "activated": COUNT}
    await refreshd("refresh", "sandbox")
    async with here.running() as daemon:
        for account in before:
            await daemon.event("token.renewed", token=f"sandbox:{account}")
        assert await daemon.stop() == 0
    assert old.read() == before
    await refreshd("pause", "--imported", "sandbox")
    (exported,) = await refreshd("export", *old.arguments, *_only(old))
    assert (exported["written"], exported["refused"]) == (COUNT, [])
    after = old.read()
    assert {account: rest for account, (_, _, rest) in after.items()} == {
        account: rest for account, (_, _, rest) in before.items()
    }
    assert not [account for account in before if before[account][:2] == after[account][:2]]
    (compared,) = await refreshd("compare", *old.arguments)
    assert compared["equal"] == COUNT
    ledger = {grant["id"]: grant for grant in sandbox.ledger()}
    assert not [grant for grant in ledger.values() if grant["revoked_by"] is not None]
    assert len({refresh for _, refresh, _ in after.values()}) == COUNT


def _only(old: OldStore) -> list[str]:
    return [] if "--provider" in old.arguments else ["--provider", "sandbox"]


async def test_a_wrong_key_is_said_once_and_nothing_is_stored(
    old: OldStore, sandbox: Sandbox, tmp_path: Path, mongod: str, database_name: str
) -> None:
    if not old.environment:
        pytest.skip("files are not encrypted")
    here = Installation(
        tmp_path / "refreshd",
        uri=mongod,
        database=database_name,
        providers={"sandbox": {"token_url": sandbox.token_url, "client_id": "c", "client_secret": "s"}},
    )
    done = await here.refreshd("import", *old.arguments, **dict.fromkeys(old.environment, "00" * 31 + "01"))
    assert done.code == 1
    said = [line for line in done.stderr.splitlines() if "audit:" not in line]
    assert len(said) == 1
    assert "not the application's encryption key" in done.stderr
    assert (await here.refreshd("list", "--json")).stdout == ""
