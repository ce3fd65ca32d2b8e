"""An old refresher and refreshd side by side, while tokens move from one to the other in slices, and back.

The provider revokes a grant whose refresh token is presented twice. So no grant may be revoked, whoever refreshed it.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import pytest
from pymongo import AsyncMongoClient

from daemon.domain.moving import in_first
from tests.faults.stage import Stage
from tests.support import wall_clock

LIFETIME = timedelta(seconds=5)
EARLY = timedelta(seconds=2.5)  # the old refresher's own margin
LAYOUT = """
source = "mongodb"
collection = "theirs"
account = "account"
access_token = "access"
refresh_token = "refresh"
expires_at = "ends"
"""
Document = dict[str, Any]


@dataclass
class OldRefresher:
    """What the application does: it refreshes each token that is nearly over, and skips those that have moved."""

    documents: Any
    token_url: str
    client: dict[str, str]
    percent: int = 0
    rounds: int = 0
    refreshed: int = 0
    failed: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        over = asyncio.Event()

        async def work() -> None:
            async with aiohttp.ClientSession() as session:
                while not over.is_set():
                    await self._round(session)
                    self.rounds += 1
                    await asyncio.sleep(0.05)

        task = asyncio.create_task(work())
        try:
            yield
        finally:
            over.set()
            await task

    async def skip(self, percent: int) -> None:
        """Leave alone the first `percent` percent, and wait until no request for them is in flight."""
        self.percent = percent
        rounds = self.rounds
        while self.rounds < rounds + 2:
            await asyncio.sleep(0.01)

    async def _round(self, session: aiohttp.ClientSession) -> None:
        soon = wall_clock.now() + EARLY
        due = await self.documents.find({"ends": {"$lt": soon}}).to_list()
        for one in due:
            if not in_first(self.percent, f"sandbox:{one['account']}"):
                await self._refresh(session, one)

    async def _refresh(self, session: aiohttp.ClientSession, one: Document) -> None:
        form = {"grant_type": "refresh_token", "refresh_token": one["refresh"], **self.client}
        async with session.post(self.token_url, data=form) as response:
            answer = await response.json()
        if response.status != 200:
            self.failed.append(one["account"])
            return
        ends = wall_clock.now() + timedelta(seconds=answer["expires_in"])
        fresh = {"access": answer["access_token"], "refresh": answer["refresh_token"], "ends": ends}
        await self.documents.update_one({"_id": one["_id"]}, {"$set": fresh})
        self.refreshed += 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grants", "step"),
    [(100, 50), pytest.param(1000, 10, marks=pytest.mark.long)],
    ids=["short", "long"],
)
async def test_tokens_move_in_slices_and_back_without_one_being_presented_twice(
    stage, mongod, database_name, grants, step, capsys
):
    """To half, all the way back, and then to the end; both refresh all the time."""
    scene: Stage = await stage(lifetime=LIFETIME, sweep_every="500ms")
    here = scene.install(concurrency=32)
    layouts = here.directory / "layouts"
    layouts.mkdir(mode=0o700)
    (layouts / "old.toml").write_text(LAYOUT)
    here.configure({**here.tables, "layouts": {"dir": str(layouts)}})
    client: AsyncMongoClient[Document] = AsyncMongoClient(mongod, tz_aware=True)
    theirs = client[database_name].theirs
    ends: datetime = wall_clock.now() + LIFETIME
    await theirs.insert_many(
        {
            "account": one["grant"],
            "access": one["access_token"],
            "refresh": one["refresh_token"],
            "ends": ends,
        }
        for one in scene.sandbox.consent(grants)
    )
    source = ("old", mongod.replace("/?", f"/{database_name}?"), "--provider", "sandbox")
    credentials = {"client_id": scene.sandbox.client_id, "client_secret": scene.sandbox.client_secret}
    old = OldRefresher(theirs, scene.sandbox.token_url, credentials)
    before = scene.refreshes()

    async def refreshd(*arguments: str) -> Document:
        done = await here.refreshd(*arguments, "--json", within=timedelta(seconds=60))
        assert done.code == 0, done.stdout + done.stderr
        found: Document = json.loads(done.stdout.splitlines()[0])
        return found

    async def move(percent: int) -> None:
        await old.skip(percent)
        report = await refreshd("import", *source, "--activate", f"{percent}%")
        assert (report["refused"], report["not_activated"]) == ([], [])

    try:
        async with scene.running(here) as daemon, old.working():
            await daemon.event("daemon.started")
            for percent in range(step, 51, step):
                await move(percent)
            await asyncio.sleep(LIFETIME.total_seconds())
            await _back(refreshd, source)
            await old.skip(0)
            await asyncio.sleep(LIFETIME.total_seconds())
            for percent in range(step, 101, step):
                await move(percent)
            ours = old.refreshed
            await asyncio.sleep(LIFETIME.total_seconds())
            assert old.refreshed == ours
            assert await daemon.stop() == 0
    finally:
        await client.close()
    with capsys.disabled():
        print(f"\n{scene.refreshes() - before} refreshes, of which the old refresher made {old.refreshed}")
    assert old.failed == []
    assert scene.revoked() == []
    assert scene.presented_twice() == set()
    assert 0 < old.refreshed < scene.refreshes() - before
    assert await scene.differing() == []


async def _back(refreshd: Any, source: tuple[str, ...]) -> None:
    """All tokens return to the old store, before the old refresher takes them again."""
    taken = await refreshd("pause", "--imported", "sandbox")
    assert taken["tokens"] > 0
    exported = await refreshd("export", *source)
    assert (exported["written"] > 0, exported["refused"]) == (True, [])
