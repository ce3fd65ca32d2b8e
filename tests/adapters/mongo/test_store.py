"""Claims and fenced records on a real MongoDB, with its faults."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument

from daemon.adapters.mongo.set_aside import FIRST_REST, SET_ASIDE_FOR
from daemon.adapters.mongo.store import MongoStore
from daemon.domain.change import Renewed, Scheduled
from daemon.domain.claim import Claim, Recorded, SetAside, StoreLost, Unusable
from daemon.domain.secret import Secret
from daemon.domain.token import Doubt, FailureKind, Token
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
    Wish,
    claim_one,
    entry_of,
    names,
    postponed,
    renewed,
    seal,
)

# ---------------------------------------------------------------- claims


async def test_the_oldest_due_tokens_are_claimed_first(bench):
    """Five are due: a claim of three takes those that waited longest, and says that there is more."""
    for minutes in (3, 1, 5, 2, 4):
        bench.insert(str(minutes), due_at=NOON - timedelta(minutes=minutes))
    store = bench.store()
    first = await store.claim(ACME, limit=3, busy=[])
    assert sorted(names(first)) == ["acme:3", "acme:4", "acme:5"]
    assert first.more
    rest = await store.claim(ACME, limit=3, busy=names(first))
    assert sorted(names(rest)) == ["acme:1", "acme:2"]
    assert not rest.more


@pytest.mark.parametrize(
    ("chance", "accounts"), [(0.0, "012"), (0.5, "678"), (0.999, "01B")], ids=["oldest", "middle", "round"]
)
async def test_replicas_that_look_at_once_take_different_parts(bench, chance, accounts):
    """Far more is due than a claim takes: chance decides where among the oldest it begins, and it goes round."""
    for age, account in enumerate("0123456789ABCDE"):
        bench.insert(account, due_at=NOON - timedelta(minutes=20 - age))
    batch = await bench.store(chance=lambda: chance).claim(ACME, limit=3, busy=[])
    assert sorted(names(batch)) == [f"acme:{account}" for account in accounts]
    assert batch.more


def counted_looks(store: MongoStore) -> list[int]:
    """Grows by one with each look that `store` takes at what is due."""
    looks, look = [], store._due._look

    async def counted(*arguments: Any, **more: Any) -> Any:
        looks.append(1)
        return await look(*arguments, **more)

    store._due._look = counted
    return looks


async def test_one_look_serves_several_claims(bench):
    """It finds more than the first claim takes: the next ones only take and read. A stale look is no use."""
    for age, account in enumerate("0123456789AB"):
        bench.insert(account, due_at=NOON - timedelta(minutes=20 - age))
    store, seen = bench.store(), []
    looks = counted_looks(store)
    for _ in range(2):
        batch = await store.claim(ACME, limit=4, busy=seen)
        assert len(batch.items) == 4
        assert batch.more
        seen += names(batch)
    assert len(looks) == 1
    bench.clock.passed += timedelta(seconds=3)
    last = await store.claim(ACME, limit=4, busy=seen)
    assert len(looks) == 2
    assert sorted(seen + names(last)) == sorted(f"acme:{account}" for account in "0123456789AB")
    assert not last.more


@pytest.fixture
def mixed(bench):
    """Due, oldest first: five that fail by themselves, three that were never renewed, four good ones."""
    long_ago = NOON - timedelta(days=1)
    kinds = {
        **{f"failing{n}": {"failures": n + 1, "refreshed_at": long_ago} for n in range(5)},
        **{f"new{n}": {"refreshed_at": None} for n in range(3)},
        **{f"good{n}": {"refreshed_at": long_ago} for n in range(4)},
    }
    for age, (account, fields) in enumerate(kinds.items()):
        bench.insert(account, due_at=NOON - timedelta(minutes=20 - age), **fields)
    bench.set("acme:good3", failures=0.0)  # as some languages write it
    bench.tokens.update_one({"_id": "acme:good2"}, {"$unset": {"failures": 1}})
    return bench


async def test_a_probe_takes_a_token_that_has_not_failed_though_others_are_older(mixed):
    """Proven are those that were renewed before and have not failed since: no other is taken."""
    store, order = mixed.store(), []
    while (batch := await store.probe(ACME, limit=2, busy=order, proven=True)).items:
        assert not batch.more
        order += names(batch)
    assert set(order) == {f"acme:good{n}" for n in range(4)}


async def test_probes_are_drawn_at_random(mixed):
    """Not the oldest of the good ones each time: its trouble may be its own."""
    draws = iter([0.9, 0.8, 0.1, 0.7])
    batch = await mixed.store(chance=lambda: next(draws)).probe(ACME, limit=1, busy=[], proven=True)
    assert names(batch) == ["acme:good2"]


async def test_where_all_have_failed_a_probe_takes_the_one_with_the_fewest_failures(mixed):
    """Only if it is asked for, and only where there are no healthy ones."""
    store = mixed.store()
    healthy = names(await store.probe(ACME, limit=20, busy=[], proven=False))
    assert len(healthy) == 7
    assert not (await store.probe(ACME, limit=2, busy=healthy, proven=True)).items
    failing = await store.probe(ACME, limit=2, busy=healthy, proven=False)
    assert set(names(failing)) == {"acme:failing0", "acme:failing1"}


async def test_a_probe_claims_as_a_claim_does(bench):
    """What is held by another or not due is not taken; what can't be opened is set aside; for none, none is taken."""
    bench.insert("later", due_at=NOON + timedelta(minutes=1))
    bench.insert("held")
    held = await claim_one(bench.store("other"))
    bench.insert("spoilt", refresh_token="v1.a.bad")
    bench.insert("good")
    store = bench.store()
    assert not (await store.probe(ACME, limit=0, busy=[], proven=True)).items
    items = {
        one.token if isinstance(one, SetAside) else one.token.id: one
        for one in (await store.probe(ACME, limit=9, busy=[], proven=False)).items
    }
    assert held.token.id not in items
    assert isinstance(items["acme:spoilt"], SetAside)
    assert isinstance(items["acme:good"], Claim)
    assert len(items) == 2


