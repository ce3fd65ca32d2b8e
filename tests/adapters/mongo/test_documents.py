"""Whatever stands in one document: its neighbours are renewed, and it is used, reported by its id, or not due at all.

Other programs write these documents. Every field is tried with every type of BSON, with sizes up to the 16 MB that
MongoDB allows, and with writes that MongoDB refuses.
"""

import asyncio
import struct
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import bson
import pytest
from bson import (
    Binary,
    Code,
    DatetimeMS,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
)
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, PyMongoError

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.admin.lookup import TokenLookup, TokenSelection
from daemon.adapters.mongo.bulk import refusals
from daemon.adapters.mongo.counting.counter import Counter
from daemon.adapters.mongo.counting.statistics import repair_undated
from daemon.domain.claim import Claim, Recorded, SetAside, StoreLost, Unusable
from daemon.domain.provider import Grant
from tests.adapters.mongo.mongo_bench import ACME, NOON, Bench, renewed, seal

PAST, FUTURE = NOON - timedelta(hours=1), NOON + timedelta(days=9999)
LIMIT = 16 * 1024 * 1024
GOOD = [f"acme:good{n}" for n in range(4)]

DEEP: dict[str, Any] = {}
for _ in range(90):
    DEEP = {"a": DEEP}

VALUES: dict[str, Any] = {
    "null": None, "true": True, "false": False, "int": 7, "negative": -1, "int64": Int64(2**62), "nan": float("nan"),
    "inf": float("inf"), "-0.0": -0.0, "decimal": Decimal128("1"), "decimal nan": Decimal128("NaN"),
    "text": "x", "empty": "", "nul": "a\0b", "$": "$x", "$$": "$$ROOT", "replacement": "\ufffd",
    "object": {"a": 1}, "$gt": {"$gt": 1}, "$foo": {"$foo": 1}, "a.b": {"a.b": 1}, "$a.b": {"$a.b": 1}, "{}": {},
    "empty name": {"": 1}, "list": [1], "[]": [], "objects": [{"a": 1}, "x"], "[null]": [None], "deep": DEEP,
    "binary": Binary(b"x"), "uuid3": Binary(UUID(int=7).bytes, 3), "uuid4": Binary(UUID(int=7).bytes, 4),
    "bad uuid": Binary(b"short", 4), "old binary": Binary(b"abc", 2), "vector": Binary(b"\x27\x00\x01\x02", 9),
    "bad vector": Binary(b"\x99", 9), "object id": ObjectId(), "regex": Regex("(", ""), "code": Code("x"),
    "code with scope": Code("x", {"a": 1}), "timestamp": Timestamp(1, 1), "min": MinKey(), "max": MaxKey(),
    "reference": DBRef("c", 1), "far": DatetimeMS(2**63 - 1), "near": DatetimeMS(-(2**63)),
    "year 1": DatetimeMS(-62135596800000), "year 0": DatetimeMS(-62135596800001), "past": PAST, "future": FUTURE,
    "long": "y" * 100_000,
    "held $foo": {"$foo": 1, "hold": PAST}, "held": {"hold": PAST},
    "held, odd claim": {"hold": PAST, "claim": {"$foo": 1}, "owner": {"$foo": 1}},
    "held, odd since": {"hold": PAST, "claim": "c", "since": {"$a": {"b.c": 1}}},
    "held $regex": {"hold": PAST, "$regex": "("}, "held $where": {"hold": PAST, "$where": "1"},
    "held list": {"hold": [PAST], "x": 1}, "list of held": [{"hold": PAST}], "list held": [{"hold": FUTURE}],
    "owned": {"owner": "me"}, "owned list": [{"owner": "me"}],
}  # fmt: skip

# What a driver doesn't write, but a program that isn't careful may: type, and the value's bytes.
RAW: dict[str, tuple[int, bytes]] = {
    "undefined": (0x06, b""),
    "symbol": (0x0E, struct.pack("<i", 2) + b"x\0"),
    "not utf-8": (0x02, struct.pack("<i", 3) + b"\xff\xfe\0"),
    "pointer": (0x0C, struct.pack("<i", 2) + b"x\0" + b"1" * 12),
    "odd flags": (0x0B, b"a(\0i\0"),
    "list of not utf-8": (0x04, struct.pack("<i", 15) + b"\x020\0" + struct.pack("<i", 3) + b"\xff\xfe\0\0"),
    "name not utf-8": (0x03, struct.pack("<i", 14) + b"\x02\xff\xfe\0" + struct.pack("<i", 1) + b"\0\0"),
}

