"""Records, fenced on what was presented, on a real MongoDB with its faults."""

import asyncio
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest
from bson import Int64

from daemon.domain.change import Renewed, Scheduled
from daemon.domain.claim import Claim, Recorded, StoreLost, Unusable
from daemon.domain.secret import Secret
from daemon.domain.token import Token
from tests.adapters.mongo.mongo_bench import (
    ACME,
    ADOPT_AFTER,
    AMBIGUOUS,
    CHANGES,
    IN_DOUBT,
    LEASE,
    LOST,
    NEWER,
    NOON,
    RETIRED,
    RING,
    STRANGE,
    WITHHELD,
    Bench,
    Meddled,
    Wish,
    adopted,
    claim_one,
    names,
    postponed,
    renewed,
    seal,
)
from tests.support.waiting import CLOSELY, until


async def test_a_renewal_is_written_sealed_and_ends_the_lease(bench):
    """All token fields and nothing else; both secrets open in their own place; the revision goes up."""
    bench.insert(failures=3, last_failure={"kind": "unavailable", "code": "x", "message": "", "at": NOON})
    store = bench.store()
    claim = await claim_one(store)
    assert await store.record(claim, renewed(extra={"api_domain": "eu"})) is Recorded.STORED
    now = NOON.replace(microsecond=123000)
    document = bench.document()
    for field, secret in (("access_token", "access-1"), ("refresh_token", "refresh-1")):
        assert RING.open(document.pop(field), token_id="acme:1", field=field) == secret
    assert document == {
        "_id": "acme:1",
        "provider": "acme",
        "account": "1",
        "state": "active",
        "token_type": "Bearer",
        "scope": "read",
        "issued_at": now,
        "refreshed_at": now,
        "updated_at": now,
        "expires_at": now + timedelta(hours=1),
        "refresh_expires_at": now + timedelta(days=60),
        "consent_ends_at": None,
        "due_at": now + timedelta(minutes=55),
        "grant_fingerprint": RING.fingerprint("refresh-1"),
        "revision": 8,
        "failures": 0,
        "last_failure": None,
        "doubt": None,
        "lease": None,
        "extra": {"api_domain": "eu"},
        "meta": {"company": "Example Ltd"},
    }


async def test_a_fast_record_is_one_command_for_all_that_wait(bench):
    """Two hundred results at once need a handful of commands, not two hundred."""
    for n in range(200):
        bench.insert(str(n))
    store = bench.store()
    batch = await store.claim(ACME, limit=200, busy=[])
    bench.database.command("profile", 2)
    results = await asyncio.gather(*(store.record(item, renewed()) for item in batch.items))
    bench.database.command("profile", 0)
    assert set(results) == {Recorded.STORED}
    assert bench.database["system.profile"].count_documents({"command.update": "tokens"}) == 0
    assert bench.tokens.count_documents({"lease": None, "revision": 8}) == 200
    assert store.written == 200  # each once, however many commands were needed
    assert bench.database["system.profile"].count_documents({"op": "query", "command.find": "tokens"}) == 0


async def test_a_kept_refresh_token_stays_as_it_is_sealed(bench):
    """The reply brought none: only the access token is new."""
    bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    assert await store.record(claim, renewed(None)) is Recorded.STORED
    assert bench.document()["refresh_token"] == claim.spent


async def test_a_postponement_is_written_and_ends_the_lease(bench):
    """The next try is a time on the document, and anybody's."""
    bench.insert()
    store = bench.store()
    assert await store.record(await claim_one(store), postponed()) is Recorded.STORED
    document = bench.document()
    now = NOON.replace(microsecond=123000)
    assert document["lease"] is None
    assert document["due_at"] == now + timedelta(seconds=5)
    told = {"kind": "unavailable", "code": "http_503", "message": "back soon", "at": now}
    assert document["last_failure"] == told
    assert document["failures"] == 1