async def test_what_a_look_found_may_be_somebody_elses_by_now(bench):
    """Another replica takes it, or it is renewed meanwhile: it is not claimed, and the look was in vain."""
    for age, account in enumerate("0123456789AB"):
        bench.insert(account, due_at=NOON - timedelta(minutes=20 - age))
    store, other = bench.store("me"), bench.store("other")
    looks = counted_looks(store)
    first = await store.claim(ACME, limit=4, busy=[])
    theirs = await other.claim(ACME, limit=4, busy=[])
    assert not set(names(first)) & set(names(theirs))
    rest = await store.claim(ACME, limit=4, busy=names(first))
    assert names(rest) == []
    assert rest.more
    again = await store.claim(ACME, limit=4, busy=names(first))
    assert len(looks) == 2
    assert sorted(names(first) + names(theirs) + names(again)) == sorted(
        f"acme:{account}" for account in "0123456789AB"
    )


async def test_only_what_is_due_is_claimed(bench):
    """Not what comes due later, never, or has a text for a date; and no other provider's."""
    bench.insert("due")
    bench.insert("later", due_at=NOON + timedelta(seconds=1))
    bench.insert("never", due_at=None)
    bench.insert("missing", unset=("due_at",))
    bench.insert("text", due_at="2026-11-21T11:00:00Z")
    bench.insert("number", due_at=1)
    bench.insert("other", provider="other", _id="other:other")
    before = bench.document("acme:text")
    assert names(await bench.store().claim(ACME, limit=10, busy=[])) == ["acme:due"]
    assert bench.document("acme:text") == before


