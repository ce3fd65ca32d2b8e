"""The count of a large store: in ranges that end, by one replica for all, and with its age."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import Binary, Code, DatetimeMS, Decimal128, Int64, MaxKey, MinKey, ObjectId, encode
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from daemon.adapters.mongo import Mongo
from daemon.adapters.mongo_counter import EVERY, LEASE, Counter
from daemon.adapters.mongo_shared_count import ROW
from daemon.adapters.mongo_statistics import WholeCount
from daemon.adapters.mongo_walk import Walk
from daemon.domain.event import TokenEnding
from daemon.domain.secret import Secret
from tests.support.clocks import SetClock

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
IDS: list[Any] = [
    *(f"a:{n}" for n in range(20)),
    *(5, -7.5, Int64(2**40), Decimal128("1.5"), True, None, NOW, DatetimeMS(10**15), ObjectId(), b"x"),
    *(
        Binary(b"y", 4),
        Code("x"),
        {"a": 1},
        {"a.b": {"c": "$d"}},
        MinKey(),
        MaxKey(),
        "",
        "$x",
        "\U0001f511",
    ),
    "x" * 2_000_000,
]


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


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_a_walk_meets_each_document_once_whatever_its_id(mongo, size):
    """Every type that MongoDB takes for one, a text of two megabytes, and one that is not UTF-8."""
    await mongo.tokens.insert_many([active(name) for name in IDS])
    await mongo.tokens.insert_one(RawBSONDocument(encode({"_id": "bQ:"}).replace(b"Q", b"\xff")))
    walk, seen = Walk(mongo, "walking", size=size), 0
    while not walk.ended:
        for row in await walk.next([{"$group": {"_id": None, "count": {"$sum": 1}}}]):
            seen += row["count"]
    assert seen == len(IDS) + 1


async def test_a_range_is_found_and_counted_by_the_index_of_ids(mongo):
    """However many documents lie before and behind it."""
    await mongo.tokens.insert_many([active(f"a:{n:04}") for n in range(1000)])
    walk = Walk(mongo, "walking", size=10)
    for _ in range(3):
        await walk.next([{"$count": "n"}])
    await mongo.tokens.database.command("profile", 2)
    await walk.next([{"$count": "n"}])
    await mongo.tokens.database.command("profile", 0)
    rows = await mongo.tokens.database["system.profile"].find({"command.aggregate": "tokens"}).to_list()
    assert len(rows) == 2
    assert all("IXSCAN" in row["planSummary"] and row["keysExamined"] <= 12 for row in rows)


@pytest.mark.parametrize("size", [1, 4, 7])
async def test_many_ranges_are_counted_as_one(mongo, size):
    """Sums, earliest dates, the newest failures, and what ends first."""
    kinds = ["unreadable", "stuck", "unavailable", "rejected"]
    await mongo.tokens.insert_many(
        [
            {
                "_id": f"p{n % 3}:{n}",
                "provider": f"p{n % 3}",
                "state": ["active", "needs_reauth", "paused"][n % 7 % 3],
                "due_at": NOW + (n - 30) * MINUTE if n % 4 else None,
                "expires_at": NOW + (n - 25) * MINUTE,
                "refresh_expires_at": NOW + n * timedelta(hours=1),
                "consent_ends_at": NOW + n * timedelta(hours=5),
                "last_failure": {"kind": kinds[n % 4], "code": "c", "message": "m", "at": NOW - n * MINUTE}
                if n % 2
                else None,
            }
            for n in range(60)
        ]
    )
    one = await WholeCount(mongo, ["p0"]).go_on(MINUTE)
    assert one is not None
    assert sum(sum(states.values()) for states in one.states.values()) == 60
    assert await WholeCount(mongo, ["p0"], size=size).go_on(MINUTE) == one


async def test_of_unknown_providers_a_hundred_are_named_over_all_ranges(mongo):
    """In whichever range they stand; each whole, and the sum is right."""
    await mongo.tokens.insert_many(
        [{"_id": f"{n}", "provider": f"p{n % 150:03}", "state": "active"} for n in range(600)]
    )
    whole = await WholeCount(mongo, ["p149"], size=50).go_on(MINUTE)
    assert whole is not None
    assert len(whole.states) == 1 + 100 + 1
    assert {sum(states.values()) for name, states in whole.states.items() if name != "unknown"} == {4}
    assert whole.states["unknown"] == {"active": 49 * 4}


async def test_a_count_goes_on_where_it_was(mongo):
    """A little at each step: none starts from the beginning."""
    await mongo.tokens.insert_many([active(f"a:{n}") for n in range(9)])
    count, steps = WholeCount(mongo, (), size=4), 1
    while (whole := await count.go_on(timedelta(0))) is None:
        steps += 1
    assert (whole.states, steps) == ({"a": {"active": 9}}, 3)


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
    await mongo.instances.insert_one({"_id": ROW, **row})
    await mongo.tokens.insert_one(active("a:1"))
    counted = await Counter(mongo, owner="one").step(["a"])
    assert counted is not None
    assert counted.states == {"a": {"active": 1}}


async def test_what_another_program_wrote_is_not_read_by_the_others(mongo):
    """They know nothing until the count is written again."""
    await mongo.instances.insert_one({"_id": ROW, "owner": "one", "until": NOW + MINUTE, "counted": "x"})
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
