"""Consent requests in the real MongoDB: one instance takes each, and its grant is stored once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from daemon.adapters.mongo.admin.consents import Consents
from daemon.adapters.mongo.audit import Audit, Who
from daemon.adapters.mongo.connecting.consent_documents import EXPIRED
from daemon.adapters.mongo.connecting.device_codes import UNANSWERED
from daemon.adapters.mongo.connecting.discard_audit import DiscardAudit
from daemon.adapters.mongo.index_build import build_all
from daemon.domain.consent_request import (
    ABANDONED_AFTER,
    DISCARDED_WITHIN,
    HELD_FOR,
    LEASE,
    Bound,
    ConsentFailure,
    ConsentFailureKind,
    ConsentKind,
    ConsentRequest,
    ConsentResult,
    ConsentState,
    Malformed,
    identified,
)
from daemon.domain.discard import Harm
from daemon.domain.held_grant import DiscardedGrant, DueGrant
from daemon.domain.secret import Secret
from tests.adapters.mongo.connecting.consent_bench import BINDING, FAILURE, NOON, TOKEN, Bench, opened
from tests.adapters.mongo.mongo_bench import RING, STRANGE


@pytest.fixture
async def bench(mongod: str, database_name: str, mongo_client: Any) -> AsyncIterator[Bench]:
    async with opened(mongod, database_name, mongo_client) as found:
        yield found


async def test_a_request_comes_back_as_it_was_stored_and_its_code_is_sealed(bench: Bench) -> None:
    """Bound to the request's own id."""
    request = await bench.add()
    document = bench.document()
    assert "4711" not in str(document)
    assert "4712" not in str(document)
    assert RING.open(document["code"], token_id=bench.ids["c1"], field="code") == "code-4711"
    assert await bench.of().take(request.id) == request


async def test_of_many_instances_one_takes_a_request(bench: Bench) -> None:
    """The others get nothing, and a second attempt too."""
    request = await bench.add()
    taken = await asyncio.gather(*(bench.of(f"i{one}").take(bench.ids["c1"]) for one in range(8)))
    assert [one for one in taken if one is not None] == [request]
    assert await bench.of().take(bench.ids["c1"]) is None
    assert bench.document()["state"] == "asked"


async def test_only_requests_with_a_code_that_have_not_expired_wait(bench: Bench) -> None:
    """Of the providers that this instance has, and the soonest to expire first."""
    await bench.add()
    await bench.add("c0", expires_at=NOON + timedelta(minutes=1))
    await bench.add("c2", code=None)
    await bench.add("c3", expires_at=NOON)
    await bench.add("c4", provider="other")
    assert [one.id for one in await bench.of().waiting(["acme"])] == [bench.ids["c0"], bench.ids["c1"]]
    assert await bench.of().take(bench.ids["c2"]) is None
    assert await bench.of().take(bench.ids["c3"]) is None


async def test_a_code_is_pending_until_it_is_exchanged(bench: Bench) -> None:
    """Also if its time is over, or another instance has it, which may not come back."""
    assert not await bench.of().pending()
    await bench.add("c1", code=None)
    assert not await bench.of().pending()
    await bench.add("c2", expires_at=NOON, provider="other")
    assert await bench.of().pending()
    await bench.of().expire()
    assert not await bench.of().pending()
    await bench.add("c3")
    await bench.of("two").take(bench.ids["c3"])
    assert await bench.of().pending()
    await bench.of("two").failed(bench.ids["c3"], FAILURE)
    assert not await bench.of().pending()


async def test_a_grant_is_pending_when_its_time_comes(bench: Bench) -> None:
    """Until then it waits for its application."""
    await held(bench)
    assert not await bench.of().pending()
    bench.clock.passed = HELD_FOR
    assert await bench.of().pending()


