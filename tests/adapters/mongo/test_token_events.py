"""Events in the documents of tokens, in the real MongoDB: written with the state that they report, once, and relayed."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.raw_bson import RawBSONDocument

from daemon.adapters.mongo.admin.backups import MongoBackupSource
from daemon.adapters.mongo.admin.cleanup import Cleanup
from daemon.adapters.mongo.admin.lookup import NoSuchToken
from daemon.adapters.mongo.admin.restores import MongoRestoreTarget
from daemon.adapters.mongo.admin.revocations import Revocations, RevocationSelection
from daemon.adapters.mongo.admin.tokens import TokenAdmin
from daemon.adapters.mongo.audit import Audit, Who
from daemon.adapters.mongo.connecting.consented_tokens import ConsentedTokens
from daemon.adapters.mongo.fenced_writes import _Write
from daemon.adapters.mongo.notifying.outbox import MongoOutbox
from daemon.adapters.mongo.notifying.waiting_events import MongoTokenEvents
from daemon.adapters.mongo.removals import delete_removed
from daemon.adapters.mongo.token_changes import written
from daemon.adapters.mongo.token_events import KEPT
from daemon.domain.backup import Write
from daemon.domain.change import Change, RevocationPostponed, Revoked
from daemon.domain.claim import Recorded
from daemon.domain.consent_request import Bound
from daemon.domain.event import OwnerEventsLost
from daemon.domain.hook import Route
from daemon.domain.long_over import Criteria
from daemon.domain.secret import Secret
from daemon.domain.token import FailureKind, State, Token
from daemon.notifying.relay import Relay
from tests.adapters.mongo.connecting.consent_bench import BINDING, Silent
from tests.adapters.mongo.mongo_bench import (
    AMBIGUOUS,
    CHANGES,
    NOON,
    RETIRED,
    RING,
    WITHHELD,
    Bench,
    bench,
    claim_one,
    database,
    failure,
    renewed,
)

__all__ = ["bench", "database"]

NOW = NOON.replace(microsecond=123000)
REVOKED = Revoked(revoked_at=NOON, forget_at=NOON + timedelta(days=30))
FAILED = RevocationPostponed(failure=failure(), tries=1, due_at=NOON + timedelta(days=1), failed=True)
DEAD = {"kind": "rejected", "code": "invalid_grant", "message": "", "at": NOON - timedelta(hours=2)}
UNPARSED = {**DEAD, "kind": "unparsed"}
STRANGE = [
    None,
    True,
    7,
    Int64(7),
    1.5,
    Decimal128("1.5"),
    "events",
    b"events",
    Binary(b"x", 5),
    ObjectId(),
    NOON,
    Regex(".*"),
    Code("x()"),
    Timestamp(1, 1),
    MinKey(),
    MaxKey(),
    {"a": 1},
    {"0": "x"},
    {},
    [],
]


@pytest.fixture(autouse=True)
def _empty(bench: Bench) -> Iterator[None]:
    yield
    for name in ("tokens_outbox", "tokens_hooks", "tokens_audit"):
        bench.database.drop_collection(name)


def admin(bench: Bench) -> TokenAdmin:
    return TokenAdmin(bench.mongos[0], RING, audit(bench))


def audit(bench: Bench) -> Audit:
    return Audit(bench.mongos[0], who=Who(actor="ann@host"), log=lambda _: None)


def relay(bench: Bench, observed: list[OwnerEventsLost] | None = None) -> Relay:
    mongo = bench.mongos[0]
    outbox = MongoOutbox(mongo, routes=lambda: [Route(name="crm")])
    lost = observed if observed is not None else []
    return Relay(MongoTokenEvents(mongo), outbox, observe=lost.append)


def events(bench: Bench, name: str = "acme:1") -> list[tuple[str, int]]:
    return [(one["type"], one["revision"]) for one in bench.document(name).get("events", [])]


def outbox(bench: Bench) -> list[dict[str, Any]]:
    return list(bench.database["tokens_outbox"].find({}).sort("event"))


async def order(bench: Bench) -> None:
    orders = Revocations(bench.mongos[0], audit(bench))
    await orders.order(await orders.find(RevocationSelection(ids=["acme:1"])), not_before=None)


def consent(number: str = "1", refresh: str = "refresh-9") -> Token:
    return Token(
        id=f"acme:{number}",
        provider="acme",
        account=number,
        state=State.ACTIVE,
        refresh_token=Secret(refresh),
        access_token=Secret("access-9"),
        issued_at=NOON,
        expires_at=NOON + timedelta(hours=1),
        due_at=NOON + timedelta(minutes=50),
    )


# ---------------------------------------------------------------- every writer


@pytest.mark.parametrize(
    ("change", "before", "expected"),
    [
        (renewed(), {}, []),
        (renewed(None), {}, []),
        (CHANGES["postponed"], {}, []),
        (CHANGES["in doubt"], {}, []),
        (CHANGES["scheduled"], {}, []),
        (RETIRED, {}, [("token.needs_reauth", 8)]),
        (WITHHELD, {}, [("token.unparsed", 8)]),
        (renewed(), {"last_failure": UNPARSED}, [("token.recovered", 8)]),
        (renewed(None, extra={"a": 1}), {"last_failure": UNPARSED, "extra": []}, [("token.recovered", 8)]),
    ],
)
async def test_a_result_is_stored_with_its_event(
    bench: Bench, change: Change, before: dict[str, Any], expected: list[tuple[str, int]]
) -> None:
    """In one write: the event has the revision of the state that it reports. Renewals write none."""
    bench.insert(**before)
    store = bench.store()
    assert await store.record(await claim_one(store), change) is Recorded.STORED
    document = bench.document()
    assert events(bench) == expected
    assert document["revision"] == 8
    assert document["lease"] is None or change is CHANGES["in doubt"]
    if document.get("extra") is not None:
        assert document["extra"] == {"a": 1}


async def test_a_common_renewal_stays_a_plain_update(bench: Bench) -> None:
    """It costs what it cost: no pipeline, which MongoDB would have to evaluate, and no field of events."""
    bench.insert(extra={"kept": 1})
    store = bench.store()
    claim = await claim_one(store)
    bench.database.command("profile", 2)
    await store.record(claim, renewed(extra={"a": 1}))
    bench.database.command("profile", 0)
    [update] = bench.database["system.profile"].find({"op": "update"})
    assert set(update["command"]["u"]) == {"$set", "$inc"}
    assert "events" not in bench.document()


async def test_a_result_onto_a_rejected_token_recovers_it(bench: Bench) -> None:
    """Another replica has rejected it, because this one had spent the refresh token."""
    bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    bench.set("acme:1", state="needs_reauth", last_failure=DEAD)
    assert await store.record(claim, renewed()) is Recorded.STORED
    assert (bench.document()["state"], events(bench)) == ("active", [("token.recovered", 8)])


@pytest.mark.parametrize("state", ["paused", "needs_reauth", "revoking"])
async def test_a_rejection_that_changes_no_state_is_no_event(bench: Bench, state: str) -> None:
    """An operator's pause stays, and a second rejection is none."""
    bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    bench.set("acme:1", state=state, due_at=None)
    assert await store.record(claim, RETIRED) is Recorded.STORED
    assert (bench.document()["state"], events(bench)) == (state, [])


