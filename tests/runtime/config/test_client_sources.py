"""A client's key that its source has changed: used as the provider takes it, or refused."""

import json
from base64 import urlsafe_b64decode
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from daemon.domain.provider import AssertionAlgorithm, ClientAuth, Definition, Provider
from daemon.domain.secret import Secret
from daemon.runtime.config.client_sources import ClientSource
from daemon.runtime.config.problems import InvalidValue

UNUSED: Any = None  # where the text comes from: it is given here
SMART = Provider(
    definition=Definition(
        name="p",
        title="P",
        token_url="https://ehr.example/token",
        client_auth=ClientAuth.PRIVATE_KEY_JWT,
        assertion_algorithms=(AssertionAlgorithm.RS384, AssertionAlgorithm.ES384),
    ),
    client_id="me",
)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> Secret:
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def changed(text: Secret) -> Provider:
    source = ClientSource(provider="p", key="client_key", key_id=None, chain=UNUSED, local=UNUSED)
    return source.applied(SMART, text)


def test_a_changed_key_signs_as_the_provider_takes_it() -> None:
    """As the key that was read at the start."""
    sign = changed(pem(rsa.generate_private_key(65537, 2048))).client_assertion
    assert sign is not None
    header = sign("https://ehr.example/token", datetime(2026, 11, 29, tzinfo=UTC)).reveal().split(".")[0]
    assert json.loads(urlsafe_b64decode(header + "=="))["alg"] == "RS384"


def test_a_changed_key_that_does_not_fit_is_refused() -> None:
    """The one in use stays."""
    with pytest.raises(InvalidValue, match="this provider takes RS384 or ES384"):
        changed(pem(ec.generate_private_key(ec.SECP256R1())))
