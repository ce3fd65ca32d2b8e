"""Lists, counts and the audit: what a key may see, and no secret. Against the real MongoDB."""

import random
import string
from datetime import timedelta
from typing import Any

import pytest

from daemon.adapters.mongo.audit import RecordSelection, count_records, records
from daemon.adapters.mongo.serving.lists import _query
from daemon.domain.access_key import Verb
from daemon.domain.audit_position import read_position, text_of
from daemon.domain.selection import end_of_range, ids_of
from daemon.serving.doorkeeper import Caller
from daemon.serving.listing import Wish, _selection
from tests.serving.access_bench import NOON, RING, AccessBench, bench, caller

__all__ = ["bench"]
MS = timedelta(milliseconds=1)


async def ids(bench: AccessBench, who: object, **wish: object) -> list[str]:
    page = await bench.listing.tokens(who, Wish(**wish))
    return [one.token.id for one in page.items]


async def test_a_list_goes_on_where_it_ended(bench: AccessBench):
    names = [bench.insert(f"acme:{one}") for one in "abcde"]
    page = await bench.listing.tokens(caller(), Wish(limit=2))
    found = [one.token.id for one in page.items]
    while page.next is not None:
        assert page.next == found[-1]
        page = await bench.listing.tokens(caller(), Wish(limit=2, after=page.next))
        found += [one.token.id for one in page.items]
    assert found == names


async def test_a_list_holds_no_secret(bench: AccessBench):
    bench.insert(extra={"api_key": RING.seal("x", token_id="acme:1", field="extra")})
    page = await bench.listing.tokens(caller(), Wish())
    assert "v1." not in repr(page)
    assert page.items[0].token.sealed is None


async def test_a_list_is_what_the_key_may_see(bench: AccessBench):
    """By whole ids, by beginnings and by fields: of exactly that text."""
    bench.insert("acme:1", meta={"tenant": "a"}, subject="ann")
    bench.insert("acme:2", meta={"tenant": "b"}, subject="bob")
    bench.insert("acme:22", meta={"tenant": ["a"]})
    bench.insert("shop:1", meta={"tenant": "A"})
    bench.insert("acme:gone", state="removed", meta={"tenant": "a"})
    bench.insert("acme:revoked", state="revoked", meta={"tenant": "a"})
    assert await ids(bench, caller("*")) == ["acme:1", "acme:2", "acme:22", "shop:1"]
    assert await ids(bench, caller("acme:2")) == ["acme:2"]
    assert await ids(bench, caller("acme:2*")) == ["acme:2", "acme:22"]
    assert await ids(bench, caller("acme:1", "shop:*")) == ["acme:1", "shop:1"]
    assert await ids(bench, caller("*", where={"meta.tenant": "a"})) == ["acme:1"]
    assert await ids(bench, caller("*", where={"subject": "bob"})) == ["acme:2"]
    assert await ids(bench, caller("*"), provider="acme", where={"meta.tenant": "b"}) == ["acme:2"]
    assert await ids(bench, caller("*"), state="active", after="acme:2") == ["acme:22", "shop:1"]
    assert await ids(bench, caller("*", where={"meta.tenant": "a"}), where={"subject": "bob"}) == []
    assert await ids(bench, caller("shop:*"), provider="acme") == []


async def test_documents_of_other_programs_spoil_no_list(bench: AccessBench):
    bench.tokens.insert_many([{"_id": 5}, {"_id": "acme:1", "state": 7, "meta": [], "revision": "x"}])
    bench.tokens.insert_one({"_id": "acme:" + "x" * 5000})
    assert await ids(bench, caller("*")) == ["acme:1"]
    (counted,) = await bench.listing.count(caller("*"))
    assert (counted.state, counted.count) == ("", 1)


async def test_counts_are_of_what_the_key_may_see(bench: AccessBench):
    bench.insert("acme:1")
    bench.insert("acme:2", expires_at=NOON)
    bench.insert("acme:3", state="paused")
    bench.insert("shop:1", meta={"tenant": "a"})
    found = await bench.listing.count(caller("acme:*"))
    assert {(one.provider, one.state): (one.count, one.expired) for one in found} == {
        ("acme", "active"): (2, 1),
        ("acme", "paused"): (1, 0),
    }
    (limited,) = await bench.listing.count(caller("*", where={"meta.tenant": "a"}))
    assert (limited.provider, limited.count) == ("shop", 1)


