"""Handles: what stands in place of a refresh token at the token endpoint of `refreshd serve`.

A handle is the token's id in another spelling. It isn't secret and gives no access: the access key decides.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode

_PREFIX = "rfh_"
_LONGEST = 1024  # characters; the longest id has about 600 bytes


def handle_of(token: str) -> str:
    """Return the handle of the token with this id."""
    return _PREFIX + urlsafe_b64encode(token.encode()).rstrip(b"=").decode()


def token_of(handle: str) -> str | None:
    """Return the token id in `handle`, or None if it isn't a handle in its canonical form."""
    text = handle.removeprefix(_PREFIX)
    if text == handle or len(handle) > _LONGEST:
        return None
    try:
        token = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        return None
    return token if handle_of(token) == handle else None
