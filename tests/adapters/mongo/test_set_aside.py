"""Documents that cannot be used are set aside, and stop no other."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

from daemon.adapters.mongo.set_aside import FIRST_REST, SET_ASIDE_FOR
from daemon.domain.claim import Claim, Recorded, SetAside
from daemon.domain.secret import Secret
from daemon.domain.token import FailureKind
from tests.adapters.mongo.mongo_bench import (
    ACME,
    IN_DOUBT,
    NOON,
    STRANGE,
    Wish,
    claim_one,
    names,
    renewed,
    seal,
)

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