async def test_a_claim_holds_what_was_read(bench):
    """The refresh token opened, the sealed text it came in, and what the policy needs to know of it."""
    bench.insert(failures=2, vars={"region": "eu"}, refresh_expires_at=NOON + timedelta(days=3))
    claim = await claim_one(bench.store())
    assert claim.spent == bench.document()["refresh_token"]
    assert claim.token.refresh_token == Secret("refresh-0")
    assert (claim.token.failures, claim.token.revision) == (2, 7)
    assert claim.token.vars == {"region": "eu"}
    assert claim.token.refresh_expires_at == (NOON + timedelta(days=3)).replace(microsecond=123000)
    assert "refresh-0" not in repr(claim)


async def test_a_lease_has_an_owner_a_claim_and_two_ends(bench):
    """`until` is a lease from now, `hold` the adoption time later; the deadline is by the boot clock before asking."""
    bench.insert()
    claim = await claim_one(bench.store("me"))
    now = NOON.replace(microsecond=123000)
    assert bench.document()["lease"] == {
        "owner": "me",
        "claim": claim.id,
        "since": now,
        "until": now + LEASE,
        "hold": now + LEASE + ADOPT_AFTER,
    }
    assert claim.deadline == bench.clock.boot() + LEASE
    assert bench.document()["revision"] == 7


async def test_a_deadline_counts_from_before_the_claim_was_asked_for(bench):
    """What MongoDB takes to answer is gone from the lease: the deadline never comes after `until`."""
    bench.insert()
    store, asked = bench.store("me"), bench.clock.boot()
    take = store._take

    async def take_long(*arguments: Any, **more: Any) -> int:
        taken = await take(*arguments, **more)
        bench.clock.passed += timedelta(seconds=30)
        return taken

    store._take = take_long
    assert (await claim_one(store)).deadline == asked + LEASE
    assert bench.document()["lease"]["until"] == NOON.replace(microsecond=123000) + LEASE


async def test_another_owner_waits_for_the_hold_and_not_for_the_lease(bench):
    """Until `hold` nobody else gets it; then anybody does, in the knowledge that it may be spent."""
    bench.insert()
    await claim_one(bench.store("me"))
    other = bench.store("other")
    for passed in (timedelta(0), LEASE + timedelta(seconds=1), LEASE + ADOPT_AFTER - timedelta(seconds=1)):
        bench.clock.passed = passed
        assert names(await other.claim(ACME, limit=10, busy=[])) == []
    bench.clock.passed = LEASE + ADOPT_AFTER
    adopted = await claim_one(other)
    assert adopted.token.doubt == Doubt(since=NOON.replace(microsecond=123000), tries=1, asker="me")
    assert bench.document()["lease"]["owner"] == "other"


async def test_what_is_busy_is_not_claimed_again(bench):
    """Its own lease would let it: what is in flight or in the journal is left out by name."""
    bench.insert("1")
    bench.insert("2")
    store = bench.store()
    await claim_one(store, busy=("acme:2",))
    assert names(await store.claim(ACME, limit=10, busy=["acme:1"])) == ["acme:2"]
    assert names(await store.claim(ACME, limit=10, busy=["acme:1", "acme:2"])) == []


async def test_two_owners_never_both_get_one(bench):
    """Five hundred tokens, two owners grabbing at the same time: each token goes to exactly one of them."""
    accounts = [str(n) for n in range(500)]
    for account in accounts:
        bench.insert(account)
    got: dict[str, list[str]] = {"me": [], "other": []}
    chances = {"me": 0.0, "other": 0.5}

    async def grab(owner: str) -> None:
        store, more = bench.store(owner, chance=lambda: chances[owner]), True
        while more:
            batch = await store.claim(ACME, limit=60, busy=got[owner])
            got[owner] += names(batch)
            more = batch.more

    await asyncio.gather(grab("me"), grab("other"))
    assert sorted(got["me"] + got["other"]) == sorted(f"acme:{account}" for account in accounts)
    assert got["me"]
    assert got["other"]
    for owner, tokens in got.items():
        assert bench.tokens.count_documents({"_id": {"$in": tokens}, "lease.owner": owner}) == len(tokens)


