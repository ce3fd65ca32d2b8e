"""Indexes are built with one command, however long that takes, and one that can't be built keeps no other away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from pymongo import ASCENDING, IndexModel, MongoClient

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.index_build import build, build_all, unbuilt
from daemon.adapters.mongo.indexes import ORIGIN_INDEX, SUBJECT_INDEX, TOKEN_INDEXES, name_of
from daemon.domain.event import Event
from daemon.domain.secret import Secret
from daemon.runtime.clock import Clock
from tests.support.index_builds import held, serves
from tests.support.waiting import CLOSELY, until

TEXT = {"$type": "string"}
NAMES = [name_of(one) for one in TOKEN_INDEXES]


class Bench:
    """One store with a token, as refreshd and as an operator see it."""

    def __init__(self, uri: str, database: str, client: MongoClient[dict[str, Any]]) -> None:
        self.events: list[Event] = []
        self.mongo = Mongo(
            uri=Secret(f"{uri}&socketTimeoutMS=500"),
            database=database,
            collection="tokens",
            clock=Clock(),
            observe=self.events.append,
        )
        self.client = client
        self.tokens = client[database]["tokens"]
        self.tokens.insert_one({"_id": "acme:1", "subject": "ann", "grant_fingerprint": "f"})

    def commands(self) -> int:
        done = self.client.admin.command("serverStatus")["metrics"]["commands"]["createIndexes"]
        return int(done["total"])


@pytest.fixture
async def bench(
    mongod: str, database_name: str, mongo_client: MongoClient[dict[str, Any]]
) -> AsyncIterator[Bench]:
    bench = Bench(mongod, database_name, mongo_client)
    await bench.mongo.adapt()
    yield bench
    await bench.mongo.close()


async def test_all_indexes_of_a_collection_are_one_command(bench: Bench) -> None:
    """So MongoDB reads the collection once, and not once for each."""
    before = bench.commands()
    assert await build(bench.mongo, bench.mongo.tokens, TOKEN_INDEXES) == {}
    assert bench.commands() == before + 1
    assert set(NAMES) < bench.tokens.index_information().keys()


async def test_an_index_that_conflicts_keeps_no_other_away(bench: Bench) -> None:
    """It is named with MongoDB's reason."""
    bench.tokens.create_index("subject", name="subject")
    assert await build(bench.mongo, bench.mongo.tokens, TOKEN_INDEXES) == {
        "subject": "MongoDB refuses it: IndexKeySpecsConflict"
    }
    assert set(NAMES) < bench.tokens.index_information().keys()
    assert bench.events == []


async def test_two_rows_of_one_origin_are_named_without_their_values(bench: Bench) -> None:
    """MongoDB's own message shows the values."""
    origin = {"layout": "ours", "source": "db", "key": "secret-row"}
    bench.tokens.insert_many([{"_id": name, "origin": origin} for name in ("acme:2", "acme:3")])
    refused = await build(bench.mongo, bench.mongo.tokens, TOKEN_INDEXES)
    assert refused == {"origin": "two documents have the same values"}
    assert set(NAMES) - {"origin"} < bench.tokens.index_information().keys()


async def test_a_build_longer_than_the_sockets_timeout_is_no_loss(bench: Bench) -> None:
    """MongoDB goes on building; the command is repeated, and waits for the same build."""
    with held(bench.client):
        building = asyncio.create_task(build(bench.mongo, bench.mongo.tokens, TOKEN_INDEXES))
        before = bench.commands()
        await until(lambda: bench.commands() >= before + 3, every=CLOSELY)
        assert not building.done()
        assert await unbuilt(bench.mongo, bench.mongo.tokens, TOKEN_INDEXES) == NAMES
    assert await building == {}
    assert await unbuilt(bench.mongo, bench.mongo.tokens, TOKEN_INDEXES) == []
    assert bench.events == []


async def test_a_build_whose_client_has_gone_is_joined_by_the_next(bench: Bench) -> None:
    """A daemon that was stopped or killed has lost nothing, and one index of the build can be awaited alone."""
    with held(bench.client):
        building = asyncio.create_task(build(bench.mongo, bench.mongo.tokens, TOKEN_INDEXES))
        await until(lambda: "events" in bench.tokens.index_information(), every=CLOSELY)
        building.cancel()
        with suppress(asyncio.CancelledError):
            await building
        again = asyncio.create_task(build(bench.mongo, bench.mongo.tokens, [SUBJECT_INDEX]))
        assert not serves(bench.tokens, "subject", {"subject": TEXT})
    assert await again == {}
    assert serves(bench.tokens, "subject", {"subject": TEXT})
    assert await unbuilt(bench.mongo, bench.mongo.tokens, TOKEN_INDEXES) == []


async def test_what_is_missing_is_unbuilt(bench: Bench) -> None:
    """Also without any documents that it would hold, and of an index without a condition."""
    plain = IndexModel([("account", ASCENDING)], name="account")
    bench.tokens.create_indexes([ORIGIN_INDEX])
    assert await unbuilt(bench.mongo, bench.mongo.tokens, [ORIGIN_INDEX, plain]) == ["account"]
    bench.tokens.create_indexes([plain])
    assert await unbuilt(bench.mongo, bench.mongo.tokens, [ORIGIN_INDEX, plain]) == []


async def test_a_second_build_of_everything_changes_nothing(bench: Bench) -> None:
    """Each start sends the same commands."""
    await build_all(bench.mongo)
    before = bench.tokens.index_information()
    await build_all(bench.mongo)
    assert bench.tokens.index_information() == before
