"""What the access service remembers of MongoDB: never for longer than it is known to be true."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.serving.remembered import Remembered
from daemon.domain.claim import StoreLost
from daemon.domain.secret import Secret
from daemon.runtime.clock import Clock
from daemon.runtime.tasks import end
from tests.adapters.mongo.mongo_bench import Bench, bench, database
from tests.support.waiting import until

__all__ = ["bench", "database"]

SHORTLY, CLOSELY = timedelta(seconds=10), timedelta(milliseconds=5)
OFFLINE = timedelta(minutes=5)
AWAY = {"errorCode": 91, "closeConnection": False}  # ShutdownInProgress


class Passing(Clock):
    """The real time, and what the test adds to it."""

    passed = timedelta(0)

    def boot(self) -> timedelta:
        return super().boot() + self.passed


class Memory:
    """A memory of the tokens' `state`, and how often it has asked MongoDB."""

    def __init__(self, bench: Bench, uri: str, name: str, *, offline_for: timedelta = OFFLINE) -> None:
        self.clock = Passing()
        self.why: list[str] = []
        self.mongo = Mongo(
            uri=Secret(uri), database=name, collection="tokens", clock=self.clock, observe=lambda _event: None
        )
        bench.mongos.append(self.mongo)
        self.remembered = Remembered[str](
            self.mongo,
            lambda: self.mongo.tokens,
            fields={"state": 1},
            parse=lambda document: str(document["state"]),
            most=3,
            offline_for=offline_for,
            without_streams=self.why.append,
        )
        self.watching: asyncio.Task[None] | None = None

    async def find(self, name: str = "acme:1") -> str | None:
        value, away = await self.remembered.find(name)
        assert not away
        return value

    async def watch(self) -> None:
        """Follow the changes from now on."""
        self.watching = asyncio.create_task(self.remembered.watch())
        await until(lambda: self.remembered._stream is not None, every=CLOSELY, within=SHORTLY)


@pytest.fixture
async def memory(bench: Bench, mongod: str, database: str) -> AsyncIterator[Memory]:
    one = Memory(bench, f"{mongod}&heartbeatFrequencyMS=500", database)
    await one.mongo.adapt()
    yield one
    if one.watching is not None:
        await end(one.watching)


@contextmanager
def counted(bench: Bench) -> Iterator[list[dict[str, Any]]]:
    """The queries of the tokens that MongoDB answers during the block."""
    found: list[dict[str, Any]] = []
    bench.database.command("profile", 2)
    try:
        yield found
    finally:
        bench.database.command("profile", 0)
        query = {"op": "query", "ns": f"{bench.database.name}.tokens"}
        found.extend(bench.database["system.profile"].find(query))


async def test_without_changes_a_value_is_read_once_for_however_long(bench: Bench, memory: Memory):
    bench.insert()
    await memory.watch()
    with counted(bench) as queries:
        for _ in range(50):
            assert await memory.find() == "active"
        await asyncio.sleep(2.5)
        assert await memory.find() == "active"
    assert len(queries) == 1


async def test_a_change_is_seen_as_soon_as_it_is_stored(bench: Bench, memory: Memory):
    bench.insert()
    await memory.watch()
    assert await memory.find() == "active"
    with memory.remembered.watching("acme:1") as changed:
        bench.set("acme:1", state="paused")
        await asyncio.wait_for(changed(), 1)
        assert await memory.find() == "paused"
    bench.tokens.delete_one({"_id": "acme:1"})
    await asyncio.sleep(0.3)
    assert await memory.find() is None


async def test_without_a_change_stream_a_value_is_true_for_two_seconds(bench: Bench, memory: Memory):
    bench.insert()
    assert await memory.find() == "active"
    bench.set("acme:1", state="paused")
    assert await memory.find() == "active"
    memory.clock.passed += timedelta(seconds=2)
    assert await memory.find() == "paused"


async def test_a_change_during_the_reading_is_not_lost(bench: Bench, memory: Memory):
    """The answer of the reading may be older than the change that was reported while it was on its way."""
    bench.insert()
    await memory.watch()
    reading = asyncio.create_task(memory.find())
    await until(lambda: bool(memory.remembered._reading), every=timedelta(0))
    memory.remembered.forget("acme:1")
    await reading
    bench.set("acme:1", state="paused")
    memory.clock.passed += timedelta(seconds=2)
    assert await memory.find() == "paused"


