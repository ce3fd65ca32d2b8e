"""Access keys in the real MongoDB, and what an ill-formed document allows: nothing."""

import asyncio
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import bson
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.errors import AutoReconnect

from daemon.adapters.mongo.admin.access_keys import AccessKeys, KeyRefused, NoSuchKey, as_restored
from daemon.adapters.mongo.audit import Audit, Who
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.serving.access_keys import IllFormed, access_key_of
from daemon.adapters.mongo.token_document import InvalidDocument
from daemon.domain.access_key import Stored, Verb, parse_key, proves
from daemon.domain.claim import StoreLost
from daemon.domain.provider import Rate
from daemon.domain.secret import Secret
from daemon.runtime.clock import Clock

HOUR = timedelta(hours=1)
NETWORK = ip_network("10.0.0.0/8")
AT = datetime(2026, 11, 1, tzinfo=UTC)
RIGHT = {
    "_id": "a1b2c3d4e5f6g7h8i9j0",
    "name": "billing",
    "generation": 1,
    "secret_hash": "0" * 64,
    "tokens": ["xero:*"],
    "can": ["read", "refuse"],
    "where": [{"field": "meta.tenant", "equals": "acme"}],
    "from": ["10.0.0.0/8"],
    "rate": {"count": 60, "seconds": 60.0},
    "created_at": AT,
    "expires_at": AT + HOUR,
    "last_used_at": None,
    "revoked_at": None,
    "disabled_at": None,
}
EVERY_TYPE = [
    None,
    True,
    False,
    0,
    1,
    -1,
    Int64(1),
    1.0,
    float("nan"),
    float("inf"),
    Decimal128("1"),
    "",
    "text",
    "\x00",
    "*",
    "read",
    "10.0.0.0/8",
    b"bytes",
    Binary(b"x", 4),
    [],
    [""],
    [1],
    [None],
    [[]],
    [{}],
    ["xero:*", 1],
    [Code("xero:*")],
    {},
    {"$ne": ""},
    {"count": 1},
    {"$gt": AT},
    ObjectId(),
    AT,
    AT.replace(tzinfo=None),
    DatetimeMS(-(2**62)),
    DatetimeMS(2**62),
    Regex("^xero"),
    re.compile("^xero"),
    Code("function () { return true }"),
    Code("read"),
    Timestamp(1, 1),
    DBRef("tokens", "xero:a"),
    MinKey(),
    MaxKey(),
]
# For each field the values of EVERY_TYPE that are right there.
WELL_FORMED: dict[str, tuple[Any, ...]] = {
    "tokens": (),
    "can": (),
    "where": ([],),
    "from": ([],),
    "rate": (None,),
    "created_at": (None, AT),
    "expires_at": (None, AT),
    "last_used_at": (None, AT),
    "revoked_at": (None, AT),
    "disabled_at": (None, AT),
    "name": ("text", "read"),
    "secret_hash": (),
    "_id": (),
}


@pytest.fixture
def outside(mongod, database_name):
    """The database, as another program sees it."""
    with MongoClient[dict[str, Any]](mongod, tz_aware=True) as client:
        yield client[database_name]


@pytest.fixture
async def mongo(mongod, database_name):
    store = Mongo(
        uri=Secret(mongod), database=database_name, collection="tokens", clock=Clock(), observe=lambda _: None
    )
    await store.prepare()
    yield store
    await store.close()


@pytest.fixture
def audit(mongo):
    return Audit(mongo, who=Who(actor="me@here"), log=lambda _: None)


class Keys(AccessKeys):
    """The commands' side, and the readings that a test needs beside it."""

    def __init__(self, mongo, audit):
        super().__init__(mongo, audit)
        self.mongo = mongo

    async def find(self, key_id):
        return access_key_of(await self.mongo.access.find_one({"_id": key_id}))

    async def named(self, name):
        """The newest first."""
        found = self.mongo.access.find({"name": name}).sort("generation", -1)
        return [access_key_of(document) async for document in found]


@pytest.fixture
def keys(mongo, audit):
    return Keys(mongo, audit)


