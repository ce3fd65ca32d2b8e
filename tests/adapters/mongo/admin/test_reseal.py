"""Stored texts sealed again beside a daemon: every field and state, and the race with a refresh in both orders."""

from base64 import b64encode
from datetime import timedelta
from typing import Any

import pytest

from daemon.adapters.keyring import FINGERPRINT, KeyRing
from daemon.adapters.mongo.admin.reseal import Progress, Resealer
from daemon.adapters.mongo.counting.sealed_values import holders_of, sealed_values
from daemon.adapters.mongo.token_document import as_stored
from daemon.domain.claim import Recorded
from daemon.domain.secret import Secret
from tests.adapters.mongo.mongo_bench import (
    ACME,
    NEWER,
    NOON,
    RING,
    Bench,
    claim_one,
    entry_of,
    names,
    postponed,
    renewed,
    seal,
)
from tests.support import writer

SECOND = timedelta(seconds=1)
LATER = as_stored(NOON) + timedelta(minutes=1)
BEFORE = as_stored(NOON) - timedelta(minutes=1)


@pytest.fixture(autouse=True)
def fresh(bench: Bench) -> None:
    bench.database.drop_collection("tokens_consents")
    bench.ring = NEWER


def resealer(bench: Bench, ring: KeyRing = NEWER, *, readers: bool = True, **options: Any) -> Resealer:
    async def sleep(span: timedelta) -> None:
        bench.slept.append(span)  # type: ignore[attr-defined]
        bench.clock.passed += span

    bench.slept = []  # type: ignore[attr-defined]
    options = {"rate": 1000.0, **options}
    return Resealer(bench.mongos[0], ring, access_tokens=readers, sleep=sleep, **options)


async def resealed(bench: Bench, ring: KeyRing = NEWER, **options: Any) -> Progress:
    work = resealer(bench, ring, **options)
    async for _ in work.run():
        pass
    await work.consents()
    return work.progress


def w1(name: str, text: str, ring: KeyRing = RING, field: str = "refresh_token") -> str:
    """A text that an application has sealed with its writer key of the old key."""
    found = ring.writer_seal(field)
    line = {
        "field": field,
        "key_id": ring.active,
        "public_key": b64encode(found.public_key).decode(),
        "mac_key": b64encode(found.mac_key).decode(),
        "fingerprint_key": b64encode(ring.field_key(FINGERPRINT)).decode(),
    }
    return writer.seal(line, name, text)


def opened(bench: Bench, name: str, field: str = "refresh_token") -> str:
    """By a reader who has both keys."""
    return NEWER.open(bench.document(name)[field], token_id=name, field=field)


# ---------------------------------------------------------------- every field, every state


@pytest.mark.parametrize("state", ["active", "paused", "needs_reauth"])
async def test_every_field_is_sealed_again_under_the_active_key(bench, state):
    """Nothing else of the document changes, so that an application sees no other version of the token."""
    old = RING.fingerprint("refresh-0")
    rest = seal("acme:1", "{}", "origin_rest")
    origin = {"layout": "jsonl", "source": "s", "key": "1", "rest": rest, "grant": old}
    name = bench.insert(state=state, grant_fingerprint=old, origin=origin)
    before = bench.document()
    assert await resealed(bench) == Progress(resealed=1)
    after = bench.document()
    for field in ("access_token", "refresh_token"):
        assert after[field].startswith("v1.b.")
        assert opened(bench, name, field) == f"{field.removesuffix('_token')}-0"
    assert NEWER.only("b").open(after["origin"]["rest"], token_id=name, field="origin_rest") == "{}"
    assert after["grant_fingerprint"] == after["origin"]["grant"] == NEWER.fingerprint("refresh-0")
    changed = ("access_token", "refresh_token", "grant_fingerprint", "origin")
    assert {k: v for k, v in after.items() if k not in changed} == {
        k: v for k, v in before.items() if k not in changed
    }
    assert await resealed(bench) == Progress()
    assert (await holders_of(bench.mongos[0], "a")).values == 0


