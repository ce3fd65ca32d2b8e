"""`keys reseal` beside a daemon that rotates tokens, both killed in between. A reader with both keys opens everything at
every moment, and no grant is lost. The short form is in every run, the long one on demand.
"""

import asyncio
import os
import random
import signal
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from daemon.adapters.keyring import DecryptionError, KeyRing
from tests.e2e.daemon_process import KEY_ID, Installation
from tests.faults.stage import Stage
from tests.support import wall_clock

NEW = "next"
FIELDS = ("access_token", "refresh_token")
READ_AT_ONCE = 500  # documents: the provider answers between two batches
SETTLED = timedelta(seconds=60)


@dataclass
class Reader:
    """An application that opens every token, again and again."""

    scene: Stage
    ring: KeyRing
    opened: int = 0
    failed: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        over = asyncio.Event()

        async def work() -> None:
            while not over.is_set():
                found = self.scene.tokens.find({}, dict.fromkeys(FIELDS, 1))
                async for document in found.batch_size(READ_AT_ONCE):
                    for name in FIELDS:
                        self._open(document["_id"], name, document[name])
                await asyncio.sleep(0.02)

        task = asyncio.create_task(work())
        try:
            yield
        finally:
            over.set()
            await task

    def _open(self, token_id: str, name: str, sealed: str) -> None:
        try:
            self.ring.open(sealed, token_id=token_id, field=name)
        except DecryptionError as why:
            self.failed.append(f"{token_id}: {why}")
        self.opened += 1


async def resealing(place: Installation, *, rate: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "daemon", "--config", str(place.config), "keys", "reseal"),
        *("--readers-have-it", "--json", "--rate", f"{rate}/s"),
        env={name: value for name, value in os.environ.items() if not name.startswith("REFRESHD_")},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def left(scene: Stage) -> int:
    """How many texts the old key still seals."""
    old = {"$regex": rf"^v1\.{KEY_ID}\."}
    return await scene.tokens.count_documents({"$or": [{name: old} for name in FIELDS]})


async def renewed(scene: Stage, *, since: datetime) -> None:
    """Wait until each token that is neither paused nor dead was renewed. MongoDB counts the others: reading 100,000
    documents again and again would keep the provider, which runs in this process, from answering in time.
    """
    others = {"state": {"$nin": ["paused", "needs_reauth"]}, "refreshed_at": {"$not": {"$gt": since}}}
    async with asyncio.timeout(SETTLED.total_seconds()):
        while await scene.tokens.count_documents(others):
            await asyncio.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tokens", "paused", "kills", "rate", "replicas"),
    [
        pytest.param(60, 240, 2, 150, 1, id="short"),
        pytest.param(2_000, 98_000, 20, 1_000, 2, id="long", marks=pytest.mark.long),
    ],
)
async def test_no_grant_is_lost_and_every_text_opens_while_keys_change(
    stage, tokens, paused, kills, rate, replicas
):
    chance = random.Random(kills)
    scene: Stage = await stage(
        grace=timedelta(seconds=60), lifetime=timedelta(seconds=1), sweep_every="500ms"
    )
    places = [scene.install(concurrency=16) for _ in range(replicas)]
    for _ in range(0, paused, 1_000):
        await scene.consent(min(paused, 1_000))
    await scene.tokens.update_many({}, {"$set": {"state": "paused", "due_at": None}})
    await scene.consent(tokens)
    new = os.urandom(32)
    both = KeyRing({KEY_ID: places[0].key, NEW: new}, active=NEW)
    ring = {
        KEY_ID: {"value": b64encode(places[0].key).decode(), "use": "open"},
        NEW: b64encode(new).decode(),
    }
    for place in places:
        place.configure({**place.tables, "keys": {"active": NEW, "ring": ring}})
        place.keyring = both
    reader = Reader(scene, both)
    async with reader.working():
        for number in range(kills):
            async with scene.running(places[number % replicas]) as daemon:
                await daemon.event("daemon.started")
                goal = scene.refreshes() + tokens // 2
                process = await resealing(places[0], rate=rate)
                before = await left(scene)
                while await left(scene) > before - 50 and process.returncode is None:
                    await asyncio.sleep(0.02)
                await asyncio.sleep(chance.uniform(0, 0.2))
                process.kill()
                await process.communicate()
                await scene.until(lambda goal=goal: scene.refreshes() >= goal, of=daemon)
                os.kill(daemon.pid, signal.SIGKILL)
        assert await left(scene)
        back = wall_clock.now()
        async with (
            AsyncExitStack() as running
        ):  # all of them: a dead replica's claims are held for longer than the wait
            daemons = [await running.enter_async_context(scene.running(place)) for place in places]
            await renewed(scene, since=back)
            process = await resealing(places[0], rate=2_000)
            out, err = await process.communicate()
            assert process.returncode == 0, out + err
            assert [await daemon.stop() for daemon in daemons] == [0] * replicas
    assert await left(scene) == 0
    assert (reader.failed, reader.opened > 1000) == ([], True)
    assert scene.revoked() == []
    assert await scene.differing() == []
    assert [scene.journal(place) for place in places] == [set()] * replicas
