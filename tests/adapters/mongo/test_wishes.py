"""The stream of wishes on a real MongoDB: it shows them, and nothing that refreshd writes itself."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, UpdateOne

from daemon.adapters.mongo.admin.refresh_requests import RefreshRequests
from daemon.adapters.mongo.admin.tokens import TokenAdmin
from daemon.adapters.mongo.audit import Audit, Who
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.embedded_mongod import HOST, spawn_mongod
from daemon.adapters.mongo.wishes import AT_ONCE, NotFollowed, WishStream
from daemon.domain.claim import StoreLost
from daemon.domain.secret import Secret
from daemon.runtime.tasks import end
from tests.adapters.mongo.mongo_bench import ACME, CHANGES, NOON, RING, Bench, claim_one
from tests.support.clocks import SetClock
from tests.support.ports import free_port
from tests.support.waiting import until

CLOSELY = timedelta(milliseconds=2)


class Following:
    """A stream that is followed, and the wishes that it has shown."""

    def __init__(self, stream: WishStream) -> None:
        self.stream = stream
        self.wishes: list[tuple[str, datetime]] = []
        self.begun = 0
        self.written = 0  # results of this process
        self.task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        before = self.begun
        self.task = asyncio.create_task(self.stream.follow(self._wished, begun=self._begun))
        await self.until(lambda: self.begun > before)

    async def until(self, condition: Any) -> None:
        assert self.task is not None
        await until(lambda: condition() or self.task.done(), every=CLOSELY)
        if self.task.done():
            await self.task

    async def shows(self, count: int) -> bool:
        """Wait until as many wishes were shown, or until the stream has failed."""
        await until(
            lambda: len(self.wishes) >= count or (self.task is not None and self.task.done()), every=CLOSELY
        )
        return len(self.wishes) >= count

    async def failed(self) -> Exception:
        """Wait until the stream fails."""
        assert self.task is not None
        await asyncio.wait({self.task}, timeout=10)
        error = self.task.exception()
        assert isinstance(error, Exception)
        return error

    async def end(self) -> None:
        if self.task is not None:
            await end(self.task)

    @property
    def tokens(self) -> list[str]:
        return [token for token, _ in self.wishes]

    def _wished(self, token: str, due_at: datetime) -> None:
        self.wishes.append((token, due_at))

    def _begun(self) -> None:
        self.begun += 1


@pytest.fixture
async def following(bench: Bench) -> AsyncIterator[Following]:
    """Of the bench's tokens; not begun yet."""
    bench.store("stream")
    made = Following(WishStream(bench.mongos[-1], written=lambda: made.written))
    yield made
    await made.end()


def wish(bench: Bench, name: str = "acme:1") -> None:
    bench.set(name, due_at=NOON)


async def test_a_wish_is_shown_with_its_date(bench, following):
    """By the id that was written, and as precisely as MongoDB stores it."""
    bench.insert("1")
    await following.begin()
    wish(bench)
    await following.until(lambda: following.wishes)
    assert following.wishes == [("acme:1", NOON.replace(microsecond=123000))]


@pytest.mark.parametrize("change", CHANGES)
async def test_what_a_renewal_writes_is_not_shown(bench, following, change):
    """From the claim to the result, whatever that is; the next wish is."""
    bench.insert("1")
    bench.insert("wished")
    store = bench.store()
    await following.begin()
    await store.record(await claim_one(store, busy=("acme:wished",)), CHANGES[change])
    wish(bench, "acme:wished")
    await following.until(lambda: following.wishes)
    assert following.tokens == ["acme:wished"]


async def test_nor_is_a_claim_that_is_given_back_or_taken_over(bench, following):
    """Nor a document that is set aside, or an operator's pause; `refreshd refresh` is a wish."""
    bench.insert("1")
    bench.insert("spoilt", refresh_token="v1.a.spoilt")
    store = bench.store()
    mongo = bench.mongos[-1]
    audit = Audit(mongo, who=Who(actor="me@here"), log=lambda _: None)
    admin = TokenAdmin(mongo, RING, audit)
    await following.begin()
    batch = await store.claim(ACME, limit=10, busy=[])
    await store.release([item for item in batch.items if hasattr(item, "id")])
    await store.claim(ACME, limit=10, busy=[])
    await admin.pause("acme:1")
    await admin.resume("acme:1")
    await RefreshRequests(mongo, audit).request("acme:1")
    await following.until(lambda: following.wishes)
    assert following.tokens == ["acme:1"]