async def test_a_revocation_that_fails_is_reported_once(bench: Bench) -> None:
    """refreshd goes on trying, once a day."""
    bench.insert()
    await order(bench)
    store = bench.store()
    bench.clock.passed = timedelta(days=8)
    failed = RevocationPostponed(
        failure=failure(FailureKind.MISCONFIGURED), tries=1, due_at=NOON + timedelta(days=8), failed=True
    )
    for _ in range(2):
        assert await store.record(await claim_one(store), failed) is Recorded.STORED
    assert events(bench) == [("token.revocation_failed", 9)]


async def test_a_tombstone_has_the_event_and_those_that_waited(bench: Bench) -> None:
    """The event keeps the subject until it is relayed; the tombstone has none."""
    bench.insert(subject="u1")
    store = bench.store()
    await store.record(await claim_one(store), RETIRED)
    await order(bench)
    assert await store.record(await claim_one(store), REVOKED) is Recorded.STORED
    assert events(bench) == [("token.needs_reauth", 8), ("token.revoked", 10)]
    assert "subject" not in bench.document()
    await relay(bench).run()
    assert "events" not in bench.document()
    assert [(one["type"], one["subject"]) for one in outbox(bench)] == [
        ("token.needs_reauth", "u1"),
        ("token.revoked", "u1"),
    ]


async def test_a_consent_is_an_event(bench: Bench) -> None:
    """A new one, one over a dead token, and one in the place of a tombstone, whose event still waits."""
    await admin(bench).add(consent(), subject="u1")
    assert events(bench) == [("token.connected", 1)]
    assert bench.document()["events"][0]["subject"] == "u1"
    await admin(bench).add(consent(), extra={"a": 1}, meta={"b": "2"})
    assert events(bench) == [("token.connected", 1), ("token.connected", 2)]
    assert [one["subject"] for one in bench.document()["events"]] == ["u1", "u1"]
    assert (bench.document()["extra"], bench.document()["meta"]) == ({"a": 1}, {"b": "2"})
    bench.set("acme:1", state="revoked", refresh_token=None)
    await admin(bench).add(consent())
    assert [kind for kind, _ in events(bench)] == ["token.connected"] * 3
    assert [one["subject"] for one in bench.document()["events"]] == ["u1", "u1", None]