async def created(keys, name="billing", **options):
    return await keys.create(name, tokens=["xero:*"], can=[Verb.READ], **options)


# ---------------------------------------------------------------- create, find


async def test_a_created_key_is_found_by_its_id_and_proved_by_its_secret(keys):
    """All that was asked for is read back."""
    issued = await keys.create(
        "billing",
        tokens=["xero:*", "hubspot:a"],
        can=[Verb.READ, Verb.WRITE],
        where={"meta.tenant": "acme", "subject": "u\u00e91"},
        networks=[NETWORK, ip_network("2001:db8::/32")],
        rate=Rate(count=60, per=timedelta(milliseconds=1500)),
        lifetime=timedelta(days=90),
    )
    presented = parse_key(issued.text.reveal())
    found = await keys.find(presented.id)
    assert found == issued.key
    assert proves(presented, found)
    assert found.expires_at - found.created_at == timedelta(days=90)
    assert found.where == {"meta.tenant": "acme", "subject": "u\u00e91"}
    assert found.rate == Rate(count=60, per=timedelta(seconds=1.5))
    assert found.networks == (NETWORK, ip_network("2001:db8::/32"))


async def test_the_secret_is_stored_nowhere(keys, outside):
    """Neither with the key nor in the audit."""
    issued = await created(keys)
    secret = parse_key(issued.text.reveal()).secret.reveal()
    everything = [row for name in outside.list_collection_names() for row in outside[name].find()]
    assert len(everything) == 2
    assert secret not in repr(everything)
    assert issued.text.reveal()[-8:] not in repr(everything)


async def test_a_name_has_one_key_until_it_is_revoked_or_expired(keys, outside):
    """Then it can be used again."""
    first = await created(keys)
    with pytest.raises(KeyRefused, match="has a key already"):
        await created(keys)
    await keys.revoke("billing")
    second = await created(keys, lifetime=HOUR)
    outside.tokens_access.update_one({"_id": second.key.id}, {"$set": {"expires_at": AT}})
    third = await created(keys)
    assert [key.id for key in await keys.named("billing")] == [third.key.id, second.key.id, first.key.id]


async def test_two_commands_at_the_same_moment_make_one_key(keys, outside):
    """The index lets one of them win."""
    outcomes = await asyncio.gather(*(created(keys) for _ in range(8)), return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, KeyRefused)]
    assert len(refused) == 7
    assert outside.tokens_access.count_documents({}) == 1


async def test_nothing_is_stored_without_an_audit_record(keys, outside):
    """The record comes first."""
    first = await created(keys)
    outside.command({"collMod": "tokens_audit", "validator": {"never": True}, "validationLevel": "strict"})
    with pytest.raises(StoreLost):
        await created(keys, "other")
    with pytest.raises(StoreLost):
        await keys.rotate("billing", overlap=HOUR)
    with pytest.raises(StoreLost):
        await keys.revoke("billing")
    assert [one async for one in keys.all()] == [first.key]


async def test_a_lost_answer_names_the_key_that_may_be_stored(keys, mongo):
    """Its text is lost, so the way out is a rotation."""

    class Lossy:
        """The collection, of which an insertion is stored and not answered."""

        def __init__(self, collection):
            self._collection = collection

        def __getattr__(self, name):
            return getattr(self._collection, name)

        async def insert_one(self, document):
            await self._collection.insert_one(document)
            raise AutoReconnect("the connection was reset")

    whole, mongo.access = mongo.access, Lossy(mongo.access)
    with pytest.raises(StoreLost, match="refreshd access rotate billing") as lost:
        await created(keys)
    mongo.access = whole
    (stored,) = await keys.named("billing")
    assert stored.id in str(lost.value)
    await keys.rotate("billing", overlap=timedelta(0))


async def test_each_change_is_audited(keys, outside):
    """With the name, and the id of the key that it makes."""
    first = await created(keys)
    second, _ = await keys.rotate("billing", overlap=HOUR)
    await keys.revoke("billing")
    await keys.enable("billing")
    found = outside.tokens_audit.find().sort([("at", 1), ("_id", 1)])
    assert [(one["action"], one["token"], one["result"]) for one in found] == [
        ("access_create", "billing", first.key.id),
        ("access_rotate", "billing", second.key.id),
        ("access_revoke", "billing", None),
        ("access_enable", "billing", None),
    ]


