"""Tokens that are being revoked, on a real MongoDB: orders beside claims and results, tombstones, and late replies."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import product

import pytest

from daemon.adapters.mongo.admin.consents import Refused
from daemon.adapters.mongo.admin.lookup import NoSuchToken, TokenLookup, TokenSelection
from daemon.adapters.mongo.admin.preflight import harmful_indexes
from daemon.adapters.mongo.admin.refresh_requests import RefreshRequests
from daemon.adapters.mongo.admin.revocations import Revocations, RevocationSelection
from daemon.adapters.mongo.admin.tokens import TokenAdmin
from daemon.adapters.mongo.audit import Audit, Who
from daemon.adapters.mongo.counting.statistics import repair_undated, whole_store
from daemon.adapters.mongo.indexes import FORGET_INDEX
from daemon.domain.change import Change, RevocationPostponed, Revoked
from daemon.domain.claim import Recorded
from daemon.domain.secret import Secret
from daemon.domain.token import RevocationOrder, State, Token
from tests.adapters.mongo.mongo_bench import (
    ACME,
    CHANGES,
    NOON,
    RING,
    Bench,
    Meddled,
    bench,
    claim_one,
    database,
    entry_of,
    failure,
    renewed,
    seal,
)

__all__ = ["bench", "database"]

NOW = NOON.replace(microsecond=123000)
REVOKED = Revoked(revoked_at=NOON, forget_at=NOON + timedelta(days=30))
AGAIN = RevocationPostponed(failure=failure(), tries=1, due_at=NOON + timedelta(minutes=1))


def audit(bench: Bench) -> Audit:
    return Audit(bench.mongos[0], who=Who(actor="ann@host"), log=lambda _: None)


def revocations(bench: Bench) -> Revocations:
    return Revocations(bench.mongos[0], audit(bench))


def admin(bench: Bench) -> TokenAdmin:
    return TokenAdmin(bench.mongos[0], RING, audit(bench))


async def order(bench: Bench) -> None:
    """What `refreshd revoke` does."""
    orders = revocations(bench)
    found = await orders.find(RevocationSelection(ids=["acme:1"]))
    assert await orders.order(found, not_before=None) == {"acme:1"}


async def test_an_order_keeps_all_that_the_revocation_needs(bench: Bench):
    """State and date change, and both are noted for an undo. Nothing else does: not the lease, not the doubt."""
    bench.insert(lease={"owner": "me", "claim": "c"}, doubt={"since": NOON, "tries": 1, "asker": None})
    before = bench.document()
    await order(bench)
    document = bench.document()
    assert document.pop("revocation") == {
        "since": NOW,
        "not_before": None,
        "tries": 0,
        "was": {"state": "active", "due_at": before["due_at"]},
    }
    assert document.pop("updated_at") == NOW
    assert document == {**before, "state": "revoking", "due_at": NOW, "revision": 8}
    records = list(bench.database["tokens_audit"].find({"token": "acme:1"}))
    assert [(one["action"], one["actor"], one["revision"]) for one in records][-1] == (
        "revoke",
        "ann@host",
        7,
    )


@pytest.mark.parametrize("state", ["active", "paused", "needs_reauth"])
async def test_a_revoking_token_is_claimed_whatever_its_state_was(bench: Bench, state: str):
    bench.insert(state=state, due_at=None)
    await order(bench)
    claim = await claim_one(bench.store())
    assert claim.token.state is State.REVOKING
    assert claim.token.revocation == RevocationOrder(since=NOW)
    assert claim.token.refresh_token == Secret("refresh-0")
    assert claim.token.access_token == Secret("access-0")


async def test_the_access_token_of_any_other_token_stays_in_the_store(bench: Bench):
    bench.insert()
    assert (await claim_one(bench.store())).token.access_token is None


async def test_an_order_waits_for_a_running_claim(bench: Bench):
    """J3: another instance gets the token only when the lease and its hold are over."""
    bench.insert()
    claim = await claim_one(bench.store("other"))
    await order(bench)
    assert (await bench.store().claim(ACME, limit=10, busy=[])).items == []
    assert await bench.store("other").record(claim, renewed()) is Recorded.STORED
    assert (await claim_one(bench.store())).token.refresh_token == Secret("refresh-1")


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
async def test_a_result_onto_a_revoking_token_never_changes_the_order(bench: Bench, change: Change):
    """Its token fields are stored, and the revocation is due now, with the newest refresh token."""
    bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    await order(bench)
    bench.clock.passed = timedelta(seconds=2)
    assert await store.record(claim, change) is Recorded.STORED
    document = bench.document()
    assert (document["state"], document["due_at"]) == ("revoking", NOW + timedelta(seconds=2))
    assert document["revocation"]["since"] == NOW
    expected = "refresh-1" if change is CHANGES["rotated"] else "refresh-0"
    assert bench.refresh_token() == expected
    claim = await claim_one(store)
    assert claim.token.state is State.REVOKING


async def test_a_postponed_revocation_waits(bench: Bench):
    """For as long as was decided; the lease is given back, and the tries are counted."""
    bench.insert()
    await order(bench)
    store = bench.store()
    assert await store.record(await claim_one(store), AGAIN) is Recorded.STORED
    document = bench.document()
    assert (document["state"], document["lease"]) == ("revoking", None)
    assert document["due_at"] == NOW + timedelta(minutes=1)
    assert document["revocation"]["tries"] == 1
    assert document["last_failure"]["code"] == "http_503"
    assert (await store.claim(ACME, limit=10, busy=[])).items == []


async def test_a_tombstone_contains_nothing_of_the_owner(bench: Bench):
    """No secret, no subject, no meta, vars, extra or scope: only its id, its dates and a fingerprint."""
    bench.insert(
        subject="ann", scope="read", vars={"a": "b"}, extra={"a": "b"}, origin={"key": "k", "rest": "r"}
    )
    await order(bench)
    store = bench.store()
    assert await store.record(await claim_one(store), REVOKED) is Recorded.STORED
    document = bench.document()
    assert [one["type"] for one in document.pop("events")] == ["token.revoked"]
    assert document == {
        "_id": "acme:1",
        "provider": "acme",
        "account": "1",
        "state": "revoked",
        "revoked_at": NOW,
        "forget_at": NOW + timedelta(days=30),
        "fingerprints": [RING.fingerprint("refresh-0")],
        "updated_at": NOW,
        "revision": 9,
    }


async def test_a_tombstone_is_recorded_twice_as_once(bench: Bench):
    """Also if MongoDB does not confirm the first write."""
    bench.insert()
    await order(bench)
    store = bench.store()
    claim = await claim_one(store)
    with bench.fault("update", times=1, writeConcernError={"code": 64, "errmsg": "timed out"}):
        assert await store.record(claim, REVOKED) is Recorded.STORED
    assert await store.record(claim, REVOKED) is Recorded.STORED
    assert bench.document()["revision"] == 9


async def test_a_newer_refresh_token_is_no_tombstone(bench: Bench):
    """A late result has stored a successor while the old one was revoked: the successor is next."""
    bench.insert()
    await order(bench)
    store = bench.store()
    claim = await claim_one(store)
    bench.set("acme:1", refresh_token=seal("acme:1", "refresh-late"))
    assert await store.record(claim, REVOKED) is Recorded.SUPERSEDED
    assert (await claim_one(store)).token.refresh_token == Secret("refresh-late")


async def test_a_document_without_a_revision_becomes_a_tombstone_too(bench: Bench):
    bench.insert(unset=("revision",), state="revoking", due_at=NOON - timedelta(minutes=1))
    store = bench.store()
    assert await store.record(await claim_one(store), REVOKED) is Recorded.STORED
    assert "vars" not in bench.document()


@pytest.mark.parametrize(
    "stored", [None, "text", {}, {"since": "x", "not_before": 3, "tries": "y"}, {"tries": -4}]
)
async def test_an_order_that_can_not_be_read_is_carried_out(bench: Bench, stored: object):
    """An application may write anything. A strange order must not keep a grant alive."""
    bench.insert(state="revoking", revocation=stored)
    order = (await claim_one(bench.store())).token.revocation
    assert order is not None
    assert (order.not_before, order.tries) == (None, 0)


async def test_a_late_reply_finds_the_tombstone(bench: Bench):
    """With the refresh token that its request presented, so that its reply can be read and revoked."""
    bench.insert()
    store = bench.store()
    entry = entry_of(await claim_one(store))
    bench.set("acme:1", lease=None)
    await order(bench)
    assert await store.record(await claim_one(store), REVOKED) is Recorded.STORED
    found = await store.recall(entry)
    assert found is not None
    assert (found.token.state, found.token.refresh_token) == (State.REVOKED, Secret("refresh-0"))
    assert await store.record(found, renewed()) is Recorded.SUPERSEDED
    assert bench.document()["state"] == "revoked"


# ---------------------------------------------------------------- everything else leaves it alone


@pytest.mark.parametrize("state", ["revoking", "revoked"])
async def test_repair_and_the_count_pass_it_over(bench: Bench, state: str):
    """It isn't expired, does not end, and needs no date."""
    bench.insert(state=state, due_at=None, expires_at=NOON - timedelta(hours=1), consent_ends_at=NOON)
    mongo = bench.mongos[0]
    assert await repair_undated(mongo) == []
    counted = await whole_store(mongo, configured=["acme"])
    assert counted.states == {"acme": {state: 1}}
    assert (counted.expired, counted.ending, counted.stuck, counted.set_aside) == ({}, {}, {}, {})


