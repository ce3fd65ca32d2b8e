"""Deliveries in the real MongoDB: shared by lease, settled once, and never confused by a strange document."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument

from daemon.adapters.mongo.notifying.deliveries import LEASE, MongoDeliveries
from daemon.adapters.mongo.notifying.outbox import KEPT, MongoOutbox, delivery_document
from daemon.domain.hook import Attempt, Health, Outcome, Route
from tests.adapters.mongo.mongo_bench import NOON, Bench
from tests.adapters.mongo.notifying.test_outbox import event

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
REFUSED = Attempt(outcome=Outcome.REFUSED, status=500)
ANY_TYPE: list[Any] = [
    None, True, 1.5, Int64(7), "text", "", b"\x00", Binary(b"\x01", 4), ObjectId(), Regex("a"), Code("x"),
    Decimal128("1"), Timestamp(1, 1), MinKey(), MaxKey(), DBRef("a", 1), [], [1, "a"], ["crm"], [NOON], {}, {"a": {"b": 1}},
    DatetimeMS(2**62), DatetimeMS(-(2**62)), "x" * 20_000, float("nan"), float("inf"), NOON,
]  # fmt: skip
FIELDS = (
    "event", "type", "at", "who_acts", "provider", "token", "account", "subject", "kind", "code", "revision", "state",
    "attempts", "added_at",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _empty(bench: Bench) -> Iterator[None]:
    yield
    for name in ("tokens_outbox", "tokens_hooks"):
        bench.database[name].delete_many({})


def deliveries(bench: Bench) -> MongoDeliveries:
    bench.store()
    return MongoDeliveries(bench.mongos[-1])


async def added(bench: Bench, *names: str, hooks: tuple[str, ...] = ("crm",)) -> None:
    bench.store()
    outbox = MongoOutbox(bench.mongos[-1], routes=lambda: [Route(name=one) for one in hooks])
    await outbox.add([event(name) for name in names])


def document(bench: Bench, name: str = "e1", hook: str = "crm") -> dict[str, Any]:
    found = bench.database["tokens_outbox"].find_one({"event": name, "hook": hook})
    assert found is not None
    return found


async def test_an_event_comes_back_as_it_was_stored(bench: Bench) -> None:
    await added(bench, "e1")
    [one] = (await deliveries(bench).claim("crm", limit=5)).deliveries
    assert one.event == event("e1")
    assert one.attempts == 0


async def test_two_replicas_never_hold_the_same_delivery(bench: Bench) -> None:
    await added(bench, *(f"e{n}" for n in range(10)))
    mine = await deliveries(bench).claim("crm", limit=6)
    theirs = await deliveries(bench).claim("crm", limit=6)
    names = [one.id for one in (*mine.deliveries, *theirs.deliveries)]
    assert (len(mine.deliveries), len(theirs.deliveries), len(set(names))) == (6, 4, 10)


async def test_the_oldest_come_first_and_no_more_than_asked(bench: Bench) -> None:
    for name in ("e1", "e2", "e3"):
        await added(bench, name)
        bench.clock.passed += SECOND
    claimed = await deliveries(bench).claim("crm", limit=2)
    assert [one.event.id for one in claimed.deliveries] == ["e1", "e2"]


async def test_hooks_are_apart(bench: Bench) -> None:
    await added(bench, "e1", hooks=("crm", "mail"))
    [one] = (await deliveries(bench).claim("mail", limit=5)).deliveries
    assert one.id.endswith("mail")
    assert document(bench, hook="crm")["claim"] is None


async def test_after_its_lease_a_delivery_is_anothers(bench: Bench) -> None:
    """A replica that was killed, or stood still, comes back too late to settle."""
    await added(bench, "e1")
    frozen = deliveries(bench)
    [late] = (await frozen.claim("crm", limit=1)).deliveries
    assert (await deliveries(bench).claim("crm", limit=1)).deliveries == ()
    bench.clock.passed += LEASE + SECOND
    other = deliveries(bench)
    [again] = (await other.claim("crm", limit=1)).deliveries
    await frozen.failed(late, REFUSED, due_at=NOON + 9 * MINUTE)
    assert document(bench)["attempts"] == 0
    await other.delivered(again, status=200)
    await frozen.failed(late, REFUSED, due_at=NOON + 9 * MINUTE)
    assert (document(bench)["state"], "due_at" in document(bench)) == ("delivered", False)


async def test_a_failure_is_noted_and_waits_for_its_time(bench: Bench) -> None:
    await added(bench, "e1")
    mine = deliveries(bench)
    [one] = (await mine.claim("crm", limit=1)).deliveries
    await mine.failed(one, REFUSED, due_at=NOON + MINUTE)
    assert document(bench)["last"]["outcome"] == "refused"
    assert document(bench)["last"]["status"] == 500
    assert (await mine.claim("crm", limit=1)).deliveries == ()
    bench.clock.passed += MINUTE
    [again] = (await mine.claim("crm", limit=1)).deliveries
    assert again.attempts == 1


async def test_next_due_looks_ahead(bench: Bench) -> None:
    mine = deliveries(bench)
    assert await mine.next_due("crm") is None
    await added(bench, "e1")
    [one] = (await mine.claim("crm", limit=1)).deliveries
    await mine.failed(one, REFUSED, due_at=NOON + MINUTE)
    due_at = await mine.next_due("crm")
    assert due_at is not None
    assert abs(due_at - (NOON + MINUTE)) < timedelta(milliseconds=1)
    assert await mine.next_due("mail") is None


@pytest.mark.parametrize("held", [True, False, "restored", NOON])
async def test_what_is_held_is_not_sent(bench: Bench, held: object) -> None:
    """After a restore nobody knows what was sent since the backup."""
    await added(bench, "e1", "e2")
    bench.database["tokens_outbox"].update_one({"event": "e1"}, {"$set": {"held": held}})
    claimed = await deliveries(bench).claim("crm", limit=5)
    assert [one.event.id for one in claimed.deliveries] == ["e2"]
    assert claimed.malformed == 0
    assert document(bench)["state"] == "waiting"


@pytest.mark.parametrize("field", FIELDS)
async def test_a_strange_field_is_set_aside_and_blocks_no_other(bench: Bench, field: str) -> None:
    """Whatever another program writes: no value of any type is sent, or sent again and again, or stops the others."""
    collection = bench.database["tokens_outbox"]
    stored = 0
    for number, value in enumerate(ANY_TYPE):
        own = delivery_document(event(f"strange-{number}"), "crm", NOON)
        if (type(own[field]) is type(value) and len(str(value)) < 10_000) or (
            value is None and own[field] is None
        ):
            continue
        collection.insert_one({**own, field: value})
        stored += 1
    await added(bench, "good")
    mine = deliveries(bench)
    taken, malformed = [], 0
    for _ in range(20):
        claimed = await mine.claim("crm", limit=8)
        malformed += claimed.malformed
        taken += claimed.deliveries
        if not claimed.deliveries and not claimed.malformed:
            break
        for one in claimed.deliveries:
            await mine.delivered(one, status=200)
    assert "good" in [one.event.id for one in taken]
    assert len(taken) + malformed == stored + 1
    assert malformed >= stored - 6  # texts and nulls are values of some fields
    assert collection.count_documents({"due_at": {"$type": "date"}}) == 0
    assert await mine.next_due("crm") is None


@pytest.mark.parametrize(
    "name", [7, ObjectId(), {"a": 1}, NOON, True, "x" * 10_000, "", Binary(b"a"), None, 1.5]
)
async def test_a_strange_id_is_set_aside(bench: Bench, name: object) -> None:
    bench.database["tokens_outbox"].insert_one({**delivery_document(event("e1"), "crm", NOON), "_id": name})
    mine = deliveries(bench)
    claimed = await mine.claim("crm", limit=5)
    assert (claimed.deliveries, claimed.malformed) == ((), 1)
    assert await mine.next_due("crm") is None


async def test_an_id_that_is_not_utf_8_is_set_aside(bench: Bench) -> None:
    """It would be read as another text, and could never be settled."""
    whole = delivery_document(event("e1"), "crm", NOON)
    from bson import encode

    raw = encode({**whole, "_id": "AAAA"}).replace(b"AAAA", b"\xff\xfe\xfd\xfc")
    bench.database["tokens_outbox"].with_options().insert_one(RawBSONDocument(raw))
    mine = deliveries(bench)
    claimed = await mine.claim("crm", limit=5)
    assert (claimed.deliveries, claimed.malformed) == ((), 1)


async def test_what_is_strange_waits_behind_what_is_not(bench: Bench) -> None:
    """A full claim has no strange one in it, and none is left when the queue is empty."""
    for number in range(5):
        own = delivery_document(event(f"s{number}"), "crm", NOON - MINUTE)
        bench.database["tokens_outbox"].insert_one({**own, "type": 7})
    await added(bench, "e1", "e2", "e3")
    mine = deliveries(bench)
    assert len((await mine.claim("crm", limit=2)).deliveries) == 2
    last = await mine.claim("crm", limit=2)
    assert (len(last.deliveries), last.malformed) == (1, 5)


async def test_after_thirty_days_an_event_is_dropped_and_counted_once(bench: Bench) -> None:
    await added(bench, "e1", "e2", hooks=("crm", "gone"))
    mine = deliveries(bench)
    bench.clock.passed += KEPT - SECOND
    assert await mine.drop_old() == {}
    bench.clock.passed += 2 * SECOND
    assert await mine.drop_old() == {"crm": 2, "gone": 2}
    assert await mine.drop_old() == {}
    assert document(bench)["state"] == "dropped"
    assert document(bench)["ends_at"] > NOON + 2 * KEPT - MINUTE
    assert (await mine.claim("crm", limit=5)).deliveries == ()


async def test_what_waits_is_counted_from_the_index_alone(bench: Bench) -> None:
    await added(bench, "e1", hooks=("crm", "mail"))
    bench.clock.passed += MINUTE
    await added(bench, "e2")
    mine = deliveries(bench)
    [one] = (await mine.claim("mail", limit=1)).deliveries
    await mine.delivered(one, status=200)
    counted = await mine.waiting()
    assert {name: count for name, (count, _) in counted.items()} == {"crm": 2}
    assert abs(counted["crm"][1] - NOON) < timedelta(milliseconds=1)


async def test_a_receivers_health_is_shared(bench: Bench) -> None:
    health = Health(
        failures=4,
        failed_at=NOON,
        rests_until=NOON + MINUTE,
        gone=2,
        gone_since=NOON,
        disabled_at=NOON,
        configuration="c1",
    )
    health = replace(
        health,
        **{
            n: datetime(2026, 11, 2, tzinfo=UTC)
            for n in ("failed_at", "rests_until", "gone_since", "disabled_at")
        },
    )
    await deliveries(bench).save_health("crm", health)
    assert await deliveries(bench).health("crm") == health
    assert await deliveries(bench).disabled() == {"crm": "c1"}
    assert await deliveries(bench).health("mail") == Health()


@pytest.mark.parametrize("attempts", [-1, Int64(2**63 - 1), Int64(2**31)])
async def test_a_number_of_attempts_that_can_not_be_counted_on_is_set_aside(
    bench: Bench, attempts: int
) -> None:
    """One more than the largest is an error of MongoDB, which would end every run of this hook."""
    collection = bench.database["tokens_outbox"]
    collection.insert_one({**delivery_document(event("odd"), "crm", NOON), "attempts": attempts})
    await added(bench, "good")
    mine = deliveries(bench)
    claimed = await mine.claim("crm", limit=5)
    assert ([one.event.id for one in claimed.deliveries], claimed.malformed) == (["good"], 1)


@pytest.mark.parametrize(("stored", "read"), [(-1, 0), (Int64(2**63 - 1), 2**31 - 1), (3.0, 3)])
async def test_a_health_counts_from_numbers_that_can_be_stored_again(
    bench: Bench, stored: object, read: int
) -> None:
    """One failure more has to fit the field."""
    bench.database["tokens_hooks"].insert_one({"_id": "crm", "failures": stored, "gone": stored})
    health = await deliveries(bench).health("crm")
    assert (health.failures, health.gone) == (read, read)
    more = replace(health, failures=health.failures + 1, gone=health.gone + 1)
    await deliveries(bench).save_health("crm", more)
    assert (await deliveries(bench).health("crm")).failures == min(read + 1, 2**31 - 1)


@pytest.mark.parametrize("value", ANY_TYPE, ids=lambda one: type(one).__name__)
async def test_a_strange_health_is_unknown(bench: Bench, value: Any) -> None:
    fields = dict.fromkeys(
        ("failures", "failed_at", "rests_until", "gone", "gone_since", "disabled_at", "configuration"), value
    )
    bench.database["tokens_hooks"].insert_one({"_id": "crm", **fields})
    health = await deliveries(bench).health("crm")
    assert isinstance(health.failures, int)
    assert not health.disabled_for("c1")
    await deliveries(bench).disabled()
