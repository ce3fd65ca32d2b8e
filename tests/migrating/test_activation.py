"""Imported tokens become active in slices, are read again before that, and can be taken back."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from bson import Code

from daemon.domain.moving import in_first, slice_of
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from daemon.migrating.activation import resume_slice, take_back
from tests.migrating.moving import HOUR, NOW, MemorySource, counts, row

MINUTE = timedelta(minutes=1)
VECTORS = Path(__file__).parents[1] / "vectors" / "slices.json"


def rows(number):
    return [row(str(account)) for account in range(number)]


def active(outside):
    return {one["_id"] for one in outside.tokens.find({"state": "active"})}


def in_slice(percent, number):
    return {f"xero:{account}" for account in range(number) if in_first(percent, f"xero:{account}")}


@pytest.fixture
def resume(slices, clock, mover):
    async def resume(percent, *, within=timedelta(seconds=60)):
        return await resume_slice(
            slices, "xero", percent=percent, read_within=within, now=clock.now, due=mover.due
        )

    return resume


@pytest.fixture
def back(slices, clock):
    async def back(*, sleep=None):
        async def wait(seconds):
            clock.passed += timedelta(seconds=seconds)
            if sleep is not None:
                sleep()

        return await take_back(slices, "xero", limit=timedelta(seconds=5), passed=clock.boot, sleep=wait)

    return back


def test_the_slices_are_those_that_other_programs_compute():
    """The published examples; a larger percentage includes a smaller one."""
    vectors = json.loads(VECTORS.read_text())["slices"]
    assert len(vectors) >= 10
    for one in vectors:
        assert slice_of(one["id"]) == one["slice"]
        assert not in_first(one["slice"], one["id"])
        assert in_first(one["slice"] + 1, one["id"])


async def test_a_slice_is_activated_and_a_larger_one_adds_to_it(mover, outside):
    """The same ten percent each time; each token is due as one that `add` has stored."""
    source = MemorySource(*rows(60))
    report = await mover.run(source, activate=10)
    assert active(outside) == in_slice(10, 60)
    assert report.activated == len(in_slice(10, 60)) > 0
    again = await mover.run(source, activate=30)
    assert active(outside) == in_slice(30, 60)
    assert again.activated == len(in_slice(30, 60) - in_slice(10, 60)) > 0
    for one in outside.tokens.find({"state": "active"}):
        assert NOW + HOUR / 2 < one["due_at"] < NOW + HOUR
        assert one["origin"]["activated"] == NOW
        assert one["revision"] == 2
    assert outside.tokens.count_documents({"state": "paused", "due_at": None, "revision": 1}) == 60 - len(
        in_slice(30, 60)
    )


async def test_the_last_renewal_of_the_application_is_not_lost(mover, outside, ring):
    """The row changed after the first reading: what it holds now is stored by the write that activates the token."""
    source = MemorySource(row("1"), row("2"))

    def renew(held):
        held[0] |= {
            "access": "access-b",
            "refresh": "refresh-b",
            "expires": int((NOW + 2 * HOUR).timestamp()),
        }

    source.meddle = renew
    report = await mover.run(source, activate=100)
    assert (report.activated, report.not_activated) == (2, [])
    stored = outside.tokens.find_one("xero:1")
    assert ring.open(stored["refresh_token"], token_id="xero:1", field="refresh_token") == "refresh-b"
    assert (stored["state"], stored["revision"]) == ("active", 2)
    assert stored["due_at"] > NOW + HOUR
    assert len(mover.copy.rows) == 3


async def test_a_row_that_is_gone_or_broken_by_then_is_not_activated(mover, outside):
    """Its token stays paused, and the reason is reported."""
    source = MemorySource(row("1"), row("2"), row("3"))

    def meddle(held):
        held[:] = [row("2", refresh=None), row("3", refresh="refresh-1")]

    source.meddle = meddle
    report = await mover.run(source, activate=100)
    whys = {one.row: one.why for one in report.not_activated}
    assert active(outside) == set()
    assert whys["xero:1"] == "its row is gone from the source"
    assert whys["xero:2"].startswith("it has no refresh token")
    assert whys["xero:3"].startswith("xero:1 already stores this refresh token")


async def test_contested_tokens_are_not_activated(mover, outside):
    """Which of two rows is the newer one is for an operator to say."""
    await mover.run(MemorySource(row("1"), row("2"), row("1", refresh="other")), activate=100)
    assert active(outside) == {"xero:2"}


async def test_resume_activates_the_slice_without_the_source(mover, outside, resume):
    """Only that slice, and only once."""
    await mover.run(MemorySource(*rows(60)))
    done = await resume(20)
    assert (done.activated, done.too_old, done.refused) == (len(in_slice(20, 60)), 0, {})
    assert active(outside) == in_slice(20, 60)
    assert (await resume(20)).activated == 0


async def test_resume_refuses_rows_that_were_read_long_ago(mover, outside, resume, clock):
    """Another import, which finds nothing new, is enough."""
    source = MemorySource(*rows(10))
    await mover.run(source)
    clock.passed += 2 * MINUTE
    done = await resume(100)
    assert (done.activated, done.too_old) == (0, 10)
    assert active(outside) == set()
    assert counts(await mover.run(source)) == (0, 0, 10, 0)
    assert (await resume(100)).activated == 10


async def test_an_operators_own_pause_is_never_undone(mover, outside, resume, admin, back):
    """Neither of a token that waits, nor of one that was active, nor after it was taken back."""
    source = MemorySource(*rows(4))
    await mover.run(source)
    assert await admin.pause("xero:0") is True
    assert await admin.pause("xero:0") is False
    assert (await resume(100)).activated == 3
    await admin.pause("xero:1")
    assert (await resume(100)).activated == 0
    assert (await mover.run(source, activate=100)).activated == 0
    assert (await back()).tokens == 3
    assert (await resume(100)).activated == 2
    assert active(outside) == {"xero:2", "xero:3"}
    assert await admin.resume("xero:0") is True
    assert outside.tokens.find_one("xero:0")["origin"]["activated"] == NOW


async def test_a_consent_by_hand_puts_an_imported_token_into_use(mover, outside, admin):
    """No import lays an older token over it."""
    source = MemorySource(row())
    await mover.run(source)
    stored = outside.tokens.find_one()

    await admin.add(
        Token(
            id=stored["_id"],
            provider="xero",
            account="1",
            state=State.ACTIVE,
            refresh_token=Secret("by-hand"),
        )
    )
    source.held[0]["refresh"] = "older"
    assert counts(await mover.run(source)) == (0, 0, 1, 0)
    assert outside.tokens.find_one()["origin"]["activated"] == NOW


async def test_taking_back_waits_for_running_requests(mover, outside, back):
    """A claim with a lease: its answer may bring a successor, which the old application needs."""
    await mover.run(MemorySource(*rows(3)), activate=100)
    lease = {"owner": "here", "claim": "c1", "since": NOW, "until": NOW + MINUTE, "hold": NOW + 2 * MINUTE}
    outside.tokens.update_one({"_id": "xero:0"}, {"$set": {"lease": lease}})

    def answer():
        outside.tokens.update_one({"_id": "xero:0"}, {"$set": {"lease": None}})

    done = await back(sleep=answer)
    assert (done.tokens, done.in_flight) == (3, [])
    assert outside.tokens.count_documents({"state": "paused", "due_at": None, "origin.activated": None}) == 3


async def test_taking_back_names_what_is_still_in_flight(mover, outside, back):
    """After the limit. A doubt is named without a wait, since nothing ends it here."""
    await mover.run(MemorySource(*rows(3)), activate=100)
    outside.tokens.update_one({"_id": "xero:0"}, {"$set": {"lease": {"owner": "here", "claim": "c1"}}})
    outside.tokens.update_one({"_id": "xero:1"}, {"$set": {"doubt": {"since": NOW, "tries": 1}}})
    done = await back()
    assert {one.id: one.holder for one in done.in_flight} == {"xero:0": "here", "xero:1": None}


async def test_a_token_whose_refresh_token_another_one_stores_is_not_activated(mover, outside, resume, ring):
    """Two imports at the same time could have stored it twice, since each looks before it writes."""
    await mover.run(MemorySource(row("1"), row("2")))
    twin = outside.tokens.find_one("xero:1") | {"_id": "xero:twin", "account": "twin"}
    twin.pop("origin")
    outside.tokens.insert_one(twin)
    done = await resume(100)
    assert active(outside) == {"xero:2"}
    assert done.refused["xero:1"].startswith("xero:twin stores the same refresh token")


async def test_a_document_that_can_not_be_opened_is_not_activated(mover, outside, resume):
    """The reason names the field."""
    await mover.run(MemorySource(row("1"), row("2")))
    outside.tokens.update_one({"_id": "xero:1"}, {"$set": {"refresh_token": "v1.one.damaged"}})
    done = await resume(100)
    assert (done.activated, list(done.refused)) == (1, ["xero:1"])


async def test_a_rejected_token_that_was_taken_back_is_not_resumed_with_the_others(
    mover, outside, back, admin
):
    """The application renews it again. A newer row makes it a token that waits."""
    source = MemorySource(row("1"))
    await mover.run(source, activate=100)
    rejected = {"kind": "rejected", "code": "invalid_grant", "message": "", "at": NOW}
    outside.tokens.update_one({}, {"$set": {"state": "needs_reauth", "last_failure": rejected}})
    assert (await back()).tokens == 1
    assert outside.tokens.find_one()["state"] == "needs_reauth"
    assert await admin.resume_rejected("xero", since=NOW - HOUR) == 0
    source.held[0] |= {"refresh": "consented-again", "expires": int((NOW + 2 * HOUR).timestamp())}
    assert counts(await mover.run(source)) == (0, 1, 0, 0)
    assert outside.tokens.find_one()["state"] == "paused"


async def test_a_fingerprint_that_is_code_keeps_no_other_token_paused(mover, outside, resume):
    """Python's form of BSON's code is a str without a hash."""
    await mover.run(MemorySource(*rows(5)))
    outside.tokens.update_one({"_id": "xero:2"}, {"$set": {"grant_fingerprint": Code("x")}})
    await resume(100)
    assert active(outside) == {f"xero:{account}" for account in range(5)}
