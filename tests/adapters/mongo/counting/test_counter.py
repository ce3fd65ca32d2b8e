"""The count of the store: by one replica for all, and with its age."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.counting.counter import EVERY, LEASE, Counter
from daemon.adapters.mongo.counting.shared_count import ROW, Counted, SharedCount
from daemon.domain.event import TokenEnding
from daemon.domain.secret import Secret
from daemon.domain.statistics import Due, Upcoming, Whole
from tests.support.clocks import SetClock

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def mongo(mongod, database_name):
    told = []
    clock = SetClock(NOW)
    store = Mongo(
        uri=Secret(mongod), database=database_name, collection="tokens", clock=clock, observe=told.append
    )
    await store.prepare()
    yield store
    assert not told
    await store.close()


def active(name, **fields):
    return {"_id": name, "provider": "a", "state": "active", **fields}


async def test_one_replica_counts_and_all_see_the_same(mongo):
    """What it named, too. The others send a question for the lease, and one for what was found."""
    ends = NOW + timedelta(days=2)
    await mongo.tokens.insert_many(
        [
            active("a:1", due_at=NOW - MINUTE, expires_at=NOW - MINUTE),
            active("a:2", due_at=NOW + MINUTE, consent_ends_at=ends, refresh_expires_at=ends),
            {"_id": "b.$c:1", "provider": "b.$c", "state": "needs_reauth"},
        ]
    )
    one, other = Counter(mongo, owner="one"), Counter(mongo, owner="other")
    first = await one.step(["a"])
    await mongo.tokens.insert_one(active("a:3"))
    assert await other.step(["a"]) == first
    assert (one.leads, other.leads) == (True, False)
    assert first is not None
    assert first.states == {"a": {"active": 2}, "b.$c": {"needs_reauth": 1}}
    assert (first.at, first.looked_at, first.expired, first.overdue) == (NOW, NOW, {"a": 1}, 1)
    assert first.ending_tokens == [TokenEnding(token="a:2", provider="a", ends_at=ends)]
    assert (await one.step(["a"])).states["a"] == {"active": 3}


async def test_a_large_store_is_counted_beside_the_steps(mongo):
    """None waits for it longer than it has patience."""
    await mongo.tokens.insert_many([active(f"a:{n}") for n in range(1000)])
    counter = Counter(mongo, owner="one", patience=timedelta(0))
    assert await counter.step(["a"]) is None
    assert counter.pause < EVERY
    while (counted := await counter.step(["a"])) is None:
        pass
    assert counted.states == {"a": {"active": 1000}}
    assert counter.pause == EVERY


async def test_what_was_counted_for_minutes_is_not_counted_again_by_the_next_process(mongo):
    """Before its time: it goes on with what the one before it has found, as old as that is."""
    before = SharedCount(mongo, owner="one")
    await before.lead(MINUTE)
    whole = Whole(at=NOW - 10 * MINUTE, took=MINUTE, states={"a": {"active": 7}})
    await before.publish(Counted(whole=whole, due=Due(at=NOW), upcoming=Upcoming(at=NOW)))
    counter = Counter(mongo, owner="one")
    counted = await counter.step(["a"])
    assert counted is not None
    assert (counted.at, counted.looked_at, counted.states) == (whole.at, NOW, whole.states)
    mongo.clock.passed = 20 * MINUTE
    counted = await counter.step(["a"])
    assert counted is not None
    assert (counted.at, counted.states) == (NOW + 20 * MINUTE, {})


async def test_another_replica_counts_when_the_first_is_gone(mongo):
    """It goes on from what was found, and its age."""
    one, other = Counter(mongo, owner="one"), Counter(mongo, owner="other")
    await mongo.tokens.insert_one(active("a:1"))
    await one.step(["a"])
    mongo.clock.passed = EVERY + LEASE - timedelta(seconds=1)
    await other.step(["a"])
    assert not other.leads
    mongo.clock.passed = EVERY + LEASE
    await other.step(["a"])
    assert other.leads
    await one.step(["a"])
    assert not one.leads


@pytest.mark.parametrize(
    "row",
    [
        {"counted": "x"},
        {"counted": "{}"},
        {"counted": '{"whole": {"at": 5}}'},
        {"counted": ["x"]},
        {"counted": "x" * 9_000_000},
        {"owner": {"$gt": ""}, "until": "never"},
        {"owner": "evil", "until": NOW + timedelta(days=400)},
    ],
)
async def test_what_another_program_wrote_into_the_row_stops_no_count(mongo, row):
    """It is counted anew."""
    await mongo.providers.insert_one({"_id": ROW, **row})
    await mongo.tokens.insert_one(active("a:1"))
    counted = await Counter(mongo, owner="one").step(["a"])
    assert counted is not None
    assert counted.states == {"a": {"active": 1}}


async def test_what_another_program_wrote_is_not_read_by_the_others(mongo):
    """They know nothing until the count is written again."""
    await mongo.providers.insert_one({"_id": ROW, "owner": "one", "until": NOW + MINUTE, "counted": "x"})
    assert await Counter(mongo, owner="other").step(["a"]) is None


async def test_without_the_right_to_the_row_a_replica_counts_for_itself(mongo, mongod):
    """Renewals and gauges do without it."""
    await mongo.tokens.insert_one(active("a:1"))
    data = {"failCommands": ["update"], "errorCode": 13, "appName": "refreshd"}
    with MongoClient[dict[str, Any]](mongod) as client:
        client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 2}, "data": data})
    counted = await Counter(mongo, owner="one").step(["a"])
    assert counted is not None
    assert counted.states == {"a": {"active": 1}}
