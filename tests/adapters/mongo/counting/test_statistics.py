"""The store, counted in one pass, whatever is in it; and the documents that no sweep would find."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import Code, DatetimeMS, Int64, encode
from pymongo import MongoClient

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.counting.counter import Counter
from daemon.adapters.mongo.counting.pipelines import due_between, due_by_provider
from daemon.adapters.mongo.counting.statistics import repair_undated, whole_store
from daemon.adapters.mongo.resting import resting
from daemon.domain.claim import StoreLost
from daemon.domain.event import TokenHeld
from daemon.domain.secret import Secret
from tests.support.clocks import SetClock

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SOON_AND_LATER = (NOW + timedelta(days=6), NOW + timedelta(days=8))


@pytest.fixture
async def mongo(mongod, database_name):
    told = []
    store = Mongo(
        uri=Secret(mongod),
        database=database_name,
        collection="tokens",
        clock=SetClock(NOW),
        observe=told.append,
    )
    await store.prepare()
    yield store
    assert not told
    await store.close()


async def statistics(mongo, *, known=()):
    """What a replica that counts alone finds in one step."""
    found = await Counter(mongo, owner="me").step(known)
    assert found is not None
    return found


def failure(kind, at, **more):
    return {"kind": kind, "code": kind, "message": f"{kind} happened", "at": at, **more}


async def test_an_empty_store_counts_as_nothing(mongo):
    """No provider, nothing due, no failure."""
    counted = await statistics(mongo)
    assert (counted.states, counted.expired, counted.last_failures) == ({}, {}, [])
    assert counted.next_due_at is None
    assert counted.oldest_due_age is None
    assert counted.at == NOW


async def test_everything_is_counted_by_provider_and_state(mongo):
    """States, expired, set aside, held, refresh tokens' ends, pauses, and the ages."""
    past, future = NOW - MINUTE, NOW + 10 * MINUTE
    held = {"owner": "o", "until": past, "hold": future}
    await mongo.tokens.insert_many(
        [
            {"_id": "a:1", "provider": "a", "state": "active", "expires_at": past, "due_at": past, "lease": held},
            {"_id": "a:2", "provider": "a", "state": "active", "expires_at": future, "due_at": future, "refresh_expires_at": future, "lease": held},
            {"_id": "a:3", "provider": "a", "state": "needs_reauth", "expires_at": past, "due_at": None, "refresh_expires_at": past},
            {"_id": "b:1", "provider": "b", "state": "active", "last_failure": failure("unconfigured", past), "lease": {"until": future, "hold": future}},
            {"_id": "b:2", "provider": "b", "state": "paused", "last_failure": failure("unreadable", NOW)},
        ]
    )  # fmt: skip
    await mongo.providers.insert_many(
        [{"_id": "b", "paused": {"reason": "outage"}}, {"_id": "a", "paused": None}]
    )
    counted = await statistics(mongo)
    assert counted.states == {"a": {"active": 2, "needs_reauth": 1}, "b": {"active": 1, "paused": 1}}
    assert counted.expired == {"a": 1}
    assert counted.set_aside == {"b": 2}
    assert counted.held == {"a": 1}
    assert counted.held_tokens == [TokenHeld(token="a:1", provider="a", owner="o", hold=future)]
    assert counted.refresh_token_expiry == {"a": future}
    assert counted.paused == {"b": "outage"}
    assert counted.next_due_at == past
    assert counted.oldest_due_age is None  # the one that is due is held
    assert [failed.token for failed in counted.last_failures] == ["b:2", "b:1"]


async def test_the_oldest_due_is_of_what_nothing_keeps_waiting(mongo):
    """Neither another instance's lease nor a pause: an alert goes by it."""
    held = {"owner": "o", "until": NOW - MINUTE, "hold": NOW + MINUTE}
    ages = {"a:held": 40, "b:paused": 30, "a:waits": 20, "a:young": 10}
    await mongo.tokens.insert_many(
        {
            "_id": name,
            "provider": name[0],
            "state": "active",
            "due_at": NOW - age * MINUTE,
            "lease": held if name == "a:held" else None,
        }
        for name, age in ages.items()
    )
    await mongo.providers.insert_one({"_id": "b", "paused": {"reason": "operator"}})
    counted = await statistics(mongo)
    assert counted.oldest_due_age == 20 * MINUTE
    assert counted.next_due_at == NOW - 40 * MINUTE


