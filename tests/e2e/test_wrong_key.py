"""A key with other bytes under the right id, or tokens in another database: seen before anything is claimed, and said
loudly; the right one undoes it.
"""

import json
import os
import signal
from base64 import b64encode
from datetime import timedelta

import aiohttp
import pytest
from pymongo import AsyncMongoClient

from daemon.adapters.keyring import KeyRing
from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import KEY_ID
from tests.support import wall_clock

NOT_THE_KEY = f"key '{KEY_ID}' is not the key that this store was sealed with"
LATER = timedelta(hours=1)


@pytest.fixture
async def sandbox():
    async with Sandbox(SandboxOptions(lifetime=timedelta(minutes=5))) as running:
        yield running


@pytest.fixture
async def database(mongod, database_name):
    async with AsyncMongoClient(mongod, tz_aware=True) as client:
        yield client[database_name]


@pytest.fixture
def place(install, sandbox):
    client = {
        "token_url": sandbox.token_url,
        "client_id": sandbox.client_id,
        "client_secret": sandbox.client_secret,
    }
    return install({"sandbox": client})


async def store_tokens(database, sandbox, ring, *, count, due_in=timedelta(0)):
    now = wall_clock.now()
    for consent in sandbox.consent(count):
        name = f"sandbox:{consent['grant']}"
        sealed = {
            field: ring.seal(consent[field], token_id=name, field=field)
            for field in ("access_token", "refresh_token")
        }
        await database.tokens.insert_one(
            {"_id": name, "provider": "sandbox", "account": consent["grant"], "state": "active", **sealed}
            | {"issued_at": now, "expires_at": now + due_in + timedelta(minutes=1), "due_at": now + due_in}
            | {"revision": 1}
        )


def with_key(place, *, active=KEY_ID, **ring):
    keys = {"active": active, "ring": {name: b64encode(key).decode() for name, key in ring.items()}}
    return {**place.tables, "keys": keys}


async def readiness(daemon):
    async with aiohttp.ClientSession() as session, session.get(await daemon.url() + "/readyz") as answer:
        return answer.status, await answer.json()


async def everything(database):
    return [document async for document in database.tokens.find().sort("_id")]


@pytest.mark.parametrize("checked", [True, False], ids=["with a check value", "of an older version"])
async def test_a_store_sealed_with_another_key_is_left_as_it_is(place, sandbox, database, checked):
    """Another 32 bytes under the same id: not ready, `check` and `add` refuse, and no document changes. With the right
    key back, a reload is enough.
    """
    await store_tokens(database, sandbox, place.keyring, count=20, due_in=LATER)
    async with place.running() as daemon:
        await daemon.ready()
        assert await daemon.stop() == 0
    assert [row["_id"] async for row in database.tokens_keys.find()] == [KEY_ID]
    if not checked:
        await database.drop_collection("tokens_keys")
    await database.tokens.update_many({}, {"$set": {"due_at": wall_clock.now()}})
    before, right = await everything(database), place.tables

    place.configure(with_key(place, **{KEY_ID: os.urandom(32)}))
    async with place.running() as daemon:
        said = await daemon.event("keys.wrong")
        assert said["message"] == NOT_THE_KEY
        status, told = await readiness(daemon)
        assert (status, told["checks"]["keys"]) == (503, {"ok": False, "detail": NOT_THE_KEY})

        code, out, _ = await place.refreshd("--json", "check")
        assert code == 1
        assert NOT_THE_KEY in [problem["what"] for problem in json.loads(out)["problems"]]
        code, _, err = await place.refreshd(
            "add", "sandbox", "new", stdin=json.dumps({"access_token": "a", "refresh_token": "r"})
        )
        assert (code, NOT_THE_KEY in err) == (1, True)
        assert await everything(database) == before
        assert not daemon.seen("token.unreadable")

        place.configure(right)
        daemon.send_signal(signal.SIGHUP)
        await daemon.event("keys.right")
        await daemon.ready()
        for document in before:
            await daemon.event("token.renewed", token=document["_id"])
        assert await daemon.stop() == 0