async def test_odd_changes_are_left_out(bench, following):
    """Other ids than texts, long ones, other types than dates, a text that is not UTF-8; and nothing ends the stream."""
    ids: list[Any] = [7, bson.ObjectId(), {"a": 1}, b"acme:1", "acme:" + "x" * 700, "", True]
    for number, one in enumerate(ids):
        bench.tokens.insert_one({"_id": one, "provider": "acme", "number": number})
    bench.insert("1")
    await following.begin()
    bench.tokens.bulk_write([UpdateOne({"_id": one}, {"$set": {"due_at": NOON}}) for one in ids])
    for value in ("now", 12, None, [NOON], {"$date": 1}, True):
        bench.set("acme:1", due_at=value)
    bench.set("acme:1", due_at=NOON, updated_at=NOON)
    bench.tokens.update_one({"_id": "acme:1"}, {"$unset": {"due_at": 1}})
    not_utf8 = RawBSONDocument(bson.encode({"_id": "acme:X"}).replace(b"X", b"\xff"))
    bench.tokens.insert_one(not_utf8)
    bench.tokens.update_many({}, {"$set": {"meta.big": "x" * 100_000}})
    bench.set("acme:1", due_at=NOON.replace(year=9999), meta={"big": "x" * 1_000_000})
    wish(bench)
    await following.until(lambda: len(following.wishes) == 2)
    assert following.tokens == ["acme:1"] * 2


async def test_it_goes_on_where_it_was(bench, following):
    """After a connection that is cut the wishes in between are shown, once each, by the next follower."""
    for number in range(3):
        bench.insert(str(number))
    await following.begin()
    wish(bench, "acme:0")
    await following.until(lambda: following.wishes)
    with bench.fault("getMore", "aggregate", times=3, closeConnection=True):
        assert isinstance(await following.failed(), StoreLost)
    wish(bench, "acme:1")
    await following.begin()
    wish(bench, "acme:2")
    await following.until(lambda: len(following.wishes) == 3)
    assert following.tokens == ["acme:0", "acme:1", "acme:2"]
    assert bench.events == []  # the stream reports no loss of MongoDB


async def test_a_killed_cursor_costs_no_wish(bench, following):
    """The next follower goes on where it was: what was written before and after the kill is shown once."""
    for number in range(2):
        bench.insert(str(number))
    await following.begin()
    assert killed(bench)
    wish(bench, "acme:0")
    # Killed at work, the stream fails. Killed between two looks, the driver has opened another one.
    if not await following.shows(1):
        assert isinstance(await following.failed(), StoreLost)
        wish(bench, "acme:1")
        await following.begin()
    else:
        wish(bench, "acme:1")
    assert await following.shows(2)
    assert following.tokens == ["acme:0", "acme:1"]


def killed(bench: Bench) -> list[int]:
    """Kill the stream's cursor. Returns its id."""
    operations = bench.client.admin.aggregate(
        [
            {"$currentOp": {"idleCursors": True}},
            {"$match": {"ns": bench.tokens.full_name, "cursor.cursorId": {"$gt": 0}}},
        ]
    )
    cursors = [one["cursor"]["cursorId"] for one in operations]
    return list(bench.database.command({"killCursors": "tokens", "cursors": cursors})["cursorsKilled"])


@pytest.mark.parametrize(
    ("command", "code", "why"),
    [
        ("aggregate", 40573, "this MongoDB is not a replica set, so it has no change streams"),
        ("aggregate", 13, "the user lacks the privilege changeStream on the tokens"),
        ("aggregate", 280, "MongoDB refuses it: ChangeStreamFatalError"),
        ("getMore", 286, "MongoDB's oplog no longer holds the changes since the last one that was read"),
        ("getMore", 10334, "MongoDB refuses it: BSONObjectTooLarge"),
    ],
)
async def test_a_refusal_is_a_sentence_and_the_next_try_begins_afresh(bench, following, command, code, why):
    """Else what it refused would be refused again and again."""
    bench.insert("1")
    with bench.fault(command, times=1, errorCode=code):
        following.task = asyncio.create_task(
            following.stream.follow(following._wished, begun=following._begun)
        )
        error = await following.failed()
    assert isinstance(error, NotFollowed)
    assert str(error) == why
    assert following.stream._position is None
    await following.begin()
    wish(bench)
    await following.until(lambda: following.wishes)


async def test_a_collection_that_is_dropped_ends_the_stream(bench, following):
    """The next one follows the new collection."""
    bench.insert("1")
    await following.begin()
    bench.tokens.drop()
    assert "dropped" in str(await following.failed())
    bench.insert("1")
    await following.begin()
    wish(bench)
    await following.until(lambda: following.wishes)