async def test_the_row_of_another_token_keeps_its_fingerprint(bench):
    """A mirror has to see that the stored token is no longer the one that its row held."""
    other = RING.fingerprint("refresh-before")
    bench.insert(grant_fingerprint=RING.fingerprint("refresh-0"), origin={"grant": other, "key": "1"})
    await resealed(bench)
    assert bench.document()["origin"]["grant"] == other


async def test_access_tokens_wait_until_readers_have_the_key(bench):
    name = bench.insert()
    assert await resealed(bench, readers=False) == Progress(resealed=1)
    assert bench.document()["access_token"].startswith("v1.a.")
    assert bench.document()["refresh_token"].startswith("v1.b.")
    assert await resealed(bench, readers=False) == Progress()
    assert await resealed(bench) == Progress(resealed=1)
    assert opened(bench, name, "access_token") == "access-0"


async def test_a_fingerprint_of_no_refresh_token_is_removed(bench):
    """Nothing is left from which the new one could be computed."""
    bench.insert(refresh_token=None, grant_fingerprint=RING.fingerprint("gone"))
    await resealed(bench)
    assert bench.document()["grant_fingerprint"] is None


async def test_a_dry_run_changes_nothing(bench):
    bench.insert("1")
    bench.insert("2", refresh_token=seal("acme:2", "x", ring=NEWER), unset=("access_token",))
    before = list(bench.tokens.find())
    assert await resealed(bench, dry_run=True) == Progress(resealed=1)
    assert list(bench.tokens.find()) == before


async def test_what_does_not_open_stays_and_is_named(bench):
    """Its other fields are sealed again."""
    moved = seal("acme:2", "refresh-0")
    bench.insert(refresh_token=moved)
    (failed,) = (await resealed(bench)).failed
    assert (failed.id, failed.field) == ("acme:1", "refresh_token")
    assert bench.document()["refresh_token"] == moved
    assert opened(bench, "acme:1", "access_token") == "access-0"


@pytest.mark.parametrize(
    "fields",
    [
        {"refresh_token": 7},
        {"refresh_token": ["v1.a.x"]},
        {"refresh_token": "plain text"},
        {"refresh_token": "v1.a.???"},
        {"refresh_token": "v1.c." + "A" * 60},
        {"origin": "v1.a.x"},
        {"origin": [{"rest": "v1.a." + "A" * 60}]},
        {"lease": "strange"},
        {"lease": {"hold": "tomorrow"}},
        {"grant_fingerprint": 3},
        {"extra": {"big": "x" * (1 << 20)}},
    ],
    ids=lambda fields: f"{next(iter(fields))}: {str(next(iter(fields.values())))[:20]}",
)
async def test_a_strange_document_stops_no_other(bench, fields):
    bench.insert("1", **fields)
    bench.tokens.insert_one({"_id": {"no": "token"}, "refresh_token": seal("acme:1", "x")})
    bench.insert("2")
    await resealed(bench)
    assert opened(bench, "acme:2") == "refresh-0"
    assert bench.document("acme:2")["refresh_token"].startswith("v1.b.")


async def test_more_documents_than_a_batch_keep_to_the_rate(bench):
    for number in range(120):
        bench.insert(f"{number:03}")
    assert await resealed(bench, rate=20.0) == Progress(resealed=120)
    assert sum(bench.slept, timedelta(0)) == 6 * SECOND


async def test_a_run_continues_where_another_one_was_ended(bench):
    for number in range(120):
        bench.insert(f"{number:03}")
    async for progress in resealer(bench).run():
        assert progress.resealed == 50
        break
    assert await resealed(bench) == Progress(resealed=70)


