"""Whether a key is the one that the store was sealed with, against the real MongoDB."""

import json
from base64 import b64decode
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pymongo import MongoClient

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.audit import Audit, Who
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.keys import CheckValue, keep_check_value, prove, renew_check_value
from daemon.domain.secret import Secret
from daemon.runtime.clock import Clock

RIGHT, WRONG, OTHER = b"1" * 32, b"2" * 32, b"3" * 32
RING = KeyRing({"one": RIGHT}, active="one")
IMPOSTOR = KeyRing({"one": WRONG}, active="one")
LOOK = timedelta(seconds=5)


@pytest.fixture
def outside(mongod, database_name):
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


def token(name, ring=RING, **fields):
    sealed = {
        field: ring.seal(f"{field} of {name}", token_id=name, field=field)
        for field in ("access_token", "refresh_token")
    }
    return {"_id": name, **sealed, **fields}


async def proof_of(mongo, ring, key_id="one", **options):
    (proof,) = await prove(mongo, ring, [key_id], within=LOOK, **options)
    return proof


async def test_a_key_that_sealed_nothing_yet_gets_a_check_value(mongo, outside):
    """Sealed as an access token of an id of its own, so that a reader key opens it; with the writer's public key."""
    assert (await proof_of(mongo, RING)).earns_check_value
    assert await keep_check_value(mongo, RING, "one")
    row = outside["tokens_keys"].find_one()
    assert set(row) == {"_id", "check_v1", "writer_public_key", "created_at"}
    assert row["_id"] == "one"
    RING.open(row["check_v1"], token_id="refreshd:one", field="access_token")
    private = HKDF(hashes.SHA256(), 32, salt=b"", info=b"refreshd/w1/refresh_token").derive(RIGHT)
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    assert b64decode(row["writer_public_key"], validate=True) == public
    proof = await proof_of(mongo, RING)
    assert (proof.check_value, proof.wrong, proof.earns_check_value) == (CheckValue.OPENS, False, False)


async def test_another_key_of_the_same_id_is_wrong(mongo):
    """By the check value alone, before any token is stored."""
    await keep_check_value(mongo, RING, "one")
    proof = await proof_of(mongo, IMPOSTOR)
    assert (proof.check_value, proof.wrong, proof.earns_check_value) == (CheckValue.FAILS, True, False)


async def test_the_first_of_two_keys_with_one_id_wins(mongo):
    """Replicas that start together with different keys: the second one's value is not stored, and it finds out."""
    assert await keep_check_value(mongo, RING, "one")
    assert not await keep_check_value(mongo, IMPOSTOR, "one")
    assert (await proof_of(mongo, IMPOSTOR)).wrong


async def test_without_a_check_value_stored_tokens_prove_the_key(mongo, outside):
    """A store of an older version: the right key opens them and earns its check value, another one is wrong."""
    outside.tokens.insert_many([token(f"xero:{n}") for n in range(5)])
    right, wrong = await proof_of(mongo, RING), await proof_of(mongo, IMPOSTOR)
    assert (right.wrong, right.earns_check_value, len(right.failed)) == (False, True, 0)
    assert (wrong.wrong, wrong.earns_check_value, len(wrong.opened)) == (True, False, 0)


async def test_damaged_texts_beside_good_ones_are_no_wrong_key(mongo, outside):
    """What opens proves the key. Two that open beside damaged ones earn no check value yet; three do."""
    outside.tokens.insert_many([token("xero:moved") | {"_id": f"xero:copy-{n}"} for n in range(3)])
    outside.tokens.insert_one(token("xero:a", access_token=None))
    outside.tokens.insert_one(token("xero:b", access_token=None))
    proof = await proof_of(mongo, RING)
    assert (proof.wrong, proof.earns_check_value) == (False, False)
    outside.tokens.insert_one(token("xero:c", access_token=None))
    assert (await proof_of(mongo, RING)).earns_check_value


