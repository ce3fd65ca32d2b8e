"""Signed JWTs of a client's own: the assertions of RFC 7523 §2.1, and what GitHub Apps present."""

import secrets
from dataclasses import dataclass

from daemon.adapters.token_endpoint.client_assertion import SigningKey, signed_jwt
from daemon.domain.assertion import Claims
from daemon.domain.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtSigner:
    """Implements `domain.assertion.ClaimsSigner`.

    Each JWT has a `jti`, because two that are signed in one second would otherwise be the same bytes: a provider that
    takes each only once (RFC 7523 §3) would refuse the second.
    """

    key: SigningKey
    key_id: str | None = None

    def __call__(self, claims: Claims) -> Secret:
        return signed_jwt(self.key, {**claims, "jti": secrets.token_urlsafe(16)}, key_id=self.key_id)