async def test_missing_scopes_are_an_event_of_their_own(bench: Bench) -> None:
    """The owner has to act again."""
    tokens = ConsentedTokens(bench.mongos[0], lambda: RING, Silent())
    assert await tokens.bind(consent(), BINDING) is Bound.STORED
    assert await tokens.bind(consent(), BINDING) is Bound.STORED
    assert events(bench) == [("token.connected", 1), ("token.scopes_missing", 1)]


async def test_a_resumed_token_that_was_dead_has_recovered(bench: Bench) -> None:
    """One that was only paused has not: nobody was told."""
    bench.insert("1", state="needs_reauth", last_failure=DEAD)
    bench.insert("2", state="paused")
    await admin(bench).resume("acme:1")
    await admin(bench).resume("acme:2")
    assert (events(bench), events(bench, "acme:2")) == ([("token.recovered", 8)], [])


async def test_many_that_are_resumed_have_events_with_their_own_ids(bench: Bench) -> None:
    """The outbox would take two with one id for one."""
    for number in range(5):
        bench.insert(str(number), state="needs_reauth", last_failure=DEAD)
    assert await admin(bench).resume_rejected("acme", since=NOON - timedelta(days=1)) == 5
    await relay(bench).run()
    assert sorted(one["token"] for one in outbox(bench)) == [f"acme:{one}" for one in range(5)]


@pytest.mark.parametrize(("times", "data"), AMBIGUOUS)
async def test_a_write_without_an_answer_makes_one_event(
    bench: Bench, times: int, data: dict[str, Any]
) -> None:
    """Whether it was applied or not: the repetition finds it."""
    bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    with bench.fault("update", times=times, **data):
        assert await store.record(claim, RETIRED) is Recorded.STORED
    assert events(bench) == [("token.needs_reauth", 8)]


async def test_all_attempts_at_one_write_have_one_event_id(bench: Bench) -> None:
    """The outbox takes two events with one id for one."""
    bench.insert()
    claim = await claim_one(bench.store())
    write, other = (
        _Write(claim=claim, change=RETIRED, written=written(claim.token, RETIRED, RING, now=NOON))
        for _ in range(2)
    )
    assert write.operations() == write.operations()
    assert write.operations() != other.operations()


async def test_a_replay_makes_no_second_event(bench: Bench) -> None:
    """The process died after the write, before it deleted the journal entry."""
    bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    await store.record(claim, RETIRED)
    bench.clock.passed = timedelta(minutes=1)
    assert await store.record(claim, RETIRED) is Recorded.SUPERSEDED
    assert events(bench) == [("token.needs_reauth", 8)]


@pytest.mark.parametrize("stored", STRANGE, ids=lambda one: type(one).__name__ + repr(one)[:8])
@pytest.mark.parametrize("way", ["result", "consent", "revoked", "resume"])
async def test_an_event_is_written_over_anything_that_is_no_array(
    bench: Bench, stored: object, way: str
) -> None:
    """The change must be stored, whatever another program has written."""
    state = {"result": "active", "consent": "active", "revoked": "revoking", "resume": "needs_reauth"}[way]
    bench.insert(events=stored, state=state)
    store = bench.store()
    match way:
        case "result":
            assert await store.record(await claim_one(store), RETIRED) is Recorded.STORED
        case "consent":
            await admin(bench).add(consent())
        case "revoked":
            assert await store.record(await claim_one(store), REVOKED) is Recorded.STORED
        case _:
            await admin(bench).resume("acme:1")
    assert [revision for _, revision in events(bench)] == [8]


# ---------------------------------------------------------------- more than fit


async def test_the_newest_sixteen_stay_and_the_others_are_counted(bench: Bench) -> None:
    """While nothing relays. The number of the lost ones outlives the event that carries it."""
    bench.insert()
    for _ in range(KEPT + 5):
        await admin(bench).add(consent())
    assert events(bench) == [("token.connected", 8 + one) for one in range(5, KEPT + 5)]
    observed: list[OwnerEventsLost] = []
    await relay(bench, observed).run()
    assert len(outbox(bench)) == KEPT
    assert sum(one.pushed_out for one in observed) == 5