@pytest.mark.parametrize("left_behind", [False, True], ids=["free", "left behind"])
async def test_who_was_faster_between_the_look_and_the_claim_keeps_it(bench, left_behind):
    """Found by both, taken by the other first: neither a free one nor one whose hold has passed is taken from him."""
    bench.insert()
    if left_behind:
        await claim_one(bench.store("dead"))
        bench.clock.passed = LEASE + ADOPT_AFTER
    store, other = bench.store("me"), bench.store("other")
    take = store._take

    async def take_too_late(*arguments: Any, **more: Any) -> int:
        await claim_one(other)
        return await take(*arguments, **more)

    store._take = take_too_late
    assert names(await store.claim(ACME, limit=10, busy=[])) == []
    assert bench.document()["lease"]["owner"] == "other"


@pytest.mark.parametrize("stored", [2_000, 20_000])
async def test_a_claim_costs_as_much_as_what_is_due_and_not_as_what_is_stored(bench, stored):
    """A hundred are due: whatever lies beside them, MongoDB looks at about a hundred keys and documents."""
    bench.tokens.insert_many(
        {
            "_id": f"acme:later-{n}",
            "provider": "acme",
            "account": f"later-{n}",
            "due_at": NOON + timedelta(minutes=1 + n) if n % 3 else None,
            "refresh_token": "sealed",
        }
        for n in range(stored)
    )
    for n in range(100):
        bench.insert(str(n))
    store = bench.store()
    bench.database.command("profile", 2)
    batch = await store.claim(ACME, limit=256, busy=[f"acme:busy-{n}" for n in range(50)])
    await store.survey(["acme"])
    bench.database.command("profile", 0)
    assert len(batch.items) == 100
    seen = [
        row
        for row in bench.database["system.profile"].find({"ns": bench.tokens.full_name})
        if row["op"] in ("query", "update")
    ]
    assert len(seen) == 5  # a look, taking, reading; in the survey, twice, what no claim finds
    for row in seen:
        assert "IXSCAN" in row["planSummary"]
        assert row["keysExamined"] <= 205
        assert row["docsExamined"] <= 105


async def test_a_request_that_was_never_concluded_is_a_doubt_that_is_counted(bench):
    """Our own lease with a claim still on it: an earlier request may have been processed, each time once more."""
    bench.insert()
    store = bench.store()
    first = await claim_one(store)
    assert first.token.doubt is None
    now = NOON.replace(microsecond=123000)
    bench.clock.passed = timedelta(minutes=1)
    again = await claim_one(store)
    assert again.id != first.id
    assert again.token.doubt == Doubt(since=now, tries=1)
    assert (await claim_one(store)).token.doubt == Doubt(since=now, tries=2)


async def test_a_doubt_that_was_recorded_is_not_counted_twice(bench):
    """The refresher counted it when it wrote it down; to claim its retry is no doubt of its own."""
    bench.insert()
    store = bench.store()
    await store.record(await claim_one(store), IN_DOUBT)
    bench.clock.passed = timedelta(seconds=6)
    assert (await claim_one(store)).token.doubt == Doubt(since=NOON.replace(microsecond=123000), tries=1)


# ---------------------------------------------------------------- claims that come to nothing


async def test_released_claims_are_anybodys_again(bench):
    """Nothing was presented, so nothing is in doubt, and nobody has to wait."""
    bench.insert()
    store = bench.store("me")
    await store.release([await claim_one(store)])
    assert bench.document()["lease"] is None
    claim = await claim_one(bench.store("other"))
    assert claim.token.doubt is None
    await store.release([])


async def test_released_while_in_doubt_it_stays_its_owners(bench):
    """The earlier doubt does not go away with the claim: only the asker asks again, and it counts once."""
    bench.insert()
    store = bench.store("me")
    await store.record(await claim_one(store), IN_DOUBT)
    bench.clock.passed = timedelta(seconds=6)
    await store.release([await claim_one(store)])
    assert names(await bench.store("other").claim(ACME, limit=10, busy=[])) == []
    again = await claim_one(store)
    assert again.token.doubt is not None
    assert again.token.doubt.tries == 1