# ---------------------------------------------------------------- rotate, revoke


async def test_a_rotation_makes_a_second_key_of_the_same_rights(keys, mongo):
    """The first one ends after the overlap; the second one has the whole lifetime."""
    first = await created(keys, lifetime=timedelta(days=90), where={"subject": "u1"}, networks=[NETWORK])
    second, ends_at = await keys.rotate("billing", overlap=HOUR)
    old, new = await keys.find(first.key.id), await keys.find(second.key.id)
    assert old.expires_at == ends_at
    assert abs(ends_at - mongo.clock.now() - HOUR) < timedelta(minutes=1)
    assert new.expires_at - new.created_at == timedelta(days=90)
    rights = [(one.tokens, one.can, one.where, one.networks, one.rate) for one in (old, new)]
    assert rights[0] == rights[1]
    assert proves(parse_key(second.text.reveal()), new)
    assert not proves(parse_key(first.text.reveal()), new)


async def test_a_rotation_without_overlap_ends_the_first_key_immediately(keys, mongo):
    """It is not valid at the instant of its end."""
    first = await created(keys)
    _, ends_at = await keys.rotate("billing", overlap=timedelta(0))
    old = await keys.find(first.key.id)
    assert old.expires_at == ends_at
    assert not old.is_valid(mongo.clock.now())


async def test_an_overlap_never_lengthens_a_key(keys, outside):
    """Neither the current one nor one of an earlier rotation."""
    first = await created(keys, lifetime=timedelta(minutes=5))
    second, soon = await keys.rotate("billing", overlap=timedelta(minutes=1))
    third, _ = await keys.rotate("billing", overlap=HOUR)
    ends = [(await keys.find(one.key.id)).expires_at for one in (first, second, third)]
    assert ends == [soon, second.key.expires_at, third.key.expires_at]


async def test_a_rotation_that_died_halfway_is_repeated(keys, outside):
    """Until then the first key stays valid; afterwards the lost one ends too."""
    first = await created(keys)
    outside.tokens_access.insert_one(
        {**outside.tokens_access.find_one(), "_id": "l" * 20, "generation": 2, "secret_hash": "1" * 64}
    )
    assert (await keys.find(first.key.id)).expires_at is None
    third, ends_at = await keys.rotate("billing", overlap=HOUR)
    found = await keys.named("billing")
    assert [(one.id, one.expires_at) for one in found] == [
        (third.key.id, None),
        ("l" * 20, ends_at),
        (first.key.id, ends_at),
    ]


async def test_rotations_at_the_same_moment_make_one_key(keys, outside):
    """The others are refused, and their keys are not stored."""
    await created(keys)
    rotations = (keys.rotate("billing", overlap=HOUR) for _ in range(8))
    outcomes = await asyncio.gather(*rotations, return_exceptions=True)
    done = [one for one in outcomes if isinstance(one, tuple)]
    assert {type(one) for one in outcomes} <= {tuple, KeyRefused}
    assert outside.tokens_access.count_documents({}) == 1 + len(done)
    assert outside.tokens_access.count_documents({"expires_at": None}) == 1


async def test_a_revocation_during_a_rotation_includes_the_new_key(keys, audit, outside, mongo):
    """Revoking a leaked name must not lose against a rotation that began before."""
    first = await created(keys)

    class Slow(Audit):
        async def note(self, *arguments, **options):
            await super().note(*arguments, **options)
            await keys.revoke("billing")

    with pytest.raises(KeyRefused, match="revoked during the rotation"):
        await AccessKeys(mongo, Slow(mongo, who=audit.who, log=lambda _: None)).rotate(
            "billing", overlap=HOUR
        )
    found = await keys.named("billing")
    assert len(found) == 2
    assert all(one.revoked_at for one in found)
    assert found[1].id == first.key.id


