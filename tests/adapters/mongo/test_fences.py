"""What keeps a claim and a result from doing harm: exchange grants, doubts, claims given back, clocks that step."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from daemon.adapters.mongo.clock_steps import DISTRUSTED_FOR
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.document_limits import LARGEST_CLAIMED
from daemon.adapters.mongo.embedded_mongod import HOST, OPTIONS, spawn_mongod
from daemon.adapters.mongo.set_aside import TOO_LARGE
from daemon.domain.claim import Claim, Recorded, SetAside, StoreLost, Unusable
from daemon.domain.provider import Definition, Grant, Provider
from daemon.domain.secret import Secret
from daemon.domain.token import Doubt
from daemon.runtime.clock import Clock
from tests.adapters.mongo.mongo_bench import (
    ACME,
    ADOPT_AFTER,
    IN_DOUBT,
    LEASE,
    LOST,
    NEWER,
    NOON,
    RETIRED,
    STRANGE,
    claim_one,
    entry_of,
    names,
    postponed,
    renewed,
    seal,
)
from tests.support.clocks import SetClock
from tests.support.ports import free_port

EXCHANGING = Provider(
    definition=Definition(
        name="acme",
        title="Acme",
        token_url="https://acme.example/token",
        grant=Grant.EXCHANGE,
        grants=frozenset({Grant.CLIENT_CREDENTIALS}),
    ),
    client_id="me",
)
SECOND = timedelta(seconds=1)


# ---------------------------------------------------------------- what is presented is the access token


async def claim_exchange(store) -> Claim:
    [item] = (await store.claim(EXCHANGING, limit=10, busy=())).items
    assert isinstance(item, Claim)
    return item


def consent_to_exchange(bench, name="acme:1"):
    """The contract's new consent, for a grant whose access token is what is presented."""
    bench.set(
        name,
        access_token=seal(name, "access-consent", "access_token"),
        refresh_token=None,
        expires_at=NOON.replace(microsecond=0) + timedelta(days=60),
        issued_at=NOON.replace(microsecond=0),
        refresh_expires_at=None,
        state="active",
        failures=0,
        last_failure=None,
        due_at=NOON.replace(microsecond=0) + timedelta(days=50),
    )


def access_token(bench, name="acme:1"):
    return NEWER.open(bench.document(name)["access_token"], token_id=name, field="access_token")


async def test_an_exchange_claim_says_what_is_spent_and_where_it_stands(bench):
    """The sealed access token; of a document that names the client's own grant it is not what is presented."""
    bench.insert("1", refresh_token=None)
    bench.insert("2", grant="client_credentials", refresh_token=None)
    claims = {one.token.id: one for one in (await bench.store().claim(EXCHANGING, limit=10, busy=[])).items}
    one, two = claims["acme:1"], claims["acme:2"]
    assert (one.spent_field, one.spent) == ("access_token", bench.document()["access_token"])
    assert one.token.access_token == Secret("access-0")
    assert (two.spent_field, two.spent) == ("refresh_token", None)
    bench.insert("3")
    [usual] = (await bench.store("other").claim(ACME, limit=10, busy=[])).items
    assert (usual.spent_field, usual.spent) == ("refresh_token", bench.document("acme:3")["refresh_token"])


async def test_an_exchange_is_recorded_and_ends_the_lease(bench):
    """Also where a refresh token is stored beside it that nobody presents."""
    bench.insert("1", refresh_token=None)
    store = bench.store()
    claim = await claim_exchange(store)
    assert await store.record(claim, renewed(None)) is Recorded.STORED
    assert access_token(bench) == "access-1"
    assert bench.document()["lease"] is None
    assert bench.document()["revision"] == 8
    assert await store.record(claim, renewed(None)) is Recorded.STORED
    assert bench.document()["revision"] == 8


async def test_exchange_a_verdict_about_the_old_token_condemns_no_new_consent(bench):
    """The old access token is refused while its owner has just consented again."""
    bench.insert("1", refresh_token=None)
    store = bench.store()
    claim = await claim_exchange(store)
    consent_to_exchange(bench)
    assert await store.record(claim, RETIRED) is Recorded.SUPERSEDED
    document = bench.document()
    assert (document["state"], document["lease"]) == ("active", None)
    assert document["due_at"] == NOON.replace(microsecond=0) + timedelta(days=50)