@pytest.mark.parametrize(("times", "data"), AMBIGUOUS)
async def test_a_claim_without_a_clean_majority_is_burnt_and_given_back(bench, times, data):
    """Nothing is presented under it; at the next sweep its owner gives it back, whether it had been taken or not."""
    bench.insert("1")
    bench.insert("2")
    store = bench.store("me")
    with bench.fault("update", times=times, **data), pytest.raises(StoreLost):
        await store.claim(ACME, limit=10, busy=[])
    await store.survey(["acme"])
    assert bench.document("acme:1").get("lease") is None
    batch = await bench.store("other").claim(ACME, limit=10, busy=[])
    assert sorted(names(batch)) == ["acme:1", "acme:2"]
    assert [item.token.doubt for item in batch.items] == [None, None]


async def test_a_claim_that_could_not_be_read_back_is_burnt_too(bench):
    """The lease was written, but the tokens under it never came: nothing was presented, so nothing is in doubt."""
    bench.insert()
    store = bench.store("me")
    taken = store._take

    async def take_and_lose(*arguments: Any, **more: Any) -> int:
        count = await taken(*arguments, **more)
        bench._fail_command({"times": 2}, failCommands=["find"], appName="refreshd", **LOST)
        return count

    store._take = take_and_lose
    with pytest.raises(StoreLost):
        await store.claim(ACME, limit=10, busy=[])
    bench._fail_command("off")
    assert bench.document()["lease"] is not None
    await store.survey(["acme"])
    assert bench.document()["lease"] is None
    assert "doubt" not in bench.document()


async def test_a_claim_that_could_not_be_given_back_is_given_back_later(bench):
    """MongoDB was away just then: the next survey does it, and no doubt is left."""
    bench.insert()
    store = bench.store("me")
    claim = await claim_one(store)
    with bench.fault("update", times=2, **LOST), pytest.raises(StoreLost):
        await store.release([claim])
    assert bench.document()["lease"] is not None
    await store.survey(["acme"])
    assert bench.document()["lease"] is None
    assert names(await bench.store("other").claim(ACME, limit=10, busy=[])) == ["acme:1"]
    assert bench.document().get("doubt") is None


async def test_a_burnt_claim_on_a_doubtful_token_stays_its_owners_and_counts_once(bench):
    """It was in doubt before the claim that came to nothing, and is in the same doubt after it."""
    bench.insert()
    store = bench.store("me")
    await store.record(await claim_one(store), IN_DOUBT)
    bench.clock.passed = timedelta(seconds=6)
    error = {"code": 64, "errmsg": "waiting for replication timed out"}
    with bench.fault("update", times=1, writeConcernError=error), pytest.raises(StoreLost):
        await store.claim(ACME, limit=10, busy=[])
    await store.survey(["acme"])
    assert names(await bench.store("other").claim(ACME, limit=10, busy=[])) == []
    assert (await claim_one(store)).token.doubt == Doubt(since=NOON.replace(microsecond=123000), tries=1)


# ---------------------------------------------------------------- records


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
    bench.set("acme:1", revision="seven")
    results = await asyncio.gather(
        *(store.record(claim, renewed()) for claim in claims.values()), return_exceptions=True
    )
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


# ---------------------------------------------------------------- outcomes that nobody confirmed


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


# ---------------------------------------------------------------- recall


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


# ---------------------------------------------------------------- documents that can't be used

UNUSABLE: dict[str, Wish] = {
    "state": {"state": "enabled"},
    "state type": {"state": ["active"]},
    "account": {"account": "another"},
    "account type": {"account": 5},
    "sealed": {"refresh_token": "in the clear"},
    "sealed type": {"refresh_token": 12345},
    "moved": {"refresh_token": seal("acme:other", "refresh-0")},
    "another key": {"refresh_token": seal("acme:1", "refresh-0", ring=STRANGE)},
    "expires text": {"expires_at": "tomorrow"},
    "expires out of range": {"expires_at": bson.datetime_ms.DatetimeMS(2**55)},
    "issued number": {"issued_at": 1_700_000_000},
    "revision text": {"revision": "7"},
    "failures text": {"failures": "none"},
    "failures fraction": {"failures": 0.5},
    "vars list": {"vars": ["eu"]},
    "vars number": {"vars": {"region": 5}},
    "grant number": {"grant": 5},
}


