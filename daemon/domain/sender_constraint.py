"""Sender-constrained tokens: they are only accepted with a proof that the sender holds a key.

refreshd can't make that proof, and a refresh token that is presented without it may be revoked. So such a
grant is refused at the consent and set aside in the store. RFC 9449 (DPoP), RFC 8705 (client certificates),
RFC 9200 (`PoP`), and the MAC tokens of an expired draft.
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping

_CONSTRAINED = frozenset({"dpop", "pop", "mac"})


def is_sender_constrained(token_type: str | None) -> bool:
    """Return whether tokens of `token_type` are bound to a key."""
    return token_type is not None and token_type.strip().lower() in _CONSTRAINED


def names_a_key(access_token: str) -> bool:
    """Return whether an access token that happens to be a JWT is bound to a key (RFC 7800 §3.1)."""
    parts = access_token.split(".")
    if len(parts) != 3:
        return False
    try:
        claims = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return False
    bound = claims.get("cnf") if isinstance(claims, Mapping) else None
    return isinstance(bound, Mapping) and bool(bound)