async def test_all_keys_of_a_name_are_revoked(keys, mongo):
    """Also the one whose overlap has not ended. The second time there is nothing left to do."""
    first = await created(keys)
    second, _ = await keys.rotate("billing", overlap=HOUR)
    other = await created(keys, "other")
    assert await keys.revoke("billing") == 2
    assert await keys.revoke("billing") == 0
    now = mongo.clock.now()
    found = [await keys.find(one.key.id) for one in (first, second, other)]
    assert [one.is_valid(now) for one in found] == [False, False, True]
    with pytest.raises(KeyRefused, match="is revoked"):
        await keys.rotate("billing", overlap=HOUR)


@pytest.mark.parametrize("name", ["none", "", "*", "\udc80", "a b", "$ne"])
async def test_an_unknown_name_changes_nothing(keys, name):
    """Whatever characters it has."""
    await created(keys)
    with pytest.raises(NoSuchKey):
        await keys.rotate(name, overlap=HOUR)
    with pytest.raises(NoSuchKey):
        await keys.revoke(name)
    with pytest.raises(NoSuchKey):
        await keys.enable(name)


# ---------------------------------------------------------------- a restored key


async def test_a_restored_key_is_disabled_until_it_is_enabled(keys, outside, mongo):
    """It may have been revoked after the backup."""
    issued = await created(keys)
    archived = outside.tokens_access.find_one()
    outside.tokens_access.delete_many({})
    outside.tokens_access.insert_many(await as_restored(mongo, [archived]))
    assert not (await keys.find(issued.key.id)).is_valid(mongo.clock.now())
    with pytest.raises(KeyRefused, match="access enable billing"):
        await keys.rotate("billing", overlap=HOUR)
    with pytest.raises(KeyRefused, match="has a key already"):
        await created(keys)
    assert await keys.enable("billing") == 1
    assert (await keys.find(issued.key.id)).is_valid(mongo.clock.now())


async def test_a_key_that_was_created_again_stays_as_it_is(keys, outside, mongo):
    """The archived one of the same generation is left out, whatever else the archive holds."""
    await created(keys)
    archived = outside.tokens_access.find_one()
    outside.tokens_access.delete_many({})
    await created(keys)
    odd = [{"_id": 1, "name": {"$ne": 1}}, {"_id": 2, "name": "billing", "generation": "1"}]
    restored = await as_restored(mongo, [archived, *odd])
    assert [one["_id"] for one in restored] == [1, 2]
    assert await as_restored(mongo, []) == []


# ---------------------------------------------------------------- ill-formed documents


def read(document):
    """Return the key, as it comes out of BSON: in the driver's types."""
    options = bson.CodecOptions[Any](
        tz_aware=True, datetime_conversion=bson.codec_options.DatetimeConversion(4)
    )
    return access_key_of(bson.decode(bson.encode(document), codec_options=options))


def test_the_well_formed_document_is_read():
    """So that the tables below show what they seem to show."""
    key = read(RIGHT)
    assert key.may(Verb.READ, Stored(id="xero:a", fields={"meta.tenant": "acme"}))
    assert key.is_valid(AT)


@pytest.mark.parametrize("field", WELL_FORMED)
def test_a_field_of_another_type_allows_nothing(field):
    """Every BSON type in every field: a key, or InvalidDocument without the value in its text. Never another error."""
    for value in EVERY_TYPE:
        document = {**RIGHT, field: value}
        if any(type(value) is type(right) and value == right for right in WELL_FORMED[field]):
            read(document)
            continue
        with pytest.raises(InvalidDocument, match=f"^{field} "):
            access_key_of(document)
        if isinstance(value, datetime) and AT in WELL_FORMED[field]:
            continue  # a date without a zone: BSON has none, so it would be read with one
        with pytest.raises(InvalidDocument, match=f"^{field} "):
            read(document)


