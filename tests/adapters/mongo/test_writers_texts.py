"""Refresh tokens that an application has sealed with its writer key: claimed, sealed again, and never presented twice."""

from base64 import b64encode
from datetime import timedelta
from typing import Any

import pytest

from daemon.adapters.keyring import FINGERPRINT
from daemon.domain.claim import Claim, Recorded, SetAside
from daemon.domain.secret import Secret
from daemon.domain.token import FailureKind
from tests.adapters.mongo.mongo_bench import ACME, NOON, RING, STRANGE, Bench, claim_one, names, renewed, seal
from tests.support import writer


def line(ring: Any = RING) -> dict[str, str]:
    """One line of `refreshd keys writer`."""
    found = ring.writer_seal("refresh_token")
    return {
        "field": "refresh_token",
        "key_id": ring.active,
        "public_key": b64encode(found.public_key).decode(),
        "mac_key": b64encode(found.mac_key).decode(),
        "fingerprint_key": b64encode(ring.field_key(FINGERPRINT)).decode(),
    }


def sealed(name: str, text: str) -> str:
    return writer.seal(line(), name, text)


@pytest.fixture(autouse=True)
def fresh(bench: Bench) -> None:
    bench.database.drop_collection("tokens_audit")


async def test_a_writers_text_is_sealed_again_before_it_is_presented(bench):
    """As `v1.`, with its fingerprint; the result is fenced on the new text."""
    name = bench.insert(refresh_token=sealed("acme:1", "refresh-0"))
    store = bench.store()
    claim = await claim_one(store)
    assert claim.token.refresh_token == Secret("refresh-0")
    document = bench.document(name)
    assert document["refresh_token"].startswith("v1.a.")
    assert document["refresh_token"] == claim.spent
    assert document["grant_fingerprint"] == RING.fingerprint("refresh-0")
    assert await store.record(claim, renewed()) is Recorded.STORED
    assert bench.refresh_token() == "refresh-1"


async def test_a_writers_text_that_does_not_open_is_set_aside_unchanged(bench):
    """Of another ring, say; nothing is sealed over it."""
    text = writer.seal(line(STRANGE) | {"key_id": "a"}, "acme:1", "refresh-0")
    bench.insert(refresh_token=text)
    (item,) = (await bench.store().claim(ACME, limit=10, busy=[])).items
    assert isinstance(item, SetAside)
    assert item.kind is FailureKind.UNREADABLE
    assert bench.document()["refresh_token"] == text


async def test_a_consent_between_claim_and_sealing_wins(bench, monkeypatch):
    """The claim finds another text than it has read: it lets the token be, and a later claim has the new one."""
    bench.insert(refresh_token=sealed("acme:1", "refresh-0"))
    store = bench.store()
    taking = store._writers_texts._store

    async def overtaken(*arguments: Any) -> None:
        bench.set("acme:1", refresh_token=sealed("acme:1", "refresh-consent"))
        await taking(*arguments)

    store._writers_texts._store = overtaken
    assert names(await store.claim(ACME, limit=10, busy=[])) == []
    store._writers_texts._store = taking
    claim = await claim_one(store)
    assert claim.token.refresh_token == Secret("refresh-consent")


@pytest.mark.parametrize("as_v1", [False, True], ids=["both by writers", "one by refreshd"])
@pytest.mark.parametrize(
    ("first", "second", "paused"),
    [
        ({"issued_at": NOON - timedelta(hours=2)}, {"issued_at": NOON - timedelta(hours=1)}, "acme:2"),
        ({"issued_at": NOON - timedelta(hours=1)}, {"issued_at": NOON - timedelta(hours=2)}, "acme:1"),
        ({"issued_at": NOON}, {"issued_at": NOON}, "acme:2"),
        ({"issued_at": None}, {"issued_at": NOON}, "acme:1"),
    ],
    ids=["second is later", "first is later", "same time", "no date"],
)
async def test_of_two_tokens_with_one_refresh_token_the_later_is_paused(bench, as_v1, first, second, paused):
    """Whether they come due together or not, and whoever sealed the other."""
    held = {"refresh_token": seal("acme:1", "refresh-0"), "grant_fingerprint": RING.fingerprint("refresh-0")}
    bench.insert("1", **(held if as_v1 else {"refresh_token": sealed("acme:1", "refresh-0")}), **first)
    bench.insert("2", refresh_token=sealed("acme:2", "refresh-0"), **second)
    items = (await bench.store().claim(ACME, limit=10, busy=[])).items
    claimed = [item.token.id for item in items if isinstance(item, Claim)]
    (aside,) = [item for item in items if isinstance(item, SetAside)]
    other = "acme:1" if paused == "acme:2" else "acme:2"
    assert (claimed, aside.token, aside.kind) == ([other], paused, FailureKind.DUPLICATE)
    document = bench.document(paused)
    assert (document["state"], document["due_at"], document["lease"]) == ("paused", None, None)
    assert document["last_failure"]["kind"] == "duplicate"
    assert other in document["last_failure"]["message"]


async def test_a_duplicate_of_a_token_in_flight_is_paused_whatever_its_age(bench):
    """The other is under another instance's claim: it may be presented just now."""
    held = {"refresh_token": seal("acme:1", "refresh-0"), "grant_fingerprint": RING.fingerprint("refresh-0")}
    bench.insert("1", **held, issued_at=NOON)
    await claim_one(bench.store("another"))
    bench.insert("2", refresh_token=sealed("acme:2", "refresh-0"), issued_at=NOON - timedelta(hours=3))
    (aside,) = (await bench.store().claim(ACME, limit=10, busy=[])).items
    assert isinstance(aside, SetAside)
    assert aside.token == "acme:2"
    assert bench.document("acme:1")["state"] == "active"


async def test_a_text_of_an_older_key_of_the_ring_is_known_as_a_duplicate(bench):
    """The other was fingerprinted under key b, this one is sealed under key a."""
    prints = {"grant_fingerprint": RING.fingerprint("refresh-0", "b")}
    bench.insert(
        "1", refresh_token=seal("acme:1", "refresh-0"), **prints, issued_at=NOON - timedelta(hours=5)
    )
    bench.insert("2", refresh_token=sealed("acme:2", "refresh-0"))
    items = (await bench.store().claim(ACME, limit=10, busy=[])).items
    assert [item.token for item in items if isinstance(item, SetAside)] == ["acme:2"]


async def test_a_duplicate_is_found_by_the_index_of_fingerprints(bench):
    """Millions of other tokens don't slow the claim of a writer's text."""
    bench.insert("1", refresh_token=sealed("acme:1", "refresh-0"))
    bench.insert("2", due_at=None, grant_fingerprint=RING.fingerprint("other"))
    bench.database.command({"profile": 2})
    await claim_one(bench.store())
    bench.database.command({"profile": 0})
    asked = list(
        bench.database["system.profile"].find({"command.filter.grant_fingerprint": {"$exists": True}})
    )
    assert [one["planSummary"] for one in asked] == ["IXSCAN { grant_fingerprint: 1 }"]
