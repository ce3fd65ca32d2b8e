"""Uses are counted by key, token and day, and stored together; refused requests by key, reason and hour."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from bson import Int64

from daemon.adapters.mongo.serving.tokens import _RELEVANT
from daemon.adapters.mongo.serving.uses import LAST_USED_WITHIN, ServedUses
from daemon.domain.claim import StoreLost
from daemon.domain.use import Workload
from daemon.serving.usage import Usage
from tests.serving.access_bench import MINUTE, NOON, AccessBench, bench, caller

__all__ = ["bench"]
RETENTION = timedelta(days=30)
DAY = timedelta(days=1)


def usage(bench: AccessBench) -> Usage:
    return Usage(ServedUses(bench.mongo, retention=RETENTION), bench.clock)


async def test_reads_of_a_day_are_one_record(bench: AccessBench):
    bench.insert()
    used = usage(bench)
    for _ in range(3):
        used.note(caller(), "acme:1", "read")
        bench.pass_time(MINUTE)
    await used.store()
    used.note(caller(), "acme:1", "read")
    await used.store()
    (record,) = bench.database["tokens_access_use"].find({"kind": "access"})
    midnight = NOON.replace(hour=0)
    assert (record["action"], record["token"], record["count"]) == ("read", "acme:1", 4)
    assert (record["at"], record["ends_at"]) == (NOON + 3 * MINUTE, midnight + DAY + RETENTION)
    assert record["by"] == {"key": "k" * 20, "name": "billing", "ip": "10.0.0.1", "peer": None}
    bench.pass_time(DAY)
    used.note(caller(), "acme:1", "read")
    await used.store()
    assert bench.database["tokens_access_use"].count_documents({"kind": "access"}) == 2


async def test_a_request_with_a_key_that_is_over_is_counted_to_it_and_is_no_use(bench: AccessBench):
    """The audit names the key and the caller; the key's last use stays what it was."""
    bench.insert()
    used = usage(bench)
    used.note(caller(), "acme:1", "read")
    await used.store()
    (before,) = bench.database["tokens_access_use"].find({"kind": "key"})
    bench.pass_time(MINUTE)
    for _ in range(2):
        used.note(caller(), None, "unauthorized")
    await used.store()
    (record,) = bench.database["tokens_access_use"].find({"action": "refused"})
    assert (record["result"], record["count"], record["token"]) == ("unauthorized", 2, None)
    assert (record["by"]["key"], record["by"]["ip"]) == ("k" * 20, "10.0.0.1")
    assert [*bench.database["tokens_access_use"].find({"kind": "key"})] == [before]


async def test_a_workload_is_counted_with_its_last_jwt_and_has_no_row_as_a_key(bench: AccessBench):
    bench.insert()
    used = usage(bench)
    for jti in ("first", "last"):
        workload = Workload(issuer="https://issuer.example", subject="pod", jwt=jti)
        used.note(replace(caller(), workload=workload), "acme:1", "read")
        await used.store()
    (record,) = bench.database["tokens_access_use"].find()
    assert record["count"] == 2
    assert (record["by"]["iss"], record["by"]["sub"], record["by"]["jti"]) == (
        "https://issuer.example",
        "pod",
        "last",
    )


async def test_each_count_has_its_own_last_caller(bench: AccessBench):
    """Also where one key is used by several callers within ten seconds, and was renamed in between."""
    used, second = usage(bench), caller(name="accounting")
    jwt = Workload(issuer="https://issuer.example", subject="pod", jwt="a")
    used.note(caller(), "acme:1", "read")
    used.note(replace(second, address="10.0.0.2"), "acme:2", "read")
    used.note(replace(second, address="unix", peer=1000), "acme:3", "read")
    used.note(replace(second, address="unix", peer=1000, workload=jwt), "acme:4", "read")
    await used.store()
    rows = bench.database["tokens_access_use"].find({"kind": "access"}).sort("token", 1)
    assert [
        (one["actor"], *(one["by"].get(name) for name in ("name", "ip", "peer", "jti"))) for one in rows
    ] == [
        ("billing", "billing", "10.0.0.1", None, None),
        ("accounting", "accounting", "10.0.0.2", None, None),
        ("accounting", "accounting", "unix", 1000, None),
        ("accounting", "accounting", "unix", 1000, "a"),
    ]