async def test_every_route_needs_its_verb(bench: AccessBench):
    bench.insert(subject="ann")
    for verb, work in (
        (Verb.LIST, lambda who: bench.listing.tokens(who, Wish())),
        (Verb.LIST, bench.listing.count),
        (Verb.AUDIT, bench.listing.records),
        (Verb.REVOKE, lambda who: bench.listing.remove_all(who, "ann", revoke=False)),
    ):
        others = tuple(one for one in Verb if one is not verb)
        assert (await bench.problem(work(caller(can=others)))).name == "not-found"
        await work(caller(can=(verb,)))


async def test_all_tokens_of_a_subject_are_removed_and_each_has_a_result(bench: AccessBench):
    bench.insert("acme:1", subject="ann")
    bench.insert("acme:2", subject="ann", state="revoking")
    bench.insert("acme:3", subject="bob")
    bench.insert("shop:1", subject="ann")
    who = caller("acme:*", can=(Verb.REVOKE,))
    removed = await bench.listing.remove_all(who, "ann", revoke=False)
    assert removed.next is None
    assert [(one.id, one.result) for one in removed.items] == [("acme:1", "removed"), ("acme:2", "revoking")]
    assert bench.document("acme:3")["state"] == bench.document("shop:1")["state"] == "active"


async def test_all_tokens_of_a_subject_are_revoked_and_each_has_a_result(bench: AccessBench):
    """A provider without a revocation keeps none of the others from theirs."""
    for name in ("acme:1", "shop:1", "shop:2"):
        bench.insert(name, subject="ann")
    bench.insert("shop:3", subject="bob")
    done = await bench.listing.remove_all(caller("*", can=(Verb.REVOKE,)), "ann", revoke=True)
    assert [(one.id, one.result) for one in done.items] == [
        ("acme:1", "no-revocation"),
        ("shop:1", "revoking"),
        ("shop:2", "revoking"),
    ]
    assert [bench.document(name)["state"] for name in ("acme:1", "shop:1", "shop:3")] == [
        "active",
        "revoking",
        "active",
    ]


def consents(bench: AccessBench) -> dict[str, Any]:
    """Consents of ann at two providers, and one of bob. The last ones of ann hold a grant, or are stored already."""
    until = NOON + timedelta(days=9999)
    held = {"state": "asked", "code_challenge": "c", "completed_at": None, "connect_code_hash": "h"}
    rows: list[dict[str, Any]] = [
        {"_id": "waits", "provider": "acme", "meta": {"tenant": "a"}},
        {"_id": "tenant-b", "provider": "acme", "meta": {"tenant": "b"}},
        {"_id": "elsewhere", "provider": "shop", "meta": {"tenant": "a"}},
        {"_id": "held", "provider": "acme", "meta": {"tenant": "a"}, **held, "held_until": until},
        {"_id": "stored", "provider": "acme", "meta": {"tenant": "a"}, "state": "done"},
        {"_id": "bobs", "provider": "acme", "meta": {"tenant": "a"}, "subject": "bob"},
    ]
    usual = {"account": "9", "state": "waiting", "subject": "ann", "code": "w1.a.b", "link_hash": "l"}
    bench.database["tokens_consents"].insert_many([{**usual, **row} for row in rows])
    return stored_consents(bench)


def stored_consents(bench: AccessBench) -> dict[str, Any]:
    return {one["_id"]: one for one in bench.database["tokens_consents"].find()}


@pytest.mark.parametrize("revoke", [True, False])
async def test_the_unfinished_consents_of_a_subject_end_with_its_tokens(bench: AccessBench, revoke: bool):
    """Otherwise the account of a user who has left would be connected a minute later. What the key may not revoke stays."""
    before = consents(bench)
    who = caller("acme:*", can=(Verb.REVOKE,), where={"meta.tenant": "a"})
    assert (await bench.listing.remove_all(who, "ann", revoke=revoke)).items == []
    after = stored_consents(bench)
    assert (after["waits"]["state"], after["waits"]["failure"]["kind"]) == ("failed", "revoking")
    assert after["waits"]["code"] is after["waits"]["link_hash"] is None
    assert after["held"]["held_until"] == after["held"]["grant_due_at"] == NOON
    assert after["held"]["connect_code_hash"] is None
    (record,) = bench.audit.find({"action": "end_consents"})
    assert (record["token"], record["count"], record["subject"], record["by"]["key"]) == (
        None,
        2,
        "ann",
        who.key.id,
    )
    others = ("tenant-b", "elsewhere", "stored", "bobs")
    assert [after[name] for name in others] == [before[name] for name in others]