FIELDS = [
    "_id", "provider", "account", "state", "grant", "refresh_token", "access_token", "issued_at", "expires_at",
    "refresh_expires_at", "consent_ends_at", "due_at", "refreshed_at", "doubt", "revision", "failures", "last_failure",
    "vars", "lease", "extra", "meta", "scope", "token_type", "grant_fingerprint", "updated_at", "created_at",
    "last_failure.kind", "last_failure.code", "last_failure.message", "last_failure.at", "doubt.since", "doubt.tries",
    "doubt.asker", "lease.owner", "lease.claim", "lease.since", "lease.until", "lease.hold", "vars.region",
]  # fmt: skip


# Fields that are read alike, or by nobody, get the same value at once, where there is no time for each.
ALIKE = [
    ("meta", "extra", "scope", "token_type", "grant_fingerprint", "updated_at", "created_at"),
    ("issued_at", "expires_at", "refresh_expires_at", "consent_ends_at", "refreshed_at"),
]
GROUPS = [*ALIKE, *((field,) for field in FIELDS if field not in {name for group in ALIKE for name in group})]


def document(account: str, **more: Any) -> dict[str, Any]:
    """A token that has been due for a while, with a past."""
    name = f"acme:{account}"
    return {
        "_id": name,
        "provider": "acme",
        "account": account,
        "state": "active",
        "access_token": seal(name, "access-0", "access_token"),
        "refresh_token": seal(name, "refresh-0"),
        "issued_at": PAST,
        "expires_at": NOON,
        "due_at": PAST,
        "revision": 7,
        "failures": 0,
        **more,
    }


