"""Text that never prints itself.

Every secret is a `Secret` from the moment it is read until the moment it is sealed or sent, so that a log line,
a traceback or a `repr` of something around it can't give it away. `.reveal()` is the one way in, and easy to grep.
"""

import hmac
import re
from collections.abc import Iterable
from typing import NoReturn
from urllib.parse import quote, quote_plus

MASK = "•••"
_TOKEN_RUN = re.compile(r"[A-Za-z0-9._~+/=%-]{20,}")


class Secret:
    """A secret text. Compares in constant time, hashes, and refuses to be pickled or formatted."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself. Call it only where the secret is sealed, sent or compared."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, _spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        mine, theirs = self._text, other._text
        return hmac.compare_digest(mine.encode(errors="surrogatepass"), theirs.encode(errors="surrogatepass"))

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")


def masked(text: str, secrets: Iterable[Secret | None] = (), *, limit: int = 300) -> str:
    """`text`, fit to be logged and stored: known secrets (also percent-encoded) and any run of 20 or more token
    characters are masked, control characters are blanks, and it is at most `limit` characters long.

    Providers echo what they were sent, so their messages count as hostile.
    """
    plain = {secret.reveal() for secret in secrets if secret}
    sent = {encoded(value, safe="", errors="replace") for value in plain for encoded in (quote, quote_plus)}
    for value in sorted(plain | sent, key=len, reverse=True):  # the longest first: one may hold another
        text = text.replace(value, MASK)
    text = _TOKEN_RUN.sub(MASK, text)
    text = "".join(character if character.isprintable() else " " for character in text).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"
