"""Client authentication by a signature instead of a secret: `private_key_jwt` (RFC 7523 §2.2).

The assertion is a JWT of a few fields, so the code makes it directly (RFC 7515 §3.1) with `cryptography`. A
library for it would replace about fifteen lines and leave the checks of the key here. One of them, joserfc,
also warns about each use of the algorithm name EdDSA, which RFC 9864 deprecates.
"""

import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from daemon.domain.secret import Secret

LIFETIME = timedelta(minutes=5)  # longer than a request takes and clocks differ; many servers allow no more
LEAST_RSA_BITS = 2048  # RFC 7518 §3.3


class KeyUnusable(ValueError):
    """The text is not a private key that can sign. The message is a sentence for operators and quotes
    nothing.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key and the one algorithm that it is used with (RFC 7518 §3.1, RFC 8037 §3.1)."""

    algorithm: str
    sign: Callable[[bytes], bytes] = field(repr=False, compare=False)
    fingerprint: str = field(repr=False)  # distinguishes keys and shows nothing about them


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAssertion:
    """Implements `domain.provider.Assertion`: each call makes a new assertion, to be used once."""

    key: SigningKey
    client_id: str
    key_id: str | None = None

    def __call__(self, audience: str, now: datetime) -> Secret:
        """Return the signed assertion for the token endpoint at `audience` (RFC 7523 §3), valid for five
        minutes from `now`.
        """
        claims: dict[str, str | int] = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": audience,
            "jti": secrets.token_urlsafe(16),
            "iat": int(now.timestamp()),
            "exp": int((now + LIFETIME).timestamp()),
        }
        return signed_jwt(self.key, claims, key_id=self.key_id)


def signed_jwt(key: SigningKey, claims: Mapping[str, str | int], *, key_id: str | None) -> Secret:
    """Return the claims as a signed JWT in the compact form (RFC 7515 §7.1)."""
    header = {"alg": key.algorithm, "typ": "JWT"} | ({"kid": key_id} if key_id else {})
    signed = f"{_part(header)}.{_part(claims)}"
    return Secret(f"{signed}.{_base64url(key.sign(signed.encode()))}")


def signing_key(pem: Secret) -> SigningKey:
    """Return the key in `pem`: RSA of 2048 bits or more, P-256 or Ed25519, without a passphrase. Raises
    KeyUnusable.
    """
    try:
        key = load_pem_private_key(pem.reveal().encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyUnusable("is not a private key in PEM format without a passphrase") from None
    fingerprint = sha256(pem.reveal().strip().encode()).hexdigest()[:16]
    match key:
        case rsa.RSAPrivateKey() if key.key_size < LEAST_RSA_BITS:
            raise KeyUnusable(f"is a weak RSA key: it has fewer than {LEAST_RSA_BITS} bits")
        case rsa.RSAPrivateKey():
            return SigningKey(algorithm="RS256", sign=lambda data: _rs256(key, data), fingerprint=fingerprint)
        case ec.EllipticCurvePrivateKey() if isinstance(key.curve, ec.SECP256R1):
            return SigningKey(algorithm="ES256", sign=lambda data: _es256(key, data), fingerprint=fingerprint)
        case ed25519.Ed25519PrivateKey():
            return SigningKey(algorithm="EdDSA", sign=key.sign, fingerprint=fingerprint)
        case _:
            raise KeyUnusable("is not an RSA, P-256 or Ed25519 key")


def _rs256(key: rsa.RSAPrivateKey, data: bytes) -> bytes:
    return key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def _es256(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Return the two numbers side by side (RFC 7518 §3.4), not in the DER that libraries make."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def _part(fields: Mapping[str, str | int]) -> str:
    return _base64url(json.dumps(fields, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