async def test_no_loss_is_forgotten_with_the_event_that_carried_its_number(bench: Bench) -> None:
    """Forty that were pushed out are forty in the report."""
    bench.insert()
    for _ in range(KEPT + 40):
        await admin(bench).add(consent())
    observed: list[OwnerEventsLost] = []
    await relay(bench, observed).run()
    assert sum(one.pushed_out for one in observed) == 40


# ---------------------------------------------------------------- the relay


async def test_the_relay_moves_events_and_changes_nothing_else(bench: Bench) -> None:
    """No revision, no date: an application's compare and swap still holds."""
    bench.insert()
    store = bench.store()
    await store.record(await claim_one(store), RETIRED)
    before = bench.document()
    [event] = before.pop("events")
    assert await relay(bench).run() == 1
    assert bench.document() == before
    [stored] = outbox(bench)
    assert (stored["event"], stored["type"], stored["token"], stored["revision"]) == (
        str(event["n"]),
        "token.needs_reauth",
        "acme:1",
        8,
    )
    assert (stored["who_acts"], stored["kind"], stored["code"]) == ("owner", "rejected", "http_503")
    assert await relay(bench).run() == 0


async def test_an_event_that_is_written_meanwhile_stays(bench: Bench) -> None:
    """Only what is in the outbox is taken out."""
    await admin(bench).add(consent())
    tokens = MongoTokenEvents(bench.mongos[0])
    read = await tokens.waiting(limit=10, skip=())
    await admin(bench).add(consent())
    assert await tokens.forget(read) == set()
    assert events(bench) == [("token.connected", 2)]


async def test_after_a_crash_between_the_steps_the_outbox_has_each_event_once(bench: Bench) -> None:
    """The next relay, of this process or of another, stores it again."""
    await admin(bench).add(consent())
    tokens = MongoTokenEvents(bench.mongos[0])
    target = MongoOutbox(bench.mongos[0], routes=lambda: [Route(name="crm")])
    [waiting] = await tokens.waiting(limit=10, skip=())
    await target.add(waiting.events)
    assert await relay(bench).run() == 1
    assert len(outbox(bench)) == 1
    assert "events" not in bench.document()


@pytest.mark.parametrize("value", STRANGE, ids=lambda one: type(one).__name__ + repr(one)[:8])
async def test_a_malformed_entry_is_counted_never_sent_and_blocks_no_other(
    bench: Bench, value: object
) -> None:
    """Of any type, in the array of a token or in its place, with the event of another beside it."""
    bench.insert("1", events=[value, {"n": value, "type": "token.revoked"}, {"n": ObjectId(), "type": value}])
    bench.insert("2", events=value)
    bench.insert("3", updated_at=NOON)
    await admin(bench).add(consent("3", "refresh-3"))
    await admin(bench).add(consent("1", "refresh-1"))
    observed: list[OwnerEventsLost] = []
    # An object id as `n` is an id: then the malformed event has one, and is recognized by its lack of a date.
    assert await relay(bench, observed).run() == 2
    assert sorted(one["token"] for one in outbox(bench)) == ["acme:1", "acme:3"]
    assert {one.token: one.malformed for one in observed}["acme:1"] == 3
    assert "events" not in bench.document("acme:1")
    assert await relay(bench).run() == 0


async def test_an_event_with_broken_text_is_taken_away(bench: Bench) -> None:
    """Text that isn't UTF-8 can't be compared, so nothing relies on it."""
    event = {"n": ObjectId(), "type": "XXXX", "at": NOON, "who_acts": "owner"}
    document = {"_id": "acme:1", "provider": "acme", "account": "1", "events": [{"n": "XXXX"}, event]}
    bench.tokens.insert_one(RawBSONDocument(bson.encode(document).replace(b"XXXX", b"\xff\xfe\xff\xfe")))
    observed: list[OwnerEventsLost] = []
    assert await relay(bench, observed).run() == 0
    assert [one.malformed for one in observed] == [2]
    assert "events" not in bench.document()


async def test_ten_thousand_entries_of_another_program_are_taken_away(bench: Bench) -> None:
    """Without fetching them."""
    bench.insert(events=[{"a": "x" * 100}] * 10_000)
    observed: list[OwnerEventsLost] = []
    assert await relay(bench, observed).run() == 0
    assert [one.malformed for one in observed] == [10_000]
    assert "events" not in bench.document()