async def test_in_doubt_the_lease_stays_with_its_owner(bench):
    """Only the asker asks again: others wait for the hold."""
    bench.insert()
    store = bench.store("me")
    assert await store.record(await claim_one(store), IN_DOUBT) is Recorded.STORED
    lease = bench.document()["lease"]
    assert (lease["owner"], lease["claim"]) == ("me", None)
    bench.clock.passed = timedelta(seconds=6)
    assert names(await bench.store("other").claim(ACME, limit=10, busy=[])) == []
    assert (await claim_one(store)).token.doubt is not None


async def test_a_doubt_that_is_adopted_names_its_asker(bench):
    """No request ran under the lease when it was adopted: the doubt is not counted again, but whose it was is kept."""
    bench.insert()
    store, other = bench.store("me"), bench.store("other")
    await store.record(await claim_one(store), IN_DOUBT)
    bench.clock.passed = LEASE + ADOPT_AFTER
    doubt = (await claim_one(other)).token.doubt
    assert (doubt.tries, doubt.asker) == (1, "me")


async def test_a_verdict_rests_the_token_and_deletes_nothing(bench):
    """Needs its owner: never due, tokens still there."""
    bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    assert await store.record(claim, RETIRED) is Recorded.STORED
    document = bench.document()
    assert (document["state"], document["due_at"], document["lease"]) == ("needs_reauth", None, None)
    assert document["refresh_token"] == claim.spent


async def test_an_unread_success_keeps_its_access_token_and_is_not_asked_again(bench):
    """The part that could be read is stored; the old refresh token is not due any more."""
    bench.insert()
    store = bench.store()
    assert await store.record(await claim_one(store), WITHHELD) is Recorded.STORED
    document = bench.document()
    assert document["due_at"] is None
    assert document["last_failure"]["kind"] == "unparsed"
    assert RING.open(document["access_token"], token_id="acme:1", field="access_token") == "access-1"


@pytest.mark.parametrize(
    ("stored", "after"),
    [
        (Int64(2**63 - 1), 1),
        (Int64(2**53 - 1), 1),
        (Int64(2**53 - 2), 2**53 - 1),
        (-7, 1),
        (2.0**53, 1),
        (7.0, 8),
    ],
)
@pytest.mark.parametrize("change", [renewed(), Scheduled(due_at=NOON + timedelta(minutes=30))])
async def test_a_result_is_stored_whatever_number_the_revision_is(bench, stored, after, change):
    """One more than the largest number is an error of MongoDB, or no whole number any more."""
    bench.insert(revision=stored)
    store = bench.store()
    assert await store.record(await claim_one(store), change) is Recorded.STORED
    assert bench.document()["revision"] == after


async def test_an_inserted_document_is_completed_at_first_sight(bench):
    """What an application leaves to us is there after the first write, and its revision begins."""
    bench.insert(unset=("revision", "failures"))
    store = bench.store()
    claim = await claim_one(store)
    assert claim.token.revision is None
    assert await store.record(claim, Scheduled(due_at=NOON + timedelta(minutes=30))) is Recorded.STORED
    document = bench.document()
    assert (document["revision"], document["failures"], document["grant"]) == (1, 0, "refresh_token")
    assert document["created_at"] == NOON.replace(microsecond=123000)
    assert document["lease"] is None


async def test_a_consent_during_flight_wins_and_frees_the_claim(bench):
    """The late result is superseded: nothing of it is written, and the new consent can be claimed."""
    bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    consent = bench.consent()
    assert await store.record(claim, renewed()) is Recorded.SUPERSEDED
    document = bench.document()
    assert {name: document[name] for name in consent} == consent
    assert document["lease"] is None
    assert (await claim_one(store)).token.refresh_token == Secret("refresh-consent")


async def test_a_late_result_heals_a_wrong_verdict(bench):
    """Another replica condemned the token because we had spent it: our successor makes it active again."""
    bench.insert()
    store = bench.store("me")
    claim = await claim_one(store)
    bench.clock.passed = LEASE + ADOPT_AFTER
    other = bench.store("other")
    await other.record(await claim_one(other), RETIRED)
    assert bench.document()["state"] == "needs_reauth"
    assert await store.record(claim, renewed()) is Recorded.STORED
    assert bench.refresh_token() == "refresh-1"
    document = bench.document()
    assert (document["state"], document["last_failure"], document["failures"]) == ("active", None, 0)
    assert document["due_at"] is not None