async def test_what_ends_soon_and_for_good_is_named(mongo):
    """With its consent, with an access token that nothing renews, with a refresh token that no renewal moves; an idle end
    that the next renewal moves is none, and what is not active has no end to warn of."""
    soon, later = SOON_AND_LATER
    rows = {
        "consent": {"consent_ends_at": soon, "refresh_token": "v1.x", "due_at": NOW},
        "watched": {"expires_at": soon, "refresh_token": None, "due_at": None},
        "failing": {"refresh_expires_at": soon, "refresh_token": "v1.x", "due_at": NOW, "failures": 3},
        "idle": {"refresh_expires_at": soon, "refresh_token": "v1.x", "due_at": NOW, "failures": 0},
        "renewable": {"expires_at": soon, "refresh_token": "v1.x", "due_at": NOW},
        "later": {"consent_ends_at": later, "refresh_token": "v1.x", "due_at": NOW},
        "dead": {"consent_ends_at": soon, "refresh_token": "v1.x", "state": "needs_reauth"},
        "odd": {"consent_ends_at": "soon", "refresh_token": 7, "due_at": "never", "failures": "many"},
    }
    documents = [
        {"_id": f"a:{name}", "provider": "a", "state": "active", **row} for name, row in rows.items()
    ]
    await mongo.tokens.insert_many(documents)
    counted = await statistics(mongo)
    assert {one.token: one.ends_at for one in counted.ending_tokens} == dict.fromkeys(
        ["a:consent", "a:watched", "a:failing"], soon
    )
    assert counted.ending == {"a": 3}


async def test_the_newest_failures_of_all_providers_are_kept(mongo):
    """Twenty, newest first, over every group."""
    await mongo.tokens.insert_many(
        [
            {"_id": f"p{number % 3}:{number}", "provider": f"p{number % 3}", "state": "active",
             "last_failure": failure("unavailable", NOW - number * MINUTE)}
            for number in range(90)
        ]
    )  # fmt: skip
    newest = (await statistics(mongo)).last_failures
    assert [failed.token.split(":")[1] for failed in newest] == [str(number) for number in range(20)]
    assert newest[0].failure.at == NOW


async def test_the_tokens_whose_owners_must_consent_are_named(mongo):
    """The last ones of each provider; a failure of another state is none of them."""
    rows = [
        {"_id": f"a:{n:02}", "provider": "a", "state": "needs_reauth", "last_failure": failure("rejected", NOW + n * MINUTE)}
        for n in range(25)
    ]  # fmt: skip
    others = [
        {"_id": "b:1", "provider": "b", "state": "needs_reauth"},
        {"_id": "b:2", "provider": "b", "state": "active", "last_failure": failure("rejected", NOW)},
    ]
    await mongo.tokens.insert_many(rows + others)
    assert (await statistics(mongo)).needs_reauth_tokens == [*(f"a:{n:02}" for n in range(5, 25)), "b:1"]


async def test_ill_typed_documents_are_counted_and_harm_no_other(mongo):
    """Texts for dates, lists for objects, dates of the year 20000: none breaks the count or pretends to be a date."""
    await mongo.tokens.insert_many(
        [
            {"_id": "a:1", "provider": "a", "state": "active", "due_at": "soon", "expires_at": "0", "lease": [], "last_failure": []},
            {"_id": "a:2", "provider": "a", "state": 7, "due_at": 0, "lease": {"until": 1, "hold": "x"}, "last_failure": "x"},
            {"_id": 3, "provider": ["a"], "state": None, "due_at": NOW - MINUTE, "last_failure": {"kind": ["unreadable"], "at": "z"}},
            {"_id": "a:4", "provider": "a", "state": "active", "due_at": datetime(1900, 1, 1, tzinfo=UTC)},
            {"_id": "a:5", "provider": "a", "state": "active", "due_at": DatetimeMS(10**15), "last_failure": failure("rejected", NOW)},
            {"_id": "a:6", "provider": "a", "state": "active", "expires_at": DatetimeMS(-(10**15)), "last_failure": failure("novel", NOW)},
            {},
        ]
    )  # fmt: skip
    counted = await statistics(mongo)
    assert counted.states == {"a": {"active": 4, "unknown": 1}, "unknown": {"unknown": 2}}
    assert counted.next_due_at == NOW - MINUTE
    assert (counted.held, counted.set_aside) == ({}, {})
    assert [failed.token for failed in counted.last_failures] == ["a:5"]