async def test_the_question_for_pending_consents_reads_no_document_of_the_others(bench: Bench) -> None:
    """Consents that have ended or wait for their owner stay for a day, and each replica asks every second."""
    await bench.mongo.prepare()
    await build_all(bench.mongo)
    for one in range(40):
        await bench.add(f"c{one}", code=None)
    await held(bench, "held")
    database = bench.mongo.consents.database
    await database.command("profile", 2)
    assert not await bench.of().pending()
    await database.command("profile", 0)
    query = {"ns": f"{database.name}.tokens_consents", "op": {"$in": ["query", "command"]}}
    (asked,) = await database["system.profile"].find(query).to_list()
    assert (asked["docsExamined"], "IXSCAN" in asked["planSummary"]) == (0, True)


async def test_an_end_removes_the_code_and_comes_once(bench: Bench) -> None:
    """Whatever is reported later changes nothing."""
    await bench.add()
    await bench.of().done(bench.ids["c1"], ConsentResult(scope="x", missing_scopes=(), expires_at=None))
    assert bench.document()["state"] == "waiting"
    await bench.of().take(bench.ids["c1"])
    await bench.of().failed(bench.ids["c1"], FAILURE)
    await bench.of().done(bench.ids["c1"], ConsentResult(scope="x", missing_scopes=(), expires_at=None))
    document = bench.document()
    assert (document["state"], document["code"], document["code_verifier"]) == ("failed", None, None)
    progress = await bench.of().progress(bench.ids["c1"])
    assert progress is not None
    assert (progress.state, progress.failure, progress.result) == (ConsentState.FAILED, FAILURE, None)
    assert await bench.of().recall(bench.ids["c1"]) is None
    assert await bench.of().progress("c9") is None


async def test_a_result_is_there_for_the_process_that_waits(bench: Bench) -> None:
    """With the scopes that are missing."""
    await bench.add()
    await bench.of().take(bench.ids["c1"])
    result = ConsentResult(scope="read", missing_scopes=("write",), expires_at=NOON)
    await bench.of().done(bench.ids["c1"], result)
    progress = await bench.of().progress(bench.ids["c1"])
    assert progress is not None
    assert (progress.state, progress.result) == (ConsentState.DONE, result)


async def test_a_request_that_no_daemon_takes_is_withdrawn(bench: Bench) -> None:
    """After that none can take it; one that was taken can't be withdrawn."""
    await bench.add()
    assert await bench.of().refuse(bench.ids["c1"], FAILURE)
    assert await bench.of().take(bench.ids["c1"]) is None
    await bench.add("c2")
    await bench.of().take(bench.ids["c2"])
    assert not await bench.of().refuse(bench.ids["c2"], FAILURE)


async def test_what_an_instance_asked_is_its_own_until_it_has_been_away_for_long(bench: Bench) -> None:
    """It may restart, and conclude the replies in its journal."""
    await bench.add()
    await bench.of("one").take(bench.ids["c1"])
    assert [one.id for one in await bench.of("one").asked()] == [bench.ids["c1"]]
    assert await bench.of("two").asked() == []
    bench.clock.passed = ABANDONED_AFTER
    assert [one.id for one in await bench.of("two").asked()] == [bench.ids["c1"]]


async def test_a_request_whose_time_is_over_loses_its_code(bench: Bench) -> None:
    """Others, and those without a code, stay as they are."""
    await bench.add()
    await bench.add("c2", expires_at=NOON)
    await bench.add("c3", expires_at=NOON, code=None)
    await bench.of().expire()
    assert [bench.document(name)["state"] for name in ("c1", "c2", "c3")] == ["waiting", "failed", "waiting"]
    assert bench.document("c2")["code"] is None
    assert bench.document("c2")["failure"]["kind"] == "expired"
    assert bench.document("c1")["code"] is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"account": 7},
        {"account": ""},
        {"provider": "A B"},
        {"redirect_uri": None},
        {"scopes": "read"},
        {"scopes": [1]},
        {"vars": {"shop": 1}},
        {"meta": []},
        {"subject": ""},
        {"nonce": 3},
        {"code_verifier": "v1.a.xxxx"},
        {"code_verifier": 5},
        {"code": "plain"},
    ],
)
async def test_a_malformed_request_is_reported_and_not_presented(
    bench: Bench, fields: dict[str, Any]
) -> None:
    """Other processes write here."""
    await bench.add()
    bench.consents.update_one({"_id": bench.ids["c1"]}, {"$set": fields})
    found = await bench.of().take(bench.ids["c1"])
    assert isinstance(found, Malformed)
    assert "4711" not in found.message