async def test_a_late_result_does_not_end_another_replicas_claim(bench):
    """The successor is stored at once; the lease belongs to the one who wrote it, and its result is superseded."""
    bench.insert()
    store, other = bench.store("me"), bench.store("other")
    claim = await claim_one(store)
    bench.clock.passed = LEASE + ADOPT_AFTER
    theirs = await claim_one(other)
    assert await store.record(claim, renewed()) is Recorded.STORED
    assert bench.document()["lease"]["claim"] == theirs.id
    assert bench.refresh_token() == "refresh-1"
    assert await other.record(theirs, RETIRED) is Recorded.SUPERSEDED
    assert bench.document()["state"] == "active"
    assert bench.document()["lease"] is None or bench.document()["lease"]["claim"] is None


@pytest.mark.parametrize(
    "change",
    [renewed(None), WITHHELD, postponed(), IN_DOUBT, RETIRED],
    ids=lambda change: type(change).__name__,
)
async def test_a_result_without_a_successor_needs_its_own_claim(bench, change):
    """An old reply must not overwrite what came after it."""
    bench.insert()
    store, other = bench.store("me"), bench.store("other")
    claim = await claim_one(store)
    bench.clock.passed = LEASE + ADOPT_AFTER
    await other.record(await claim_one(other), renewed(None, access="access-newer"))
    before = bench.document()
    assert await store.record(claim, change) is Recorded.SUPERSEDED
    assert bench.document() == before


@pytest.mark.parametrize(
    ("change", "state"), [(renewed(), "paused"), (postponed(), "paused"), (RETIRED, "paused")]
)
async def test_what_was_paused_during_flight_stays_paused(bench, change, state):
    """The result is stored, above all a successor; but the token is not due, and its state is the operator's."""
    bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    bench.set("acme:1", state="paused", due_at=None)
    assert await store.record(claim, change) is Recorded.STORED
    document = bench.document()
    assert (document["state"], document["due_at"], document["lease"]) == ("paused", None, None)
    if isinstance(change, Renewed):
        assert bench.refresh_token() == "refresh-1"


async def test_a_document_that_was_sealed_anew_is_recorded_all_the_same(bench):
    """Same value, other text, other key: it is the value that was spent, not the text."""
    bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    bench.set("acme:1", refresh_token=seal("acme:1", "refresh-0", ring=NEWER))
    assert await store.record(claim, renewed()) is Recorded.STORED
    assert bench.refresh_token() == "refresh-1"


async def test_what_can_not_be_compared_is_not_called_superseded(bench):
    """Sealed anew with a key that we lack: it may still be what we spent, so the reply must be kept for a replay."""
    bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    bench.set("acme:1", refresh_token=seal("acme:1", "refresh-0", ring=STRANGE))
    before = bench.document()
    with pytest.raises(Unusable, match="'c'"):
        await store.record(claim, renewed())
    assert bench.document() == before


async def test_a_document_that_is_gone_is_superseded(bench):
    """Removed during flight: nothing is brought back."""
    bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    bench.tokens.delete_one({"_id": "acme:1"})
    assert await store.record(claim, renewed()) is Recorded.SUPERSEDED
    assert bench.tokens.count_documents({}) == 0


@pytest.mark.parametrize("successor", ["refresh-1", None])
async def test_recording_twice_is_recording_once(bench, successor):
    """A replay after a crash seals the same values anew, and finds them there."""
    bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    assert await store.record(claim, renewed(successor)) is Recorded.STORED
    before = bench.document()
    assert await store.record(claim, renewed(successor)) is Recorded.STORED
    assert (
        await bench.store().record(replace(claim, spent=claim.spent), renewed(successor)) is Recorded.STORED
    )
    assert bench.document() == before