async def test_the_stuck_are_counted_apart_from_the_expired(mongo):
    """Past their end and hopeless for hours: nobody is woken for them each time. A dead one is neither."""
    past, stuck = NOW - MINUTE, failure("stuck", NOW)
    await mongo.tokens.insert_many(
        [
            {"_id": "a:1", "provider": "a", "state": "active", "expires_at": past, "last_failure": stuck},
            {"_id": "a:2", "provider": "a", "state": "active", "expires_at": past},
            {
                "_id": "a:3",
                "provider": "a",
                "state": "needs_reauth",
                "expires_at": past,
                "last_failure": stuck,
            },
            {"_id": "b:1", "provider": "b", "state": "active", "expires_at": past, "last_failure": stuck},
        ]
    )
    counted = await statistics(mongo)
    assert (counted.expired, counted.stuck) == ({"a": 1}, {"a": 1, "b": 1})


async def test_a_failed_revocation_is_counted(mongo):
    """Refused, or without success for a week. A failure from before the order, and one that is retried, is none."""
    new, old = {"since": NOW, "tries": 1}, {"since": NOW - timedelta(days=7), "tries": 9}
    refused, away = failure("misconfigured", NOW), failure("unavailable", NOW)
    rows = [
        ({"revocation": new, "last_failure": refused}, True),
        ({"revocation": {**new, "tries": 0}, "last_failure": refused}, False),
        ({"revocation": {**new, "tries": "x"}, "last_failure": refused}, False),
        ({"revocation": new, "last_failure": away}, False),
        ({"revocation": old, "last_failure": away}, True),
        ({"revocation": "no order"}, True),
        ({"revocation": old, "last_failure": refused, "state": "paused"}, False),
    ]
    await mongo.tokens.insert_many(
        [
            {"_id": f"{failed}:{number}", "provider": str(failed), "state": "revoking", **fields}
            for number, (fields, failed) in enumerate(rows)
        ]
    )
    assert (await statistics(mongo)).revocation_failed == {"True": 3}


@pytest.mark.parametrize("size", [2_000, 4_000_000])
async def test_failures_of_any_size_are_counted_and_cut_off(mongo, size):
    """Twenty-one of them, 80 MB in all: each is reported in a few words, and the count succeeds."""
    long = {**failure("rejected", NOW), "message": "m" * size, "code": "c" * size}
    for n in range(21):
        await mongo.tokens.insert_one(
            {"_id": f"a:{n}", "provider": "a", "state": "needs_reauth", "last_failure": long}
        )
    counted = await statistics(mongo)
    assert counted.states == {"a": {"needs_reauth": 21}}
    assert len(counted.last_failures) == 20
    assert all(len(one.failure.message) + len(one.failure.code) < 1000 for one in counted.last_failures)


async def test_names_of_any_size_and_state_are_bounded(mongo):
    """Ids, providers, owners and states that an application made up."""
    long = "x" * 2_000_000
    lease = {"owner": long, "until": NOW - MINUTE, "hold": NOW + 100 * MINUTE}
    await mongo.tokens.insert_many(
        [
            {"_id": long, "provider": "a", "state": "active", "due_at": NOW - MINUTE, "lease": lease},
            {"_id": "a:2", "provider": long, "state": long, "last_failure": failure("rejected", NOW)},
            *({"_id": f"a:s{n}", "provider": "a", "state": f"made up {n}"} for n in range(50)),
        ]
    )
    counted = await statistics(mongo)
    assert counted.states == {"a": {"active": 1, "unknown": 50}, "unknown": {"unknown": 1}}
    assert len(repr(counted)) < 5000