async def test_a_storm_is_read_in_small_replies(bench, following):
    """Ten thousand wishes at the same moment: each is shown, and no reply has more than AT_ONCE of them."""
    bench.tokens.insert_many([{"_id": f"acme:{n}", "provider": "acme"} for n in range(10_000)])
    await following.begin()
    bench.database.command("profile", 2)
    bench.tokens.update_many({}, {"$set": {"due_at": NOON}})
    await until(lambda: len(following.wishes) >= 10_000, every=CLOSELY, within=timedelta(seconds=60))
    bench.database.command("profile", 0)
    assert len(set(following.tokens)) == 10_000
    replies = [one["nreturned"] for one in bench.database["system.profile"].find({"op": "getmore"})]
    assert replies
    assert max(replies) <= AT_ONCE


def waits(bench: Bench) -> list[bool]:
    """Whether the stream has waited for changes, then hasn't, and so on: from the profiler's entries, without repetitions."""
    found = bench.database["system.profile"].find({"op": "getmore", "ns": bench.tokens.full_name})
    kinds = ["maxTimeMS" not in one["command"] for one in found.sort("ts", 1)]
    return [kind for kind, _ in itertools.groupby(kinds)]


async def test_while_much_is_written_the_stream_is_read_now_and_then(bench, following):
    """Each write would wake a cursor that waits. Every wish is shown once, also those around a change of the rate."""
    for number in range(6):
        bench.insert(str(number))
    await following.begin()
    bench.database.command("profile", 2)
    wish(bench, "acme:0")
    await following.until(lambda: following.wishes)
    bench.clock.passed += timedelta(seconds=1)
    following.written += 2_000
    wish(bench, "acme:1")
    await following.until(lambda: following.begun == 2)
    wish(bench, "acme:2")
    await following.until(lambda: len(following.wishes) == 3)
    await following.until(lambda: waits(bench) == [True, False])
    bench.clock.passed += timedelta(seconds=1)
    wish(bench, "acme:3")
    await following.until(lambda: following.begun == 3)
    wish(bench, "acme:4")
    await following.until(lambda: len(following.wishes) == 5)
    wish(bench, "acme:5")
    await following.until(lambda: len(following.wishes) == 6)
    await following.until(lambda: waits(bench) == [True, False, True])
    bench.database.command("profile", 0)
    assert following.tokens == [f"acme:{number}" for number in range(6)]


async def test_a_burst_of_writes_ends_the_wait_for_changes(bench, following):
    """Each of its writes would wake the cursor that waits. Here MongoDB would not end the wait as long as `until` waits."""
    for number in range(3):
        bench.insert(str(number))
    await following.begin()
    entered = bench.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})["count"]
    with bench.fault("getMore", times=1, blockConnection=True, blockTimeMS=8_000):
        wish(bench, "acme:0")
        waiting = {"waitForFailPoint": "failCommand", "timesEntered": entered + 1, "maxTimeMS": 10_000}
        await asyncio.to_thread(bench.client.admin.command, waiting)
        wish(bench, "acme:1")
        following.written += 2_000
        await following.until(lambda: following.begun == 2)
    wish(bench, "acme:2")
    await following.until(lambda: len(following.wishes) == 3)
    assert following.tokens == ["acme:0", "acme:1", "acme:2"]


async def test_a_stream_that_is_read_now_and_then_goes_on_where_it_was(bench, following):
    """After a connection that is cut, as one that is waited for."""
    for number in range(2):
        bench.insert(str(number))
    await following.begin()
    bench.clock.passed += timedelta(seconds=1)
    following.written += 2_000
    await following.until(lambda: following.begun == 2)
    with bench.fault("getMore", "aggregate", times=3, closeConnection=True):
        wish(bench, "acme:0")
        assert isinstance(await following.failed(), StoreLost)
    wish(bench, "acme:1")
    await following.begin()
    await following.until(lambda: len(following.wishes) == 2)
    assert following.tokens == ["acme:0", "acme:1"]
    assert following.begun == 3  # the rate is still high


async def test_a_standalone_has_no_stream(tmp_path):
    """It says so itself, by the code that is known here."""
    port = free_port()
    (tmp_path / "db").mkdir()
    options = [
        "--dbpath",
        str(tmp_path / "db"),
        "--port",
        str(port),
        "--bind_ip",
        HOST,
        "--nounixsocket",
    ]
    mongod = spawn_mongod(options, log=tmp_path / "mongod.log")
    try:
        with MongoClient(HOST, port, serverSelectionTimeoutMS=20_000) as client:
            client.admin.command("ping")
        mongo = Mongo(
            uri=Secret(f"mongodb://{HOST}:{port}"),
            database="lone",
            collection="tokens",
            clock=SetClock(NOON),
            observe=lambda _: None,
        )
        await mongo.prepare()
        with pytest.raises(NotFollowed, match="not a replica set"):
            await WishStream(mongo, written=lambda: 0).follow(lambda _token, _due: None, begun=lambda: None)
        await mongo.close()
    finally:
        mongod.kill()
        mongod.wait()