async def test_an_object_that_is_none_does_not_keep_a_result_out(bench):
    """An application wrote `extra: null`, into which no field can be set: it becomes an object."""
    bench.insert(extra=None)
    store = bench.store()
    assert await store.record(await claim_one(store), renewed(extra={"api_domain": "eu"})) is Recorded.STORED
    assert bench.document()["extra"] == {"api_domain": "eu"}
    assert bench.refresh_token() == "refresh-1"


async def test_a_result_that_mongodb_refuses_stops_no_other(bench):
    """A document that can't be written meets its own caller alone, and the store isn't thought lost."""
    bench.insert("1")
    bench.insert("2")
    store = bench.store()
    claims = {
        item.token.id: item
        for item in (await store.claim(ACME, limit=10, busy=[])).items
        if isinstance(item, Claim)
    }
    bench.insert("3", scope="read")
    refused = {"scope": "read", "note": "refused"}
    bench.set("acme:1", note="refused")
    bench.tokens.update_one({"_id": "acme:3"}, {"$set": {**refused, "due_at": None}})
    bench.tokens.create_index(
        ["scope", "note"], unique=True, partialFilterExpression={"note": "refused"}, name="once"
    )
    try:
        results = await asyncio.gather(
            *(store.record(claim, renewed()) for claim in claims.values()), return_exceptions=True
        )
    finally:
        bench.tokens.drop_index("once")
    told = dict(zip(claims, results, strict=True))
    assert isinstance(told["acme:1"], Unusable)
    assert told["acme:2"] is Recorded.STORED
    assert bench.mongos[-1].up
    assert bench.events == []


async def test_a_result_that_can_not_be_encoded_spoils_no_batch(bench):
    """It is found out before it joins the others."""
    bench.insert("1")
    bench.insert("2")
    store = bench.store()
    first, second = (await store.claim(ACME, limit=10, busy=[])).items
    results = await asyncio.gather(
        store.record(first, renewed(extra={"huge": 2**70})),
        store.record(second, renewed()),
        return_exceptions=True,
    )
    assert isinstance(results[0], Unusable)
    assert results[1] is Recorded.STORED


@pytest.mark.parametrize(("times", "data"), AMBIGUOUS)
async def test_an_ambiguous_outcome_is_judged_by_what_is_stored(bench, times, data):
    """The write may have been applied or not: whatever it was, it is there afterwards, once, and said to be."""
    for name in CHANGES:
        bench.insert(name)
    store = bench.store()
    batch = await store.claim(ACME, limit=10, busy=[])
    claims = {item.token.account: item for item in batch.items if isinstance(item, Claim)}
    with bench.fault("update", times=times, **data):
        results = await asyncio.gather(*(store.record(claims[name], CHANGES[name]) for name in CHANGES))
    assert dict(zip(CHANGES, results, strict=True)) == dict.fromkeys(CHANGES, Recorded.STORED)
    assert {document["revision"] for document in bench.tokens.find()} == {8}


@pytest.mark.parametrize(("times", "data"), AMBIGUOUS)
async def test_an_ambiguous_outcome_of_many_is_judged_for_each(bench, times, data):
    """One was overtaken by a consent, one removed, the others are stored."""
    for n in range(20):
        bench.insert(str(n))
    store = bench.store()
    claims = [item for item in (await store.claim(ACME, limit=20, busy=[])).items if isinstance(item, Claim)]
    bench.consent("acme:3")
    bench.tokens.delete_one({"_id": "acme:4"})
    with bench.fault("update", times=times, **data):
        results = await asyncio.gather(*(store.record(claim, renewed()) for claim in claims))
    told = {claim.token.id: result for claim, result in zip(claims, results, strict=True)}
    superseded = {name for name, result in told.items() if result is Recorded.SUPERSEDED}
    assert superseded == {"acme:3", "acme:4"}
    assert bench.refresh_token("acme:3") == "refresh-consent"
    assert all(bench.refresh_token(name) == "refresh-1" for name in told.keys() - superseded)