async def test_refused_requests_are_counted_without_an_id(bench: AccessBench):
    used = usage(bench)
    for name in ("acme:1", "acme:2"):
        used.note(caller(), name, "not-found")
    used.note(caller(), "acme:1", "unavailable")
    await used.store()
    (record,) = bench.database["tokens_access_use"].find({"kind": "access"})
    assert (record["action"], record["token"], record["result"], record["count"]) == (
        "refused",
        None,
        "not-found",
        2,
    )


async def test_a_use_leaves_its_time_on_the_token_and_no_revision(bench: AccessBench):
    bench.insert()
    used = usage(bench)
    used.note(caller(), "acme:1", "read")
    await used.store()
    document = bench.document()
    assert (document["last_used_at"], document["revision"]) == (NOON, 7)
    row = bench.database["tokens_access_use"].find_one({"kind": "key"})
    assert row is not None
    assert (row["key"], row["last_used_at"]) == ("k" * 20, NOON)


async def test_two_processes_add_to_one_count(bench: AccessBench):
    first, second = usage(bench), usage(bench)
    for one in (first, second):
        one.note(caller(), "acme:1", "read")
    await first.store()
    await second.store()
    assert bench.database["tokens_access_use"].find_one({"kind": "access"})["count"] == 2


async def test_the_time_of_a_use_is_written_once_in_ten_minutes(bench: AccessBench):
    """To write each use would cost more than to count it. Counts have the exact time. Each of two processes knows what the
    other one wrote.
    """
    bench.insert()
    processes, seen = [usage(bench), usage(bench)], []
    for minutes in (0, 4, 9, 12):
        bench.clock.passed = minutes * MINUTE
        processes[minutes % 2].note(caller(), "acme:1", "read")
        await processes[minutes % 2].store()
        (record,) = bench.database["tokens_access_use"].find({"kind": "access"})
        assert record["at"] == NOON + minutes * MINUTE
        seen.append(bench.document()["last_used_at"] - NOON)
    assert seen == [0 * MINUTE, 0 * MINUTE, 0 * MINUTE, 12 * MINUTE]
    assert LAST_USED_WITHIN == 10 * MINUTE


@pytest.mark.parametrize("stored", [NOON + MINUTE, "yesterday", None, [NOON - DAY]])
async def test_the_time_of_a_use_never_goes_back(bench: AccessBench, stored: object):
    """Whatever is stored there: MongoDB compares values of different types by their types."""
    bench.insert(last_used_at=stored)
    used = usage(bench)
    used.note(caller(), "acme:1", "read")
    await used.store()
    assert bench.document()["last_used_at"] == (stored if isinstance(stored, datetime) else NOON)


async def test_a_stored_count_is_not_inserted_again(bench: AccessBench):
    """A process remembers what it has stored."""
    used = usage(bench)
    used.note(caller(), "acme:1", "read")
    await used.store()
    used.note(caller(), "acme:1", "read")
    with bench.fault("insert", errorCode=11601):
        await used.store()
    assert bench.database["tokens_access_use"].find_one({"kind": "access"})["count"] == 2


@pytest.mark.parametrize("most", [200_000, 0])
async def test_a_count_that_was_deleted_begins_again(bench: AccessBench, monkeypatch, most: int):
    """What a process remembers of stored counts may be wrong, or forgotten. The new record is complete."""
    monkeypatch.setattr("daemon.adapters.mongo.serving.uses.MOST_SEEN", most)
    rows, used, records = bench.database["tokens_access_use"], usage(bench), []
    for _ in range(2):
        used.note(caller(), "acme:1", "read")
        await used.store()
        used.note(caller(), "acme:1", "read")
        await used.store()
        records += rows.find({"kind": "access"})
        rows.delete_many({"kind": "access"})
    assert records[0] == records[1]
    assert records[0]["count"] == 2


