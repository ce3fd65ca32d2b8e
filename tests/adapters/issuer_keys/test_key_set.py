"""Key sets: which keys count, and whose signature it is."""

import json
from base64 import urlsafe_b64decode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from daemon.adapters.issuer_keys.failure import ReadFailed
from daemon.adapters.issuer_keys.key_set import LARGEST, KeySet, parse_key_set
from daemon.domain.jwt import Fault, Jwt, parse_jwt
from tests.support.jwts import SigningKey, claims, encoded, key_set

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "jwt.json").read_text())["vectors"]
RSA, EC, ED = SigningKey("rsa", "RS256"), SigningKey("ec", "ES256"), SigningKey("ed", "EdDSA")


def parsed(*jwks: object) -> KeySet:
    return parse_key_set(json.dumps({"keys": jwks}).encode())


def jwt(key: SigningKey, **header: object) -> Jwt:
    return parse_jwt(key.jwt(claims(NOON), header=header))


_RANDOM = ("x", "y", "n", "d")  # parts of keys that each run makes


@pytest.mark.parametrize("vector", VECTORS, ids=lambda one: one["algorithm"])
def test_what_another_implementation_signed(vector: dict[str, Any]):
    """And nothing else: neither with other contents nor with another signature."""
    keys, found = parsed(vector["jwk"]), parse_jwt(vector["jwt"])
    assert keys.fault(found) is None
    half = len(found.signature) // 2
    for changed in (
        {"signed": found.signed[:-1] + b"x"},
        {"signature": bytes(len(found.signature))},
        {"signature": found.signature[:-1]},
        {"signature": found.signature + b"\x00"},
        {"signature": b"\x00"},
        {"signature": found.signature[:half] + b"\x00" + found.signature[half:]},  # the same number
    ):
        fields = {name: getattr(found, name) for name in Jwt.__slots__}
        assert keys.fault(Jwt(**{**fields, **changed})) is Fault.SIGNATURE


def test_the_type_of_the_key_decides_which_algorithms_fit():
    keys = parsed(RSA.jwk, EC.jwk, ED.jwk)
    for key, others in ((RSA, ("ES256", "EdDSA")), (EC, ("RS256", "ES384")), (ED, ("PS256", "ES512"))):
        assert keys.fault(jwt(key)) is None
        for other in others:
            assert keys.fault(jwt(key, alg=other)) is Fault.ALGORITHM
    assert keys.fault(jwt(RSA, alg="PS256")) is Fault.SIGNATURE  # fits, and is another one


def test_a_key_may_be_for_one_algorithm_only():
    only = parsed({**RSA.jwk, "alg": "PS256"})
    assert only.fault(jwt(RSA)) is Fault.ALGORITHM
    assert parsed({**ED.jwk, "alg": "Ed25519"}).fault(jwt(ED)) is None


def test_another_key_of_the_same_type_has_not_signed():
    for algorithm in ("RS256", "ES256", "EdDSA"):
        right, forger = SigningKey("right", algorithm), SigningKey("forger", algorithm)
        assert parsed(right.jwk, forger.jwk).fault(jwt(forger, kid="right")) is Fault.SIGNATURE


def test_an_unknown_key():
    keys = parsed(EC.jwk)
    assert keys.fault(jwt(ED)) is Fault.KEY
    assert not keys.knows(jwt(ED))
    assert keys.knows(jwt(EC))


def test_without_a_key_id_the_one_key_that_fits_counts():
    bare = parse_jwt(EC.jwt(claims(NOON), header=b'{"alg":"ES256"}'))
    assert parsed(EC.jwk, ED.jwk, RSA.jwk).fault(bare) is None
    assert parsed(EC.jwk, SigningKey("other").jwk).fault(bare) is Fault.KEY


def test_two_keys_of_one_id_are_none_unless_they_are_equal():
    other = {**SigningKey("other").jwk, "kid": "ec"}
    assert parsed(EC.jwk, other).fault(jwt(EC)) is Fault.KEY
    assert parsed(other, EC.jwk).fault(jwt(EC)) is Fault.KEY
    assert parsed(EC.jwk, EC.jwk).fault(jwt(EC)) is None
    assert parsed(EC.jwk, {**ED.jwk, "kid": "ec"}).fault(jwt(EC)) is None  # of another type


def _shortened(name: str, jwk: dict[str, Any]) -> dict[str, Any]:
    raw = urlsafe_b64decode(jwk[name] + "==")
    return {**jwk, name: encoded(raw[:-1])}


@pytest.mark.parametrize(
    "jwk",
    [
        {**EC.jwk, "use": "enc"},
        {**EC.jwk, "use": None},
        {**EC.jwk, "key_ops": ["sign"]},
        {**EC.jwk, "key_ops": "verify"},
        {**EC.jwk, "key_ops": []},
        {**EC.jwk, "d": "AAAA"},
        {**EC.jwk, "k": "AAAA"},
        {**EC.jwk, "alg": "ES384"},
        {**EC.jwk, "alg": "ECDH-ES"},
        {**EC.jwk, "alg": 1},
        {**EC.jwk, "kid": 7},
        {**EC.jwk, "crv": "secp256k1"},
        {**EC.jwk, "crv": "P-384"},
        {**EC.jwk, "crv": None},
        {**EC.jwk, "x": EC.jwk["y"]},
        {**EC.jwk, "x": 1},
        {**EC.jwk, "x": EC.jwk["x"] + "=="},
        {**EC.jwk, "y": ""},
        _shortened("x", EC.jwk),
        {"kty": "oct", "kid": "ec", "k": encoded(b"x" * 32)},
        {"kty": "EC", "kid": "ec"},
        {"kty": "RSA", "kid": "ec"},
        {"kid": "ec"},
        {},
    ],
    ids=lambda one: json.dumps({name: one[name] for name in sorted(one) if name not in _RANDOM})[:60],
)
def test_a_key_that_is_not_for_checking_signatures_is_left_out(jwk: dict[str, Any]):
    keys = parsed(jwk, ED.jwk)
    assert keys.fault(jwt(EC)) is Fault.KEY
    assert keys.fault(jwt(ED)) is None  # and harms no other


@pytest.mark.parametrize(
    "changed",
    [
        {"n": encoded((2**1023 + 1).to_bytes(128))},
        {"n": encoded((2**16384 + 1).to_bytes(2049))},
        {"e": encoded((2**80 + 1).to_bytes(11))},
        {"e": encoded(b"\x01")},
        {"e": encoded(b"\x04")},
        {"n": ""},
        {"n": None},
        {"d": "AAAA"},
    ],
)
def test_a_weak_or_costly_rsa_key_is_left_out(changed: dict[str, Any]):
    assert parsed({**RSA.jwk, **changed}).fault(jwt(RSA)) is Fault.KEY


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":[1]}',
        b'{"keys":[],"keys":[]}',
        b'{"keys":[{"kty":"EC","kty":"RSA"}]}',
        b"\xff",
        b"[" * 100_000,
        b'{"keys":[' + b",".join([b"{}"] * 101) + b"]}",
        b" " * (LARGEST + 1),
    ],
    ids=lambda one: repr(one[:20]),
)
def test_what_is_no_key_set_is_refused(content: bytes):
    with pytest.raises(ReadFailed) as caught:
        parse_key_set(content)
    assert "html" not in str(caught.value)


def test_an_empty_set_is_one():
    """An issuer that has withdrawn all of its keys means it."""
    assert parse_key_set(json.dumps(key_set()).encode()).fault(jwt(EC)) is Fault.KEY
