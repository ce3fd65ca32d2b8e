"""Public keys in JSON Web Keys (RFC 7517), and the signatures of JWTs checked with them (RFC 7518, RFC 8037).

The key's own type decides which algorithms fit, never the JWT: so no RSA key is ever used as a secret of HMAC. A library
for JWTs would replace the table of algorithms here, and leave the strict reading and the rules before it to be written.
`cryptography` does the work in both cases.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from daemon.domain.jwt import ED25519, NotAccepted, from_base64url

LEAST_RSA_BITS, MOST_RSA_BITS = 2048, 8192
_MOST_EXPONENT = 2**64
_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_CURVES: Mapping[
    str, tuple[str, ec.EllipticCurve, int]
] = {  # by `crv`: the algorithm, and the bytes of a number
    "P-256": ("ES256", ec.SECP256R1(), 32),
    "P-384": ("ES384", ec.SECP384R1(), 48),
    "P-521": ("ES512", ec.SECP521R1(), 66),
}
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

Verify = Callable[[bytes, bytes], None]  # of signature and data; raises InvalidSignature


class Unfit(Exception):
    """The JWK is not a public key that may check signatures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyingKey:
    """A public key. `checks`: by algorithm. `material`: equal for equal keys."""

    id: str | None
    material: tuple[object, ...]
    checks: Mapping[str, Verify] = field(repr=False, compare=False)

    def has_signed(self, algorithm: str, data: bytes, signature: bytes) -> bool:
        """Return whether `signature` is that of this key's owner for `data`. The key must fit the algorithm."""
        try:
            self.checks[algorithm](signature, data)
        except InvalidSignature:
            return False
        return True


def verifying_key(jwk: Mapping[str, object]) -> VerifyingKey:
    """Return the key in `jwk`. Raises Unfit."""
    key_id, wanted, operations = jwk.get("kid"), jwk.get("alg"), jwk.get("key_ops", ["verify"])
    if not _PRIVATE.isdisjoint(jwk) or jwk.get("use", "sig") != "sig":
        raise Unfit
    if not isinstance(operations, list) or "verify" not in operations:
        raise Unfit
    if not (key_id is None or isinstance(key_id, str)) or not (wanted is None or isinstance(wanted, str)):
        raise Unfit
    try:
        material, checks = _key(jwk)
    except (NotAccepted, ValueError, UnsupportedAlgorithm):
        raise Unfit from None
    if wanted is not None:
        only = "EdDSA" if wanted == ED25519 else wanted
        checks = {name: check for name, check in checks.items() if name == only}
    if not checks:
        raise Unfit
    return VerifyingKey(id=key_id, material=material, checks=checks)


def _key(jwk: Mapping[str, object]) -> tuple[tuple[object, ...], Mapping[str, Verify]]:
    match jwk.get("kty"), jwk.get("crv"):
        case "RSA", _:
            return _rsa(_number(jwk, "n"), _number(jwk, "e"))
        case "EC", str() as curve if curve in _CURVES:
            return _elliptic(*_CURVES[curve], _bytes(jwk, "x"), _bytes(jwk, "y"))
        case "OKP", "Ed25519":
            x = _bytes(jwk, "x")
            return ("Ed25519", x), {"EdDSA": ed25519.Ed25519PublicKey.from_public_bytes(x).verify}
        case _:
            raise Unfit


def _rsa(modulus: int, exponent: int) -> tuple[tuple[object, ...], Mapping[str, Verify]]:
    if not LEAST_RSA_BITS <= modulus.bit_length() <= MOST_RSA_BITS or exponent >= _MOST_EXPONENT:
        raise Unfit
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()

    def pkcs1(algorithm: hashes.HashAlgorithm) -> Verify:
        return lambda signature, data: key.verify(signature, data, padding.PKCS1v15(), algorithm)

    def pss(algorithm: hashes.HashAlgorithm) -> Verify:
        form = padding.PSS(mgf=padding.MGF1(algorithm), salt_length=algorithm.digest_size)
        return lambda signature, data: key.verify(signature, data, form, algorithm)

    checks = {f"RS{size}": pkcs1(one) for size, one in _HASHES.items()}
    checks |= {f"PS{size}": pss(one) for size, one in _HASHES.items()}
    return ("RSA", modulus, exponent), checks


def _elliptic(
    algorithm: str, curve: ec.EllipticCurve, size: int, x: bytes, y: bytes
) -> tuple[tuple[object, ...], Mapping[str, Verify]]:
    if len(x) != size or len(y) != size:
        raise Unfit
    key = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), curve).public_key()
    scheme = ec.ECDSA(_HASHES[algorithm.removeprefix("ES")])

    def verify(signature: bytes, data: bytes) -> None:
        """Check the two numbers side by side (RFC 7518 §3.4), not in DER."""
        if len(signature) != 2 * size:
            raise InvalidSignature
        r, s = int.from_bytes(signature[:size]), int.from_bytes(signature[size:])
        key.verify(encode_dss_signature(r, s), data, scheme)

    return (algorithm, x, y), {algorithm: verify}


def _bytes(jwk: Mapping[str, object], name: str) -> bytes:
    found = jwk.get(name)
    if not isinstance(found, str):
        raise Unfit
    return from_base64url(found)


def _number(jwk: Mapping[str, object], name: str) -> int:
    return int.from_bytes(_bytes(jwk, name))