async def test_exchange_a_result_from_the_old_token_replaces_no_new_consent(bench):
    """A late result for the old access token must not overwrite the newer consent's; nor must its replay, later."""
    bench.insert("1", refresh_token=None)
    store = bench.store()
    claim = await claim_exchange(store)
    consent_to_exchange(bench)
    assert await store.record(claim, renewed(None, access="from-the-old-one")) is Recorded.SUPERSEDED
    recalled = await bench.store().recall(entry_of(claim))
    assert await store.record(recalled, renewed(None, access="from-the-old-one")) is Recorded.SUPERSEDED
    assert access_token(bench) == "access-consent"


async def test_exchange_a_late_result_heals_a_wrong_verdict(bench):
    """Another replica adopted the claim and condemned the token, since ours had spent it: the new value is the fence."""
    bench.insert("1", refresh_token=None)
    store, other = bench.store("me"), bench.store("other")
    claim = await claim_exchange(store)
    bench.clock.passed = LEASE + ADOPT_AFTER
    assert await other.record(await claim_exchange(other), RETIRED) is Recorded.STORED
    assert await store.record(claim, renewed(None)) is Recorded.STORED
    assert access_token(bench) == "access-1"
    assert bench.document()["state"] == "active"


async def test_exchange_a_value_that_was_sealed_anew_is_still_what_was_presented(bench):
    """Same value, other text, other key."""
    bench.insert("1", refresh_token=None)
    store = bench.store()
    claim = await claim_exchange(store)
    bench.set("acme:1", access_token=seal("acme:1", "access-0", "access_token", NEWER))
    assert await store.record(claim, renewed(None)) is Recorded.STORED
    assert access_token(bench) == "access-1"


async def test_exchange_the_same_value_again_is_written_with_its_new_end(bench):
    """Some providers answer with the very token that was presented: also where the first write came to nothing."""
    bench.insert("1", refresh_token=None)
    store = bench.store()
    claim = await claim_exchange(store)
    with bench.fault("update", times=2, **LOST):
        assert await store.record(claim, renewed(None, access="access-0")) is Recorded.STORED
    document = bench.document()
    assert document["expires_at"] == NOON.replace(microsecond=123000) + timedelta(hours=1)
    assert (document["lease"], document["revision"]) == (None, 8)


async def test_exchange_what_is_recalled_stands_in_the_right_field(bench):
    """The replay after a crash: the journal holds the sealed text alone, which opens only as what it was sealed for."""
    bench.insert("1", refresh_token=None)
    claim = await claim_exchange(bench.store())
    store = bench.store()
    recalled = await store.recall(entry_of(claim))
    assert (recalled.spent_field, recalled.spent) == ("access_token", claim.spent)
    assert recalled.token.access_token == Secret("access-0")
    assert recalled.token.refresh_token is None
    assert await store.record(recalled, renewed(None)) is Recorded.STORED
    assert access_token(bench) == "access-1"
    with pytest.raises(Unusable, match="key 'c'"):
        await store.recall(entry_of(claim, spent=seal("acme:1", "access-0", "access_token", STRANGE)))


# ---------------------------------------------------------------- doubts and pauses


async def test_a_crash_after_a_new_consent_leaves_a_doubt_though_an_older_one_is_still_stored(bench):
    """A doubt of before the consent says nothing of what is stored now; the request of after it does."""
    bench.insert("1", doubt={"since": NOON - timedelta(hours=3), "tries": 2, "asker": None})
    bench.consent()
    first = await claim_one(bench.store())
    assert first.token.doubt is None
    bench.clock.passed = SECOND
    again = await claim_one(bench.store())  # the first process died with its request on its way
    assert again.token.doubt == Doubt(since=NOON.replace(microsecond=123000), tries=1)