async def test_waiting_consents_are_sealed_again(bench):
    fields = {"code": "code-1", "code_verifier": "verifier-1", "grant": "{}", "access_token": "access-1"}
    texts = {field: seal("c-1", text, field) for field, text in fields.items()}
    texts["refresh_token"] = w1("c-1", "refresh-1")
    texts["proof"] = seal("c-1", "proof-1", "code")  # as a writer key may
    bench.database["tokens_consents"].insert_one({"_id": "c-1", **texts, "state": 5})
    assert (await holders_of(bench.mongos[0], "a")).consents == 1
    await resealed(bench)
    stored = bench.database["tokens_consents"].find_one()
    only = NEWER.only("b")
    for field, text in {**fields, "refresh_token": "refresh-1"}.items():
        assert only.open(stored[field], token_id="c-1", field=field) == text
    assert only.open(stored["proof"], token_id="c-1", field="code") == "proof-1"
    assert (await holders_of(bench.mongos[0], "a")).consents == 0


# ---------------------------------------------------------------- the race with a refresh


async def test_a_token_under_a_lease_waits(bench):
    """A request may be running, whose answer is fenced on the text that was presented."""
    name = bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    assert await resealed(bench) == Progress(skipped=1)
    assert bench.document()["refresh_token"] == claim.spent
    assert await store.record(claim, renewed()) is Recorded.STORED
    bench.set(name, grant_fingerprint=RING.fingerprint("refresh-1"))
    assert (await resealed(bench)).skipped == 0
    assert opened(bench, name) == "refresh-1"


async def test_a_claim_between_reading_and_writing_wins(bench, monkeypatch):
    """The write is conditional on the lease that was read."""
    name = bench.insert()
    store = bench.store()
    work = resealer(bench)
    claims = []
    swap = work._swap

    async def overtaken(steps: Any) -> Any:
        if not claims:
            claims.append(await claim_one(store))
        return await swap(steps)

    monkeypatch.setattr(work, "_swap", overtaken)
    async for _ in work.run():
        pass
    assert work.progress == Progress(skipped=1)
    assert bench.document()["refresh_token"] == claims[0].spent
    assert await store.record(claims[0], renewed()) is Recorded.STORED
    assert opened(bench, name) == "refresh-1"


async def test_a_claim_after_the_write_presents_the_new_text(bench):
    bench.insert()
    await resealed(bench)
    store = bench.store()
    claim = await claim_one(store)
    assert claim.spent.startswith("v1.b.")
    assert claim.token.refresh_token == Secret("refresh-0")
    assert await store.record(claim, renewed()) is Recorded.STORED
    assert bench.refresh_token() == "refresh-1"


async def test_a_consent_between_reading_and_writing_wins(bench, monkeypatch):
    bench.insert()
    work = resealer(bench)
    swap = work._swap

    async def overtaken(steps: Any) -> Any:
        if work.progress.resealed == 0 and not bench.slept:
            bench.consent()
        return await swap(steps)

    monkeypatch.setattr(work, "_swap", overtaken)
    async for _ in work.run():
        pass
    assert bench.refresh_token() == "refresh-consent"
    assert bench.document()["refresh_token"].startswith("v1.b.")  # in a later round
    assert work.progress == Progress(resealed=1)


@pytest.mark.parametrize("path", ["access_token", "origin.rest"])
async def test_another_text_between_reading_and_writing_wins_in_every_field(bench, monkeypatch, path):
    """Though the refresh token is as it was read."""
    sealed_as = path.replace(".", "_")
    bench.insert(origin={"rest": seal("acme:1", "{}", "origin_rest")})
    work = resealer(bench)
    swap = work._swap

    async def overtaken(steps: Any) -> Any:
        if not bench.slept:
            bench.set("acme:1", **{path: seal("acme:1", "newer", sealed_as)})
        return await swap(steps)

    monkeypatch.setattr(work, "_swap", overtaken)
    async for _ in work.run():
        pass
    document = bench.document()
    text = document["origin"]["rest"] if path == "origin.rest" else document[path]
    assert NEWER.only("b").open(text, token_id="acme:1", field=sealed_as) == "newer"
    assert work.progress == Progress(resealed=1)