@pytest.mark.parametrize(
    "fields",
    [
        {"account": "8"},
        {"provider": "other"},
        {"redirect_uri": "https://evil.test/"},
        {"scopes": ["read", "write"]},
        {"vars": {"shop": "evil"}},
        {"meta": {}},
        {"subject": "u2"},
        {"subject": None},
        {"nonce": "n"},
        {"issuer": "https://evil.test"},
        {"replace": True},
    ],
)
async def test_a_database_writer_can_not_change_what_an_owner_consented_to(
    bench: Bench, fields: dict[str, Any]
) -> None:
    """Such as let the grant end at another account. The code is bound to the id, and the id to the fields."""
    await bench.add()
    bench.consents.update_one({"_id": bench.ids["c1"]}, {"$set": fields})
    found = await bench.of().take(bench.ids["c1"])
    assert isinstance(found, Malformed)
    assert "changed" in found.message


async def test_a_code_does_not_open_under_the_id_of_other_fields(bench: Bench) -> None:
    """Even if the database writer computes that id."""
    request = await bench.add()
    other = identified(replace(request, id="c1", account="8"))
    document = bench.document() | {"_id": other.id, "account": "8"}
    bench.consents.insert_one(document)
    found = await bench.of().take(other.id)
    assert isinstance(found, Malformed)
    assert "code" in found.message


async def test_a_code_of_another_ring_or_request_does_not_open(bench: Bench) -> None:
    """Sealed texts can't be moved between requests."""
    await bench.add()
    await bench.add("c2")
    bench.consents.update_one({"_id": bench.ids["c2"]}, {"$set": {"code": bench.document()["code"]}})
    assert isinstance(await bench.of(ring=STRANGE).take(bench.ids["c1"]), Malformed)
    assert isinstance(await bench.of().take(bench.ids["c2"]), Malformed)


async def test_a_grant_is_stored_with_what_belongs_to_it(bench: Bench) -> None:
    """Sealed as `v1.`, with its account, consent and missing scopes."""
    assert await bench.tokens.bind(TOKEN, BINDING) is Bound.STORED
    document = bench.token()
    assert document["refresh_token"].startswith("v1.")
    assert (document["provider_account"], document["consent"]) == ("T1", "c1")
    assert (document["missing_scopes"], document["subject"]) == (["write"], "u1")
    assert document["connected_at"] == NOON
    assert bench.audit.noted == [("connected", "acme:7")]


async def test_a_second_attempt_puts_no_spent_refresh_token_back(bench: Bench) -> None:
    """Another instance may have rotated it after the first."""
    await bench.tokens.bind(TOKEN, BINDING)
    bench.stored.update_one(
        {"_id": "acme:7"}, {"$set": {"refresh_token": "rotated"}, "$inc": {"revision": 1}}
    )
    assert await bench.tokens.bind(TOKEN, BINDING) is Bound.STORED
    assert bench.token()["refresh_token"] == "rotated"