@pytest.mark.parametrize(
    "doubt",
    [
        5,
        "x",
        [],
        {},
        {"since": "x", "tries": 1},
        {"since": NOON, "tries": "x"},
        {"since": NOON, "tries": 1.5},
    ],
)
async def test_a_doubt_that_makes_no_sense_hides_no_real_one(bench, doubt):
    """An application wrote there; then a request of ours was never concluded."""
    bench.insert("1", doubt=doubt)
    assert (await claim_one(bench.store())).token.doubt is None
    assert (await claim_one(bench.store())).token.doubt == Doubt(
        since=NOON.replace(microsecond=123000), tries=1
    )


@pytest.mark.parametrize("change", [RETIRED, renewed(), postponed(), IN_DOUBT], ids=repr)
async def test_a_verdict_replayed_on_a_paused_token_leaves_it_paused(bench, change):
    """An operator's pause stays, whatever the journal still brings."""
    name = bench.insert("1")
    store = bench.store()
    claim = await claim_one(store)
    bench.set(name, state="paused", due_at=None)
    recalled = await store.recall(entry_of(claim))
    assert await store.record(recalled, change) is Recorded.STORED
    assert (bench.document()["state"], bench.document()["due_at"]) == ("paused", None)


@pytest.mark.parametrize("doubtful", [False, True])
@pytest.mark.parametrize("limit", [0, -1])
async def test_a_look_for_no_token_finds_none(bench, limit, doubtful):
    """To MongoDB a limit of 0 means all there are."""
    ours = {"owner": "me", "claim": None, "since": NOON, "until": NOON, "hold": NOON + timedelta(hours=1)}
    for n in range(12):
        bench.insert(str(n), doubt={"since": NOON, "tries": 1, "asker": None}, lease=ours)
    batch = await bench.store().claim(ACME, limit=limit, busy=[], doubtful=doubtful)
    assert (batch.items, batch.more) == ((), False)


# ---------------------------------------------------------------- claims that are given back


async def test_a_failed_release_of_one_claim_does_not_forget_another(bench):
    """While one is given back, another one fails: each is given back in the end."""
    store = bench.store()
    released = []

    async def slow(claim_id, ids):
        released.append((claim_id, set(ids)))
        if len(released) == 1:
            store._burn("second", ["acme:2"])
            store._burn("first", ["acme:3"])

    store._release = slow
    store._burn("first", ["acme:1"])
    await store._release_burnt()
    await store._release_burnt()
    assert ("first", {"acme:1"}) in released
    assert ("second", {"acme:2"}) in released
    assert any(claim_id == "first" and "acme:3" in ids for claim_id, ids in released)
    assert store._burnt == {}


async def test_a_burnt_claim_that_can_not_be_given_back_is_tried_again(bench):
    """The second try fails like the first: the third one does it."""
    bench.insert("1")
    store = bench.store()
    claim = await claim_one(store)
    with bench.fault("update", times=10, **LOST), pytest.raises(StoreLost):
        await store.release([claim])
    with bench.fault("update", times=10, **LOST), pytest.raises(StoreLost):
        await store.survey(["acme"])
    assert bench.document()["lease"] is not None
    await store.survey(["acme"])
    assert bench.document()["lease"] is None
    assert (await claim_one(bench.store("other"))).token.doubt is None


async def test_claims_of_several_commands_are_given_back_though_one_release_fails(bench):
    """All are noted before the first is awaited."""
    store, claims = bench.store(), []
    for account in "123":
        bench.insert(account)
        claims.append(await claim_one(store, busy=tuple(one.token.id for one in claims)))
    with bench.fault("update", times=10, **LOST), pytest.raises(StoreLost):
        await store.release(claims)
    await store.survey(["acme"])
    assert [document["lease"] for document in bench.tokens.find()] == [None] * 3


async def test_a_cancelled_claim_is_given_back(bench):
    """A pass that is cancelled between taking and reading has presented nothing."""
    bench.insert("1")
    store, taken = bench.store(), asyncio.Event()
    take = store._take

    async def taken_then_late(*arguments: Any, **more: Any) -> Any:
        result = await take(*arguments, **more)
        taken.set()
        await asyncio.Event().wait()
        return result

    store._take = taken_then_late
    claiming = asyncio.create_task(store.claim(ACME, limit=10, busy=[]))
    await taken.wait()
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    assert bench.document()["lease"]["owner"] == "me"
    await store.survey(["acme"])
    assert bench.document()["lease"] is None


