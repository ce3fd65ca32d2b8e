"""The first start on a large store: its indexes take minutes, and tokens are renewed from the beginning.

MongoDB's fail point stands for the minutes. The index of the sweep exists, as in a store of an older version.
"""

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient

from daemon.adapters.mongo.connection import DUE_INDEX
from tests.e2e.daemon_process import POLL_EVERY, DaemonProcess
from tests.faults.conftest import MakeStage
from tests.faults.stage import Document, Stage
from tests.support import index_builds, wall_clock

TOKENS = 20
REMOVED, REPORTED = "sandbox:removed", "sandbox:reported"  # the latter has an event that waits for the relay
INDEXES = ["grant_fingerprint", "origin", "subject", "removed_at", "forget_at", "events"]


async def large_store(make: MakeStage) -> Stage:
    """A stage whose store has tokens, two that were removed, and the index of the sweep alone."""
    scene = await make(sweep_every="300ms")
    for _ in range(2):
        scene.install(concurrency=8)
    await scene.consent(TOKENS)
    await scene.tokens.create_indexes([DUE_INDEX])
    now = wall_clock.now()
    removed = {"provider": "sandbox", "account": "removed", "state": "removed", "removed_at": now}
    event = {"n": ObjectId(), "type": "token.recovered", "at": now, "who_acts": "nobody", "revision": 1}
    await scene.tokens.insert_many(
        [
            {"_id": REMOVED, **removed},
            {"_id": REPORTED, **removed, "updated_at": now, "events": [event]},
        ]
    )
    return scene


async def renewed(scene: Stage, *, by: DaemonProcess) -> None:
    """Make every token due, and wait until each was renewed."""
    due: dict[str, Any] = {"state": "active", "due_at": {"$lte": (now := wall_clock.now())}}
    await scene.tokens.update_many({"state": "active"}, {"$set": {"due_at": now}})
    await eventually(lambda: scene.tokens.find_one(due), lambda found: found is None, of=by)


async def eventually(
    ask: Callable[[], Any], holds: Callable[[Document | None], bool], *, of: DaemonProcess
) -> None:
    try:
        async with asyncio.timeout(30):
            while not holds(await ask()):
                await asyncio.sleep(POLL_EVERY.total_seconds())
    except TimeoutError:
        raise AssertionError(of.logs[-4000:]) from None


@pytest.mark.slow
async def test_tokens_are_renewed_while_the_other_indexes_are_built(
    stage: MakeStage, mongo_client: MongoClient[dict[str, Any]]
) -> None:
    """By the first daemon, after a kill, and by a second replica. What needs an index waits for it: the event stays in its
    document, the removed tokens are not deleted, and no consent is looked for. `check` and the log name what is being
    built. A stop is clean."""
    scene = await large_store(stage)
    first, second = scene.places
    database = mongo_client[scene.tokens.database.name]
    database.command({"profile": 2})
    with index_builds.held(mongo_client):
        async with first.running() as daemon:
            await daemon.ready()
            building = await daemon.event("store.indexing", collection="tokens")
            assert building["indexes"] == INDEXES
            await renewed(scene, by=daemon)
            _, out, _ = await first.refreshd("check", "--json")
            assert "MongoDB is still building its index 'subject'" in out
            assert "its indexes are as they must be" not in out
            await daemon.stop(signal.SIGKILL)
        async with first.running() as daemon, second.running() as other:
            await daemon.event("store.indexing", collection="tokens", indexes=INDEXES)
            await other.event("store.indexing", collection="tokens", indexes=INDEXES)
            await renewed(scene, by=other)
            assert await daemon.stop() == 0
            assert await other.stop() == 0
            for one in (daemon, other):
                assert not one.seen("store.lost")
                assert not one.seen("store.indexed")
                assert not one.seen("internal.error")
        left = await scene.tokens.find({"state": "removed"}).to_list()
        assert [len(one.get("events", ())) for one in left] == [0, 1]
        database.command({"profile": 0})
        asked = {one["ns"].partition(".")[2] for one in database["system.profile"].find({"op": "query"})}
        assert "tokens_providers" in asked
        assert "tokens_consents" not in asked
    async with second.running() as daemon:
        for removed in (REMOVED, REPORTED):
            await daemon.event("token.removed", token=removed)
        await renewed(scene, by=daemon)
        _, out, _ = await second.refreshd("check", "--json")
        assert "its indexes are as they must be" in out
    assert await scene.differing() == []
    assert scene.revoked() == []


@pytest.mark.slow
async def test_the_end_of_a_build_is_logged_and_lets_what_waited_begin(
    stage: MakeStage, mongo_client: MongoClient[dict[str, Any]]
) -> None:
    """Without a restart."""
    scene = await large_store(stage)
    async with scene.places[0].running() as daemon:
        with index_builds.held(mongo_client):
            await daemon.event("store.indexing", collection="tokens")
            assert not daemon.seen("token.removed")
        built = await daemon.event("store.indexed", collection="tokens")
        assert built["indexes"] == INDEXES
        for removed in (REMOVED, REPORTED):
            await daemon.event("token.removed", token=removed)
        assert await daemon.stop() == 0