async def test_a_key_that_may_not_revoke_ends_no_consent(bench: AccessBench):
    """Nor does an unknown subject."""
    before = consents(bench)
    who = caller(can=tuple(one for one in Verb if one is not Verb.REVOKE))
    assert (await bench.problem(bench.listing.remove_all(who, "ann", revoke=True))).name == "not-found"
    await bench.listing.remove_all(caller(can=(Verb.REVOKE,)), "nobody", revoke=True)
    assert stored_consents(bench) == before
    assert bench.audit.count_documents({"action": "end_consents"}) == 0


# ---------------------------------------------------------------- the audit


async def test_a_key_sees_the_records_of_tokens_that_it_may_see(bench: AccessBench):
    bench.insert("acme:1", meta={"tenant": "a"})
    bench.insert("acme:2", meta={"tenant": "b"})
    for name in ("acme:1", "acme:2"):
        await bench.patch(caller(), name, subject="x")
    bench.audit.insert_many(
        [
            {"at": NOON, "action": "access_create", "token": "acme", "actor": "ann@host", "kind": "operator"},
            {"at": NOON, "action": "reveal", "token": "acme:1", "actor": "ann@host", "kind": "operator"},
        ]
    )
    bench.database["tokens_access_use"].insert_many(
        [
            {"_id": "1", "at": NOON, "action": "read", "token": "acme:1", "kind": "access", "count": 3},
            {
                "_id": "2",
                "at": NOON,
                "action": "refused",
                "token": None,
                "kind": "access",
                "count": 3,
                "by": {"key": "o" * 20},
            },
            {"_id": "key k", "kind": "key", "last_used_at": NOON},
        ]
    )

    async def seen(who: object, **wish: object) -> list[tuple[object, object]]:
        found = await bench.listing.records(who, **wish)
        return sorted(((one["action"], one["token"]) for one in found.items), key=str)

    everything = await seen(caller("*"))
    assert len(everything) == 6
    assert await seen(caller("acme*")) == [
        ("read", "acme:1"),
        ("reveal", "acme:1"),
        ("update", "acme:1"),
        ("update", "acme:2"),
    ]
    of_tenant = [("read", "acme:1"), ("reveal", "acme:1"), ("update", "acme:1")]
    assert await seen(caller("*", where={"meta.tenant": "a"})) == of_tenant
    assert await seen(caller("acme:*"), token="acme:2") == [("update", "acme:2")]
    assert await seen(caller("acme:*"), actor="billing", since=NOON) == [
        ("update", "acme:1"),
        ("update", "acme:2"),
    ]
    assert len([one async for one in records(bench.mongo, RecordSelection(), limit=9)]) == 6
    assert await count_records(bench.mongo, RecordSelection(who="billing")) == 2


async def test_a_key_with_limits_sees_its_own_refused_requests_and_no_others(bench: AccessBench):
    bench.insert("acme:1", meta={"tenant": "a"})
    rows = [("mine", "k" * 20), ("other", "o" * 20)]
    bench.database["tokens_access_use"].insert_many(
        [
            {
                "_id": name,
                "at": NOON,
                "action": "refused",
                "kind": "access",
                "result": name,
                "by": {"key": key},
            }
            for name, key in rows
        ]
    )
    bench.audit.insert_one({"at": NOON, "action": "resume", "token": "acme", "by": {"key": "k" * 20}})

    async def seen(who: Caller, **wish: Any) -> list[object]:
        return sorted(
            one["result"] or one["action"] for one in (await bench.listing.records(who, **wish)).items
        )

    assert await seen(caller("*")) == ["mine", "other", "resume"]
    for who in (
        caller("acme:*"),
        caller("acme:1"),
        caller("*", where={"meta.tenant": "a"}),
        caller("acme:*", where={"subject": "nobody"}),
        caller("nothing:*"),
    ):
        assert await seen(who) == ["mine"], who
    assert await seen(caller("acme:*", id="n" * 20)) == []
    assert await seen(caller("acme:*"), token="acme:1") == []