async def test_the_newest_consent_stands_and_a_renewal_is_none(bench: Bench) -> None:
    """A consent of before does not replace it, however late its reply is processed."""
    await bench.tokens.bind(TOKEN, BINDING)
    bench.stored.update_one({"_id": "acme:7"}, {"$set": {"issued_at": NOON + timedelta(hours=9)}})
    newer = replace(BINDING, consent="c2", asked_at=NOON + timedelta(minutes=1))
    again = replace(TOKEN, refresh_token=Secret("refresh-2"))
    assert await bench.tokens.bind(again, newer) is Bound.STORED
    late = replace(BINDING, consent="c3", asked_at=NOON + timedelta(seconds=1))
    assert await bench.tokens.bind(replace(TOKEN, refresh_token=Secret("r3")), late) is Bound.SUPERSEDED
    assert bench.token()["consent"] == "c2"


async def test_another_account_is_refused_unless_it_may_replace(bench: Bench) -> None:
    """The stored token stays as it is."""
    await bench.tokens.bind(TOKEN, BINDING)
    before = bench.token()
    other = replace(BINDING, consent="c2", asked_at=NOON + timedelta(minutes=1), account="T2")
    again = replace(TOKEN, refresh_token=Secret("refresh-2"))
    refused = await bench.tokens.bind(again, other)
    assert isinstance(refused, ConsentFailure)
    assert refused.kind is ConsentFailureKind.OTHER_ACCOUNT
    assert bench.token() == before
    assert await bench.tokens.bind(again, replace(other, replace=True)) is Bound.STORED
    assert bench.token()["provider_account"] == "T2"


async def test_a_grant_that_another_token_holds_is_refused(bench: Bench) -> None:
    """Two tokens would spend it."""
    await bench.tokens.bind(TOKEN, BINDING)
    other = replace(TOKEN, id="acme:8", account="8")
    refused = await bench.tokens.bind(other, replace(BINDING, consent="c2"))
    assert isinstance(refused, ConsentFailure)
    assert refused.kind is ConsentFailureKind.DUPLICATE


@pytest.mark.parametrize("state", ["revoked", "removed"])
async def test_a_grant_takes_the_place_of_a_tombstone(bench: Bench, state: str) -> None:
    """Nothing of it stays."""
    bench.stored.insert_one({"_id": "acme:7", "state": state, "provider_account": "T9", "meta": {"a": "b"}})
    assert await bench.tokens.bind(TOKEN, BINDING) is Bound.STORED
    assert (bench.token()["state"], bench.token()["meta"]) == ("active", {})


async def test_a_token_that_is_being_revoked_takes_no_grant(bench: Bench) -> None:
    """The owner has just ended it."""
    bench.stored.insert_one({"_id": "acme:7", "state": "revoking"})
    refused = await bench.tokens.bind(TOKEN, BINDING)
    assert isinstance(refused, ConsentFailure)
    assert refused.kind is ConsentFailureKind.REVOKING


async def test_a_consent_by_another_way_makes_what_was_known_unknown(bench: Bench) -> None:
    """An operator may have added another account's tokens, with all scopes."""
    await bench.tokens.bind(TOKEN, BINDING)
    added = replace(TOKEN, refresh_token=Secret("refresh-2"))
    bench.clock.passed = timedelta(minutes=1)
    await Consents(bench.mongo, RING, bench.audit).add(added)
    document = bench.token()
    assert (document["provider_account"], document["missing_scopes"]) == (None, [])
    assert document["connected_at"] == NOON + timedelta(minutes=1)
    late = replace(BINDING, consent="c2", asked_at=NOON + timedelta(seconds=30))
    assert await bench.tokens.bind(TOKEN, late) is Bound.SUPERSEDED


DEVICE: dict[str, Any] = {"kind": ConsentKind.DEVICE, "interval": timedelta(seconds=5), "redirect_uri": ""}