@pytest.mark.parametrize("field", sorted(RIGHT.keys() - {"generation"}))
def test_a_missing_field_allows_nothing(field):
    """A program that deletes a limit doesn't widen the key."""
    with pytest.raises(InvalidDocument, match=f"^{field} "):
        read({name: value for name, value in RIGHT.items() if name != field})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("_id", "A1b2c3d4e5f6g7h8i9j0"),
        ("_id", "a1b2c3d4e5f6g7h8i9j0\n"),
        ("name", "a b"),
        ("name", "a\n"),
        ("secret_hash", "0" * 63),
        ("secret_hash", "F" * 64),
        ("secret_hash", "\u0660" * 64),
        ("tokens", {"0": "xero:*"}),
        ("tokens", ["xero:a", ""]),
        ("can", ["read", "read-all"]),
        ("can", ["READ"]),
        ("can", ["*"]),
        ("where", {"meta.tenant": "acme"}),
        ("where", [{"field": "meta.tenant"}]),
        ("where", [{"field": "meta.tenant", "equals": {"$ne": ""}}]),
        ("where", [{"field": "meta.tenant", "equals": None}]),
        ("where", [{"field": "meta.tenant", "equals": "a"}, {"field": "meta.tenant", "equals": "b"}]),
        ("where", [{"field": "meta.tenant", "equals": "a"}, {"field": "meta.tenant", "equals": "a"}]),
        ("where", [{"field": "meta.tenant", "equals": "a", "not": True}]),
        ("where", [{"field": "state", "equals": "active"}]),
        ("where", [{"field": "meta.a.b", "equals": "a"}]),
        ("where", ["meta.tenant=acme"]),
        ("where", [["field", "equals"]]),
        ("from", ["10.0.0.1/8"]),
        ("from", ["10.0.0.0/8", "any"]),
        ("from", ["10.0.0.0/33"]),
        ("rate", "60/1m"),
        ("rate", {"count": 0, "seconds": 60}),
        ("rate", {"count": -1, "seconds": 60}),
        ("rate", {"count": True, "seconds": 60}),
        ("rate", {"count": 60.0, "seconds": 60}),
        ("rate", {"count": 60, "seconds": 0}),
        ("rate", {"count": 60, "seconds": float("nan")}),
        ("rate", {"count": 60, "seconds": float("inf")}),
        ("rate", {"count": 60, "seconds": True}),
        ("rate", {"count": 60, "seconds": 1e300}),
        ("rate", {"count": 60}),
    ],
)
def test_a_value_of_another_form_allows_nothing(field, value):
    """The whole key is refused, not only the part that can't be read."""
    with pytest.raises(InvalidDocument, match=f"^{field} ") as refused:
        read({**RIGHT, field: value})
    assert not isinstance(value, str) or len(value) < 5 or value not in str(refused.value)


@given(
    st.dictionaries(
        st.sampled_from(sorted(RIGHT)),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text()
            | st.binary()
            | st.datetimes()
            | st.datetimes(timezones=st.just(UTC)),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
        min_size=1,
    )
)
def test_any_content_is_a_key_or_an_invalid_document(content):
    """Nothing else is raised, so that the service answers as for an unknown key."""
    with suppress(InvalidDocument):
        access_key_of({**RIGHT, **content})


async def test_an_ill_formed_document_is_listed_and_hides_no_other(keys, outside):
    """Its name may be of any type, and so may its id."""
    issued = await created(keys)
    outside.tokens_access.insert_many(
        [{"_id": 7, "name": 1}, {**RIGHT, "name": "other", "can": "read"}, {"_id": "x"}]
    )
    found = {one.id: one async for one in keys.all()}
    assert found.pop(issued.key.id) == issued.key
    assert all(isinstance(one, IllFormed) for one in found.values())
    assert {one.id: one.name for one in found.values()} == {"7": None, RIGHT["_id"]: "other", "x": None}
    with pytest.raises(InvalidDocument):
        await keys.find(RIGHT["_id"])
    assert await keys.names() == ["billing", "other"]


async def test_an_ill_formed_key_is_revoked_before_its_name_is_used_again(keys, outside):
    """It can't be rotated, because its rights are unclear."""
    outside.tokens_access.insert_one({**RIGHT, "can": "read", "expires_at": None})
    with pytest.raises(KeyRefused, match="stored key is ill-formed"):
        await keys.rotate("billing", overlap=HOUR)
    with pytest.raises(KeyRefused, match="has a key already"):
        await created(keys)
    assert await keys.revoke("billing") == 1
    await created(keys)
