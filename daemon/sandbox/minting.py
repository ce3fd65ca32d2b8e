"""Token values that look like those of real providers: of several lengths, and awkward to put into a form.

A body in which every token is URL-safe hides two things: a client that forgets to form-encode, and what the encoding
costs. So each refresh token holds `/`, `+`, `.` and `-`.
"""

import hmac
import json
import secrets
from base64 import b64encode, urlsafe_b64encode
from hashlib import sha256

# Bytes before base64 (four characters for every three): an opaque handle, a longer one, one as long as a JWT.
_ACCESS_SIZES = (30, 120, 600)
_REFRESH_SIZES = (42, 45, 48, 51, 54, 57, 60)


def access_token() -> str:
    """40, 160 or 800 characters."""
    return secrets.token_urlsafe(secrets.choice(_ACCESS_SIZES))


def refresh_token() -> str:
    """62 to 86 characters, out of base64's alphabet and the separators that providers like."""
    text = b64encode(secrets.token_bytes(secrets.choice(_REFRESH_SIZES))).decode("ascii")
    return f"1//{text[:16]}.{text[16:32]}-{text[32:48]}+{text[48:]}"


def client_secret() -> str:
    """Only URL-safe characters: `curl -u` sends Basic credentials without the form-encoding of RFC 6749."""
    return secrets.token_urlsafe(24)


def code() -> str:
    """An authorization code or a device code, as awkward in a query as Google's (`4/0A...`)."""
    return f"4/{secrets.token_urlsafe(32)}"


def user_code() -> str:
    """Eight letters without vowels, in two groups (RFC 8628, section 6.1)."""
    letters = "".join(secrets.choice("BCDFGHJKLMNPQRSTVWXZ") for _ in range(8))
    return f"{letters[:4]}-{letters[4:]}"


def id_token(claims: dict[str, object], *, secret: str) -> str:
    """A JWT with the client's secret as its key (HS256, OpenID Connect Core, section 10.1)."""
    head, body = (_base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    signature = hmac.new(secret.encode(), f"{head}.{body}".encode(), sha256).digest()
    return f"{head}.{body}.{_base64url(signature)}"


def _base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()
