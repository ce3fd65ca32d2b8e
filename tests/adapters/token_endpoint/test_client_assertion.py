"""A client that signs instead of telling a secret: what is signed, how, and with which keys."""

import json
from base64 import urlsafe_b64decode
from datetime import UTC, datetime

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from daemon.adapters.token_endpoint.client_assertion import ClientAssertion, KeyUnusable, signing_key
from daemon.domain.provider import ClientAuth, Definition, Provider
from daemon.domain.request import refresh_request
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
AUDIENCE = "https://sso.example.com/oauth/token"
RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
OPEN = NoEncryption()
ED25519 = ed25519.Ed25519PrivateKey.generate()


def pem(key, form=PrivateFormat.PKCS8, encryption=OPEN) -> Secret:
    return Secret(key.private_bytes(Encoding.PEM, form, encryption).decode())


def bytes_of(part: str) -> bytes:
    assert "=" not in part
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def verify_rs256(signature: bytes, data: bytes) -> None:
    RSA.public_key().verify(signature, data, padding.PKCS1v15(), hashes.SHA256())


def verify_es256(signature: bytes, data: bytes) -> None:
    assert len(signature) == 64
    r, s = (int.from_bytes(half) for half in (signature[:32], signature[32:]))
    P256.public_key().verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))


def verify_eddsa(signature: bytes, data: bytes) -> None:
    ED25519.public_key().verify(signature, data)


def verify_rs384(signature: bytes, data: bytes) -> None:
    RSA.public_key().verify(signature, data, padding.PKCS1v15(), hashes.SHA384())


def verify_ps256(signature: bytes, data: bytes) -> None:
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    RSA.public_key().verify(signature, data, pss, hashes.SHA256())


def verify_es384(signature: bytes, data: bytes) -> None:
    assert len(signature) == 96
    r, s = (int.from_bytes(half) for half in (signature[:48], signature[48:]))
    P384.public_key().verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA384()))


KINDS = [(RSA, "RS256", verify_rs256), (P256, "ES256", verify_es256), (ED25519, "EdDSA", verify_eddsa)]
CHOICES = [
    (RSA, ["RS384", "ES384"], "RS384", verify_rs384),
    (P384, ["RS384", "ES384"], "ES384", verify_es384),
    (RSA, ["PS256", "ES256"], "PS256", verify_ps256),
    (RSA, ["ES256", "RS256"], "RS256", verify_rs256),
    (RSA, ["PS256", "RS256"], "PS256", verify_ps256),
    (P384, [], "ES384", verify_es384),
]


@pytest.mark.parametrize(("key", "algorithms", "algorithm", "verify"), CHOICES)
def test_the_first_algorithm_of_the_provider_that_fits_the_key_is_used(key, algorithms, algorithm, verify):
    """SMART on FHIR takes RS384 and ES384 only, FAPI 2 PS256 and ES256."""
    sign = ClientAssertion(key=signing_key(pem(key)).restricted(algorithms), client_id="me")
    header, claims, signature = sign(AUDIENCE, NOON).reveal().split(".")
    verify(bytes_of(signature), f"{header}.{claims}".encode())
    assert json.loads(bytes_of(header))["alg"] == algorithm


def test_a_key_that_fits_none_of_them_is_refused():
    """The operator learns which kind of key to make."""
    with pytest.raises(KeyUnusable, match="is a key for ES256, but this provider takes RS384 or ES384"):
        signing_key(pem(P256)).restricted(["RS384", "ES384"])


@pytest.mark.parametrize(("key", "algorithm", "verify"), KINDS)
def test_the_public_key_confirms_what_was_signed(key, algorithm, verify):
    """Header, claims and signature as the standard has them, whatever the kind of key."""
    sign = ClientAssertion(key=signing_key(pem(key)), client_id="me", key_id="2026-11")
    header, claims, signature = sign(AUDIENCE, NOON).reveal().split(".")
    verify(bytes_of(signature), f"{header}.{claims}".encode())
    with pytest.raises(InvalidSignature):
        verify(bytes_of(signature), f"{header}.{claims[:-1]}".encode())
    assert json.loads(bytes_of(header)) == {"alg": algorithm, "typ": "JWT", "kid": "2026-11"}
    told = json.loads(bytes_of(claims))
    assert len(told.pop("jti")) >= 22
    at = int(NOON.timestamp())
    assert told == {"iss": "me", "sub": "me", "aud": AUDIENCE, "iat": at, "exp": at + 300}


