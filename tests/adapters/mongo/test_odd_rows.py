"""Documents that another program has written, in the collections beside the tokens: one of them, in whatever form, hides and
stops no other. The tokens themselves are in test_documents.py.
"""

import asyncio
import copy
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import bson
import pytest
from bson import Code
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from daemon.adapters.mongo.admin.access_keys import AccessKeys
from daemon.adapters.mongo.admin.cleanup import Cleanup
from daemon.adapters.mongo.admin.document_lines import line_of
from daemon.adapters.mongo.admin.restores import MongoRestoreTarget
from daemon.adapters.mongo.audit import Audit, Who
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.instances import lacking_key, processes, seen_services, without_writer_key
from daemon.adapters.mongo.serving.access_keys import IllFormed
from daemon.adapters.mongo.serving.habits import ServedHabits
from daemon.adapters.mongo.serving.lists import ServedLists
from daemon.adapters.mongo.serving.remembered import Remembered
from daemon.adapters.mongo.stored_number import whole
from daemon.adapters.mongo.tombstones import revoked_grants
from daemon.adapters.mongo.wishes import WishStream
from daemon.domain.backup import Standing
from daemon.domain.claim import Claim
from daemon.domain.long_over import Criteria
from daemon.domain.selection import Selection
from daemon.runtime.tasks import end
from tests.adapters.mongo.mongo_bench import ACME, NOON, RING, Bench, bench, database
from tests.adapters.mongo.test_documents import VALUES, document
from tests.support.waiting import until

__all__ = ["bench", "database"]  # the fixtures

Row = dict[str, Any]
HOUR = NOON.replace(minute=0, second=0, microsecond=0)
KEY = "a1b2c3d4e5f6g7h8i9j0"
ODD = {**VALUES, "minus inf": float("-inf"), "huge": 1e300, "half": 0.5}

USE: Row = {
    "kind": "key",
    "key": KEY,
    "last_used_at": NOON,
    "since": NOON,
    "networks": [{"network": "10.0.0.0/24", "at": NOON}],
    "reads": [{"hour": HOUR, "count": 3}],
}
INSTANCE: Row = {
    "kind": "run",
    "host": "h",
    "version": "1",
    "started_at": NOON,
    "seen_at": NOON,
    "keys": {"a": {"use": "all", "journal": 1, "kept": 1}},
    "writer_key_ids": ["a"],
}


