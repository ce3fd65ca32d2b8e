"""The ring in use is proved on the store: at the start, with each reload, and while MongoDB comes and goes."""

import os
from contextlib import contextmanager
from typing import Any

import pytest
from pymongo import MongoClient

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.connection import Mongo
from daemon.domain.claim import StoreLost
from daemon.domain.secret import Secret
from daemon.runtime.clock import Clock
from daemon.runtime.jobs.key_check import KeyCheck
from daemon.runtime.parts import Keys

RIGHT, WRONG = os.urandom(32), os.urandom(32)


class Lines:
    """A log that is only read by the test."""

    def __init__(self):
        self.told = []

    def log(self, line, **fields):
        self.told.append(line.event)


class Stage:
    def __init__(self, mongo):
        self.mongo, self.log = mongo, Lines()

    def start(self, ring):
        self.keys = Keys(ring)
        self.check = KeyCheck(self.keys, self.mongo, self.log)
        return self.check


@contextmanager
def away(outside):
    """As long as the block lasts, MongoDB closes the connection on who asks for check values."""
    data = {"failCommands": ["find"], "closeConnection": True, "namespace": f"{outside.name}.tokens_keys"}
    fail = {"configureFailPoint": "failCommand"}
    outside.client.admin.command(fail | {"mode": "alwaysOn", "data": data})
    try:
        yield
    finally:
        outside.client.admin.command(fail | {"mode": "off"})


@pytest.fixture
async def stage(mongod, database_name):
    mongo = Mongo(
        uri=Secret(mongod), database=database_name, collection="tokens", clock=Clock(), observe=lambda _: None
    )
    await mongo.prepare()
    yield Stage(mongo)
    await mongo.close()


@pytest.fixture
def outside(mongod, database_name):
    with MongoClient[dict[str, Any]](mongod, tz_aware=True) as client:
        yield client[database_name]


def ring(active="one", **keys):
    return KeyRing(keys or {"one": RIGHT}, active=active)


async def test_the_first_ring_makes_its_check_values(stage, outside):
    """One for each key, whichever is active; settled, it asks no more."""
    check = stage.start(ring(one=RIGHT, two=WRONG))
    assert await check.settle()
    assert {row["_id"] for row in outside.tokens_keys.find()} == {"one", "two"}
    outside.tokens_keys.delete_many({})
    assert await check.settle()
    assert outside.tokens_keys.count_documents({}) == 0
    await check.look_again()
    assert outside.tokens_keys.count_documents({}) == 2
    assert (stage.keys.wrong, stage.log.told) == (None, [])


class Overtaken(KeyRing):
    """Another process stores its own check value just before this one does."""

    def __init__(self, keys, meddle):
        super().__init__(keys, active="one")
        self.meddle = meddle

    def writer_seal(self, field, key_id=None):
        self.meddle()
        return super().writer_seal(field, key_id)


async def test_the_loser_of_a_race_learns_that_its_key_is_wrong(stage, outside):
    """Both found no check value; the one that was stored first decides."""
    place = "refreshd:one"
    first = {"_id": "one", "check_v1": ring(one=WRONG).seal(place, token_id=place, field="access_token")}
    check = stage.start(Overtaken({"one": RIGHT}, lambda: outside.tokens_keys.insert_one(first)))
    assert not await check.settle()
    assert stage.log.told == ["keys.wrong"]


async def test_a_wrong_key_is_told_once_and_its_return_too(stage):
    """As often as it is tried."""
    await stage.start(ring()).settle()
    check = stage.start(ring(one=WRONG))
    for _ in range(3):
        assert not await check.settle()
    await check.look_again()
    assert stage.keys.wrong == "key 'one' is not the key that this store was sealed with"
    await check.offer(ring())
    assert await check.settle()
    assert (stage.keys.wrong, stage.log.told) == (None, ["keys.wrong", "keys.right"])


async def test_a_renewed_check_value_ends_it(stage, outside):
    """What the operator has decided is found with the next sweep."""
    await stage.start(ring()).settle()
    check = stage.start(ring(one=WRONG))
    assert not await check.settle()
    outside.tokens_keys.delete_many({})
    assert await check.settle()


async def test_a_wrong_ring_replaces_no_good_one(stage):
    """Neither with a wrong active key nor with a wrong one beside it."""
    check = stage.start(ring(one=RIGHT, old=WRONG))
    await check.settle()
    good = stage.keys.ring
    for wrong in (ring(one=WRONG, old=WRONG), ring(one=RIGHT, old=RIGHT)):
        await check.offer(wrong)
        assert stage.keys.ring is good
        assert await check.settle()
    assert stage.log.told == ["keys.refused"] * 2
    await check.offer(ring("new", one=RIGHT, new=WRONG))
    assert stage.keys.ring.active == "new"


async def test_a_ring_that_came_while_mongodb_was_away_waits_for_its_proof(stage, outside):
    """Until then replies are kept under the ring that was proved: they must open afterwards."""
    check = stage.start(ring())
    await check.settle()
    good = stage.keys.ring
    for offered, taken in ((ring(one=WRONG), False), (ring("two", one=RIGHT, two=WRONG), True)):
        with away(outside):
            await check.offer(offered)
            for _ in range(2):
                with pytest.raises(StoreLost):
                    await check.settle()
            assert stage.keys.ring is good
        assert await check.settle()
        assert (stage.keys.ring is offered) is taken


async def test_a_wrong_key_beside_the_active_one_opens_nothing(stage, outside):
    """Claims go on; the ring knows whom it can't trust."""
    await stage.start(ring(one=RIGHT, old=WRONG)).settle()
    check = stage.start(ring(one=RIGHT, old=RIGHT))
    assert await check.settle()
    assert stage.keys.ring.distrusted == {"old"}
    assert "'old'" in stage.keys.wrong
