"""Applications store grants, change fields, pause and remove tokens: against the real MongoDB."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.adapters.door_keys import DoorKeys
from daemon.adapters.mongo.admin.consents import Refused
from daemon.adapters.mongo.admin.lookup import NoSuchToken
from daemon.adapters.mongo.admin.tokens import TokenAdmin
from daemon.adapters.mongo.audit import Audit, Who
from daemon.adapters.mongo.removals import delete_removed
from daemon.adapters.mongo.serving.tokens import ServedTokens
from daemon.adapters.mongo.store import MongoStore
from daemon.domain.access_key import Verb
from daemon.domain.claim import Claim, Recorded
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from daemon.serving.doorkeeper import Caller
from daemon.serving.grant_request import Offer, read_patch
from daemon.serving.preconditions import read_preconditions
from tests.adapters.mongo.mongo_bench import renewed
from tests.serving.access_bench import (
    ACME,
    KEYS,
    MINUTE,
    NOON,
    PAUSED,
    RING,
    AccessBench,
    bench,
    caller,
    response,
)

__all__ = ["bench"]
WRITE = (Verb.WRITE,)


def admin(bench: AccessBench) -> TokenAdmin:
    return TokenAdmin(bench.mongo, RING, Audit(bench.mongo, who=Who(actor="ann@host"), log=lambda _: None))


# ---------------------------------------------------------------- a new grant


async def test_a_grant_is_stored_with_keys_that_only_seal(bench: AccessBench):
    """As `add` stores it: due by the usual rule, with its fingerprint; the refresh token as only the daemon opens it."""
    stored = await bench.put(caller(), meta={"plan": "gold"}, subject="user-7")
    assert (stored.created, stored.token.state, stored.token.revision) == (True, "active", 1)
    document = bench.document()
    assert bench.opened() == ("access-2", "refresh-2")
    assert document["access_token"].startswith("v1.a.")
    assert document["refresh_token"].startswith("w1.a.")
    assert document["grant_fingerprint"] == RING.fingerprint("refresh-2")
    assert (document["meta"], document["subject"]) == ({"plan": "gold"}, "user-7")
    assert document["due_at"] == NOON + 55 * MINUTE
    assert (document["issued_at"], document["expires_at"]) == (NOON, NOON + 60 * MINUTE)
    assert bench.changed == ["acme:1"]


async def test_a_write_is_in_the_audit_before_it_is_done(bench: AccessBench):
    who = Caller(key=caller().key, address="unix", peer=1000)
    await bench.put(who)
    (record,) = bench.records()
    assert record == {
        "at": NOON,
        "action": "add",
        "token": "acme:1",
        "actor": "billing",
        "by": {"key": "k" * 20, "name": "billing", "ip": "unix", "peer": 1000},
        "kind": "access",
        "result": None,
        "count": None,
        "revision": 1,
    }
    assert [one["action"] for one in bench.logged] == ["add"]


async def test_nothing_is_written_if_the_audit_can_not_be(bench: AccessBench):
    bench.database.command({"collMod": "tokens_audit", "validator": {"never": {"$exists": True}}})
    with pytest.raises(Exception, match="refuses"):
        await bench.put(caller())
    assert bench.tokens.count_documents({}) == 0


async def test_a_new_consent_is_laid_over_the_stored_token(bench: AccessBench):
    """Its names in meta stay, and so does the lease of a request that is running."""
    lease = {"owner": "me", "claim": "c", "until": NOON + MINUTE}
    bench.insert(meta={"plan": "gold", "tenant": "acme"}, state="needs_reauth", failures=3, lease=lease)
    stored = await bench.put(caller(can=WRITE), meta={"plan": "tin"})
    document = bench.document()
    assert (stored.created, stored.token.revision) == (False, 8)
    assert (document["state"], document["failures"]) == ("active", 0)
    assert document["meta"] == {"plan": "tin", "tenant": "acme"}
    assert document["lease"] == lease
    assert bench.opened() == ("access-2", "refresh-2")


async def test_a_consent_that_would_lose_the_refresh_token_is_a_conflict(bench: AccessBench):
    bench.insert()
    problem = await bench.problem(bench.put(caller(), response={"access_token": "new", "expires_in": 60}))
    assert problem.name == "conflict"
    assert bench.opened() == ("access-1", "refresh-1")


async def test_a_response_older_than_the_stored_token_is_a_conflict(bench: AccessBench):
    bench.insert()
    problem = await bench.problem(bench.put(caller(), received_at=NOON - 2 * MINUTE))
    assert problem.name == "conflict"
    assert (await bench.put(caller(), received_at=NOON - MINUTE)).token.revision == 8


@pytest.mark.parametrize("ago", [timedelta(hours=1, seconds=1), timedelta(seconds=-31)])
async def test_the_time_of_the_response_is_within_the_last_hour(bench: AccessBench, ago: timedelta):
    problem = await bench.problem(bench.put(caller(), received_at=NOON - ago))
    assert problem.name == "invalid-request"
    assert [one["where"] for one in problem.fields["faults"]] == ["received_at"]


async def test_an_application_s_clock_may_be_a_little_ahead(bench: AccessBench):
    """Its response counts as received now."""
    await bench.put(caller(), received_at=NOON + timedelta(seconds=30))
    assert bench.document()["issued_at"] == NOON


async def test_every_fault_of_a_grant_is_named(bench: AccessBench):
    offer = Offer(
        response={"error": "invalid_grant"},
        received_at=NOON + MINUTE,
        consented_at=NOON + MINUTE,
        vars={"shop": "x"},
    )
    problem = await bench.problem(bench.writing.put(caller(), "acme:1", offer))
    assert [one["where"] for one in problem.fields["faults"]] == [
        "received_at",
        "consented_at",
        "vars.shop",
        "response",
    ]


async def test_a_revoked_grant_is_not_stored_again(bench: AccessBench):
    """Under no id. The answer names no other token."""
    bench.insert(
        "acme:1",
        state="revoked",
        forget_at=NOON + MINUTE,
        grant_fingerprint=None,
        fingerprints=RING.fingerprints("refresh-1"),
    )
    for name in ("acme:1", "acme:2"):
        problem = await bench.problem(bench.put(caller(), name, 1))
        assert (problem.name, "was revoked" in problem.detail) == ("conflict", True)
        assert "acme:1" not in problem.detail


async def test_one_grant_is_stored_once(bench: AccessBench):
    """And the answer names no other token."""
    bench.insert("acme:1")
    problem = await bench.problem(bench.put(caller(), "acme:2", 1))
    assert problem.name == "duplicate-grant"
    assert "acme:1" not in problem.detail
    assert bench.tokens.count_documents({}) == 1


async def test_an_unconfigured_provider_is_unknown(bench: AccessBench):
    assert (await bench.problem(bench.put(caller("*"), "other:1"))).name == "unknown-provider"
    assert (await bench.problem(bench.put(caller("acme:*"), "other:1"))).name == "not-found"


async def test_without_a_writer_key_no_grant_is_stored(mongod: str, database_name: str):
    keys = DoorKeys({"a": b"\x01" * 32}, {}, reader="a", writer=None)
    bench = AccessBench(mongod, database_name, keys=keys)
    try:
        problem = await bench.problem(bench.put(caller()))
        assert (problem.name, "writer key" in problem.detail) == ("unavailable", True)
    finally:
        await bench.close()


async def test_a_variable_changes_only_with_a_new_grant(bench: AccessBench):
    await bench.put(caller(), "shop:1", 2, vars={"shop": "north"})
    problem = await bench.problem(bench.put(caller(), "shop:1", 2, vars={"shop": "south"}))
    assert problem.name == "conflict"
    await bench.put(caller(), "shop:1", 3, vars={"shop": "south"})
    assert bench.document("shop:1")["vars"] == {"shop": "south"}


@pytest.mark.parametrize("variables", [{}, {"shop": "evil.example/"}])
async def test_a_variable_leads_nowhere_else(bench: AccessBench, variables: dict[str, str]):
    problem = await bench.problem(bench.put(caller(), "shop:1", vars=variables))
    assert problem.fields["faults"][0]["where"] == "vars"
    assert bench.tokens.count_documents({}) == 0


async def test_a_write_without_an_answer_is_looked_up(bench: AccessBench):
    """MongoDB has written it, and its answer is an error: what is stored is the result."""
    bench.insert()
    with bench.fault("update", writeConcernError={"code": 64, "errmsg": "waiting for replication timed out"}):
        stored = await bench.put(caller())
    assert (stored.token.revision, bench.opened()) == (8, ("access-2", "refresh-2"))
    assert [one["action"] for one in bench.records()] == ["add", "add"]


async def test_a_write_with_an_unknown_result_says_so(bench: AccessBench):
    with bench.fault("insert", after=1, closeConnection=True):
        problem = await bench.problem(bench.put(caller()))
    assert (problem.name, "unknown" in problem.detail) == ("unavailable", True)
    bench.insert("acme:2")
    with bench.fault("update", closeConnection=True):
        problem = await bench.problem(bench.patch(caller(), "acme:2", subject="ann"))
    assert (problem.name, "unknown" in problem.detail) == ("unavailable", True)


# ---------------------------------------------------------------- what a key may


async def test_what_where_names_is_filled_in(bench: AccessBench):
    who = caller(where={"meta.tenant": "acme", "subject": "ann"})
    stored = await bench.put(who)
    assert stored.token.selected == {"meta.tenant": "acme", "subject": "ann"}


@pytest.mark.parametrize("fields", [{"meta": {"tenant": "other"}}, {"subject": "bob"}])
async def test_a_token_never_leaves_what_its_key_may_use(bench: AccessBench, fields: dict[str, object]):
    who = caller(where={"meta.tenant": "acme", "subject": "ann"})
    assert (await bench.problem(bench.put(who, **fields))).name == "not-found"
    bench.insert(meta={"tenant": "acme"}, subject="ann")
    assert (await bench.problem(bench.put(who, **fields))).name == "not-found"
    assert (await bench.problem(bench.patch(who, **fields))).name == "not-found"
    assert bench.document()["revision"] == 7
    assert bench.records() == []


async def test_the_limits_of_a_key_are_a_condition_of_the_write(bench: AccessBench):
    """An application moves the token to another tenant between the decision and the write."""
    bench.insert(meta={"tenant": "acme"})
    who = caller(where={"meta.tenant": "acme"})
    note = bench.logged.append

    def move(record: object) -> None:
        note(record)
        bench.tokens.update_one({}, {"$set": {"meta.tenant": "other"}})

    bench.writes._log = move
    assert (await bench.problem(bench.put(who))).name == "not-found"
    assert bench.opened() == ("access-1", "refresh-1")
    bench.tokens.update_one({}, {"$set": {"meta.tenant": "acme"}})
    assert (await bench.problem(bench.patch(who, subject="x"))).name == "not-found"
    bench.tokens.update_one({}, {"$set": {"meta.tenant": "acme"}})
    assert (await bench.problem(bench.writing.remove(who, "acme:1", revoke=False))).name == "not-found"
    assert bench.document()["revision"] == 7


async def test_a_text_inside_a_list_matches_no_limit(bench: AccessBench):
    bench.insert(meta={"tenant": ["acme"]})
    who = caller(where={"meta.tenant": "acme"})
    assert (await bench.problem(bench.put(who))).name == "not-found"


async def test_the_grant_of_another_subject_needs_its_own_verb(bench: AccessBench):
    bench.insert(subject="ann")
    problem = await bench.problem(bench.put(caller(can=WRITE), subject="bob"))
    assert problem.name == "not-found"
    assert bench.document()["subject"] == "ann"
    await bench.put(caller(can=(Verb.WRITE, Verb.REPLACE)), subject="bob")
    assert bench.document()["subject"] == "bob"
    await bench.put(caller(can=WRITE), number=3)
    assert bench.document()["subject"] == "bob"


async def test_while_the_store_is_away_nothing_is_written(bench: AccessBench):
    who = Caller(key=caller().key, address="10.0.0.1", away=True)
    assert (await bench.problem(bench.put(who))).name == "unavailable"


# ---------------------------------------------------------------- pauses


async def test_an_application_pauses_and_resumes(bench: AccessBench):
    """It comes back by the usual rule: due before its end, and not at a stroke."""
    bench.insert()
    who = caller(can=(Verb.PAUSE,))
    paused = await bench.patch(who, state="paused")
    assert paused.token.state == "paused"
    assert bench.document()["due_at"] is None
    assert bench.document()["paused_by"]["key"] == who.key.id
    assert (await bench.patch(who, state="paused")).token.revision == 8
    resumed = await bench.patch(who, state="active")
    assert (resumed.token.state, resumed.token.due_at) == ("active", NOON + 54 * MINUTE)
    assert bench.document()["paused_by"] is None
    assert [one["action"] for one in bench.records()] == ["pause", "resume"]


async def test_a_resumed_token_does_not_come_before_its_retry(bench: AccessBench):
    retry = NOON + 58 * MINUTE
    bench.insert(failures=2, due_at=retry)
    await bench.patch(caller(), state="paused")
    assert (await bench.patch(caller(), state="active")).token.due_at == retry
    assert bench.document()["failures"] == 2


async def test_a_withheld_token_stays_withheld(bench: AccessBench):
    """A reply that could not be parsed took its date away: an operator decides."""
    bench.insert(due_at=None)
    await bench.patch(caller(), state="paused")
    assert (await bench.patch(caller(), state="active")).token.due_at is None


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "paused"},
        {"state": "needs_reauth"},
        {"state": "paused", "origin": {"key": "1"}},
        {"state": "paused", "last_failure": {"kind": "duplicate", "at": NOON}},
        {"state": "paused", "paused_by": {"kind": "operator"}},
        {"state": "paused", "paused_by": {"kind": "application"}, "origin": {"key": "1", "held": NOON}},
    ],
)
async def test_no_application_ends_what_it_did_not_begin(bench: AccessBench, fields: dict[str, object]):
    bench.insert(**fields)
    assert (await bench.problem(bench.patch(caller(), state="active"))).name == "conflict"
    assert (await bench.problem(bench.patch(caller(), state="paused"))).name == "conflict"
    assert bench.document()["revision"] == 7


async def test_an_operator_takes_over_the_pause_of_an_application(bench: AccessBench):
    bench.insert()
    await bench.patch(caller(), state="paused")
    assert await admin(bench).pause("acme:1")
    assert (await bench.problem(bench.patch(caller(), state="active"))).name == "conflict"
    assert await admin(bench).resume("acme:1")
    assert bench.document()["paused_by"] is None


async def test_a_consent_leaves_an_operators_pause(bench: AccessBench):
    bench.insert()
    await admin(bench).pause("acme:1")
    stored = await bench.put(caller())
    assert (stored.token.state, stored.token.due_at) == ("paused", None)
    assert bench.opened() == ("access-2", "refresh-2")
    assert (await bench.problem(bench.patch(caller(), state="active"))).name == "conflict"


@pytest.mark.parametrize(("can", "state"), [(WRITE, PAUSED), ((Verb.WRITE, Verb.PAUSE), "active")])
async def test_a_consent_ends_an_applications_pause_only_with_that_right(
    bench: AccessBench, can: tuple[Verb, ...], state: str
):
    bench.insert()
    await bench.patch(caller(), state="paused")
    assert (await bench.put(caller(can=can))).token.state == state
    if state == PAUSED:
        resumed = await bench.patch(caller(), state="active")
        assert resumed.token.due_at == NOON + 55 * MINUTE


@pytest.mark.parametrize(
    "fields",
    [
        {"last_failure": {"kind": "duplicate", "code": "duplicate", "message": "", "at": NOON}},
        {"last_failure": {"kind": "in_doubt", "code": "maybe_spent", "message": "", "at": NOON}},
        {"origin": {"key": "1", "layout": "l", "source": "s", "activated": None}},
    ],
)
async def test_a_consent_cures_the_cause_of_a_pause_that_nobody_made(
    bench: AccessBench, fields: dict[str, object]
):
    """An imported token is in use here from then on, so that no import lays an older one over it."""
    bench.insert(state="paused", due_at=None, **fields)
    assert (await bench.put(caller())).token.state == "active"
    if "origin" in fields:
        assert bench.document()["origin"]["activated"] == NOON


async def test_a_duplicate_is_not_resumed(bench: AccessBench):
    bench.insert("acme:1")
    await bench.patch(caller(), state="paused")
    bench.insert("acme:2", grant_fingerprint=RING.fingerprint("refresh-1"))
    assert (await bench.problem(bench.patch(caller(), state="active"))).name == "duplicate-grant"


# ---------------------------------------------------------------- fields


async def test_a_merge_patch_sets_and_removes(bench: AccessBench):
    bench.insert(meta={"a": "1", "b": "2", "n": 5}, subject="ann")
    patched = await bench.patch(caller(can=WRITE), meta={"a": None, "c": "3", "gone": None}, subject=None)
    assert bench.document()["meta"] == {"b": "2", "c": "3", "n": 5}
    assert bench.document()["subject"] is None
    assert patched.token.revision == 8
    await bench.patch(caller(can=WRITE), meta=None)
    assert bench.document()["meta"] == {}


async def test_a_patch_builds_meta_where_there_is_none(bench: AccessBench):
    bench.insert(meta=None)
    await bench.patch(caller(), meta={"a": "1"})
    assert bench.document()["meta"] == {"a": "1"}


async def test_a_patch_is_only_made_on_the_version_it_was_meant_for(bench: AccessBench):
    bench.insert()
    tokens = ServedTokens(bench.mongo, offline_for=timedelta(0), without_streams=lambda _: None)
    version = (await tokens.find("acme:1")).value.version
    patch = read_patch({"subject": "ann"})
    problem = await bench.problem(
        bench.writing.patch(caller(), "acme:1", patch, read_preconditions(['"other"'], []))
    )
    assert problem.name == "precondition-failed"
    same = read_preconditions([f'"{version}"'], [])
    assert (await bench.writing.patch(caller(), "acme:1", patch, same)).token.subject == "ann"


async def test_a_revoking_token_is_left_alone(bench: AccessBench):
    bench.insert(state="revoking")
    for work in (
        bench.put(caller()),
        bench.patch(caller(), subject="x"),
        bench.writing.remove(caller(), "acme:1", revoke=False),
        bench.writing.remove(caller(), "acme:1", revoke=True),
    ):
        assert (await bench.problem(work)).name == "revoking"


# ---------------------------------------------------------------- removals


async def test_a_removed_token_is_gone_for_every_route_and_then_deleted(bench: AccessBench):
    bench.insert()
    who = caller()
    await bench.writing.remove(who, "acme:1", revoke=False)
    document = bench.document()
    assert (document["state"], document["due_at"]) == ("removed", None)
    assert (document["access_token"], document["refresh_token"]) == (None, None)
    for work in (
        bench.patch(who, subject="x"),
        bench.patch(who, state="active"),
        bench.writing.remove(who, "acme:1", revoke=False),
    ):
        assert (await bench.problem(work)).name == "not-found"
    with pytest.raises(NoSuchToken):
        await admin(bench).resume("acme:1")
    assert await delete_removed(bench.mongo) == ["acme:1"]
    assert bench.tokens.count_documents({}) == 0
    assert [one["action"] for one in bench.records()] == ["remove"]


async def test_a_token_to_be_revoked_keeps_its_texts_and_is_served_no_more(bench: AccessBench):
    """The daemon presents them. A running request keeps its lease, and finds its state."""
    lease = {"claim": "c", "until": NOON + MINUTE}
    bench.insert("shop:1", lease=lease)
    before = bench.document("shop:1")
    who = caller("shop:*")
    assert await bench.writing.remove(who, "shop:1", revoke=True) == "revoking"
    document = bench.document("shop:1")
    assert (document["state"], document["due_at"]) == ("revoking", document["revocation"]["since"])
    assert document["revocation"]["was"]["state"] == "active"
    for field in ("refresh_token", "access_token", "lease", "grant_fingerprint"):
        assert document[field] == before[field]
    assert document["revision"] == before["revision"] + 1
    assert [one["action"] for one in bench.records()] == ["revoke"]


async def test_a_token_is_not_revoked_where_the_provider_has_no_revocation(bench: AccessBench):
    """Nothing is written, and the answer says what is possible."""
    bench.insert()
    problem = await bench.problem(bench.writing.remove(caller(), "acme:1", revoke=True))
    assert (problem.name, problem.status) == ("no-revocation", 409)
    assert (await bench.problem(bench.writing.remove(caller(), "acme:2", revoke=True))).name == "not-found"
    assert bench.document()["revision"] == 7
    bench.insert("other:1")
    strangers = bench.writing.remove(caller("other:*"), "other:1", revoke=True)
    assert (await bench.problem(strangers)).name == "no-revocation"


async def test_who_may_not_revoke_learns_nothing_about_the_provider(bench: AccessBench):
    bench.insert(meta={"tenant": "b"})
    for who in (caller(can=(Verb.WRITE,)), caller(where={"meta.tenant": "a"}), caller("shop:*")):
        work = bench.writing.remove(who, "acme:1", revoke=True)
        assert (await bench.problem(work)).name == "not-found"


async def test_nothing_but_marked_tokens_is_deleted(bench: AccessBench):
    """A mark needs its state, its date, and that nothing is left to present. A running request is waited for."""
    marked = {"state": "removed", "removed_at": NOON, "refresh_token": None, "access_token": None}
    bench.insert("acme:1", **marked)
    bench.insert("acme:active")
    bench.insert("acme:old-mark", removed_at=NOON)
    bench.insert("acme:undated", **marked | {"removed_at": None})
    bench.insert("acme:text", **marked | {"removed_at": "2026"})
    bench.insert("acme:tomorrow", **marked | {"removed_at": NOON + 24 * 60 * MINUTE})
    bench.insert("acme:secret", **marked | {"refresh_token": "v1.a.x"})
    bench.insert("acme:paused", **marked | {"state": "paused"})
    bench.insert("acme:running", **marked, lease={"until": NOON + MINUTE, "claim": "c"})
    bench.insert("acme:ran", **marked, lease={"until": NOON - MINUTE, "claim": "c"})
    assert await delete_removed(bench.mongo) == ["acme:1", "acme:ran"]
    assert bench.tokens.count_documents({}) == 8
    bench.pass_time(2 * MINUTE)
    assert await delete_removed(bench.mongo) == ["acme:running"]


async def test_a_token_that_was_removed_is_new_again(bench: AccessBench):
    """Nothing of it comes back, for its fields may have been another tenant's; and nothing deletes the new one."""
    bench.insert(meta={"tenant": "other"}, subject="bob", lease={"claim": "c", "until": NOON + MINUTE})
    await bench.writing.remove(caller(), "acme:1", revoke=False)
    stored = await bench.put(caller(where={"meta.tenant": "acme"}), meta={"price": "$5"})
    document = bench.document()
    assert (stored.created, stored.token.revision) == (True, 9)
    assert (document["meta"], document["subject"]) == ({"tenant": "acme", "price": "$5"}, None)
    assert document["lease"]["claim"] == "c"
    assert "removed_at" not in document
    assert await delete_removed(bench.mongo) == []


