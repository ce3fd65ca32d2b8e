"""Token values that look like those of real providers: of several lengths, and awkward to put into a form.

A body in which every token is URL-safe hides two things: a client that forgets to form-encode, and what the encoding
costs. So each refresh token holds `/`, `+`, `.` and `-`.
"""

import secrets
from base64 import b64encode

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