DEEDS: list[Callable[[TokenAdmin], Awaitable[object]]] = [
    lambda one: one.pause("acme:1"),
    lambda one: one.resume("acme:1"),
    lambda one: one.add(
        Token(
            id="acme:1",
            provider="acme",
            account="1",
            state=State.ACTIVE,
            refresh_token=Secret("refresh-9"),
            access_token=Secret("access-9"),
        )
    ),
]


@pytest.mark.parametrize("deed", DEEDS, ids=["pause", "resume", "add"])
async def test_a_revoking_token_is_not_changed_by_operators(bench: Bench, deed):
    bench.insert()
    await order(bench)
    before = bench.document()
    with pytest.raises(Refused, match="being revoked"):
        await deed(admin(bench))
    assert bench.document() == before


async def test_a_refresh_is_not_requested_for_it(bench: Bench):
    bench.insert()
    await order(bench)
    before = bench.document()
    requests = RefreshRequests(bench.mongos[0], audit(bench))
    assert (await requests.progress("acme:1"))["acme:1"].state == "revoking"
    assert await requests.request("acme:1") == 0
    assert bench.document() == before


async def test_after_the_revocation_a_consent_makes_a_new_token(bench: Bench):
    """Nothing of the tombstone stays, in particular not the date at which MongoDB forgets it."""
    bench.insert(subject="ann")
    await order(bench)
    store = bench.store()
    await store.record(await claim_one(store), REVOKED)
    for deed in (admin(bench).pause, admin(bench).resume):
        with pytest.raises(NoSuchToken):
            await deed("acme:1")
    await DEEDS[2](admin(bench))
    document = bench.document()
    assert (document["state"], document["revision"]) == ("active", 10)
    assert not {"forget_at", "revoked_at", "fingerprints", "subject"} & document.keys()