async def test_what_is_not_a_sealed_text_of_the_key_says_nothing(mongo, outside):
    """Text of any kind, of any type and size, and of keys with similar names."""
    outside.tokens.insert_many(
        [
            {"_id": "xero:a", "refresh_token": "v1.one.AAAA"},
            {"_id": "xero:b", "refresh_token": ["v1.one." + "A" * 60], "access_token": 7},
            {"_id": "xero:c", "refresh_token": "v1.one." + "A" * 1_000_000},
            {"_id": "xero:d", "refresh_token": "v1.oneone." + "A" * 60},
            {"_id": "xero:e", "refresh_token": " v1.one." + "A" * 60 + "\n"},
            {"_id": 7, "refresh_token": "v1.one." + "A" * 60},
            token("xero:f", KeyRing({"on3": OTHER}, active="on3")),
        ]
    )
    proof = await proof_of(mongo, RING)
    assert (proof.opened, proof.failed, proof.earns_check_value) == ([], [], True)


@pytest.mark.parametrize(
    "stored", [None, 7, "", "nothing", "v1.one.AAAA", "v1.two." + "A" * 60, ["v1.one." + "A" * 60]]
)
async def test_a_row_that_is_no_check_value_does_not_condemn_the_key(mongo, outside, stored):
    """Stored tokens decide then, and nothing is written over the row."""
    outside["tokens_keys"].insert_one({"_id": "one", "check_v1": stored})
    outside.tokens.insert_many([token(f"xero:{n}") for n in range(3)])
    right = await proof_of(mongo, RING)
    assert (right.check_value, right.wrong, right.earns_check_value) == (CheckValue.UNREADABLE, False, False)
    assert (await proof_of(mongo, IMPOSTOR)).wrong


async def test_a_thorough_look_opens_stored_texts_beside_the_check_value(mongo, outside):
    """So that `check` sees tokens that another key of this id has sealed."""
    await keep_check_value(mongo, RING, "one")
    outside.tokens.insert_many([token("xero:a"), token("xero:b", IMPOSTOR)])
    quick, thorough = await proof_of(mongo, RING), await proof_of(mongo, RING, thorough=True)
    assert (quick.opened, quick.failed) == ((), ())
    assert (set(thorough.opened), set(thorough.failed)) == ({"xero:a"}, {"xero:b"})


async def test_each_key_of_a_rotated_ring_is_judged_alone(mongo, outside):
    """The old one is right by what it has sealed, the new one has sealed nothing, and a third is wrong."""
    ring = KeyRing({"one": RIGHT, "two": OTHER, "three": WRONG}, active="two")
    outside.tokens.insert_one(token("xero:a"))
    outside.tokens.insert_one(token("xero:b", KeyRing({"three": OTHER}, active="three")))
    proofs = {one.key_id: one for one in await prove(mongo, ring, ring.ids, within=LOOK)}
    assert {name: one.wrong for name, one in proofs.items()} == {"one": False, "two": False, "three": True}
    assert {name: one.earns_check_value for name, one in proofs.items()} == {
        "one": True,
        "two": True,
        "three": False,
    }


async def test_a_renewed_check_value_is_audited_and_opens(mongo, outside):
    """The operator's word counts more than what is stored."""
    await keep_check_value(mongo, RING, "one")
    await renew_check_value(
        mongo, IMPOSTOR, "one", Audit(mongo, who=Who(actor="me@here"), log=lambda _: None)
    )
    assert not (await proof_of(mongo, IMPOSTOR)).wrong
    (record,) = outside["tokens_audit"].find()
    assert (record["action"], record["token"], record["actor"]) == ("renew_check_value", "one", "me@here")


async def test_no_check_value_holds_a_secret(mongo, outside):
    """It is a text that everybody knows, sealed."""
    await keep_check_value(mongo, RING, "one")
    row = outside["tokens_keys"].find_one({}, {"created_at": 0})
    assert RIGHT.decode() not in json.dumps(row)
