"""Access tokens that refreshd keeps fresh, for an application.

    from refreshd_reader import Tokens
    tokens = Tokens.from_env()
    httpx.get(url, auth=tokens.auth("xero", "company-7"))

`AsyncTokens` is the same for asyncio. `errors.py` draws the tree of the errors.
"""

from refreshd_reader.aio import AsyncTokens
from refreshd_reader.consent import Consent, Link
from refreshd_reader.errors import (
    ConsentFailed,
    Ending,
    Expired,
    NeedsReauth,
    NotConnected,
    NotSupported,
    Paused,
    ReaderError,
    Rejected,
    Unavailable,
)
from refreshd_reader.token import Token
from refreshd_reader.tokens import Tokens

__all__ = [
    "AsyncTokens",
    "Consent",
    "ConsentFailed",
    "Ending",
    "Expired",
    "Link",
    "NeedsReauth",
    "NotConnected",
    "NotSupported",
    "Paused",
    "ReaderError",
    "Rejected",
    "Token",
    "Tokens",
    "Unavailable",
]
__version__ = "0.1.0"