async def test_a_store_that_is_away_is_lost_for_all_at_once(bench):
    """No waiting for one document after the other: everybody knows after one try, and a later record gets through."""
    for n in range(30):
        bench.insert(str(n))
    store = bench.store()
    claims = [item for item in (await store.claim(ACME, limit=30, busy=[])).items if isinstance(item, Claim)]
    with bench.fault("update", "find", times=100, **LOST):
        results = await asyncio.wait_for(
            asyncio.gather(*(store.record(claim, renewed()) for claim in claims), return_exceptions=True), 10
        )
    assert {type(result) for result in results} == {StoreLost}
    assert [type(event).__name__ for event in bench.events] == ["StoreLost"]
    assert await store.record(claims[0], renewed()) is Recorded.STORED
    assert [type(event).__name__ for event in bench.events] == ["StoreLost", "StoreBack"]


def as_read(bench: Bench) -> None:
    pass


def sealed_anew(bench: Bench) -> None:
    bench.set("acme:1", refresh_token=seal("acme:1", "refresh-0", ring=NEWER))


def condemned(bench: Bench) -> None:
    bench.set("acme:1", state="needs_reauth", due_at=None, lease=None)


def unconfirmed(bench: Bench) -> AbstractContextManager[None]:
    return bench.fault("update", times=1, writeConcernError={"code": 64, "errmsg": "timed out"})


SITUATIONS = (as_read, sealed_anew, condemned, adopted, unconfirmed)


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_a_consent_between_claim_and_record_always_remains(bench, situation):
    """Whatever the result, whatever happened before, before whichever command it comes: the newer consent stays."""
    store = bench.store("me")
    mongo = bench.mongos[-1]
    genuine = mongo.tokens
    for change, before in product(CHANGES, range(4)):
        bench.tokens.delete_many({})
        bench.insert()
        claim = await claim_one(store)
        consents: list[Wish] = []
        mongo.tokens = Meddled(
            genuine,
            before=before,
            meddle=lambda written=consents: written.append(bench.consent()),
        )
        faulty = situation(bench)
        if faulty is None:
            await store.record(claim, CHANGES[change])
        else:
            with faulty:
                await store.record(claim, CHANGES[change])
        mongo.tokens = genuine
        consent = consents[0] if consents else bench.consent()
        document = bench.document()
        assert {name: document[name] for name in consent} == consent, (change, before)
        if situation is not adopted:
            again = await claim_one(store)
            assert again.token.refresh_token == Secret("refresh-consent"), (change, before)


async def test_two_results_for_one_token_leave_the_first_successor(bench):
    """However a second reply for the same spent value comes about: it can't overwrite what the first one brought."""
    bench.insert()
    store = bench.store()
    claim: Claim = await claim_one(store)
    results = await asyncio.gather(
        store.record(claim, renewed("refresh-1")), store.record(claim, renewed("refresh-2"))
    )
    assert sorted(result.value for result in results) == ["stored", "superseded"]
    winner = {Recorded.STORED: "refresh-1", Recorded.SUPERSEDED: "refresh-2"}[results[0]]
    assert bench.refresh_token() == winner
    token: Token = claim.token
    assert token.refresh_token == Secret("refresh-0")


