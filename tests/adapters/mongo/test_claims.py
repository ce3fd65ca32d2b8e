"""Claims on a real MongoDB, and claims that come to nothing."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from bson import Int64

from daemon.adapters.mongo.store import MongoStore
from daemon.adapters.mongo.token_document import doubt_of
from daemon.domain.claim import Claim, SetAside, StoreLost
from daemon.domain.secret import Secret
from daemon.domain.token import Doubt
from tests.adapters.mongo.mongo_bench import (
    ACME,
    ADOPT_AFTER,
    AMBIGUOUS,
    IN_DOUBT,
    LEASE,
    LOST,
    NOON,
    claim_one,
    names,
)


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


async def test_wished_tokens_are_found_by_their_ids(bench):
    """Behind a backlog: MongoDB looks at them alone, and the claim is another's if that one was faster."""
    for number in range(300):
        bench.insert(str(number))
    name = bench.insert("wished", due_at=NOON)
    bench.database.command("profile", 2)
    first, second = bench.store("first"), bench.store("second")
    batches = await asyncio.gather(
        *(one.claim_wished(ACME, tokens=[name], busy=[]) for one in (first, second))
    )
    bench.database.command("profile", 0)
    assert sorted(names(batch) for batch in batches) == [[], ["acme:wished"]]
    looks = list(bench.database["system.profile"].find({"command.find": "tokens"}))
    assert looks
    assert {look["planSummary"] for look in looks} <= {"IXSCAN { _id: 1 }", "IDHACK"}
    assert max(look["docsExamined"] for look in looks) == 1


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


@pytest.mark.parametrize(
    ("stored", "counted"),
    [(-5, 1), (Int64(-(2**63)), 1), (Int64(2**63 - 1), 2**31), (1e300, 2**31), (3.0, 4), (1, 2)],
)
async def test_a_doubt_stays_a_doubt_whatever_number_it_counts(bench, stored, counted):
    """One below zero would allow more requests with the same value than one, and one more than the largest is no whole
    number any more, so that the doubt would be gone.
    """
    bench.insert()
    store = bench.store()
    await claim_one(store)
    since = NOON - timedelta(minutes=1)
    bench.set("acme:1", doubt={"since": since, "tries": stored, "asker": None}, issued_at=None)
    doubt = (await claim_one(store)).token.doubt
    assert doubt is not None
    assert doubt.tries == min(counted, 2**31 - 1)
    assert bench.document()["doubt"]["tries"] == counted


@pytest.mark.parametrize(("stored", "tries"), [(2.0, 2), (-3, 0), (2**63, 2**31 - 1), (-0.0, 0)])
def test_a_stored_doubt_is_read_from_any_whole_number(stored, tries):
    """Some languages write every number as floating point."""
    assert doubt_of({"doubt": {"since": NOON, "tries": stored}}) == Doubt(since=NOON, tries=tries)


async def test_a_doubt_that_was_recorded_is_not_counted_twice(bench):
    """The refresher counted it when it wrote it down; to claim its retry is no doubt of its own."""
    bench.insert()
    store = bench.store()
    await store.record(await claim_one(store), IN_DOUBT)
    bench.clock.passed = timedelta(seconds=6)
    assert (await claim_one(store)).token.doubt == Doubt(since=NOON.replace(microsecond=123000), tries=1)


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
    wished = await store.claim_wished(ACME, tokens=["acme:1"], busy=[])
    assert not wished.items  # else its own lease would pass for a request that got no answer
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


async def test_a_claim_reads_the_reply_fields_that_go_back(bench):
    """Those that the definition names, and nothing else of `extra`; what is no text of a sensible size is left out."""
    echoing = replace(ACME, definition=replace(ACME.definition, echo=("resource",)))
    kept = {"resource": "https://a.example/1:2", "other": "x"}
    for number, extra in enumerate([kept, {"resource": 7}, {"resource": "x" * 9000}, {}, "no object"]):
        bench.insert(str(number), extra=extra)
    batch = await bench.store().claim(echoing, limit=9, busy=[])
    found = {item.token.account: item.token.echoed for item in batch.items}
    assert found == {"0": {"resource": "https://a.example/1:2"}, "1": {}, "2": {}, "3": {}, "4": {}}


async def test_a_claim_reads_no_reply_field_otherwise(bench):
    """They may be large."""
    bench.insert("1", extra={"resource": "r"})
    [item] = (await bench.store().claim(ACME, limit=9, busy=[])).items
    assert item.token.echoed == {}