def paths(row: Mapping[str, Any], before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to every value in `row`, also to those in objects and lists."""
    for name, value in row.items():
        yield (*before, name)
        if isinstance(value, dict):
            yield from paths(value, (*before, name))
        if isinstance(value, list) and isinstance(value[0], dict):
            yield from paths(value[0], (*before, name, 0))


def odd_rows(right: Row) -> Iterator[Row]:
    """`right` with every value of every type in every place, and without an `_id`."""
    for path in paths(right):
        for value in ODD.values():
            row = copy.deepcopy(right)
            place: Any = row
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = value
            yield row


def stored(rows: Collection[Row], odd: list[Row], *, ids: str = "odd{}") -> int:
    """Store what MongoDB accepts. Returns how many that are."""
    before = rows.estimated_document_count()
    for number, row in enumerate(odd):
        try:
            rows.insert_one({"_id": ids.format(number), **row})
        except (PyMongoError, bson.errors.BSONError):
            continue
    return rows.estimated_document_count() - before


@pytest.fixture
def mongo(bench: Bench) -> Mongo:
    for name in ("access", "access_use", "instances", "audit"):
        bench.database[f"tokens_{name}"].delete_many({})
    return bench.mongos[0]


def keys_of(mongo: Mongo) -> AccessKeys:
    return AccessKeys(mongo, Audit(mongo, who=Who(actor="me@here"), log=lambda _: None))


async def test_the_keys_are_listed_beside_rows_of_uses_in_any_form(bench: Bench, mongo: Mongo):
    """`refreshd access list` says when each key was last used."""
    made = await keys_of(mongo).create("billing", tokens=["acme:*"], can=["read"])
    uses = bench.database["tokens_access_use"]
    assert stored(uses, list(odd_rows(USE))) > 100
    uses.insert_one({"_id": "right", **USE, "key": made.key.id})
    [listed] = [one async for one in keys_of(mongo).all() if not isinstance(one, IllFormed)]
    assert listed.last_used_at == NOON.replace(microsecond=123000)


async def test_the_habit_of_a_key_is_read_from_a_row_in_any_form(bench: Bench, mongo: Mongo):
    """What is unreadable in it is left out."""
    odd = list(odd_rows(USE))
    named = [row if row["key"] != KEY else row | {"key": f"odd{number}"} for number, row in enumerate(odd)]
    assert stored(bench.database["tokens_access_use"], named, ids="key odd{}") > 100
    habits = await ServedHabits(mongo).of([f"odd{number}" for number in range(len(odd))])
    assert len(habits) > 100
    assert {type(n) for habit in habits.values() for n in habit.reads.values()} == {int}
    assert {type(name) for habit in habits.values() for name in habit.networks} == {str}


async def test_the_processes_are_found_beside_rows_in_any_form(bench: Bench, mongo: Mongo):
    """`refreshd keys retire` and `keys writer` ask who still needs a key."""
    instances = bench.database["tokens_instances"]
    count = stored(instances, list(odd_rows(INSTANCE)))
    instances.insert_one({"_id": "right", **INSTANCE})
    stored(
        bench.database["tokens_audit"],
        [{"action": "adopt", "token": "right", "at": value} for value in ODD.values()],
    )
    found = {one.id: one for one in await processes(mongo)}
    assert len(found) == count + 1
    assert (found["right"].keys["a"].journal, found["right"].keys["a"].kept) == (1, 1)
    await lacking_key(mongo, "a")
    await without_writer_key(mongo, "a")


async def test_a_list_of_providers_in_one_token_hides_no_due_provider(bench: Bench, mongo: Mongo):
    """MongoDB finds such a token under each text of the list, and names all that is in the list."""
    bench.insert("good")
    for number, value in enumerate(ODD.values()):
        stored(bench.tokens, [document(f"odd{number}", provider=["acme", value])], ids="unused")
    store = bench.store()
    assert await store.due({"acme", "other"}) == {"acme"}
    claimed = await store.claim(ACME, limit=500, busy=set())
    assert "acme:good" in {one.token.id for one in claimed.items if isinstance(one, Claim)}


async def test_the_services_are_found_beside_rows_in_any_form(bench: Bench, mongo: Mongo):
    """The status page and `refreshd status` show when each was seen."""
    dates = [row for row in odd_rows(INSTANCE | {"kind": "serve"}) if row["seen_at"] != NOON]
    count = stored(bench.database["tokens_instances"], dates)
    assert count > 50
    stored(bench.database["tokens_instances"], [INSTANCE | {"kind": "serve"}], ids="right{}")
    found = await seen_services(mongo)
    assert "right0" in {one.id for one in found}
    assert {type(one.seen_at) for one in found} == {datetime}


CODE = Code("acme:odd")  # Python's form of it is a str without a hash


async def test_an_id_that_is_code_stops_no_wish(bench: Bench, mongo: Mongo):
    """The stream shows it, and goes on with the next wish."""
    bench.insert("1")
    bench.tokens.insert_one(document("odd", _id=CODE))
    wishes: list[str] = []
    begun = asyncio.Event()
    stream = WishStream(mongo, written=lambda: 0)
    following = asyncio.create_task(
        stream.follow(lambda token, _due_at: wishes.append(token), begun=begun.set)
    )
    try:
        await asyncio.wait_for(begun.wait(), 10)
        for name in (CODE, "acme:1"):
            bench.tokens.update_one({"_id": name}, {"$set": {"due_at": NOON}})
        await until(lambda: "acme:1" in wishes or following.done(), every=timedelta(milliseconds=5))
        assert [(one, type(one)) for one in wishes] == [("acme:1", str)]
    finally:
        await end(following)


async def test_an_id_that_is_code_interrupts_no_change_stream(bench: Bench, mongo: Mongo):
    """A change of a token that the access service remembers is still seen immediately."""
    bench.insert("1")
    bench.tokens.insert_one(document("odd", _id=CODE))
    remembered = Remembered[str](
        mongo,
        lambda: mongo.tokens,
        fields={"state": 1},
        parse=lambda found: str(found["state"]),
        most=3,
        offline_for=timedelta(0),
        without_streams=lambda _why: None,
    )
    watching = asyncio.create_task(remembered.watch())
    try:
        await until(lambda: remembered._stream is not None, every=timedelta(milliseconds=5))
        stream = remembered._stream
        with remembered.watching("acme:1") as changed:
            for name in (CODE, "acme:1"):
                bench.tokens.update_one({"_id": name}, {"$set": {"state": "paused"}})
            await asyncio.wait_for(changed(), 5)
        assert not watching.done()
        assert remembered._stream == stream
    finally:
        await end(watching)


async def test_a_tombstone_with_code_among_its_fingerprints_is_found_by_the_others(
    bench: Bench, mongo: Mongo
):
    """`add`, an import and a restore ask whether a grant was revoked."""
    grave = {"state": "revoked", "forget_at": NOON, "provider": "acme", "account": "1"}
    bench.tokens.insert_one({"_id": "acme:1", **grave, "fingerprints": [CODE, "a.print", None, 7, {"a": 1}]})
    assert await revoked_grants(mongo, ["a.print"]) == {"a.print": "acme:1"}


async def test_a_cleanup_reads_around_odd_records(bench: Bench, mongo: Mongo):
    """A record of the audit shows that a token was used."""
    records = [{"at": NOON, "action": "show", "token": value} for value in (*ODD.values(), CODE, "acme:1")]
    assert stored(bench.database["tokens_audit"], records) > 50
    audit = Audit(mongo, who=Who(actor="me@here"), log=lambda _: None)
    criteria = Criteria(unused_since=NOON - timedelta(days=90))
    assert await Cleanup(mongo, audit, criteria).find() == []


@pytest.mark.parametrize(
    "field",
    ["failures", "revision", "refused", "last_failure", "missing_scopes", "subject", "meta", "expires_at",
     "scope", "extra", "last_used_at", "events", "origin"],
)  # fmt: skip
async def test_the_list_of_an_application_has_the_neighbours_of_a_token_in_any_form(
    bench: Bench, mongo: Mongo, field: str
):
    """`GET /v1/tokens` is one answer for all of them."""
    bench.tokens.insert_many([document("first"), document("zz-last")])
    for number, value in enumerate(ODD.values()):
        stored(bench.tokens, [document(f"odd{number}", **{field: value})], ids="unused")
    listed = await ServedLists(mongo).tokens(Selection(selectors=("acme:*",)), limit=500)
    assert {"acme:first", "acme:zz-last"} <= {one.token.id for one in listed}


@pytest.mark.parametrize("field", ["revision", "updated_at", "events", "state", "last_failure"])
async def test_a_restore_compares_a_stored_token_in_any_form(bench: Bench, mongo: Mongo, field: str):
    """And every other token of its batch."""
    target = MongoRestoreTarget(mongo, RING)
    right = document("right")
    documents = [*(document(f"odd{number}") for number in range(len(ODD))), right]
    lines = [line_of(RawBSONDocument(bson.encode(one))) for one in documents]
    archived = target.read(lines)
    bench.tokens.insert_one(right)
    for number, value in enumerate(ODD.values()):
        stored(bench.tokens, [document(f"odd{number}", **{field: value})], ids="unused")
    found = await target.stored(archived)
    assert len(found) == len(ODD) + 1
    assert found[-1].standing is Standing.EQUAL


@pytest.mark.parametrize(
    ("value", "number"),
    [(7, 7), (7.0, 7), (-0.0, 0), (-3, -3), (0.5, None), (True, None), (None, None), ("7", None),
     (float("inf"), None), (float("-inf"), None), (float("nan"), None)],
)  # fmt: skip
def test_a_whole_number_is_read_from_whole_numbers_only(value: object, number: int | None):
    """Some languages write every number as floating point."""
    assert whole(value) == number
    assert timedelta(seconds=whole(value) or 0) < timedelta.max