def odd(account: str, fields: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The same with `value` in these fields; it was claimed by another instance, and failed."""
    past = {
        "failures": 1,
        "last_failure": {"kind": "unavailable", "code": "c", "message": "m", "at": PAST},
        "doubt": {"since": PAST, "tries": 1, "asker": "other"},
        "lease": {"owner": "gone", "claim": "c1", "since": PAST, "until": PAST, "hold": PAST},
        "vars": {"region": "eu"},
    }
    made = document(account, **past, due_at=PAST - timedelta(minutes=1))
    for field in fields:
        outer, _, inner = field.partition(".")
        made[outer] = {**made[outer], inner: value} if inner else value
    return made


def raw(made: dict[str, Any], fields: tuple[str, ...], kind: int, value: bytes) -> RawBSONDocument:
    """`made`, with bytes in `fields` that no driver would write."""
    rest = {name: one for name, one in made.items() if name not in fields}
    odd = b"".join(bytes([kind]) + field.encode() + b"\0" + value for field in fields)
    body = bson.encode(rest)[4:-1] + odd
    return RawBSONDocument(struct.pack("<i", len(body) + 5) + body + b"\0")


class Met:
    """What became of the documents in a few sweeps."""

    def __init__(self) -> None:
        self.claims: dict[str, Claim] = {}
        self.aside: list[SetAside] = []

    def take(self, items: Iterable[Claim | SetAside]) -> None:
        for item in items:
            if isinstance(item, Claim):
                self.claims[item.token.id] = item
            elif item.new:
                self.aside.append(item)

    @property
    def told(self) -> set[str]:
        return {item.token for item in self.aside} | self.claims.keys()


async def swept(bench: Bench, store: Any, met: Met) -> None:
    """One sweep: a survey, and claims until there is no more."""
    met.take((await store.survey(["acme"])).set_aside)
    for _ in range(200):
        batch = await store.claim(ACME, limit=8, busy=set(met.claims))
        met.take(batch.items)
        if not batch.more:
            return
    raise AssertionError("a pass that does not end")


async def endured(bench: Bench) -> Met:
    """Sweep, record, count, repair and list: nothing fails, and the good ones are renewed."""
    store, met = bench.store(), Met()
    mongo = bench.mongos[-1]
    await swept(bench, store, met)
    results = await asyncio.gather(
        *(store.record(claim, renewed()) for claim in met.claims.values()), return_exceptions=True
    )
    for name, result in zip(met.claims, results, strict=True):
        assert isinstance(result, Recorded | Unusable), (name, result)
        assert name not in GOOD or result is Recorded.STORED
    assert set(GOOD) <= met.claims.keys()
    before = len(met.aside)
    await swept(bench, store, met)
    assert [item.token for item in met.aside[before:]] == []
    counted = await Counter(mongo, owner="me").step(["acme"])
    assert counted is not None
    assert counted.states["acme"]["active"] >= len(GOOD)
    await repair_undated(mongo)
    async for _ in TokenLookup(mongo).list(TokenSelection(provider="acme")):
        pass
    assert mongo.up
    assert bench.events == []
    return met


def good_ones(bench: Bench) -> None:
    bench.tokens.insert_many([document(name.removeprefix("acme:")) for name in GOOD])


def inserted(bench: Bench, account: str, made: Any) -> list[str]:
    try:
        bench.tokens.insert_one(made)
    except (PyMongoError, bson.errors.BSONError):
        return []  # MongoDB itself refuses it
    return [account]


HELD = {"lease.hold": {"future", "far"}}


@pytest.mark.parametrize("fields", GROUPS, ids=lambda fields: fields[0])
async def test_no_value_of_any_type_stops_a_neighbour(bench, fields):
    """Every type of BSON in one field, all at once among four good ones: each of them is used or reported."""
    good_ones(bench)
    names = []
    for number, (kind, value) in enumerate(VALUES.items()):
        made = odd(f"odd{number}", fields, value)
        if inserted(bench, kind, made) and kind not in HELD.get(fields[0], ()):
            names.append(str(made["_id"]))
    for number, (kind, (code, value)) in enumerate(RAW.items()):
        made = odd(f"raw{number}", (), None)
        if "." not in fields[0] and inserted(bench, kind, raw(made, fields, code, value)):
            names.append(made["_id"])
    met = await endured(bench)
    if fields == ("_id",):
        assert {"7", "True", "{'a': 1}", "x", "(a long _id of type string)"} <= met.told
    elif fields != ("due_at",):
        assert set(names) - met.told == set()


SIZES = [60_000, 70_000, 1_000_000]
SIZED = ["_id", "account", "state", "refresh_token", "access_token", "vars.region", "last_failure.message", "doubt.asker",
         "lease.owner", "meta", "extra"]  # fmt: skip


@pytest.mark.parametrize("field", SIZED)
async def test_no_size_of_a_field_stops_a_neighbour(bench, field):
    """What is larger than a claim reads is set aside unread, under its own name."""
    good_ones(bench)
    names = []
    for number, size in enumerate(SIZES):
        made = odd(f"odd{number}", (field,), "x" * size)
        names += inserted(bench, made["_id"], made)
    met = await endured(bench)
    if field != "_id":
        assert set(names) <= met.told
    assert met.aside or field in ("meta", "extra")
    assert all(len(item.token) < 2000 and len(item.message) < 300 for item in met.aside)


async def test_what_a_claim_adds_may_be_too_much_for_a_document_of_16_mb(bench):
    """MongoDB refuses the lease, whatever room is left: the others are claimed, and it is reported once, by its id."""
    good_ones(bench)
    names = []
    for number, room in enumerate([0, 40, 100, 250, 400]):
        made = document(f"full{number}", due_at=PAST - timedelta(minutes=1), meta={"note": ""})
        made["meta"]["note"] = "x" * (LIMIT - len(bson.encode(made)) - room)
        names += inserted(bench, made["_id"], made)
    met = await endured(bench)
    assert set(names) <= met.told
    assert {"acme:full0", "acme:full1", "acme:full2"} <= {item.token for item in met.aside}
    assert all("rejects changes" in item.message for item in met.aside)


@pytest.mark.parametrize(
    "refused",
    [
        {"lease.claim": {"$type": "string"}},
        {"lease.claim": {"$type": "string"}, "doubt": {"$ne": None}},
        {"last_failure.kind": "unreadable"},
        {"access_token": {"$ne": seal("acme:odd", "access-0", "access_token")}, "revision": 8},
        {"due_at": {"$gt": NOON}},
    ],
    ids=["the lease", "the adoption", "the setting aside", "the result", "the date"],
)
@pytest.mark.parametrize("kind", ["free", "left behind", "unusable"])
async def test_a_validator_that_refuses_one_document_stops_no_other(bench, refused, kind):
    """An application's schema forbids what refreshd writes there."""
    good_ones(bench)
    made = odd("odd", ("state",), "strange" if kind == "unusable" else "active")
    if kind == "free":
        made |= {"lease": None, "doubt": None}
    made["access_token"] = seal("acme:odd", "access-0", "access_token")
    bench.tokens.insert_one(made)
    named = {"_id": "acme:odd", **refused}
    bench.database.command("collMod", "tokens", validator={"$nor": [named]})
    try:
        met = await endured(bench)
    finally:
        bench.database.command("collMod", "tokens", validator={})
    assert "acme:odd" in met.told


async def test_a_unique_index_of_an_applications_stops_no_other(bench):
    """Only one document may hold the same claim: the others are refused, reported, and claimed later."""
    bench.tokens.create_index("lease.claim", name="theirs", unique=True, sparse=True)
    try:
        good_ones(bench)
        store, met = bench.store(), Met()
        for minutes in range(30):
            bench.clock.passed = timedelta(minutes=minutes)
            await swept(bench, store, met)
            for claim in met.claims.values():
                await store.record(claim, renewed())
        assert set(GOOD) == met.claims.keys()
        assert bench.events == []
    finally:
        bench.tokens.drop_index("theirs")


async def test_what_is_refused_rests_longer_each_time_and_is_reported_once(bench):
    """Ten seconds, twenty, forty: until it can be claimed."""
    name = bench.insert("odd")
    bench.database.command("collMod", "tokens", validator={"$nor": [{"_id": name, "lease": {"$ne": None}}]})
    store, tried = bench.store(), []
    try:
        for second in range(100):
            bench.clock.passed = timedelta(seconds=second)
            items = (await store.claim(ACME, limit=1, busy=[])).items
            tried += [(second, item.new) for item in items]
    finally:
        bench.database.command("collMod", "tokens", validator={})
    assert tried == [(0, True), (10, False), (30, False), (70, False)]
    bench.clock.passed = timedelta(seconds=150)
    [claim] = (await store.claim(ACME, limit=1, busy=[])).items
    assert isinstance(claim, Claim)
    assert not store._set_aside.quarantine.full


async def test_a_lost_store_is_still_a_lost_store(bench):
    """An error of the server comes in the same place and is not blamed on a document."""
    bench.insert("1")
    store = bench.store()
    for code in (91, 189, 11600, 10107, 13435):
        await store.survey([ACME.name])  # gives the claim back whose result was lost
        with bench.fault("update", times=2, errorCode=code), pytest.raises(StoreLost):
            await store.claim(ACME, limit=1, busy=[])
    assert store._set_aside.quarantine.held(bench.clock.boot()) == set()


@pytest.mark.parametrize(
    ("details", "refused"),
    [
        (
            {"writeErrors": [{"index": 3, "code": 121}, {"index": 5, "code": 17419}]},
            {3: "code 121", 5: "code 17419"},
        ),
        ({"writeErrors": [{"index": 0}]}, {0: "code None"}),
        ({"writeErrors": [{"index": 0, "code": 11600}]}, None),
        ({"writeErrors": [{"index": 0, "code": 121}, {"index": 1, "code": 189}]}, None),
        ({"writeErrors": [{"index": 0, "code": 121}], "writeConcernErrors": [{"code": 64}]}, None),
        ({"writeErrors": [], "writeConcernErrors": [{"code": 64}]}, None),
    ],
)
def test_a_refusal_is_told_from_a_loss(details, refused):
    """A bulk may end with errors of its documents, of the server, or of a majority that did not confirm."""
    assert refusals(BulkWriteError(details)) == refused


async def test_a_document_that_meets_a_bug_of_ours_stops_no_other(bench):
    """Something unexpected while it is opened: it is set aside, and the reason names the exception."""

    class Faulty(KeyRing):
        def open(self, sealed, *, token_id, field):
            if token_id == "acme:odd":
                raise ZeroDivisionError
            return super().open(sealed, token_id=token_id, field=field)

    good_ones(bench)
    bench.insert("odd")
    bench.ring = Faulty({"a": b"\x01" * 32}, active="a")
    met = await endured(bench)
    assert [(item.token, item.message) for item in met.aside] == [
        ("acme:odd", "it can't be read: ZeroDivisionError")
    ]


@pytest.mark.parametrize(
    "grant", ["client_credentials", "exchange", "none", "password", "Client_Credentials", ""]
)
async def test_a_document_can_not_choose_a_grant_that_the_operator_does_not_allow(bench, grant):
    """Its author would have the client's own token minted: it is named once and never claimed, the others are."""
    good_ones(bench)
    bench.insert("odd", grant=grant, refresh_token=None, access_token=None)
    met = await endured(bench)
    if grant == "":  # names none
        assert "acme:odd" in met.claims
        return
    [aside] = met.aside
    assert (aside.token, aside.code, "acme:odd" in met.claims) == ("acme:odd", "unreadable", False)
    assert "the configuration of acme does not allow" in aside.message
    assert bench.document("acme:odd")["lease"] is None
    allowing = replace(
        ACME, definition=replace(ACME.definition, grants=frozenset({Grant.CLIENT_CREDENTIALS}))
    )
    bench.set("acme:odd", due_at=PAST)
    claims = [
        one
        for one in (await bench.store().claim(allowing, limit=10, busy=[])).items
        if isinstance(one, Claim)
    ]
    assert ("acme:odd" in {one.token.id for one in claims}) is (grant == "client_credentials")


@pytest.mark.long
@pytest.mark.parametrize("field", FIELDS)
async def test_each_value_of_each_type_alone_stops_no_neighbour(bench, field):
    """One at a time, so that none hides what another one breaks."""
    for kind, value in VALUES.items():
        bench.tokens.delete_many({})
        good_ones(bench)
        if inserted(bench, kind, odd("odd", (field,), value)):
            await endured(bench)


@pytest.mark.long
@pytest.mark.parametrize("size", [*SIZES, 15_000_000, LIMIT - 4000, LIMIT - 2500, LIMIT - 2200])
@pytest.mark.parametrize("field", FIELDS)
async def test_each_size_of_each_field_alone_stops_no_neighbour(bench, field, size):
    """Up to the edge of what MongoDB stores."""
    good_ones(bench)
    inserted(bench, field, odd("odd", (field,), "x" * size))
    inserted(bench, field, odd("odd2", (field,), {"a": ["x" * size]}))
    await endured(bench)


async def test_a_claim_that_a_unique_index_refuses_names_the_index(bench):
    """An operator must drop it. MongoDB's own words hold values, and are not repeated."""
    bench.tokens.create_index("lease.owner", name="one per customer", unique=True, sparse=True)
    try:
        good_ones(bench)
        items = (await bench.store().claim(ACME, limit=5, busy=[])).items
    finally:
        bench.tokens.drop_index("one per customer")
    refused = [item.message for item in items if isinstance(item, SetAside)]
    assert refused
    assert all("the unique index 'one per customer'" in message for message in refused)


async def test_a_result_that_a_unique_index_refuses_names_the_index(bench):
    """The reply stays in the journal until the index is gone."""
    good_ones(bench)
    store = bench.store()
    claim = next(
        item for item in (await store.claim(ACME, limit=1, busy=[])).items if isinstance(item, Claim)
    )
    bench.tokens.create_index("token_type", name="theirs", unique=True, sparse=True)
    bench.tokens.insert_one({"_id": "acme:taken", "token_type": "Bearer"})
    try:
        with pytest.raises(Unusable, match="unique index 'theirs' already holds these values"):
            await store.record(claim, renewed())
    finally:
        bench.tokens.drop_index("theirs")