async def test_a_reload_to_a_wrong_key_is_refused_and_work_goes_on(place, sandbox, database):
    """The daemon keeps the good ring: it renews, and it is ready."""
    await store_tokens(database, sandbox, place.keyring, count=3, due_in=LATER)
    async with place.running() as daemon:
        await daemon.ready()
        place.configure(with_key(place, **{KEY_ID: os.urandom(32)}))
        daemon.send_signal(signal.SIGHUP)
        refused = await daemon.event("keys.refused")
        assert refused["message"] == NOT_THE_KEY
        await daemon.event("reload.done")
        await database.tokens.update_many({}, {"$set": {"due_at": wall_clock.now()}})
        await daemon.event("token.renewed", count=3)
        assert (await readiness(daemon))[0] == 200
        assert await daemon.stop() == 0
    assert all(document["failures"] == 0 for document in await everything(database))


async def test_a_wrong_key_that_seals_nothing_new_stops_only_its_own_tokens(place, sandbox, database):
    """The ring's active key is right, an older one is not: not ready, its tokens are left alone, the others renewed."""
    old = KeyRing({"old": os.urandom(32)}, active="old")
    await store_tokens(database, sandbox, old, count=5)
    left_alone = await everything(database)
    await store_tokens(database, sandbox, place.keyring, count=5)
    place.configure(with_key(place, **{KEY_ID: place.key, "old": os.urandom(32)}))
    async with place.running() as daemon:
        said = await daemon.event("keys.wrong")
        assert said["keys"] == ["old"]
        await daemon.event("token.renewed", count=5)
        assert (await readiness(daemon))[0] == 503
        assert await daemon.stop() == 0
    assert await database.tokens.find({"_id": {"$in": [one["_id"] for one in left_alone]}}).sort(
        "_id"
    ).to_list() == sorted(left_alone, key=lambda one: one["_id"])


async def test_of_two_replicas_with_different_keys_one_works(place, install, sandbox, database):
    """They start together on an empty store: the key of the first is the store's, whichever it is."""
    other = install(
        {"sandbox": place.tables["providers.sandbox"]},
        keys={"active": KEY_ID, "ring": {KEY_ID: b64encode(os.urandom(32)).decode()}},
    )
    async with place.running() as one, other.running() as two:
        await one.event("daemon.started")
        await two.event("daemon.started")
        async with aiohttp.ClientSession() as session:
            urls = [await one.url(), await two.url()]

            async def codes():
                found = []
                for url in urls:
                    async with session.get(f"{url}/readyz") as answer:
                        found.append(answer.status)
                return sorted(found)

            while await codes() != [200, 503] or not (one.seen("keys.wrong") or two.seen("keys.wrong")):
                await database.client.admin.command("ping")
        assert len(one.seen("keys.wrong")) + len(two.seen("keys.wrong")) == 1
    assert await database.tokens_keys.count_documents({}) == 1


async def test_each_process_writes_which_keys_it_needs(place, database, sandbox):
    """Its row says who it is, since when, and what its journal holds of each key of the ring."""
    async with place.running() as daemon:
        await daemon.ready()
        async with await database.tokens_instances.watch(full_document="updateLookup") as changes:
            row = await database.tokens_instances.find_one() or (await changes.next())["fullDocument"]
        started = await daemon.event("daemon.started")
        assert await daemon.stop() == 0
    assert set(row) == {"_id", "kind", "host", "version", "started_at", "seen_at", "keys", "writer_key_ids"}
    assert (row["_id"], row["kind"], row["version"]) == (started["instance"], "run", started["version"])
    assert row["keys"] == {KEY_ID: {"journal": 0, "kept": 0, "use": "all"}}
    assert row["started_at"] <= row["seen_at"]
    indexes = await database.tokens_instances.index_information()
    assert indexes["seen"]["expireAfterSeconds"] == 30 * 24 * 3600


async def test_tokens_in_another_database_than_the_uris_are_left_and_named(
    place, database, database_name, sandbox, mongod
):
    """Not ready, until the configuration says which of the two it is."""
    store = {"uri": mongod.replace("/?", f"/{database_name}?"), "collection": "test_misplaced_too"}
    place.configure({**place.tables, "store": store})
    former = database.client["refreshd"]["test_misplaced_too"]
    await former.insert_one({"_id": "sandbox:a", "provider": "sandbox", "account": "a"})
    try:
        async with place.running() as daemon:
            said = await daemon.event("store.misplaced")
            told = (
                f"{database_name}.test_misplaced_too is empty, and refreshd.test_misplaced_too holds tokens"
            )
            assert said["message"].endswith(told.partition(" ")[2])  # the log masks long names
            status, readyz = await readiness(daemon)
            assert (status, readyz["checks"]["store"]) == (503, {"ok": False, "detail": told})
            await former.drop()
            await daemon.ready()
    finally:
        await former.drop()