async def test_results_leave_no_record_of_a_retryable_write(bench):
    """MongoDB would store one more document for each of them."""
    for n in range(20):
        bench.insert(str(n))
    store = bench.store()
    batch = await store.claim(ACME, limit=20, busy=[])
    results = await asyncio.gather(*(store.record(item, renewed()) for item in batch.items))
    assert set(results) == {Recorded.STORED}
    written = {"ns": bench.tokens.full_name, "op": "u", "o.diff.u.revision": 8}
    entries = list(bench.client["local"]["oplog.rs"].find(written).sort("$natural", -1).limit(20))
    assert len(entries) == 20
    assert not any("txnNumber" in one for one in entries)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"closeConnection": True}, id="connection closed"),
        pytest.param({"errorCode": 10107}, id="not the primary any more"),
        pytest.param({"errorCode": 91}, id="shutting down"),
    ],
)
async def test_results_are_written_again_after_one_failure_without_a_report_of_a_loss(bench, data):
    """An idle connection that a firewall has dropped, or an election, is no outage."""
    for name in CHANGES:
        bench.insert(name)
    store = bench.store()
    batch = await store.claim(ACME, limit=10, busy=[])
    claims = {item.token.account: item for item in batch.items if isinstance(item, Claim)}
    bench.events.clear()
    with bench.fault("update", times=1, **data):
        results = await asyncio.gather(*(store.record(claims[name], CHANGES[name]) for name in CHANGES))
    assert dict(zip(CHANGES, results, strict=True)) == dict.fromkeys(CHANGES, Recorded.STORED)
    assert {document["revision"] for document in bench.tokens.find()} == {8}
    assert bench.events == []


async def test_a_bulk_that_mongodb_goes_on_with_after_its_client_has_gone_is_stored_once(mongod, bench):
    """MongoDB hangs in the middle of a bulk until its client has given up, and has then read what is stored. Whichever comes
    first after that, the rest of the bulk or the second attempt, writes each result; the other one changes nothing.
    """
    impatient = Bench(f"{mongod}&socketTimeoutMS=400", bench.database.name)
    for name in CHANGES:
        for n in range(5):
            bench.insert(f"{name} {n}")
    store = impatient.store()
    await store.survey(["acme"])
    batch = await store.claim(ACME, limit=100, busy=[])
    claims = [item for item in batch.items if isinstance(item, Claim)]
    middle = {"configureFailPoint": "hangDuringBatchUpdate", "mode": {"skip": 17}}
    bench.client.admin.command(middle)
    try:
        change = [CHANGES[claim.token.account.rpartition(" ")[0]] for claim in claims]
        pairs = zip(claims, change, strict=True)
        recording = asyncio.gather(*(store.record(*pair) for pair in pairs))
        await until(lambda: len(impatient.events) > 0, every=CLOSELY)
        half = bench.tokens.count_documents({"revision": 8})
    finally:
        bench.client.admin.command({"configureFailPoint": "hangDuringBatchUpdate", "mode": "off"})
    results = await recording
    assert half == 17
    assert len(results) == 35
    assert set(results) == {Recorded.STORED}
    assert [document["revision"] for document in bench.tokens.find()] == [8] * 35
    await asyncio.gather(*(mongo.close() for mongo in impatient.mongos))
    impatient.client.close()


async def test_a_bulk_that_arrives_after_the_second_attempt_changes_nothing(mongod, bench):
    """It was on its way when its client gave up. Each of its conditions names what the second attempt has replaced."""
    impatient = Bench(f"{mongod}&socketTimeoutMS=400", bench.database.name)
    for name in CHANGES:
        bench.insert(name)
    store = impatient.store()
    await store.survey(["acme"])
    batch = await store.claim(ACME, limit=10, busy=[])
    claims = {item.token.account: item for item in batch.items if isinstance(item, Claim)}
    bench.database.command({"profile": 2})
    profile, updates = bench.database["system.profile"], {"op": "update", "ns": bench.tokens.full_name}
    with bench.fault("update", times=1, blockConnection=True, blockTimeMS=2000):
        results = await asyncio.gather(*(store.record(claims[name], CHANGES[name]) for name in CHANGES))
        stored = list(bench.tokens.find())
    assert dict(zip(CHANGES, results, strict=True)) == dict.fromkeys(CHANGES, Recorded.STORED)
    await until(lambda: profile.count_documents(updates) == 2 * len(CHANGES), every=CLOSELY)
    bench.database.command({"profile": 0})
    assert list(bench.tokens.find()) == stored
    assert [document["revision"] for document in stored] == [8] * len(CHANGES)
    await asyncio.gather(*(mongo.close() for mongo in impatient.mongos))
    impatient.client.close()