async def test_the_grant_of_a_removed_token_may_be_stored_elsewhere(bench: AccessBench):
    """As soon as no request for it is running."""
    bench.insert("acme:1", lease={"claim": "c", "until": NOON + MINUTE})
    await bench.writing.remove(caller(), "acme:1", revoke=False)
    assert (await bench.problem(bench.put(caller(), "acme:2", 1))).name == "duplicate-grant"
    bench.pass_time(2 * MINUTE)
    assert (await bench.put(caller(), "acme:2", 1)).created


async def test_an_operator_adds_a_removed_token_as_a_new_one(bench: AccessBench):
    bench.insert(meta={"tenant": "other"})
    await bench.writing.remove(caller(), "acme:1", revoke=False)
    token = Token(
        id="acme:1",
        provider="acme",
        account="1",
        state=State.ACTIVE,
        refresh_token=Secret("refresh-9"),
        access_token=Secret("access-9"),
    )
    assert not (await admin(bench).add(token)).replaced
    assert bench.document()["meta"] == {}
    with pytest.raises(Refused):
        await admin(bench).add(replace(token, refresh_token=None))


async def test_writers_do_not_undo_each_other(bench: AccessBench):
    """Four at the same time, on one token: every change is there."""
    bench.insert()
    await asyncio.gather(*(bench.patch(caller(), meta={f"n{one}": str(one)}) for one in range(4)))
    assert bench.document()["meta"] == {f"n{one}": str(one) for one in range(4)}
    assert bench.document()["revision"] == 11


def test_the_keys_of_the_service_open_no_refresh_token():
    assert not hasattr(KEYS, "open_refresh_token")
    assert response()["refresh_token"] not in repr(KEYS)


async def test_a_consent_wins_over_a_refresh_in_flight(bench: AccessBench):
    """The late result is dropped, and the daemon opens the grant that only it can open."""
    bench.insert(due_at=NOON - MINUTE, expires_at=NOON)
    store = MongoStore(
        bench.mongo, owner="me", keyring=lambda: RING, lease=90 * MINUTE / 60, hold=lambda _: MINUTE
    )
    (claim,) = (await store.claim(ACME, limit=5, busy=[])).items
    assert isinstance(claim, Claim)
    bench.pass_time(timedelta(seconds=1))
    await bench.put(caller(), response=response(2, expires_in=1))
    assert await store.record(claim, renewed()) is Recorded.SUPERSEDED
    assert bench.opened() == ("access-2", "refresh-2")
    bench.pass_time(MINUTE)
    (again,) = (await store.claim(ACME, limit=5, busy=[])).items
    assert isinstance(again, Claim)
    assert again.token.refresh_token == Secret("refresh-2")