def test_an_es256_signature_always_has_64_bytes():
    """Its halves begin with a zero now and then: about eight times in this many."""
    sign = signing_key(pem(P256)).sign
    assert {len(sign(b"data")) for _ in range(1000)} == {64}


def test_each_assertion_is_another_one():
    """A server remembers the ids it has seen: one is used once."""
    sign = ClientAssertion(key=signing_key(pem(ED25519)), client_id="me")
    ids = {json.loads(bytes_of(sign(AUDIENCE, NOON).reveal().split(".")[1]))["jti"] for _ in range(50)}
    assert len(ids) == 50


def test_a_key_without_a_name_has_none_in_the_header():
    """No empty `kid`: a server would look for it."""
    header = (
        ClientAssertion(key=signing_key(pem(P256)), client_id="me")(AUDIENCE, NOON).reveal().split(".")[0]
    )
    assert json.loads(bytes_of(header)) == {"alg": "ES256", "typ": "JWT"}


def test_the_request_carries_it():
    """A provider with a key sends the assertion for its own token URL, and no secret."""
    provider = Provider(
        definition=Definition(
            name="p", title="P", token_url=AUDIENCE, client_auth=ClientAuth.PRIVATE_KEY_JWT
        ),
        client_id="me",
        client_assertion=ClientAssertion(key=signing_key(pem(P256)), client_id="me"),
    )
    token = Token(id="p:1", provider="p", account="1", state=State.ACTIVE, refresh_token=Secret("r"))
    fields = dict(
        one.split("=") for one in refresh_request(provider, token, now=NOON).body.decode().split("&")
    )
    assert (
        fields["client_assertion_type"] == "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
    )
    assert json.loads(bytes_of(fields["client_assertion"].split(".")[1]))["aud"] == AUDIENCE
    assert "client_secret" not in fields


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_both_usual_forms_of_pem_are_read(form):
    """`BEGIN PRIVATE KEY`, and the older forms that name the kind."""
    assert signing_key(pem(RSA, form)).algorithm == "RS256"
    assert signing_key(pem(P256, form)).algorithm == "ES256"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (pem(rsa.generate_private_key(65537, 1024)), "weak"),
        (pem(ec.generate_private_key(ec.SECP521R1())), "not an RSA, P-256, P-384 or Ed25519 key"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "not an RSA, P-256, P-384 or Ed25519 key"),
        (pem(ed448.Ed448PrivateKey.generate()), "not an RSA, P-256, P-384 or Ed25519 key"),
        (pem(dsa.generate_private_key(1024)), "not an RSA, P-256, P-384 or Ed25519 key"),
        (pem(P256, encryption=BestAvailableEncryption(b"pass")), "passphrase"),
        (
            Secret(P256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()),
            "private",
        ),
        (Secret("-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----\n"), "PEM"),
        (Secret("canary"), "PEM"),
        (Secret(""), "PEM"),
    ],
)
def test_what_can_not_be_signed_with_is_refused(text, said):
    """Weak, of another kind, locked, public or no key at all: said without quoting any of it."""
    with pytest.raises(KeyUnusable, match=said) as raised:
        signing_key(text)
    assert raised.value.__cause__ is None
    for line in filter(None, text.reveal().splitlines()):
        assert line not in str(raised.value)


def test_neither_key_nor_assertion_prints_itself():
    """Not in a repr of either, nor of a provider that holds them."""
    sign = ClientAssertion(key=signing_key(pem(P256)), client_id="me")
    assertion = sign(AUDIENCE, NOON)
    assert repr(sign) == "ClientAssertion(key=SigningKey(algorithm='ES256'), client_id='me', key_id=None)"
    assert repr(assertion) == repr(Secret("x"))