async def test_a_device_code_waits_again_for_its_interval(bench: Bench) -> None:
    """Its code stays sealed in the request, and the request comes back whole."""
    request = await bench.add(**DEVICE)
    me = bench.of()
    progress = await me.progress(request.id)
    assert progress is not None
    assert not progress.asked_before
    assert await me.take(request.id) == request
    await me.wait_again(request.id, timedelta(seconds=10))
    progress = await me.progress(request.id)
    assert progress is not None
    assert (progress.state, progress.asked_before) == (ConsentState.WAITING, True)
    bench.clock.passed = timedelta(seconds=9)
    assert await me.waiting(["acme"]) == []
    assert await me.take(request.id) is None
    bench.clock.passed = timedelta(seconds=10)
    assert [one.id for one in await me.waiting(["acme"])] == [request.id]
    assert await me.take(request.id) == replace(request, interval=timedelta(seconds=10))
    assert "4711" not in str(bench.document())


async def test_only_an_asked_device_code_waits_again(bench: Bench) -> None:
    """An authorization code that was presented never does."""
    code, device = await bench.add(), await bench.add("c2", **DEVICE)
    await bench.of().take(code.id)
    await bench.of().wait_again(code.id, timedelta(seconds=5))
    await bench.of().wait_again(device.id, timedelta(seconds=5))
    assert bench.document()["state"] == "asked"
    assert bench.document("c2")["poll_at"] is None
    await bench.of().take(device.id)
    await bench.of().failed(device.id, FAILURE)
    await bench.of().wait_again(device.id, None)
    assert bench.document("c2")["state"] == "failed"


async def test_an_instance_may_repeat_its_own_polls_only(bench: Bench) -> None:
    """And no code of another kind."""
    device, code = await bench.add("c1", **DEVICE), await bench.add("c2")
    await bench.of("one").take(device.id)
    await bench.of("one").take(code.id)
    assert {one.id: one.repeatable for one in await bench.of("one").asked()} == {
        device.id: True,
        code.id: False,
    }
    bench.clock.passed = ABANDONED_AFTER
    assert {one.repeatable for one in await bench.of("two").asked()} == {False}


@pytest.mark.parametrize("stored", [None, "soon", -5, float("nan"), float("inf"), 1e300, True])
async def test_a_strange_interval_is_a_bounded_one(bench: Bench, stored: object) -> None:
    """Whatever another process wrote."""
    request = await bench.add(**DEVICE)
    bench.consents.update_one({"_id": request.id}, {"$set": {"interval": stored}})
    taken = await bench.of().take(request.id)
    assert isinstance(taken, ConsentRequest)
    assert timedelta(0) <= taken.interval <= timedelta(minutes=1)
    await bench.of().wait_again(request.id, None)
    assert bench.document()["poll_at"] <= NOON + timedelta(minutes=1)


async def test_a_request_of_another_kind_than_it_was_stored_with_is_malformed(bench: Bench) -> None:
    """Its id doesn't belong to it any more, so a writer can't turn a code into one that is presented repeatedly."""
    request = await bench.add()
    bench.consents.update_one({"_id": request.id}, {"$set": {"kind": "device"}})
    assert isinstance(await bench.of().take(request.id), Malformed)


async def test_the_end_of_a_device_code_says_whether_it_was_polled_for(bench: Bench) -> None:
    """The owner was too late, or no daemon was there."""
    polled, unseen = await bench.add(**DEVICE), await bench.add("c2", **DEVICE)
    await bench.of().take(polled.id)
    await bench.of().wait_again(polled.id, None)
    bench.clock.passed = timedelta(minutes=15)
    await bench.of().expire()
    messages = [bench.document(name)["failure"]["message"] for name in ("c1", "c2")]
    assert messages == [UNANSWERED.message, EXPIRED.message]
    assert bench.document("c2")["_id"] == unseen.id


# ---------------------------------------------------------------- grants that are not stored


async def asked(bench: Bench, name: str = "c1", **changes: Any) -> str:
    request = await bench.add(name, **changes)
    assert await bench.of().take(request.id) is not None
    return request.id