STRANGE_BUT_USABLE: list[Wish] = [
    {"last_failure": {"kind": {"a": 1}, "code": 5, "message": None, "at": NOON}},
    {"last_failure": {"kind": ["unparsed"], "at": "yesterday"}},
    {"last_failure": "broken"},
    {"doubt": {"since": "yesterday", "tries": "two"}},
    {"doubt": 5},
    {"failures": -3},
    {"failures": 2.0, "revision": 7.0},
    {"expires_at": datetime(1, 1, 1, tzinfo=UTC), "issued_at": datetime(1, 1, 1, tzinfo=UTC)},
    {"lease": {"owner": "me"}},
    {"vars": None, "extra": None, "scope": 5, "meta": "mine"},
]


async def test_unusable_documents_are_set_aside_and_stop_no_other(bench):
    """Each reported once per change, asked about again later, changed in nothing else; the good one is claimed."""
    for why, fields in UNUSABLE.items():
        bench.insert(why, **fields)
    bench.insert("good")
    before = {name: bench.document(f"acme:{name}") for name in UNUSABLE}
    store = bench.store()
    batch = await store.claim(ACME, limit=100, busy=[])
    aside = {item.token: item for item in batch.items if isinstance(item, SetAside)}
    assert aside.keys() == {f"acme:{name}" for name in UNUSABLE}
    assert [item.token.id for item in batch.items if isinstance(item, Claim)] == ["acme:good"]
    assert {(item.kind, item.new) for item in aside.values()} == {(FailureKind.UNREADABLE, True)}
    for name, document in before.items():
        after = bench.document(f"acme:{name}")
        told = after.pop("last_failure")
        assert (told["kind"], told["message"]) == ("unreadable", aside[f"acme:{name}"].message)
        assert after.pop("due_at") == NOON.replace(microsecond=123000) + SET_ASIDE_FOR
        assert after.pop("lease") is None
        del document["due_at"]
        assert after == document
    bench.clock.passed = timedelta(hours=2)
    bench.set("acme:state", state="another wrong one", vars=5)
    again = (await store.claim(ACME, limit=100, busy=["acme:good"])).items
    assert len(again) == len(UNUSABLE)
    assert not any(item.new for item in again if isinstance(item, SetAside))


async def test_a_secret_in_the_wrong_place_is_in_no_message(bench):
    """An application stored a token in the clear, and one in a field that should say something else."""
    canary = "canary-9f4c2b7a1d8e6f305b"
    bench.insert("1", refresh_token=canary)
    bench.insert("2", state=canary)
    bench.insert("3", refresh_token=f"v1.{canary}.{'A' * 40}")
    bench.insert("4", account=canary)
    for item in (await bench.store().claim(ACME, limit=10, busy=[])).items:
        assert isinstance(item, SetAside)
        assert canary not in repr(item)
        assert canary not in bench.document(item.token)["last_failure"]["message"]
        assert len(item.message) <= 300


async def test_strange_documents_that_can_be_used_are_used(bench):
    """Types that don't matter to us, or numbers as some languages write them, keep no token from being renewed."""
    for number, fields in enumerate(STRANGE_BUT_USABLE):
        bench.insert(str(number), **fields)
    store = bench.store("me")
    claims = (await store.claim(ACME, limit=100, busy=[])).items
    assert all(isinstance(claim, Claim) for claim in claims), claims
    assert all(claim.token.failures >= 0 for claim in claims)
    assert all(claim.token.expires_at.year >= 1970 for claim in claims)
    results = await asyncio.gather(*(store.record(claim, renewed()) for claim in claims))
    assert results == [Recorded.STORED] * len(STRANGE_BUT_USABLE)
    assert all(
        bench.refresh_token(f"acme:{number}") == "refresh-1" for number in range(len(STRANGE_BUT_USABLE))
    )