async def test_the_list_shows_tombstones_only_if_their_state_is_named(bench: Bench):
    bench.insert("1")
    bench.insert("2", state="revoking")
    bench.insert("3", state="revoked")

    async def listed(selection: TokenSelection) -> list[object]:
        return [one["_id"] async for one in TokenLookup(bench.mongos[0]).list(selection)]

    assert await listed(TokenSelection()) == ["acme:1", "acme:2"]
    assert await listed(TokenSelection(state="revoked")) == ["acme:3"]
    assert await listed(TokenSelection(state="revoking")) == ["acme:2"]


async def test_mongodb_forgets_tombstones_and_nothing_else(bench: Bench):
    """By an index that a check does not report as harmful; a similar one of another program it does."""
    found = bench.tokens.index_information()["forget_at"]
    assert (found["expireAfterSeconds"], found["partialFilterExpression"]) == (0, {"state": "revoked"})
    assert await harmful_indexes(bench.mongos[0]) == []
    for strange in ({}, {"partialFilterExpression": {"state": "active"}}):
        bench.tokens.drop_index("forget_at")
        bench.tokens.create_index([("forget_at", 1)], name="forget_at", expireAfterSeconds=0, **strange)
        assert [one.name for one in await harmful_indexes(bench.mongos[0])] == ["forget_at"]
    bench.tokens.drop_index("forget_at")
    bench.tokens.create_indexes([FORGET_INDEX])


# ---------------------------------------------------------------- selections, and undoing


