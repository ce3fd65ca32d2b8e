"""The builds beside the daemon's work: what is logged of them, and when what waits for them may begin."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo import MongoClient

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.telemetry import event_log
from daemon.domain.event import Event
from daemon.domain.secret import Secret
from daemon.runtime.clock import Clock
from daemon.runtime.jobs.indexing import Indexing
from tests.support.waiting import CLOSELY, until

LOST = {"closeConnection": True}


class Bench:
    """An `Indexing` on a real MongoDB, its log, and an operator."""

    def __init__(self, uri: str, database: str, client: MongoClient[dict[str, Any]]) -> None:
        self.client = client
        self.tokens = client[database]["tokens"]
        self.written = io.StringIO()
        self.failed: list[tuple[str, Exception]] = []
        self.events: list[Event] = []
        self.mongo = Mongo(
            uri=Secret(f"{uri}&serverMonitoringMode=poll"),
            database=database,
            collection="tokens",
            clock=Clock(),
            observe=self.events.append,
        )
        log = event_log.configure(format="json", level="info", stream=self.written)
        self.indexing = Indexing(
            self.mongo, log, failed=lambda where, error: self.failed.append((where, error))
        )

    @property
    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written.getvalue().splitlines()]


@pytest.fixture
async def bench(
    mongod: str, database_name: str, mongo_client: MongoClient[dict[str, Any]]
) -> AsyncIterator[Bench]:
    bench = Bench(mongod, database_name, mongo_client)
    await bench.mongo.adapt()
    yield bench
    await bench.mongo.close()


async def test_quick_builds_are_not_logged(bench: Bench) -> None:
    """Most stores are small, or have their indexes."""
    bench.indexing.begin()
    await bench.indexing.run()
    assert bench.indexing.done
    assert bench.logged == []
    assert {"origin", "subject", "events"} < bench.tokens.index_information().keys()


async def test_nothing_is_built_before_the_store_was_found(bench: Bench) -> None:
    """It may be the wrong database."""
    running = asyncio.create_task(bench.indexing.run())
    for _ in range(20):
        await bench.mongo.hello()
    assert bench.tokens.index_information() == {}
    bench.indexing.begin()
    await running
    assert bench.indexing.done


async def test_a_refused_index_is_logged_and_delays_nothing(bench: Bench) -> None:
    """With its name and MongoDB's reason."""
    bench.tokens.create_index("subject", name="subject")
    bench.indexing.begin()
    await bench.indexing.run()
    assert bench.indexing.done
    [line] = bench.logged
    assert (line["event"], line["collection"], line["index"]) == ("store.index_refused", "tokens", "subject")
    assert line["message"] == "MongoDB refuses it: IndexKeySpecsConflict"


async def test_a_loss_of_mongodb_delays_the_builds(bench: Bench) -> None:
    """It is tried again, and no internal error."""
    fault = {"failCommands": ["createIndexes"], "appName": "refreshd", **LOST}
    bench.client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": fault})
    bench.indexing.begin()
    await bench.indexing.run()
    assert bench.indexing.done
    assert [type(event).__name__ for event in bench.events] == ["StoreLost", "StoreBack"]
    assert bench.failed == []


class Broken:
    """A collection with a bug."""

    name = "tokens_consents"

    async def create_indexes(self, _indexes: object) -> None:
        raise KeyError("bug")


async def test_a_bug_in_a_build_is_reported_and_ends_the_wait(bench: Bench) -> None:
    """Events and consents must not wait endlessly."""
    broken: Any = Broken()
    bench.mongo.consents = broken
    bench.indexing.begin()
    await bench.indexing.run()
    assert bench.indexing.done
    assert [where for where, _ in bench.failed] == ["indexing"]


async def test_the_indexes_of_lists_and_of_the_audit_keep_nothing_waiting(bench: Bench) -> None:
    """The audit may be as large as the store."""
    hanging = {"configureFailPoint": "hangAfterStartingIndexBuild", "mode": "alwaysOn"}
    bench.client[bench.tokens.database.name]["tokens_audit"].insert_one({"token": "acme:1"})
    bench.client.admin.command(hanging)
    running = asyncio.create_task(bench.indexing.run())
    try:
        bench.indexing.begin()
        await until(lambda: bench.indexing.done, every=CLOSELY)
        await until(lambda: bool(bench.logged), every=CLOSELY)
        assert not running.done()
    finally:
        bench.client.admin.command({**hanging, "mode": "off"})
    await running
    assert [(line["event"], line["collection"]) for line in bench.logged] == [
        ("store.indexing", "tokens_audit"),
        ("store.indexed", "tokens_audit"),
    ]