async def test_a_superseded_claim_that_can_not_be_given_back_is_given_back_later(bench):
    """A consent came during the flight: the lease must not keep it from being renewed."""
    bench.insert("1")
    store = bench.store()
    claim = await claim_one(store)
    bench.consent()
    release = store._release

    async def away(*_: Any) -> None:
        raise StoreLost("away")

    store._release = away
    with pytest.raises(StoreLost):
        await store.record(claim, renewed())
    store._release = release
    await store.survey(["acme"])
    assert bench.document()["lease"] is None


# ---------------------------------------------------------------- between a look and what follows it


async def test_what_is_not_due_any_more_is_not_claimed(bench):
    """Found by a look, then renewed by another: to rotate it again would be for nothing."""
    bench.insert("1")
    bench.insert("2", lease={"owner": "me", "claim": None, "since": NOON, "until": NOON, "hold": NOON})
    store = bench.store()
    take = store._take

    async def too_late(*arguments: Any, **more: Any) -> Any:
        bench.tokens.update_many({}, {"$set": {"due_at": NOON + timedelta(hours=1)}})
        return await take(*arguments, **more)

    store._take = too_late
    assert (await store.claim(ACME, limit=10, busy=[])).items == []
    assert bench.document("acme:1").get("lease") is None
    assert bench.document("acme:2")["lease"]["claim"] is None


async def test_what_grows_too_large_before_it_is_claimed_is_not_read(bench):
    """The look found it small. Its claim is given back, the next look finds it large, and its neighbour is claimed."""
    bench.insert("1")
    bench.insert("2")
    store = bench.store()
    take, grown = store._take, "x" * LARGEST_CLAIMED

    async def grown_first(*arguments: Any, **more: Any) -> Any:
        bench.set("acme:1", vars={"region": grown})
        return await take(*arguments, **more)

    store._take = grown_first
    [claimed] = (await store.claim(ACME, limit=10, busy=[])).items
    assert (claimed.token.id, claimed.token.vars) == ("acme:2", {})
    assert bench.document("acme:1")["lease"] is None
    store._take = take
    [aside] = (await store.claim(ACME, limit=10, busy=["acme:2"])).items
    assert isinstance(aside, SetAside)
    assert aside.message == TOO_LARGE


@pytest.mark.parametrize(
    "meanwhile", [{"due_at": NOON - timedelta(hours=1)}, {"revision": 8}], ids=["dated anew", "written"]
)
async def test_what_was_changed_meanwhile_is_not_set_aside(bench, meanwhile):
    """Somebody else works on that document: what was read of it says nothing of it now."""
    bench.insert("1", refresh_token="in the clear")
    store = bench.store()
    set_aside = store._set_aside.set_aside

    async def changed_first(*arguments: Any, **more: Any) -> Any:
        bench.set("acme:1", **meanwhile)
        return await set_aside(*arguments, **more)

    store._set_aside.set_aside = changed_first
    [item] = (await store.claim(ACME, limit=10, busy=[])).items
    assert isinstance(item, SetAside)
    assert bench.document().get("last_failure") is None
    assert bench.document()["due_at"] < NOON


# ---------------------------------------------------------------- MongoDB's clock steps


class SteppingClock(SetClock):
    """MongoDB's clock jumps against boot time by `step`; this machine's wall clock follows it or not."""

    def __init__(self, passed: timedelta) -> None:
        super().__init__(NOON)
        self.passed, self.step, self.skew = passed, timedelta(0), timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.step


@contextmanager
def stepping(bench, monkeypatch) -> Iterator[SteppingClock]:
    clock = SteppingClock(bench.clock.passed)
    monkeypatch.setattr(bench, "clock", clock)
    yield clock


@pytest.fixture
def clock(bench, monkeypatch):
    with stepping(bench, monkeypatch) as clock:
        yield clock


