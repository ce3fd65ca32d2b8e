"""Client authentication by a signature instead of a secret: `private_key_jwt` (RFC 7523 §2.2).

The assertion is a JWT of a few fields, so the code makes it directly (RFC 7515 §3.1) with `cryptography`. A
library for it would replace about fifteen lines and leave the checks of the key here. One of them, joserfc,
also warns about each use of the algorithm name EdDSA, which RFC 9864 deprecates.
"""

import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from daemon.domain.secret import Secret

Sign = Callable[[bytes], bytes]
LIFETIME = timedelta(minutes=5)  # longer than a request takes and clocks differ; many servers allow no more
LEAST_RSA_BITS = 2048  # RFC 7518 §3.3


class KeyUnusable(ValueError):
    """The text is not a private key that can sign. The message is a sentence for operators and quotes
    nothing.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key and the one algorithm that it is used with (RFC 7518 §3.1, RFC 8037 §3.1). `others`: those that fit
    the key, too.
    """

    algorithm: str
    sign: Sign = field(repr=False, compare=False)
    fingerprint: str = field(repr=False)  # distinguishes keys and shows nothing about them
    others: Mapping[str, Sign] = field(default_factory=dict, repr=False, compare=False)

    def restricted(self, algorithms: Sequence[str]) -> "SigningKey":
        """Return the key with the first of `algorithms` that fits it, or as it is if there are none. Raises
        KeyUnusable.
        """
        signs = {self.algorithm: self.sign, **self.others}
        for algorithm in algorithms:
            if algorithm in signs:
                return replace(self, algorithm=algorithm, sign=signs[algorithm])
        if algorithms:
            raise KeyUnusable(
                f"is a key for {' or '.join(signs)}, but this provider takes {' or '.join(algorithms)}"
            )
        return self


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
        header = {"alg": self.key.algorithm, "typ": "JWT"} | ({"kid": self.key_id} if self.key_id else {})
        claims: dict[str, str | int] = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": audience,
            "jti": secrets.token_urlsafe(16),
            "iat": int(now.timestamp()),
            "exp": int((now + LIFETIME).timestamp()),
        }
        signed = f"{_part(header)}.{_part(claims)}"
        return Secret(f"{signed}.{_base64url(self.key.sign(signed.encode()))}")


def signing_key(pem: Secret) -> SigningKey:
    """Return the key in `pem`: RSA of 2048 bits or more, P-256, P-384 or Ed25519, without a passphrase. Raises
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
            others = {
                "RS384": lambda data: _rsa(key, data, hashes.SHA384()),
                "PS256": lambda data: _ps256(key, data),
            }
            sign = partial(_rsa, key, algorithm=hashes.SHA256())
            return SigningKey(algorithm="RS256", sign=sign, fingerprint=fingerprint, others=others)
        case ec.EllipticCurvePrivateKey() if isinstance(key.curve, ec.SECP256R1):
            sign = partial(_ecdsa, key, algorithm=hashes.SHA256(), size=32)
            return SigningKey(algorithm="ES256", sign=sign, fingerprint=fingerprint)
        case ec.EllipticCurvePrivateKey() if isinstance(key.curve, ec.SECP384R1):
            sign = partial(_ecdsa, key, algorithm=hashes.SHA384(), size=48)
            return SigningKey(algorithm="ES384", sign=sign, fingerprint=fingerprint)
        case ed25519.Ed25519PrivateKey():
            return SigningKey(algorithm="EdDSA", sign=key.sign, fingerprint=fingerprint)
        case _:
            raise KeyUnusable("is not an RSA, P-256, P-384 or Ed25519 key")


def _rsa(key: rsa.RSAPrivateKey, data: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    return key.sign(data, padding.PKCS1v15(), algorithm)


def _ps256(key: rsa.RSAPrivateKey, data: bytes) -> bytes:
    """Sign with a salt as long as the hash (RFC 7518 §3.5)."""
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)
    return key.sign(data, pss, hashes.SHA256())


def _ecdsa(
    key: ec.EllipticCurvePrivateKey, data: bytes, *, algorithm: hashes.HashAlgorithm, size: int
) -> bytes:
    """Return the two numbers side by side (RFC 7518 §3.4), each of `size` bytes, not in the DER that libraries make."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(algorithm)))
    return r.to_bytes(size) + s.to_bytes(size)


def _part(fields: Mapping[str, str | int]) -> str:
    return _base64url(json.dumps(fields, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
