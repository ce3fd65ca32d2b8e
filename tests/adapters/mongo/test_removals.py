"""A token that an application removes while the daemon renews it, or has its reply in the journal."""

from datetime import timedelta

from daemon.adapters.mongo.admin.contents import duplicates
from daemon.adapters.mongo.removals import delete_removed
from daemon.domain.claim import Recorded
from daemon.domain.served_token import ServedToken
from daemon.domain.stored_grant import StoredGrant
from daemon.serving.write_rules import removed
from tests.adapters.mongo.mongo_bench import (
    ACME,
    NOON,
    Bench,
    bench,
    claim_one,
    database,
    entry_of,
    names,
    renewed,
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