async def test_a_look_reads_the_index_of_waiting_events_alone(bench: Bench) -> None:
    """Each daemon looks once a second, whatever the number of tokens."""
    for number in range(200):
        bench.insert(str(number), updated_at=NOON)
    await admin(bench).add(consent("7"))
    bench.database.command("profile", 2)
    assert await relay(bench).run() == 1
    bench.database.command("profile", 0)
    looks = list(
        bench.database["system.profile"].find({"op": "query", "command.filter.events.0": {"$exists": True}})
    )
    looks = looks or list(
        bench.database["system.profile"].find({"op": "query", "ns": f"{bench.database.name}.tokens"})
    )
    assert [(one["planSummary"], one["docsExamined"]) for one in looks] == [("IXSCAN { updated_at: 1 }", 1)]


async def test_a_token_that_mongodb_refuses_to_change_delays_no_other(bench: Bench) -> None:
    """A validator of the operator's, for instance."""
    await admin(bench).add(consent("1", "refresh-1"))
    await admin(bench).add(consent("2", "refresh-2"))
    bench.database.command(
        "collMod", "tokens", validator={"$or": [{"_id": {"$ne": "acme:1"}}, {"events": {"$exists": True}}]}
    )
    try:
        assert await relay(bench).run() == 2
    finally:
        bench.database.command("collMod", "tokens", validator={})
    assert (events(bench), events(bench, "acme:2")) == ([("token.connected", 1)], [])
    assert len(outbox(bench)) == 2


# ---------------------------------------------------------------- documents that go


async def test_a_removed_token_loses_no_event(bench: Bench) -> None:
    """`remove` deletes at once what has none, and else leaves the deletion to the daemon, after the relay."""
    await admin(bench).add(consent())
    await admin(bench).remove("acme:1")
    document = bench.document()
    assert (document["state"], document["refresh_token"], document["access_token"]) == ("removed", None, None)
    with pytest.raises(NoSuchToken):
        await admin(bench).remove("acme:1")
    assert await delete_removed(bench.mongos[0]) == []
    await relay(bench).run()
    assert await delete_removed(bench.mongos[0]) == ["acme:1"]
    assert [one["type"] for one in outbox(bench)] == ["token.connected"]
    bench.insert("2")
    await admin(bench).remove("acme:2")
    assert bench.tokens.count_documents({}) == 0
    with pytest.raises(NoSuchToken):
        await admin(bench).remove("acme:2")


async def test_a_cleanup_leaves_a_token_whose_event_waits(bench: Bench) -> None:
    """Until it is relayed."""
    old = NOON - timedelta(days=100)
    dates = dict.fromkeys(("created_at", "updated_at", "issued_at", "expires_at"), old)
    bench.insert(state="needs_reauth", last_failure={**DEAD, "at": old}, **dates, events=[{}])
    cleanup = Cleanup(bench.mongos[0], audit(bench), Criteria(dead_since=NOON - timedelta(days=90)))
    found = await cleanup.find()
    assert [one.id for one in found] == ["acme:1"]
    assert [batch async for batch in cleanup.remove(found)] == [[]]
    await relay(bench).run()
    assert [batch async for batch in cleanup.remove(found)] == [["acme:1"]]


# ---------------------------------------------------------------- backups


async def test_a_restored_outbox_is_held(bench: Bench) -> None:
    """Its events may have been sent since the backup. An operator lets them go."""
    await admin(bench).add(consent())
    await relay(bench).run()
    mongo = bench.mongos[0]
    async with MongoBackupSource(mongo, snapshot=False) as source:
        assert "_outbox" in await source.suffixes()
        lines = [line async for some in source.documents("_outbox") for line in some]
    [before] = outbox(bench)
    bench.database["tokens_outbox"].delete_many({})
    assert await MongoRestoreTarget(mongo, RING).add_missing("_outbox", lines, dry_run=False) == 1
    [after] = outbox(bench)
    assert (before["held"], after["held"]) == (None, NOW)
    assert {**after, "held": None} == before


async def test_a_restore_replaces_no_document_whose_event_waits(bench: Bench) -> None:
    """It would take the event away with the older content."""
    bench.insert(revision=3)
    mongo = bench.mongos[0]
    target = MongoRestoreTarget(mongo, RING)
    async with MongoBackupSource(mongo, snapshot=False) as source:
        lines = [line async for some in source.documents("") for line in some]
    bench.set("acme:1", revision=2, events=[{"n": ObjectId()}])
    [archived] = target.read(lines)
    [stored] = await target.stored([archived])
    write = Write(archived=archived, over=stored.version, rest=None)
    assert list(await target.write([write])) == [0]
    assert bench.document()["revision"] == 2
    await relay(bench).run()
    assert await target.write([write]) == {}
    assert bench.document()["revision"] == 3