async def test_a_held_token_comes_through_once_its_hold_is_over(bench):
    """An instance is gone. Its journal may still hold the successor, and a replay stores it onto the new text."""
    name = bench.insert()
    store = bench.store("gone")
    claim = await claim_one(store)
    assert await resealed(bench) == Progress(skipped=1)
    bench.set(name, **{"lease.hold": BEFORE, "lease.until": BEFORE})
    assert await resealed(bench) == Progress(resealed=1)
    assert bench.document()["lease"]["claim"] == claim.id
    recalled = await store.recall(entry_of(claim))
    assert recalled is not None
    assert await store.record(recalled, renewed()) is Recorded.STORED
    assert bench.refresh_token() == "refresh-1"


async def test_a_replay_of_a_kept_value_after_the_hold_is_stored_too(bench):
    """A result without a successor needs the lease, which re-sealing leaves alone."""
    name = bench.insert()
    store = bench.store("gone")
    claim = await claim_one(store)
    bench.set(name, **{"lease.hold": BEFORE, "lease.until": BEFORE})
    await resealed(bench)
    assert await store.record(claim, renewed(None)) is Recorded.STORED
    assert opened(bench, name) == "refresh-0"
    assert await bench.store().record(claim, postponed()) is Recorded.SUPERSEDED


async def test_a_doubt_stays_with_its_token(bench):
    doubt = {"since": BEFORE, "tries": 1, "asker": "gone"}
    lease = {"owner": "gone", "claim": None, "hold": LATER}
    bench.insert(doubt=doubt, lease=lease)
    assert await resealed(bench) == Progress(skipped=1)
    bench.set("acme:1", lease={**lease, "hold": BEFORE})
    assert await resealed(bench) == Progress(resealed=1)
    assert bench.document()["doubt"] == doubt


# ---------------------------------------------------------------- texts of writers


async def test_a_writers_text_becomes_a_v1_text_with_its_fingerprint(bench):
    name = bench.insert(refresh_token=w1("acme:1", "refresh-w"))
    assert await resealed(bench) == Progress(resealed=1)
    assert bench.document()["refresh_token"].startswith("v1.b.")
    assert bench.document()["grant_fingerprint"] == NEWER.fingerprint("refresh-w")
    assert opened(bench, name) == "refresh-w"
    assert bench.document()["state"] == "active"


@pytest.mark.parametrize("both", [False, True], ids=["one by refreshd", "both by writers"])
async def test_of_two_documents_with_one_refresh_token_the_later_one_is_paused(bench, both):
    """As before presenting; the other one's fingerprint is under the old key."""
    texts = w1("acme:1", "same"), w1("acme:2", "same") if both else seal("acme:2", "same")
    bench.insert("1", refresh_token=texts[0], issued_at=LATER, grant_fingerprint=RING.fingerprint("same"))
    bench.insert("2", refresh_token=texts[1], issued_at=BEFORE, grant_fingerprint=RING.fingerprint("same"))
    assert await resealed(bench) == Progress(resealed=2)
    assert bench.document("acme:2")["state"] == "active"
    late = bench.document("acme:1")
    assert (late["state"], late["due_at"], late["last_failure"]["kind"]) == ("paused", None, "duplicate")
    assert opened(bench, "acme:1") == opened(bench, "acme:2") == "same"
    bench.ring = NEWER
    assert names(await bench.store().claim(ACME, limit=10, busy=[])) == ["acme:2"]


async def test_a_duplicate_is_looked_for_before_the_text_can_be_presented_as_v1(bench, monkeypatch):
    """If the run ends in between, a claim still finds a writer's text, and looks for itself."""
    bench.insert("1", refresh_token=w1("acme:1", "same"), issued_at=LATER)
    bench.insert("2", refresh_token=seal("acme:2", "same"), grant_fingerprint=RING.fingerprint("same"))
    work = resealer(bench)

    async def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(work._writers_texts, "pause_duplicates", killed)
    with pytest.raises(KeyboardInterrupt):
        async for _ in work.run():
            pass
    assert bench.document("acme:1")["refresh_token"].startswith("w1.a.")
    assert names(await bench.store().claim(ACME, limit=10, busy=[])) == ["acme:2", "acme:1"]
    assert bench.document("acme:1")["state"] == "paused"