async def held(bench: Bench, name: str = "c1", account: str | None = "T1", **changes: Any) -> str:
    consent = await asked(bench, name, **changes)
    assert await bench.of().hold(consent, Secret("grant-4713"), account=account)
    return consent


async def test_a_grant_is_sealed_for_its_consent_and_the_code_is_gone(bench: Bench) -> None:
    """It is held once."""
    consent = await held(bench)
    document = bench.document()
    assert "4713" not in str(document)
    assert RING.open(document["grant"], token_id=consent, field="grant") == "grant-4713"
    assert (document["state"], document["code"], document["code_verifier"]) == ("asked", None, None)
    assert document["held_until"] == document["grant_due_at"] == NOON + HELD_FOR
    assert not await bench.of().hold(consent, Secret("other"), account=None)
    assert bench.document() == document


async def test_a_held_grant_is_neither_interrupted_nor_lost_to_a_late_failure(bench: Bench) -> None:
    """Another instance may believe for ten minutes that its exchange is still running."""
    consent = await held(bench)
    bench.clock.passed = ABANDONED_AFTER
    assert await bench.of().asked() == []
    assert await bench.of("two").asked() == []
    await bench.of("two").failed(consent, FAILURE)
    assert bench.document()["state"] == "asked"


async def test_a_grant_is_due_at_its_time_and_taken_once(bench: Bench) -> None:
    """By one instance, until its lease is over."""
    consent = await held(bench)
    assert await bench.of().due_grants(["acme"]) == []
    assert await bench.of().take_grant(consent) is None
    bench.clock.passed = HELD_FOR
    assert await bench.of().due_grants(["other"]) == []
    (due,) = await bench.of().due_grants(["acme"])
    assert due == DueGrant(id=consent, provider="acme", state=ConsentState.ASKED, completed=False)
    taken = await asyncio.gather(*(bench.of(f"i{one}").take_grant(consent) for one in range(8)))
    (one,) = [one for one in taken if one is not None]
    assert (one.due, one.text) == (due, Secret("grant-4713"))
    assert isinstance(one.request, ConsentRequest)
    assert one.request.token == "acme:7"
    assert await bench.of().due_grants(["acme"]) == []
    bench.clock.passed = HELD_FOR + LEASE
    assert await bench.of().take_grant(consent) is not None


async def test_an_instance_that_restarts_gives_back_its_own_grants(bench: Bench) -> None:
    """Not those of others."""
    one, two = await held(bench, "c1"), await held(bench, "c2", account="T2")
    bench.clock.passed = HELD_FOR
    await bench.of("one").take_grant(one)
    await bench.of("two").take_grant(two)
    await bench.of("one").release()
    assert [found.id for found in await bench.of().due_grants(["acme"])] == [one]


async def test_a_consent_is_abandoned_unless_it_was_completed(bench: Bench) -> None:
    """Its grant stays until it is discarded, and MongoDB keeps the document as long."""
    consent = await held(bench)
    bench.consents.update_one({"_id": consent}, {"$set": {"completed_at": NOON, "proof": "sealed"}})
    assert not await bench.of().give_up(consent, ConsentState.ABANDONED, FAILURE)
    bench.consents.update_one(
        {"_id": consent}, {"$unset": {"proof": ""}}
    )  # and completed_at alone says nothing
    assert await bench.of().give_up(consent, ConsentState.ABANDONED, FAILURE)
    assert not await bench.of().give_up(consent, ConsentState.FAILED, FAILURE)
    document = bench.document()
    assert (document["state"], document["expires_at"]) == ("abandoned", NOON + DISCARDED_WITHIN)
    (due,) = await bench.of().due_grants(["acme"])
    assert due.state is ConsentState.ABANDONED
    taken = await bench.of().take_grant(consent)
    assert taken is not None
    assert (taken.until, taken.tries) == (NOON + DISCARDED_WITHIN, 0)
    await bench.of().postpone(consent, due_at=NOON + timedelta(hours=1), tries=3)
    assert await bench.of().due_grants(["acme"]) == []
    bench.clock.passed = timedelta(hours=1)
    again = await bench.of().take_grant(consent)
    assert again is not None
    assert again.tries == 3
    for odd, tries in ((-2000, 0), (4.0, 4), (2**63 - 1, 2**31 - 1)):
        bench.consents.update_one({}, {"$set": {"discard_tries": odd, "grant_due_at": bench.clock.now()}})
        odd_one = await bench.of().take_grant(consent)
        assert odd_one is not None
        assert odd_one.tries == tries
    bench.consents.update_one({}, {"$set": {"discard_tries": 3}})
    await bench.of("two").postpone(consent, due_at=NOON, tries=9)
    assert bench.document()["discard_tries"] == 3
    await bench.of().forget_grant(consent)
    assert bench.document()["grant"] is None
    assert await bench.of().due_grants(["acme"]) == []