async def test_a_step_of_mongodbs_clock_hands_no_live_claim_to_another_replica(bench, clock):
    """A failover to a member that is 20 minutes ahead: the hold of before looks as if it were over, and is not."""
    bench.insert("1")
    ours = await claim_one(bench.store("A"))
    other = bench.store("B")
    assert names(await other.claim(ACME, limit=10, busy=[])) == []
    clock.step = timedelta(minutes=20)
    assert bench.clock.boot() < ours.deadline
    assert names(await other.claim(ACME, limit=10, busy=[])) == []
    assert names(await other.probe(ACME, limit=10, busy=[], proven=False)) == []
    clock.passed = LEASE + ADOPT_AFTER - SECOND
    assert names(await other.claim(ACME, limit=10, busy=[])) == []
    clock.passed = LEASE + ADOPT_AFTER
    assert names(await other.claim(ACME, limit=10, busy=[])) == ["acme:1"]


async def test_after_a_step_free_tokens_and_our_own_go_on(bench, clock):
    """What nobody else may have presented is asked for as ever."""
    bench.insert("free")
    bench.insert("ours")
    store = bench.store("B")
    await store.record(await claim_one(store, busy=("acme:free",)), IN_DOUBT)
    clock.step, clock.passed = timedelta(minutes=20), timedelta(minutes=1)
    assert sorted(names(await store.claim(ACME, limit=10, busy=[]))) == ["acme:free", "acme:ours"]


async def test_a_clock_that_is_adjusted_a_little_has_not_stepped(bench, clock):
    """Five seconds are within what clocks do."""
    bench.insert("1")
    await claim_one(bench.store("dead"))
    other = bench.store("B")
    clock.passed = LEASE + ADOPT_AFTER - timedelta(seconds=2)
    assert names(await other.claim(ACME, limit=10, busy=[])) == []
    clock.step = timedelta(seconds=4)
    assert names(await other.claim(ACME, limit=10, busy=[])) == ["acme:1"]


@pytest.mark.parametrize("minutes", [20, -20])
async def test_after_a_step_away_from_our_own_time_nothing_is_claimed_for_a_while(bench, clock, minutes):
    """All that is due within the step would be renewed early, with wrong ends. The sweep says why; and it ends."""
    bench.insert("1", due_at=NOON - timedelta(hours=1))
    store = bench.store("B")
    await store.survey(["acme"])
    clock.step = timedelta(minutes=minutes)
    clock.skew = -clock.step
    with pytest.raises(StoreLost, match=rf"clock jumped by [+-]{60 * abs(minutes)} s"):
        await store.survey(["acme"])
    assert (await store.claim(ACME, limit=10, busy=[])).items == ()
    assert (await store.probe(ACME, limit=10, busy=[], proven=False)).items == ()
    clock.passed = DISTRUSTED_FOR
    await store.survey(["acme"])
    assert names(await store.claim(ACME, limit=10, busy=[])) == ["acme:1"]


async def test_after_a_step_towards_our_own_time_claims_go_on(bench, clock):
    """The primary of before was wrong: the new one agrees with this machine."""
    bench.insert("1")
    store = bench.store("B")
    clock.skew = timedelta(minutes=20)
    await store.survey(["acme"])
    clock.step, clock.skew = timedelta(minutes=20), SECOND
    await store.survey(["acme"])
    assert names(await store.claim(ACME, limit=10, busy=[])) == ["acme:1"]


# ---------------------------------------------------------------- who answers


async def test_a_member_that_is_no_writable_primary_is_not_good_enough(tmp_path):
    """It answers, and has a clock, but nothing can be claimed there: MongoDB counts as lost."""
    (tmp_path / "db").mkdir()
    port = free_port()
    options = ["--dbpath", str(tmp_path / "db"), "--port", str(port)]
    child = spawn_mongod(
        [*OPTIONS, *options], log=tmp_path / "mongod.log"
    )  # a replica set that was never begun
    told: list[object] = []
    uri = f"mongodb://{HOST}:{port}/?directConnection=true"
    try:
        with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=20_000) as client:
            client.admin.command("hello")
        mongo = Mongo(uri=Secret(uri), database="d", collection="tokens", clock=Clock(), observe=told.append)
        with pytest.raises(StoreLost, match="no writable primary"):
            await mongo.hello()
        assert [type(event).__name__ for event in told] == ["StoreLost"]
        await mongo.close()
    finally:
        child.kill()
        child.wait()