@pytest.mark.parametrize(
    ("command", "after"), [*(("insert", n) for n in range(3)), *(("update", n) for n in range(7))]
)
async def test_a_loss_in_the_middle_counts_nothing_twice(
    bench: AccessBench, monkeypatch, command: str, after: int
):
    """Counts are stored some at a time, and those that are stored don't come back: neither new ones nor old ones."""
    monkeypatch.setattr("daemon.adapters.mongo.serving.upserts.AT_ONCE", 2)
    used = usage(bench)
    for number in range(5):
        used.note(caller(), f"acme:{number}", "read")
    await used.store()
    for number in range(10):
        used.note(caller(), f"acme:{number}", "read")
    with bench.fault(command, after=after, errorCode=11601), pytest.raises(StoreLost):
        await used.store()
    await used.store()
    rows = bench.database["tokens_access_use"].find({"kind": "access"})
    assert {one["token"]: one["count"] for one in rows} == {
        f"acme:{number}": 2 if number < 5 else 1 for number in range(10)
    }


@pytest.mark.parametrize("odd", ["three", Int64(2**63 - 1), -1, [1], float("nan"), None, {"$gt": 1}])
async def test_a_count_that_another_program_has_spoilt_stays_and_stops_no_other(
    bench: AccessBench, odd: object
):
    """MongoDB refuses to add to it. All counts would stay in memory, and the store would seem lost."""
    bench.insert()
    bench.insert("acme:2")
    used = usage(bench)
    for _ in range(2):
        for token in ("acme:1", "acme:2"):
            used.note(caller(), token, "read")
        await used.store()
        bench.database["tokens_access_use"].update_one({"token": "acme:1"}, {"$set": {"count": odd}})
    assert bench.database["tokens_access_use"].find_one({"token": "acme:2"}, {"_id": 0, "count": 1}) == {
        "count": 2
    }
    assert not used._counts
    again = usage(bench)  # after a restart, which inserts first
    again.note(caller(), "acme:1", "read")
    await again.store()
    assert bench.database["tokens_access_use"].count_documents({"kind": "access"}) == 2


async def test_another_failure_beside_a_stored_row_is_a_loss(bench: AccessBench):
    """A row that another process has stored is updated. Any other refusal of the same write is not passed over."""
    bench.database.command(
        "collMod", "tokens_access_use", validator={"token": {"$ne": "acme:2"}}, validationAction="error"
    )
    first, second = usage(bench), usage(bench)
    first.note(caller(), "acme:1", "read")
    await first.store()
    for name in ("acme:1", "acme:2"):
        second.note(caller(), name, "read")
    with pytest.raises(StoreLost):
        await second.store()
    bench.database.command("collMod", "tokens_access_use", validator={})
    await second.store()
    rows = bench.database["tokens_access_use"].find({"kind": "access"})
    assert {one["token"]: one["count"] for one in rows} == {"acme:1": 2, "acme:2": 1}


async def test_counts_outlast_a_lost_store():
    class Lost:
        def __init__(self) -> None:
            self.away = True
            self.added = 0

        async def add(self, uses):
            if self.away:
                raise StoreLost
            self.added += sum(use.count for use in uses.values())
            uses.clear()

    class Noon:
        def now(self):
            return NOON

    lost = Lost()
    used = Usage(lost, Noon())
    used.note(caller(), "acme:1", "read")
    with pytest.raises(StoreLost):
        await used.store()
    used.note(caller(), "acme:1", "read")
    lost.away = False
    await used.store()
    assert lost.added == 2