async def test_a_selection_is_exact(bench: Bench):
    """Whole texts; each condition must be met; what is gone is not found, unless its id is given."""
    bench.insert("1", subject="ann", meta={"tenant": "a"})
    bench.insert("2", subject="ann", meta={"tenant": "b"})
    bench.insert("3", subject="ANN")
    bench.insert("4", subject=["ann"])
    bench.insert("5", subject="ann", state="revoked")
    bench.insert("6", subject="ann", state="removed")
    bench.insert("7", subject="ann", provider="other")

    async def found(**selection: object) -> list[str]:
        chosen = RevocationSelection(**selection)  # type: ignore[arg-type]
        return [one.id for one in await revocations(bench).find(chosen)]

    assert await found(subject="ann") == ["acme:1", "acme:2", "acme:7"]
    assert await found(subject="ann", provider="acme") == ["acme:1", "acme:2"]
    assert await found(where={"meta.tenant": "a"}) == ["acme:1"]
    assert await found(subject="ann", where={"meta.tenant": "x"}) == []
    assert await found(ids=["acme:5", "acme:6", "acme:1", "acme:none"]) == ["acme:1", "acme:5"]
    assert await found(subject="$ne") == []


async def test_an_order_that_waits_can_be_undone(bench: Bench):
    """State and date come back. The daemon has sent nothing."""
    bench.insert("1", due_at=NOON + timedelta(hours=1))
    bench.insert("2", state="paused", due_at=None)
    before = {name: bench.document(name) for name in ("acme:1", "acme:2")}
    orders = revocations(bench)
    everything = RevocationSelection(provider="acme")
    await orders.order(await orders.find(everything), not_before=NOON + timedelta(minutes=10))
    assert bench.document("acme:1")["due_at"] == NOW + timedelta(minutes=10)
    assert await orders.undo(await orders.find(everything)) == {"acme:1", "acme:2"}
    for name, was in before.items():
        document = bench.document(name)
        assert document.pop("updated_at") == NOW
        assert document == {**was, "revision": 9}
    actions = [
        one["action"] for one in bench.database["tokens_audit"].find({"token": "acme:2"}).sort("_id", -1)
    ]
    assert actions[:2] == ["revoke undo", "revoke"]


@pytest.mark.parametrize("passed", [timedelta(minutes=10), timedelta(minutes=9, seconds=56)])
async def test_an_order_whose_request_may_be_sent_is_not_undone(bench: Bench, passed: timedelta):
    """Nor a few seconds before, for clocks differ. Nor an order that had no wait."""
    bench.insert("1")
    bench.insert("2")
    orders = revocations(bench)
    found = await orders.find(RevocationSelection(provider="acme"))
    await orders.order(found[:1], not_before=NOON + timedelta(minutes=10))
    await orders.order(found[1:], not_before=None)
    bench.clock.passed = passed
    assert await orders.undo(await orders.find(RevocationSelection(provider="acme"))) == set()
    assert bench.document("acme:1")["state"] == bench.document("acme:2")["state"] == "revoking"


async def test_an_undone_token_is_renewed_with_what_a_running_request_stored(bench: Bench):
    bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    orders = revocations(bench)
    everything = RevocationSelection(provider="acme")
    await orders.order(await orders.find(everything), not_before=NOON + timedelta(minutes=10))
    await store.record(claim, renewed())
    await orders.undo(await orders.find(everything))
    assert (bench.document()["state"], bench.refresh_token()) == ("active", "refresh-1")
    assert (await claim_one(store)).token.state is State.ACTIVE


# ---------------------------------------------------------------- races


async def test_an_order_at_any_moment_of_a_record_stays(bench: Bench):
    """Whatever the result, before whichever command it comes: the order stands, the successor is stored, and the revocation
    presents it.
    """
    store = bench.store("me")
    mongo = bench.mongos[-1]
    genuine = mongo.tokens
    for change, before in product(CHANGES, range(4)):
        bench.tokens.delete_many({})
        bench.insert()
        claim = await claim_one(store)
        ordered: list[object] = []

        def revoke(ordered: list[object] = ordered) -> None:
            ordered.append(None)
            bench.tokens.update_one(
                {"_id": "acme:1"},
                {
                    "$set": {"state": "revoking", "due_at": NOON, "revocation": {"since": NOON, "tries": 0}},
                    "$inc": {"revision": 1},
                },
            )

        mongo.tokens = Meddled(genuine, before=before, meddle=revoke)
        assert await store.record(claim, CHANGES[change]) is Recorded.STORED, (change, before)
        mongo.tokens = genuine
        if not ordered:
            revoke()
        document = bench.document()
        assert (document["state"], document["revocation"]["since"]) == ("revoking", NOW), (change, before)
        again = await claim_one(store)
        successor = Secret("refresh-1" if change == "rotated" else "refresh-0")
        assert (again.token.state, again.token.refresh_token) == (State.REVOKING, successor), (change, before)
