"""A backup that is older than the store: 500 grants whose refresh token is replaced at each renewal, at a provider that
revokes on reuse, and 500 whose refresh token stays.
"""

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import Installation
from tests.faults.stage import POLL_EVERY
from tests.support import wall_clock

EACH, RENEWED = 500, 300  # grants of a provider; of those, renewed after the backup
ROTATING, STABLE = "sandbox", "google"
PATIENCE = timedelta(seconds=60)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["half", "all"])
async def test_restoring_an_old_backup_presents_nothing_spent(
    mongod: str, database_name: str, tmp_path: Path, lost: str
):
    """What is newer stays, what may be spent rests with its reason, the rest goes on, and no grant is revoked."""
    async with AsyncExitStack() as closing:
        sandboxes = {
            name: await closing.enter_async_context(
                Sandbox(SandboxOptions(name=name, grace=timedelta(), lifetime=timedelta(hours=3)))
            )
            for name in (ROTATING, STABLE)
        }
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongod, tz_aware=True)
        closing.push_async_callback(client.close)
        tokens = client[database_name]["tokens"]
        place = installation(tmp_path, mongod, database_name, sandboxes)
        now = wall_clock.now()
        for name, sandbox in sandboxes.items():
            await tokens.insert_many(stored(place, name, sandbox, now))
        backups = tmp_path / "backups"
        backups.mkdir()
        archive = (await done(place, "backup", "create", "--to", str(backups), "--unencrypted"))["file"]

        async with place.running() as daemon:
            await settled(tokens, RENEWED * 2)
            assert await daemon.stop() == 0
        renewed = await ids(tokens, {"refreshed_at": {"$ne": None}})
        missing = await lose(tokens, lost)
        newer = {one["_id"]: one async for one in tokens.find({"_id": {"$in": sorted(renewed - missing)}})}

        when = ["--lost-at", wall_clock.now().isoformat()] if lost == "all" else []
        report = await done(place, "backup", "restore", archive, *when)
        resting = {name for name in renewed & missing if name.startswith(ROTATING)}
        assert {one["id"] for one in report["paused"]} == resting
        assert {one["why"] for one in report["paused"]} == {"maybe_spent"}
        assert (report["restored"], report["newer_kept"]) == (len(missing), len(newer))
        assert {one["_id"]: one async for one in tokens.find({"_id": {"$in": list(newer)}})} == newer
        assert await ids(tokens, {"state": "paused", "last_failure.code": "maybe_spent"}) == resting

        await tokens.update_many({"state": "active"}, {"$set": {"due_at": wall_clock.now()}})
        async with place.running() as daemon:
            await settled(tokens, 2 * EACH - len(resting), since=wall_clock.now())
            assert await daemon.stop() == 0
        for sandbox in sandboxes.values():
            summary = sandbox._grants.summary()
            assert (summary["reused"], summary["revoked"], summary["refused"]) == (0, 0, 0)
        assert await ids(tokens, {"state": "needs_reauth"}) == set()


def installation(directory: Path, uri: str, database: str, sandboxes: dict[str, Sandbox]) -> Installation:
    def provider(sandbox: Sandbox) -> dict[str, object]:
        described = sandbox.describe()
        return {key: described[key] for key in ("token_url", "client_id", "client_secret")}

    return Installation(
        directory / "place",
        uri=uri,
        database=database,
        providers={name: provider(sandbox) for name, sandbox in sandboxes.items()},
    )


def stored(place: Installation, name: str, sandbox: Sandbox, now: datetime) -> list[dict[str, Any]]:
    """The first of them due now, the others after this test."""
    documents = []
    for number, consent in enumerate(sandbox.consent(EACH)):
        token_id = f"{name}:{consent['grant']}"
        sealed = {
            field: place.keyring.seal(str(consent[field]), token_id=token_id, field=field)
            for field in ("access_token", "refresh_token")
        }
        documents.append(
            {
                "_id": token_id,
                "provider": name,
                "account": consent["grant"],
                "state": "active",
                "revision": 1,
                "failures": 0,
                "grant_fingerprint": place.keyring.fingerprint(str(consent["refresh_token"])),
                **sealed,
                "issued_at": now - timedelta(hours=1),
                "expires_at": now + timedelta(hours=2),
                "refreshed_at": None,
                "due_at": now if number < RENEWED else now + timedelta(hours=1),
            }
        )
    return documents


async def lose(tokens: Any, lost: str) -> set[str]:
    """Every second token, or all. Returns their ids."""
    names = sorted(await ids(tokens, {}))
    gone = names if lost == "all" else names[::2]
    await tokens.delete_many({"_id": {"$in": gone}})
    return set(gone)


async def ids(tokens: Any, query: dict[str, Any]) -> set[str]:
    return {one["_id"] async for one in tokens.find(query, {"_id": 1})}


async def settled(tokens: Any, count: int, *, since: datetime | None = None) -> None:
    """Wait until so many have been renewed."""
    query = {"refreshed_at": {"$ne": None} if since is None else {"$gte": since}, "lease": None}
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while await tokens.count_documents(query) < count:
            await asyncio.sleep(POLL_EVERY.total_seconds())


async def done(place: Installation, *arguments: str) -> dict[str, Any]:
    code, out, err = await place.refreshd(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)