async def test_a_document_that_is_not_utf_8_hides_no_other(bench):
    """A driver without checks wrote it: it is set aside like any other that makes no sense."""
    bench.insert("1")
    bench.insert("2")
    raw = bson.encode({**bench.document("acme:1"), "account": "XX"}).replace(b"XX\x00", b"\xff\xfe\x00")
    bench.tokens.delete_one({"_id": "acme:1"})
    bench.database.get_collection("tokens").insert_one(RawBSONDocument(raw))
    batch = await bench.store().claim(ACME, limit=10, busy=[])
    assert sorted(
        (name, isinstance(item, Claim)) for name, item in zip(names(batch), batch.items, strict=True)
    ) == [
        ("acme:1", False),
        ("acme:2", True),
    ]


async def test_a_document_that_was_mended_meanwhile_is_not_set_aside(bench):
    """A consent that comes between the reading and the setting aside is put off by a moment only."""
    bench.insert(refresh_token="in the clear")
    store = bench.store()
    set_aside = store._set_aside.set_aside

    async def mended_first(*arguments: Any, **more: Any) -> Any:
        bench.consent()
        return await set_aside(*arguments, **more)

    store._set_aside.set_aside = mended_first
    await store.claim(ACME, limit=10, busy=[])
    document = bench.document()
    assert document["last_failure"] is None
    assert document["due_at"] < NOON
    store._set_aside.set_aside = set_aside
    bench.clock.passed = FIRST_REST
    assert (await claim_one(store)).token.refresh_token == Secret("refresh-consent")


async def test_an_unreadable_document_in_doubt_stays_with_the_one_who_asked(bench):
    """What was perhaps spent before its key went missing is not offered to others."""
    bench.insert()
    store = bench.store("me")
    await store.record(await claim_one(store), IN_DOUBT)
    bench.clock.passed = timedelta(seconds=6)
    sealed = bench.document()["refresh_token"]
    bench.set("acme:1", refresh_token="broken")
    await store.claim(ACME, limit=10, busy=[])
    bench.set("acme:1", refresh_token=sealed, due_at=NOON)
    assert names(await bench.store("other").claim(ACME, limit=10, busy=[])) == []
    assert (await claim_one(store)).token.doubt is not None


# ---------------------------------------------------------------- survey


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


# ---------------------------------------------------------------- a consent at every moment


class Meddled:
    """The tokens collection, with something that happens right before the n-th command or right after the last."""

    def __init__(self, collection: Any, *, before: int, meddle: Callable[[], object]) -> None:
        self._collection = collection
        self._left = before
        self._meddle = meddle

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._collection, name)
        if name == "find":
            return lambda *arguments, **more: _Found(method(*arguments, **more), self._counted)
        return lambda *arguments, **more: self._counted(lambda: method(*arguments, **more))

    async def _counted(self, command: Callable[[], Awaitable[Any]]) -> Any:
        if self._left == 0:
            self._meddle()
        self._left -= 1
        return await command()


class _Found:
    def __init__(self, cursor: Any, counted: Callable[..., Awaitable[Any]]) -> None:
        self._cursor, self._counted = cursor, counted

    def to_list(self) -> Awaitable[Any]:
        return self._counted(self._cursor.to_list)


def as_read(bench: Bench) -> None:
    pass


def sealed_anew(bench: Bench) -> None:
    bench.set("acme:1", refresh_token=seal("acme:1", "refresh-0", ring=NEWER))


def condemned(bench: Bench) -> None:
    bench.set("acme:1", state="needs_reauth", due_at=None, lease=None)


def adopted(bench: Bench) -> None:
    bench.set(
        "acme:1", lease={"owner": "other", "claim": "theirs", "since": NOON, "until": NOON, "hold": NOON}
    )


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