async def test_the_memory_for_counts_is_bounded(monkeypatch):
    monkeypatch.setattr("daemon.serving.usage.MOST", 2)
    stored = {}

    class Uses:
        async def add(self, uses):
            stored.update({key.token: use.count for key, use in uses.items()})

    class Noon:
        def now(self):
            return NOON

    used = Usage(Uses(), Noon())
    for one in range(5):
        used.note(caller(), f"acme:{one}", "read")
    await used.store()
    assert stored == {"acme:0": 1, "acme:1": 1, None: 3}


def test_a_use_is_no_news_for_what_is_served(bench: AccessBench):
    """Only an update of nothing but the time of use: with anything else, the token is read again."""
    bench.insert()
    with bench.tokens.watch([{"$match": _RELEVANT}]) as stream:
        for change in (
            {"$set": {"last_used_at": NOON}},
            {"$set": {"last_used_at": NOON + MINUTE, "meta.tenant": "b"}},
            {"$set": {"last_used_at": NOON + 2 * MINUTE}, "$unset": {"subject": "", "meta.tenant": ""}},
            {"$set": {"lease": {"claim": "c"}}},
            {"$set": {"state": "paused"}},
        ):
            bench.tokens.update_one({}, change)
        seen = [next(stream)["updateDescription"]["updatedFields"] for _ in range(3)]
    assert [sorted(fields) for fields in seen] == [
        ["last_used_at", "meta.tenant"],
        ["last_used_at"],
        ["state"],
    ]


async def use_three_times(bench: AccessBench, now: datetime) -> None:
    """A read, a refused request and a write: 32 days ago, 29 days ago and now."""
    bench.insert(subject="ann")
    used = usage(bench)
    for age in (32 * DAY, 29 * DAY, timedelta(0)):
        bench.clock.start = now - age
        used.note(caller(), "acme:1", "read")
        used.note(caller(), None, "not-found")
        await used.store()
        await bench.patch(caller(), subject=f"{age}")


async def test_counts_state_an_end_after_their_retention_and_deeds_none(bench: AccessBench):
    """Neither what a key did nor when it was last used goes with the counts."""
    await use_three_times(bench, NOON)
    rows = bench.database["tokens_access_use"]
    kept = [one["at"] for one in rows.find({"kind": "access", "ends_at": {"$gt": NOON}})]
    assert sorted(kept) == [NOON - 29 * DAY] * 2 + [NOON] * 2
    assert rows.count_documents({"kind": "access"}) == 6
    assert rows.count_documents({"kind": "key", "ends_at": None}) == 1
    assert bench.audit.count_documents({"ends_at": None}) == bench.audit.count_documents({}) == 3


@pytest.mark.long
async def test_mongodb_deletes_counts_at_their_end(bench: AccessBench):
    """It looks once a minute."""
    now = bench.client.admin.command("hello")["localTime"].replace(tzinfo=UTC)
    await use_three_times(bench, now)
    rows = bench.database["tokens_access_use"]
    async with asyncio.timeout(150):
        while rows.count_documents({"kind": "access"}) > 4:
            await asyncio.sleep(1)
    assert min(one["at"] for one in rows.find({"kind": "access"})) > now - 30 * DAY
    assert rows.count_documents({"kind": "key"}) == 1
    assert bench.audit.count_documents({}) == 3


def test_only_counts_have_an_end(bench: AccessBench):
    """No index of the audit itself deletes anything."""
    indexes = bench.audit.index_information()
    assert indexes.keys() == {"_id_", "at", "token"}
    assert not any("expireAfterSeconds" in one for one in indexes.values())
    (ending,) = [
        one
        for one in bench.database["tokens_access_use"].index_information().items()
        if "expireAfterSeconds" in one[1]
    ]
    assert (ending[0], ending[1]["expireAfterSeconds"]) == ("ends_at", 0)
    assert ending[1]["partialFilterExpression"] == {"kind": "access"}