async def test_a_stored_grant_leaves_its_consent(bench: Bench) -> None:
    """With its end; a held one can't be forgotten."""
    consent = await held(bench)
    await bench.of().forget_grant(consent)
    assert bench.document()["grant"] is not None
    await bench.of().done(consent, ConsentResult(scope=None, missing_scopes=(), expires_at=None))
    assert (bench.document()["state"], bench.document()["grant"]) == ("done", None)


async def test_a_failure_may_leave_a_grant_to_discard(bench: Bench) -> None:
    """In the same write."""
    consent = await asked(bench)
    await bench.of().failed(consent, FAILURE, grant=Secret("grant-4713"), account="T1")
    document = bench.document()
    assert (document["state"], document["code"]) == ("failed", None)
    assert RING.open(document["grant"], token_id=consent, field="grant") == "grant-4713"
    assert [found.id for found in await bench.of().due_grants(["acme"])] == [consent]


async def test_a_late_grant_is_left_to_a_consent_that_has_ended(bench: Bench) -> None:
    """Once, and never to one whose token is stored."""
    consent = await asked(bench)
    assert not await bench.of().discard(consent, Secret("late"), account=None)
    await bench.of().failed(consent, FAILURE)
    assert await bench.of().discard(consent, Secret("late"), account=None)
    before = bench.document()
    assert await bench.of().discard(consent, Secret("again"), account=None)
    assert bench.document() == before
    done = await asked(bench, "c2")
    await bench.of().done(done, ConsentResult(scope=None, missing_scopes=(), expires_at=None))
    assert not await bench.of().discard(done, Secret("late"), account=None)
    assert not await bench.of().discard("c9", Secret("late"), account=None)


async def test_a_grant_of_another_consent_does_not_open(bench: Bench) -> None:
    """A database writer can't let one owner's grant end at another's account."""
    one, two = await held(bench, "c1"), await held(bench, "c2", account="8")
    bench.consents.update_one({"_id": two}, {"$set": {"grant": bench.document("c1")["grant"]}})
    bench.clock.passed = HELD_FOR
    for consent, text in ((one, Secret("grant-4713")), (two, None)):
        taken = await bench.of().take_grant(consent)
        assert taken is not None
        assert taken.text == text
    strange = await held(bench, "c3")
    bench.clock.passed = 2 * HELD_FOR
    taken = await bench.of(ring=STRANGE).take_grant(strange)
    assert taken is not None
    assert taken.text is None


@pytest.mark.parametrize(
    ("other", "account", "holds"),
    [("T1", "T1", True), ("T2", "T1", False), (None, "T1", True), ("T2", None, True)],
)
async def test_another_held_grant_may_be_of_the_same_account(
    bench: Bench, other: str | None, account: str | None, holds: bool
) -> None:
    """It is, unless both accounts are known."""
    consent = await held(bench, "c1", account=account)
    await held(bench, "c2", account=other)
    assert await bench.of().holds_account(consent, ["acme"], account) is holds
    assert not await bench.of().holds_account(consent, ["other"], account)