async def test_records_of_a_removed_token_are_seen_by_id_only(bench: AccessBench):
    """A key with conditions can't show that the token fulfilled them. One that has moved shows its records to the key
    that may see it today.
    """
    bench.insert("acme:1", meta={"tenant": "a"})
    bench.insert("acme:2", meta={"tenant": "a"}, state="removed")
    reason = {"person": "ann", "reason": "secret"}
    for name in ("acme:1", "acme:2", "acme:3"):
        bench.audit.insert_one({"at": NOON, "action": "pause", "token": name, "by": reason})

    async def seen(who: Caller) -> list[object]:
        return sorted(one["token"] for one in (await bench.listing.records(who)).items)

    assert await seen(caller("acme:*")) == ["acme:1", "acme:2", "acme:3"]
    assert await seen(caller("acme:2", "acme:3")) == ["acme:2", "acme:3"]
    assert await seen(caller("acme:*", where={"meta.tenant": "a"})) == ["acme:1"]
    bench.tokens.update_one({"_id": "acme:1"}, {"$set": {"meta.tenant": "b"}})
    assert await seen(caller("acme:*", where={"meta.tenant": "a"})) == []
    assert await seen(caller("acme:*", where={"meta.tenant": "b"})) == ["acme:1"]
    assert await seen(caller("acme:*", where={"meta.tenant": "b"}, can=(Verb.AUDIT,))) == ["acme:1"]


def store_records(bench: AccessBench, chance: random.Random, count: int) -> list[tuple[object, ...]]:
    """Deeds and uses, many of them at the same moments."""
    deeds, uses = [], []
    for number in range(count):
        at = NOON + chance.randint(0, count // 4) * timedelta(milliseconds=1)
        row = {"at": at, "token": f"acme:{chance.randint(1, 3)}", "revision": number, "action": "x"}
        if chance.random() < 0.5:
            deeds.append({**row, "kind": "operator"})
        else:
            uses.append({**row, "_id": f"read {number:04} Zoë", "kind": "access"})
    bench.audit.insert_many(deeds)
    bench.database["tokens_access_use"].insert_many(uses)
    return [(one["at"], one["revision"], one["token"]) for one in (*deeds, *uses)]


@pytest.mark.parametrize("examined", [3, 20_000])
@pytest.mark.parametrize("limit", [1, 7, 500])
async def test_pages_of_records_hold_each_record_once_newest_first(
    bench: AccessBench, monkeypatch: pytest.MonkeyPatch, examined: int, limit: int
):
    """Also those of one moment, and if a page looks at few records."""
    monkeypatch.setattr("daemon.adapters.mongo.serving.records.EXAMINED", examined)
    bench.insert("acme:2", meta={"tenant": "a"})
    stored = store_records(bench, random.Random(limit), 60)
    wishes = (
        (caller("*"), {}, lambda _row: True),
        (caller("acme:1", "acme:3"), {}, lambda row: row[2] != "acme:2"),
        (caller("*", where={"meta.tenant": "a"}), {}, lambda row: row[2] == "acme:2"),
        (caller("acme:*"), {"token": "acme:3"}, lambda row: row[2] == "acme:3"),
        (
            caller("acme:*"),
            {"since": NOON + 9 * timedelta(milliseconds=1)},
            lambda row: row[0] >= NOON + MS * 9,
        ),
    )
    for who, wish, is_wanted in wishes:
        found, after, pages = [], None, 0
        while True:
            page = await bench.listing.records(who, limit=limit, after=after, **wish)
            assert len(page.items) <= limit
            found += [(one["at"], one["revision"], one["token"]) for one in page.items]
            if page.end is None:
                break
            after, pages = read_position(text_of(page.end)), pages + 1
            assert pages < 200
        assert [one[0] for one in found] == sorted((one[0] for one in found), reverse=True)
        assert sorted(found) == sorted(filter(is_wanted, stored))


async def test_a_page_of_records_looks_at_a_bounded_number(
    bench: AccessBench, monkeypatch: pytest.MonkeyPatch
):
    """Whatever is stored and whatever is wanted: here a record that is not there."""
    monkeypatch.setattr("daemon.adapters.mongo.serving.records.EXAMINED", 50)
    rows = [{"at": NOON + one * MS, "token": f"acme:{one}", "kind": "access"} for one in range(2000)]
    bench.audit.insert_many([dict(one) for one in rows])
    bench.database["tokens_access_use"].insert_many([{"_id": str(n), **one} for n, one in enumerate(rows)])
    bench.database.command({"profile": 2})
    try:
        for who, wish in (
            (caller("other:*"), {}),
            (caller("*"), {"actor": "nobody"}),
            (caller("acme:*", where={"subject": "nobody"}), {}),
            (caller("*"), {"token": "acme:700"}),
            (caller("*"), {"limit": 5}),
        ):
            page = await bench.listing.records(who, **wish)
            assert len(page.items) == {"token": 2, "limit": 5}.get(next(iter(wish), ""), 0)
    finally:
        bench.database.command({"profile": 0})
    seen = list(bench.database["system.profile"].find({"command.aggregate": {"$regex": "^tokens_"}}))
    assert len(seen) == 4 * 4 + 2 + 2  # two more for the key with a condition
    assert max(one["docsExamined"] for one in seen) <= 51
    assert max(one["keysExamined"] for one in seen) <= 104


# ---------------------------------------------------------------- a subject


async def test_the_tokens_of_a_subject_are_removed_in_parts(
    bench: AccessBench, monkeypatch: pytest.MonkeyPatch
):
    """Those that can't be removed hold up none behind them, and asking once more changes nothing."""
    monkeypatch.setattr("daemon.serving.listing.USUAL", 2)
    names = [bench.insert(f"acme:{one}", subject="ann") for one in "abcde"]
    bench.tokens.update_many({"_id": {"$in": names[:2]}}, {"$set": {"state": "revoking"}})
    who, done, after = caller("acme:*", can=(Verb.REVOKE,)), [], None
    for wanted in ("acme:b", "acme:d", None):
        page = await bench.listing.remove_all(who, "ann", revoke=False, after=after)
        done += [(one.id, one.result) for one in page.items]
        assert page.next == wanted
        after = page.next
    assert done == [(name, "revoking" if name in names[:2] else "removed") for name in names]
    again = await bench.listing.remove_all(who, "ann", revoke=False)
    assert [(one.id, one.result) for one in again.items] == [(name, "revoking") for name in names[:2]]
    assert again.next is None


# ---------------------------------------------------------------- ids


def test_the_ids_that_selectors_name_are_those_that_a_comparison_finds():
    """Random texts with rare characters: as many as a loop over all of them finds."""
    chance = random.Random(5)
    letters = "ab:\x7f\ud7ff\ue000\uffff\U0010ffff" + string.digits[:2]

    def text(longest: int) -> str:
        return "".join(chance.choice(letters) for _ in range(chance.randint(0, longest)))

    for _ in range(3000):
        names = [text(4) for _ in range(30)]
        selectors = [text(3) + chance.choice(["*", ""]) for _ in range(chance.randint(1, 3))]
        beginning, after = chance.choice(["", text(2)]), chance.choice([None, text(3)])
        found = ids_of(selectors, beginning=beginning, after=after)
        for name in names:
            wanted = (
                any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in selectors)
                and name.startswith(beginning)
                and (after is None or name > after)
            )
            inside = any(start <= name and (end is None or name < end) for start, end in found.ranges)
            assert (name in found.exact or inside) is wanted, (name, selectors, beginning, after)


