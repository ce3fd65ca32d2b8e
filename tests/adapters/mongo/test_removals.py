"""A token that an application removes while the daemon renews it, or has its reply in the journal."""

from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.adapters.mongo.admin.contents import duplicates
from daemon.adapters.mongo.admin.tokens import TokenAdmin
from daemon.adapters.mongo.audit import Audit, Who
from daemon.adapters.mongo.removals import delete_removed
from daemon.adapters.mongo.store import MongoStore
from daemon.domain.claim import Recorded, Unusable
from daemon.domain.journal_entry import Entry
from daemon.domain.secret import Secret
from daemon.domain.served_token import ServedToken
from daemon.domain.stored_grant import StoredGrant
from daemon.domain.token import State, Token
from daemon.serving.write_rules import removed
from tests.adapters.mongo.mongo_bench import (
    ACME,
    NOON,
    RING,
    STRANGE,
    Bench,
    bench,
    claim_one,
    database,
    entry_of,
    names,
    renewed,
    seal,
)
from tests.serving.access_bench import caller

__all__ = ["bench", "database"]


def mark(bench: Bench, name: str = "acme:1") -> None:
    """What the access service sets."""
    token = ServedToken(id=name, provider="acme", account="1", state="active")
    edit = removed(StoredGrant(token=token, has_refresh_token=True), key=caller().key, now=NOON)
    bench.set(name, **edit.fields)


async def test_a_late_result_brings_no_removed_token_back(bench: Bench):
    name = bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    mark(bench)
    mongo = bench.mongos[-1]
    assert await delete_removed(mongo) == []
    assert await store.record(claim, renewed()) is Recorded.SUPERSEDED
    document = bench.document(name)
    assert (document["state"], document["refresh_token"], document["access_token"]) == ("removed", None, None)
    assert document["lease"] is None
    assert await delete_removed(mongo) == [name]


async def test_a_reply_in_the_journal_finds_no_removed_token(bench: Bench):
    """As if its document were deleted already: the entry is not kept for an operator."""
    name = bench.insert()
    store = bench.store()
    claim = await claim_one(store)
    mark(bench)
    assert await store.recall(entry_of(claim)) is None
    bench.tokens.delete_one({"_id": name})
    assert await store.recall(entry_of(claim)) is None


async def test_a_removed_token_is_no_second_copy_of_a_grant(bench: Bench):
    """`refreshd check` reports no duplicate: nothing is left to present."""
    for number in ("1", "2", "3"):
        bench.insert(number, grant_fingerprint="a.same")
    bench.store()
    mongo = bench.mongos[-1]
    assert await duplicates(mongo) == [["acme:1", "acme:2", "acme:3"]]
    mark(bench)
    assert await duplicates(mongo) == [["acme:2", "acme:3"]]
    mark(bench, "acme:2")
    assert await duplicates(mongo) == []


async def test_a_removed_token_is_never_claimed(bench: Bench):
    """Not even if a program that knows no marks makes it due."""
    bench.insert()
    mark(bench)
    bench.set("acme:1", due_at=NOON - timedelta(minutes=1))
    batch = await bench.store().claim(ACME, limit=10, busy=[])
    assert all(not hasattr(item, "spent") for item in batch.items), names(batch)
    assert bench.document()["state"] == "removed"


# ---------------------------------------------------------------- late replies of removed tokens


async def removed_by_operator(bench: Bench) -> tuple[MongoStore, Entry]:
    """A token that was removed while its request was running."""
    bench.insert()
    store = bench.store()
    entry = entry_of(await claim_one(store))
    mongo = bench.mongos[-1]
    audit = Audit(mongo, who=Who(actor="ann@host"), log=lambda _record: None)
    await TokenAdmin(mongo, RING, audit).remove("acme:1")
    return store, entry


async def test_the_claim_of_a_removed_token_has_what_its_request_presented(bench: Bench):
    """The audit shows the removal. Nothing of the document is left: no variables."""
    store, entry = await removed_by_operator(bench)
    claim = await store.removed(entry, alone=True)
    assert claim is not None
    assert claim.token == Token(
        id="acme:1",
        provider="acme",
        account="1",
        state=State.REVOKED,
        refresh_token=Secret("refresh-0"),
    )
    assert (claim.spent, claim.id) == (entry.spent, entry.claim)


async def test_the_mark_of_a_removal_is_proof_enough(bench: Bench):
    bench.insert()
    store = bench.store()
    entry = entry_of(await claim_one(store))
    assert await store.removed(entry, alone=True) is None
    mark(bench)
    assert await store.removed(entry, alone=True) is not None


async def test_a_document_that_is_only_missing_was_not_removed(bench: Bench):
    """As in a restored or a wrong database, or if it was removed and stored again before the request."""
    store, entry = await removed_by_operator(bench)
    bench.database["tokens_audit"].update_many({}, {"$set": {"at": NOON - timedelta(hours=1)}})
    assert await store.removed(entry, alone=True) is None
    bench.database["tokens_audit"].delete_many({})
    assert await store.removed(entry, alone=True) is None


@pytest.mark.parametrize(
    ("fields", "alone", "expected"),
    [
        ({}, True, False),
        ({}, False, True),
        ({"grant_fingerprint": RING.fingerprint("refresh-0")}, False, False),
        ({"state": "revoked"}, True, True),
        ({"state": "removed"}, True, True),
        ({"state": "revoking"}, True, False),
        ({"provider": "other"}, True, True),
    ],
)
async def test_a_stored_token_that_a_revocation_could_end_is_seen(bench: Bench, fields, alone, expected):
    """With `alone` any other one of the provider, and otherwise one with the same refresh token."""
    store, entry = await removed_by_operator(bench)
    bench.insert("2", **fields)
    assert (await store.removed(entry, alone=alone) is not None) is expected


async def test_a_presented_secret_that_does_not_open_makes_the_entry_unusable(bench: Bench):
    store, entry = await removed_by_operator(bench)
    stranger = replace(entry, spent=seal("acme:1", "refresh-0", ring=STRANGE))
    with pytest.raises(Unusable, match="can't be opened"):
        await store.removed(stranger, alone=True)
    assert await store.removed(replace(entry, spent=None), alone=True) is None