# ---------------------------------------------------------------- harm


GRANT = DiscardedGrant(access_token=Secret("a"), refresh_token=Secret("refresh-2"), account="T1")


async def test_without_a_stored_token_nothing_is_harmed(bench: Bench) -> None:
    """Nor by another provider's or account's, nor by a tombstone."""
    assert await bench.tokens.harm(["acme"], GRANT) is Harm.NONE
    await bench.tokens.bind(TOKEN, replace(BINDING, account="T2"))
    assert await bench.tokens.harm(["acme"], GRANT) is Harm.NONE
    bench.stored.update_one({}, {"$set": {"provider_account": "T1"}})
    assert await bench.tokens.harm(["other"], GRANT) is Harm.NONE
    for state in ("revoked", "removed"):
        bench.stored.update_one({}, {"$set": {"state": state}})
        assert await bench.tokens.harm(["acme"], GRANT) is Harm.NONE


@pytest.mark.parametrize("stored", ["T1", None])
@pytest.mark.parametrize("mine", ["T1", None])
async def test_a_stored_token_of_the_same_account_is_harmed(
    bench: Bench, stored: str | None, mine: str | None
) -> None:
    """Also if one of the two accounts is not known."""
    await bench.tokens.bind(TOKEN, replace(BINDING, account=stored))
    assert await bench.tokens.harm(["acme"], replace(GRANT, account=mine)) is Harm.SAME_ACCOUNT


async def test_a_token_that_is_being_revoked_is_waited_for(bench: Bench) -> None:
    """Unless another one is harmed."""
    await bench.tokens.bind(TOKEN, BINDING)
    bench.stored.update_one({}, {"$set": {"state": "revoking"}})
    assert await bench.tokens.harm(["acme"], GRANT) is Harm.SOON
    await bench.tokens.bind(
        replace(TOKEN, id="acme:8", refresh_token=Secret("refresh-8")), replace(BINDING, consent="c8")
    )
    assert await bench.tokens.harm(["acme"], GRANT) is Harm.SAME_ACCOUNT


async def test_a_stored_refresh_token_is_recognized(bench: Bench) -> None:
    """Wherever it is stored; and one that a writer has sealed may be it."""
    await bench.tokens.bind(TOKEN, replace(BINDING, account="T2"))
    same = replace(GRANT, refresh_token=TOKEN.refresh_token)
    assert await bench.tokens.harm(["other"], same) is Harm.SAME_TOKEN
    bench.stored.update_one(
        {}, {"$set": {"refresh_token": "w1.a.xxx", "grant_fingerprint": None, "provider_account": None}}
    )
    assert await bench.tokens.harm(["acme"], GRANT) is Harm.SAME_TOKEN
    assert await bench.tokens.harm(["other"], GRANT) is Harm.NONE


async def test_the_audit_has_one_record_of_a_grant_that_is_left_alive(bench: Bench) -> None:
    """However often it is written; with the page on which its owner can end it."""
    lines: list[Any] = []
    deeds = DiscardAudit(Audit(bench.mongo, who=Who(actor="me@here"), log=lines.append))
    for _ in range(2):
        await deeds.revoking("acme:7", "c1")
        await deeds.left_alive("acme:7", "c1", why="same_account", manage_url="https://acme.example/apps")
    await deeds.left_alive("acme:7", "c2", why="no_revocation", manage_url=None)
    found = list(bench.audited.find({}, {"_id": 0}).sort("action", 1))
    assert [(one["action"], one["result"], one.get("manage_url")) for one in found] == [
        ("left_alive", "same_account", "https://acme.example/apps"),
        ("left_alive", "no_revocation", None),
        ("revoke_discarded", None, None),
    ]
    assert {one["token"] for one in found} == {"acme:7"}
    assert len(lines) == 5