@pytest.mark.parametrize(
    ("text", "end"),
    [("a", "b"), ("", None), ("\U0010ffff", None), ("a\U0010ffff", "b"), ("\ud7ff", "\ue000")],
)
def test_a_range_ends_with_the_next_character(text: str, end: str | None):
    assert end_of_range(text) == end


@pytest.mark.parametrize(
    ("who", "wish", "most"),
    [
        (caller("*"), Wish(), 6),
        (caller("acme:*"), Wish(after="acme:0500"), 6),
        (caller("acme:0007", "acme:09*"), Wish(), 8),
        (caller("*"), Wish(provider="acme", state="active"), 6),
        (caller("*"), Wish(where={"subject": "user-7"}), 2),
        (caller("*", where={"subject": "user-7"}), Wish(provider="acme"), 2),
    ],
)
async def test_a_page_costs_what_it_holds(bench: AccessBench, who: Caller, wish: Wish, most: int):
    """No query reads the whole collection, or sorts."""
    rows = ({"_id": f"acme:{one:04}", "state": "active", "subject": f"user-{one}"} for one in range(1000))
    bench.tokens.insert_many(list(rows))
    query = _query(_selection(who, wish))
    pipeline = [{"$match": query}, {"$sort": {"_id": 1}}, {"$limit": 5}]
    command = {"aggregate": "tokens", "pipeline": pipeline, "cursor": {}, "collation": {"locale": "simple"}}
    plan = bench.database.command("explain", command, verbosity="executionStats")
    assert "COLLSCAN" not in str(plan["queryPlanner"]["winningPlan"])
    assert "'SORT'" not in str(plan["queryPlanner"]["winningPlan"])
    assert 0 < plan["executionStats"]["totalDocsExamined"] <= most