async def test_a_duplicate_under_a_claim_stays_a_writers_text(bench, monkeypatch):
    """Neither of the two can be paused, so the later one waits."""
    lease = {"owner": "gone", "claim": "c", "hold": BEFORE}
    bench.insert("1", refresh_token=w1("acme:1", "same"), issued_at=LATER, lease=lease)
    bench.insert("2", refresh_token=seal("acme:2", "same"), grant_fingerprint=RING.fingerprint("same"))
    assert await resealed(bench) == Progress(resealed=1, skipped=1)
    assert bench.document("acme:1")["refresh_token"].startswith("w1.a.")
    assert bench.document("acme:1")["state"] == "active"


async def test_a_text_of_a_writer_that_is_not_accepted_stays(bench):
    """A leaked writer key plants nothing under the new one."""
    text = w1("acme:1", "planted")
    bench.insert(refresh_token=text)
    ring = KeyRing({"a": b"\x01" * 32, "b": b"\x02" * 32}, active="b", writers=["b"])
    (failed,) = (await resealed(bench, ring)).failed
    assert "keys.writers" in failed.why
    assert bench.document()["refresh_token"] == text


# ---------------------------------------------------------------- counts


async def test_values_are_counted_by_key_and_field(bench):
    bench.insert("1", grant_fingerprint=RING.fingerprint("refresh-0"), updated_at=BEFORE)
    bench.insert("2", refresh_token=w1("acme:2", "x"), updated_at=LATER)
    bench.insert(
        "3", refresh_token=seal("acme:3", "x", ring=NEWER), access_token="v1.b.x", updated_at="never"
    )
    bench.insert(
        "4", origin={"rest": seal("acme:4", "{}", "origin_rest")}, access_token=None, refresh_token=7
    )
    for number, text in enumerate(
        ["", ".", "v1", "v1.a", "v2.a.x", f"v1.{'x' * 65}.y", "v1.$a.x", "v1.a.b.c"]
    ):
        bench.insert(f"strange-{number}", refresh_token=text, access_token=text, grant_fingerprint=text)
    found = await sealed_values(bench.mongos[0])
    assert found.exact
    assert found.values["a"] == {
        "access_token": 2,
        "refresh_token": 2,
        "origin.rest": 1,
        "grant_fingerprint": 1,
    }
    assert found.values["b"] == {"access_token": 1, "refresh_token": 1}
    assert found.oldest == {"a": BEFORE}


async def test_a_large_store_is_sampled_and_says_so(bench, monkeypatch):
    monkeypatch.setattr("daemon.adapters.mongo.counting.sealed_values.EXACT_UP_TO", 10)
    monkeypatch.setattr("daemon.adapters.mongo.counting.sealed_values.SAMPLED", 8)
    for number in range(32):
        bench.insert(f"{number}")
    found = await sealed_values(bench.mongos[0])
    assert not found.exact
    assert found.values["a"]["refresh_token"] == 32
    assert (await sealed_values(bench.mongos[0], exact=True)).exact


async def test_holders_are_counted_by_a_majority_whatever_their_form(bench):
    bench.insert("1")
    bench.insert("2", refresh_token=["v1.a.x"], access_token=None)
    bench.insert("3", refresh_token=None, access_token=None, grant_fingerprint="a.00")
    bench.insert("4", refresh_token="v1.ab.x", access_token="v1.b.x")
    found = await holders_of(bench.mongos[0], "a")
    assert (found.values, sorted(found.ids)) == (4, ["acme:1", "acme:2", "acme:3"])