async def test_of_unknown_providers_a_hundred_are_named(mongo):
    """All the others are one; each configured one is named."""
    await mongo.tokens.insert_many(
        [
            {"_id": f"p{n:04}:1", "provider": f"p{n:04}", "state": state, "due_at": NOW - MINUTE,
             "expires_at": NOW - MINUTE, "last_failure": failure("unconfigured", NOW)}
            for n in range(300) for state in [("active", "paused")[n % 2]]
        ]
    )  # fmt: skip
    known = [f"p{n:04}" for n in range(100, 300, 2)]
    counted = await statistics(mongo, known=known)
    assert set(known) < counted.states.keys()
    assert len(counted.states) == 100 + 100 + 1
    assert sum(sum(states.values()) for states in counted.states.values()) == 300
    assert counted.states["unknown"] == {"paused": 100}
    assert sum(counted.set_aside.values()) == 300
    assert sum(counted.expired.values()) == 150
    assert counted.next_due_at == NOW - MINUTE


async def test_a_rest_in_a_form_that_nobody_knows_is_the_operators_and_hides_no_other(mongo):
    """Whatever stands there, of whatever size, by whatever name."""
    odd = [
        5,
        "x",
        [],
        {},
        {"reason": Code("x")},
        {"reason": "x" * 2_000_000},
        {"probes": "x"},
        {"since": Code("x")},
    ]
    await mongo.providers.insert_many(
        [
            *({"_id": f"odd{n}", "paused": paused} for n, paused in enumerate(odd)),
            {"_id": "plain", "paused": {"reason": "outage", "since": NOW, "probes": Int64(2)}},
            {"_id": {"a": 1}, "paused": {"reason": "outage"}},
            {"_id": Code("x"), "paused": {"reason": "outage"}},
        ]
    )
    counted = await statistics(mongo)
    assert counted.paused == {**{f"odd{n}": "operator" for n in range(len(odd))}, "plain": "outage"}
    pause = (await resting(mongo))["plain"]
    assert (pause.since, pause.probes) == (NOW, 2)


async def test_the_rest_of_a_configured_provider_is_not_lost_among_many(mongo):
    """A thousand rows of other names come first."""
    await mongo.providers.insert_many(
        [
            *({"_id": f"a{n}", "paused": {"reason": "outage"}} for n in range(1200)),
            {"_id": "z", "paused": {"reason": "wrong_client"}},
        ]
    )
    assert (await resting(mongo, above_all=["z"]))["z"].reason == "wrong_client"


async def test_one_that_can_not_be_dated_keeps_no_other_from_it(mongo):
    """A document of nearly 16 MB: MongoDB refuses the date."""
    await mongo.tokens.insert_many(
        [{"_id": f"a:{n}", "state": "active", "refresh_token": "x"} for n in range(3)]
    )
    full = {"_id": "a:full", "state": "active", "refresh_token": "x", "note": ""}
    full["note"] = "x" * (16 * 1024 * 1024 - len(encode(full)))
    await mongo.tokens.insert_one(full)
    assert sorted(await repair_undated(mongo)) == ["a:0", "a:1", "a:2"]


async def test_a_count_that_takes_too_long_is_no_lost_store(mongo, mongod):
    """It is given up; nobody is told that MongoDB is away. Nor is anybody of a search for tokens without a date."""
    with slow(mongod, times=1), pytest.raises(StoreLost, match="counting the store took longer"):
        await whole_store(mongo, configured=())
    with slow(mongod, times=1), pytest.raises(StoreLost, match="took longer"):
        await statistics(mongo)
    with slow(mongod, times=1), pytest.raises(StoreLost, match="without a date took longer"):
        await repair_undated(mongo)
    assert mongo.up