async def test_a_missing_value_is_remembered_too(bench: Bench, memory: Memory):
    await memory.watch()
    with counted(bench) as queries:
        assert [await memory.find("acme:none") for _ in range(5)] == [None] * 5
    assert len(queries) == 1
    bench.insert("none")
    await until(lambda: not memory.remembered._entries["acme:none"].stream, every=CLOSELY, within=SHORTLY)
    assert await memory.find("acme:none") == "active"


async def test_callers_at_the_same_moment_share_a_query(bench: Bench, memory: Memory):
    for number in range(40):
        bench.insert(str(number))
    with counted(bench) as queries:
        await asyncio.gather(*(memory.find(f"acme:{number % 40}") for number in range(200)))
    assert len(queries) <= 2


async def test_memory_is_bounded(bench: Bench, memory: Memory):
    for number in range(10):
        bench.insert(str(number))
        await memory.find(f"acme:{number}")
    assert len(memory.remembered._entries) == 3


async def test_a_lost_change_stream_makes_everything_be_read_again(bench: Bench, memory: Memory):
    """Changes may have been missed, so nothing that was read before is true because no change was reported."""
    bench.insert()
    await memory.watch()
    assert await memory.find() == "active"
    memory.clock.passed += timedelta(seconds=2)  # so that only the change stream vouches for it
    with bench.fault("getMore", "aggregate", times=2, errorCode=286):
        stream = memory.remembered._stream
        await until(lambda: memory.remembered._stream != stream, every=CLOSELY, within=SHORTLY)
        bench.set("acme:1", state="paused")
    assert await memory.find() == "paused"
    await until(lambda: memory.remembered._stream is not None, every=CLOSELY, within=SHORTLY)
    assert memory.remembered._stream != stream


@pytest.mark.parametrize("code", [40573, 13])
async def test_without_the_right_or_a_replica_set_the_reason_is_reported_once(
    bench: Bench, memory: Memory, code: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "daemon.adapters.mongo.serving.remembered.AGAIN_AFTER_REFUSAL", timedelta(milliseconds=10)
    )
    bench.insert()
    with bench.fault("aggregate", times=3, errorCode=code):
        memory.watching = asyncio.create_task(memory.remembered.watch())
        await until(lambda: memory.remembered._stream is not None, every=CLOSELY, within=SHORTLY)
    assert len(memory.why) == 1


async def test_without_mongodb_the_last_known_value_is_used_for_a_limited_time(bench: Bench, memory: Memory):
    bench.insert()
    await memory.watch()
    await memory.find()
    memory.clock.passed += timedelta(minutes=10)  # the change stream has vouched for it all the time
    await until(
        lambda: max(memory.remembered._answered.values()) > timedelta(minutes=10) + Clock().boot() - SHORTLY,
        every=CLOSELY,
        within=SHORTLY,
    )
    assert memory.watching is not None
    await end(memory.watching)
    memory.clock.passed += timedelta(minutes=4)
    with bench.fault("find", times=100, **AWAY):
        assert await memory.remembered.find("acme:1") == ("active", True)
        with pytest.raises(StoreLost):
            await memory.find("acme:never-read")
        memory.clock.passed += timedelta(minutes=1)
        with pytest.raises(StoreLost):
            await memory.find()
    assert await memory.find() == "active"


async def test_with_no_time_offline_nothing_is_used(bench: Bench, memory: Memory):
    bench.insert()
    memory.remembered._offline_for = timedelta(0)
    await memory.find()
    memory.clock.passed += timedelta(seconds=2)
    with bench.fault("find", times=100, **AWAY), pytest.raises(StoreLost):
        await memory.find()


async def test_a_mongodb_that_hangs_counts_as_away(
    bench: Bench, memory: Memory, monkeypatch: pytest.MonkeyPatch
):
    """A frozen server keeps its connections: without a limit, each caller would wait for the socket's."""
    monkeypatch.setattr("daemon.adapters.mongo.serving.remembered.PATIENCE", timedelta(milliseconds=100))
    loop = asyncio.get_running_loop()
    bench.insert()
    await memory.find()
    memory.clock.passed += timedelta(seconds=2)
    with bench.fault("find", times=1, blockConnection=True, blockTimeMS=1500):
        began = loop.time()
        assert await memory.remembered.find("acme:1") == ("active", True)
        first, began = loop.time() - began, loop.time()
        assert await memory.remembered.find("acme:1") == ("active", True)
        second = loop.time() - began
        with pytest.raises(StoreLost, match="in time"):
            await memory.find("acme:never-read")
    assert (first < 1, second < first) == (True, True)
    await until(lambda: not memory.remembered._reading, every=CLOSELY, within=SHORTLY)
    memory.clock.passed += timedelta(seconds=2)
    assert await memory.find() == "active"
