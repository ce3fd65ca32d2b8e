"""Signed JSON Web Tokens (RFC 7515, RFC 7519) by which a workload says who it is.

Everything unusual is refused: a reader that takes what another one refuses is how tokens are forged. The signature is
checked by `adapters/issuer_keys`.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from daemon.domain.strict_json import strict_json

Value = TypeVar("Value")

LONGEST = 16 * 1024  # characters
LONGEST_LIFE = timedelta(hours=1)
LEEWAY = timedelta(seconds=60)  # by which clocks may differ
ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)
ED25519 = "Ed25519"  # RFC 9864's name for EdDSA with this curve
LONGEST_TEXT = 512  # characters, of `iss` and `sub`
_LONGEST_ID = 256  # characters, of `jti` and `kid`
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
# With a key in the header, a forger would sign with a key of their own. What `crit` names would have to be understood.
_FORBIDDEN = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc", "cty"})
_TYPES = frozenset({"jwt", "at+jwt"})


class Fault(StrEnum):
    """The reason that a JWT is not accepted: for the log and a metric, and never for the caller."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    HEADER = "header"
    ALGORITHM = "algorithm"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    EXPIRED = "expired"
    EARLY = "early"
    TOO_LONG = "too_long"
    KEY = "key"
    SIGNATURE = "signature"
    CLAIMS = "claims"
    NETWORK = "network"


KEYS_UNAVAILABLE = "keys_unavailable"  # beside the faults: no JWT of the issuer can be judged now


class NotAccepted(Exception):
    """The JWT proves nothing."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


class KeysAway(Exception):
    """No key of the issuer is known well enough to judge the JWT. `retry_after`: when that may have changed."""

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__("the issuer's keys are not known")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Jwt:
    """A JWT whose signature nobody has checked. `algorithm`: one of ALGORITHMS. `signed`: the bytes that `signature` is
    of. Instants are in seconds since 1970.
    """

    algorithm: str
    key_id: str | None
    issuer: str
    audiences: frozenset[str]
    subject: str | None
    id: str | None
    expires_at: float
    issued_at: float | None
    not_before: float | None
    claims: Mapping[str, object]
    signed: bytes
    signature: bytes


def parse_jwt(text: str) -> Jwt:
    """Return the JWT in `text`, in compact form. Raises NotAccepted."""
    if len(text) > LONGEST:
        raise NotAccepted(Fault.TOO_LARGE)
    parts = text.split(".")
    if len(parts) != 3:
        raise NotAccepted(Fault.MALFORMED)
    header, claims = _object(parts[0]), _object(parts[1])
    algorithm, key_id = _header(header)
    return Jwt(
        algorithm=algorithm,
        key_id=key_id,
        issuer=_required(_text(claims, "iss", LONGEST_TEXT)),
        audiences=_audiences(claims),
        subject=_text(claims, "sub", LONGEST_TEXT),
        id=_text(claims, "jti", _LONGEST_ID),
        expires_at=_required(_seconds(claims, "exp")),
        issued_at=_seconds(claims, "iat"),
        not_before=_seconds(claims, "nbf"),
        claims=claims,
        signed=f"{parts[0]}.{parts[1]}".encode(),
        signature=from_base64url(parts[2]),
    )


def check_times(jwt: Jwt, now: datetime) -> None:
    """Raise NotAccepted unless the JWT is valid at `now`, and lives no longer than an hour in all."""
    at, leeway = now.timestamp(), LEEWAY.total_seconds()
    if jwt.expires_at <= at - leeway:
        raise NotAccepted(Fault.EXPIRED)
    starts = [one for one in (jwt.issued_at, jwt.not_before) if one is not None]
    if any(start > at + leeway for start in starts):
        raise NotAccepted(Fault.EARLY)
    if jwt.expires_at - (starts[0] if starts else at) > LONGEST_LIFE.total_seconds():
        raise NotAccepted(Fault.TOO_LONG)


def from_base64url(text: str) -> bytes:
    """Return the bytes in unpadded base64url (RFC 7515 §2), in their only spelling. Raises NotAccepted."""
    if not _BASE64URL.fullmatch(text):
        raise NotAccepted(Fault.MALFORMED)
    try:
        found = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise NotAccepted(Fault.MALFORMED) from None
    if urlsafe_b64encode(found).rstrip(b"=").decode() != text:
        raise NotAccepted(Fault.MALFORMED)
    return found


def _header(header: Mapping[str, object]) -> tuple[str, str | None]:
    """Return the algorithm and the key's id."""
    if not _FORBIDDEN.isdisjoint(header):
        raise NotAccepted(Fault.HEADER)
    kind = _text(header, "typ", _LONGEST_ID)
    if kind is not None and kind.lower().removeprefix("application/") not in _TYPES:
        raise NotAccepted(Fault.HEADER)
    named = header.get("alg")
    algorithm = "EdDSA" if named == ED25519 else named
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise NotAccepted(Fault.ALGORITHM)
    return algorithm, _text(header, "kid", _LONGEST_ID)


def _object(part: str) -> Mapping[str, object]:
    try:
        found = strict_json(from_base64url(part))
    except ValueError:
        raise NotAccepted(Fault.MALFORMED) from None
    if not isinstance(found, dict):
        raise NotAccepted(Fault.MALFORMED)
    return found


def _required(value: Value | None) -> Value:
    if value is None:
        raise NotAccepted(Fault.MALFORMED)
    return value


def _text(table: Mapping[str, object], name: str, longest: int) -> str | None:
    """Return a text without control characters, or None if there is none."""
    if name not in table:
        return None
    found = table[name]
    if not isinstance(found, str) or not 0 < len(found) <= longest or not found.isprintable():
        raise NotAccepted(Fault.MALFORMED)
    return found


def _audiences(claims: Mapping[str, object]) -> frozenset[str]:
    found = claims.get("aud")
    every = [found] if isinstance(found, str) else found
    if not isinstance(every, list) or not every or not all(isinstance(one, str) and one for one in every):
        raise NotAccepted(Fault.MALFORMED)
    return frozenset(every)


def _seconds(claims: Mapping[str, object], name: str) -> float | None:
    if name not in claims:
        return None
    found = claims[name]
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < 1e12:
        raise NotAccepted(Fault.MALFORMED)
    return float(found)
