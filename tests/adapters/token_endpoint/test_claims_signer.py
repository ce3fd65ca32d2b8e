"""JWTs with the claims that a definition states."""

import json

from cryptography.hazmat.primitives.asymmetric import ed25519

from daemon.adapters.token_endpoint.claims_signer import JwtSigner
from daemon.adapters.token_endpoint.client_assertion import signing_key
from tests.adapters.token_endpoint.test_client_assertion import bytes_of, pem


def test_two_of_one_second_are_two():
    """A provider that takes each JWT only once would refuse the second."""
    sign = JwtSigner(key=signing_key(pem(ed25519.Ed25519PrivateKey.generate())), key_id="k1")
    claims = [json.loads(bytes_of(sign({"iss": "me", "iat": 1}).reveal().split(".")[1])) for _ in range(50)]
    assert len({one.pop("jti") for one in claims}) == 50
    assert claims == [{"iss": "me", "iat": 1}] * 50
