"""Claims and fenced records on a real MongoDB, with its faults."""

from datetime import timedelta

import pytest

from daemon.domain.claim import Recorded, Unusable
from daemon.domain.secret import Secret
from daemon.domain.token import FailureKind
from tests.adapters.mongo.mongo_bench import (
    NOON,
    STRANGE,
    claim_one,
    entry_of,
    renewed,
    seal,
)


async def test_a_recalled_claim_holds_what_was_presented_then(bench):
    """The token as it is stored now, but with the refresh token that the entry's request spent: fit to be recorded."""
    bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    bench.consent()
    recalled = await store.recall(entry_of(claim))
    assert recalled is not None
    assert recalled.token.refresh_token == Secret("refresh-0")
    assert (recalled.id, recalled.spent, recalled.deadline) == (claim.id, claim.spent, timedelta(0))
    assert await store.record(recalled, renewed()) is Recorded.SUPERSEDED


async def test_a_recalled_claim_of_an_earlier_process_is_recorded(bench):
    """The replay after a crash: same entry, another process, the lease still there."""
    bench.insert()
    claim = await claim_one(bench.store())
    store = bench.store()
    recalled = await store.recall(entry_of(claim))
    assert recalled is not None
    assert await store.record(recalled, renewed()) is Recorded.STORED
    assert bench.refresh_token() == "refresh-1"
    assert bench.document()["lease"] is None


async def test_what_is_gone_or_unreadable_can_not_be_recalled(bench):
    """No document: nothing to recall. One that makes no sense, or a key that we lack: somebody must look."""
    bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    with pytest.raises(Unusable, match="key 'c'"):
        await store.recall(entry_of(claim, spent=seal("acme:1", "refresh-0", ring=STRANGE)))
    bench.set("acme:1", state=5)
    with pytest.raises(Unusable, match="state"):
        await store.recall(entry_of(claim))
    bench.tokens.delete_one({"_id": "acme:1"})
    assert await store.recall(entry_of(claim)) is None


async def test_due_documents_of_unknown_providers_are_set_aside(bench):
    """Nobody here has a client for them: not sent anywhere, reported once per change, looked at again later."""
    bench.insert("1")
    for name, provider in (("lost:1", "lost"), ("five:1", 5), ("none:1", None)):
        bench.insert("x", _id=name, provider=provider)
    bench.insert("later", _id="lost:later", provider="lost", due_at=NOON + timedelta(hours=5))
    store = bench.store()
    survey = await store.survey(["acme"])
    assert sorted(item.token for item in survey.set_aside) == ["five:1", "lost:1", "none:1"]
    assert {(item.kind, item.new) for item in survey.set_aside} == {(FailureKind.UNCONFIGURED, True)}
    assert bench.document("lost:1")["last_failure"]["kind"] == "unconfigured"
    assert (await store.survey(["acme"])).set_aside == []
    bench.clock.passed = timedelta(hours=2)
    again = (await store.survey(["acme"])).set_aside
    assert {item.new for item in again} == {False}
    assert bench.document("acme:1").get("last_failure") is None


async def test_what_another_replica_holds_is_not_set_aside(bench):
    """It may have the client that we lack: its lease and its token are not touched."""
    bench.insert()
    await claim_one(bench.store("other"))
    before = bench.document()
    survey = await bench.store("me").survey(["something else"])
    assert survey.set_aside == []
    assert bench.document() == before


async def test_who_has_something_due_costs_as_much_as_there_are_providers(bench):
    """Not as much as is due: MongoDB skips on the index from one provider to the next, and reads no document."""
    bench.tokens.insert_many(
        {
            "_id": f"p{n % 3}:{n}",
            "provider": f"p{n % 3}",
            "due_at": NOON + timedelta(minutes=n - 500 * (n % 3)),
        }
        for n in range(1, 1500)
    )
    store = bench.store()
    bench.database.command("profile", 2)
    assert await store.due(["p0", "p1", "p2", "p3"]) == {"p1", "p2"}
    bench.database.command("profile", 0)
    [row] = bench.database["system.profile"].find({"command.distinct": "tokens"})
    assert "DISTINCT_SCAN" in row["planSummary"]
    assert (row["keysExamined"] < 20, row["docsExamined"]) == (True, 0)


async def test_odd_documents_hide_no_provider_that_has_something_due(bench):
    """Lists and texts where dates and names belong: each provider is still found."""
    bench.insert("1")
    bench.tokens.insert_many(
        [
            {"_id": "odd:1", "provider": ["acme", "odd"], "due_at": NOON - timedelta(minutes=1)},
            {"_id": "list:1", "provider": "list", "due_at": [NOON - timedelta(minutes=1)]},
            {"_id": "text:1", "provider": "text", "due_at": "soon"},
            {"_id": "later:1", "provider": "later", "due_at": NOON + timedelta(minutes=1)},
        ]
    )
    found = await bench.store().due(["acme", "list", "text", "later"])
    assert "acme" in found
    assert found.isdisjoint({"text", "later"})
    bench.tokens.drop_indexes()


async def test_a_question_that_takes_too_long_leaves_no_provider_out(bench):
    """Then each of them claims, as if it had something due. Nobody is told that MongoDB is away."""
    store, before = bench.store(), len(bench.events)
    with bench.fault("distinct", times=1, errorCode=50):
        assert set(await store.due(["acme", "other"])) == {"acme", "other"}
    assert len(bench.events) == before
    assert set(await store.due(["acme", "other"])) == set()


async def test_the_survey_tells_which_providers_rest(bench):
    """With their reasons, as the providers' collection has them."""
    bench.providers.insert_many(
        [
            {"_id": "acme", "paused": {"reason": "operator"}},
            {"_id": "other", "paused": None},
            {"_id": "third", "paused": {"reason": "outage"}},
        ]
    )
    resting = (await bench.store().survey(["acme"])).paused
    assert {name: pause.reason for name, pause in resting.items()} == {"acme": "operator", "third": "outage"}