@contextmanager
def slow(mongod, *, times):
    """Aggregations of refreshd run into their time limit."""
    with MongoClient[dict[str, Any]](mongod) as client:
        late = {"failCommands": ["aggregate"], "errorCode": 50, "appName": "refreshd"}
        client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": times}, "data": late})
        try:
            yield
        finally:
            client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


async def test_active_tokens_without_a_usable_date_are_made_due(mongo):
    """Missing, null, of another type, or older than the index knows; not those that rest for a reason."""
    sealed = {"provider": "a", "state": "active", "refresh_token": "v1.k.x"}
    undated = [
        {"_id": "a:missing", **sealed},
        {"_id": "a:null", **sealed, "due_at": None},
        {"_id": "a:text", **sealed, "due_at": "soon", "revision": 4},
        {"_id": "a:list", **sealed, "due_at": [NOW]},
        {"_id": "a:ancient", **sealed, "due_at": datetime(1960, 1, 1, tzinfo=UTC)},
    ]
    others = [
        {"_id": "a:dated", **sealed, "due_at": NOW},
        {"_id": "a:unparsed", **sealed, "last_failure": {"kind": "unparsed"}},
        {"_id": "a:unread", **sealed, "last_failure": {"kind": "unread"}},
        {"_id": "a:watched", **sealed, "refresh_token": None},
        {"_id": "a:paused", **sealed, "state": "paused"},
    ]
    await mongo.tokens.insert_many([*undated, *others])
    assert sorted(await repair_undated(mongo)) == sorted(document["_id"] for document in undated)
    for document in undated:
        found = await mongo.tokens.find_one({"_id": document["_id"]})
        assert found.pop("due_at") == NOW
        assert found == {name: value for name, value in document.items() if name != "due_at"}
    assert [await mongo.tokens.find_one({"_id": each["_id"]}) for each in others] == others
    assert await repair_undated(mongo) == []


async def test_no_more_is_repaired_at_once_than_was_asked_for(mongo):
    """The rest is left to the next time."""
    await mongo.tokens.insert_many(
        [{"_id": f"a:{n}", "state": "active", "refresh_token": "x"} for n in range(5)]
    )
    assert [len(await repair_undated(mongo, limit=3)) for _ in range(3)] == [3, 2, 0]


async def test_what_is_due_is_counted_in_steps_of_the_next_hour(mongo):
    """Overdue ones are one number; then five minutes by five minutes, whosoever they are; later and dateless ones are none."""
    dates = {
        "overdue": [NOW - timedelta(days=9), NOW - timedelta(minutes=2)],
        "soon": [NOW + 1 * MINUTE, NOW + 4 * MINUTE - timedelta(seconds=20), NOW + 7 * MINUTE],
        "later": [NOW + 58 * MINUTE, NOW + timedelta(hours=2)],
        "odd": [None, "soon", [NOW + 20 * MINUTE], datetime(1960, 1, 1, tzinfo=UTC)],
    }
    await mongo.tokens.insert_many(
        [
            {"_id": f"{name}:{n}", "provider": name, "state": "active", "due_at": at}
            for name, each in dates.items()
            for n, at in enumerate(each)
        ]
    )
    counted = await statistics(mongo)
    assert counted.overdue == 2
    assert list(counted.due_soon) == [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]


async def test_the_next_hour_is_counted_from_the_index_alone(mongo):
    """No document is read for it, and nothing of the index but the hour."""
    await mongo.tokens.insert_many(
        [
            {"_id": f"p{n % 3}:{n}", "provider": f"p{n % 3}", "state": "active", "due_at": NOW + n * MINUTE}
            for n in range(600)
        ]
    )
    for pipeline, rows in (
        (due_between(NOW, NOW + 60 * MINUTE), 60),
        (due_by_provider(NOW + 60 * MINUTE, ()), 61),
    ):
        command = {"aggregate": "tokens", "pipeline": pipeline, "cursor": {}}
        told = await mongo.tokens.database.command("explain", command, verbosity="executionStats")
        stats = told.get("executionStats") or told["stages"][0]["$cursor"]["executionStats"]
        assert stats["totalDocsExamined"] == 0
        assert rows <= stats["totalKeysExamined"] <= rows + 10
