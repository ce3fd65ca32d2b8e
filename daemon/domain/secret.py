"""Text that never prints itself.

Every secret is a `Secret` from the moment it is read until the moment it is sealed or sent, so that a log line,
a traceback or a `repr` of something around it can't give it away. `.reveal()` is the one way in, and easy to grep.
"""

import hmac
import html
import json
import re
from collections.abc import Iterable, Iterator
from typing import NoReturn
from urllib.parse import quote, quote_plus

from daemon.domain.word import is_readable

MASK = "•••"
_ESCAPE = re.compile(r"%[0-9A-F]{2}")
_PLAIN = re.compile(r"[A-Za-z0-9._~-]+")  # nothing that a notation writes otherwise
_TOKEN_RUN = re.compile(r"[A-Za-z0-9._~+/=%-]{20,}")
_LAST_RUN = re.compile(r"(?<![A-Za-z0-9._~+/=%-])[A-Za-z0-9._~+/=%-]+\Z")
_HALF = "\ufffd"  # what a decoder makes of an incomplete character
_LOOKED_AT = 2000  # characters of a text that is masked
_TELLING = 4  # characters of a secret: fewer give nothing away


class Secret:
    """A secret text. It compares in constant time, can be hashed, and refuses to be pickled or formatted."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself. Call it only where the secret is sealed, sent or compared."""
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


def masked(
    text: str,
    secrets: Iterable[Secret | None] = (),
    *,
    names: Iterable[str] = (),
    limit: int = 300,
    cut: bool = False,
) -> str:
    """Return `text` fit for logs and the store: known secrets in every spelling are masked, and so is every
    run of 20 or more token characters that is neither made of words nor one of `names`. Control characters
    become blanks, and the result has at most `limit` characters.

    `names`: hosts and files of the operator's own configuration. `cut`: the text was longer. Pass the whole
    text instead of a part, because half a secret is not recognized. Providers echo requests, so their
    messages are treated as hostile.
    """
    known_texts = (secret.reveal() for secret in secrets if secret)
    most = max(limit, _LOOKED_AT)
    text, cut = text[:most], cut or len(text) > most
    known_spellings = spellings(known_texts)
    for spelling in known_spellings:
        text = text.replace(spelling, MASK)
    if cut:
        text = _without_loose_end(text, known_spellings)
    forms = frozenset(names)
    text = _TOKEN_RUN.sub(lambda run: run[0] if run[0] in forms or is_readable(run[0]) else MASK, text)
    text = "".join(character if character.isprintable() else " " for character in text).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _without_loose_end(text: str, forms: Iterable[str]) -> str:
    """Return the truncated `text` without a possible beginning of a secret at its end, where half a character
    may stand behind it.
    """
    text = text.rstrip(_HALF)
    for spelling in forms:
        begins = spelling[:_TELLING]
        at = text.find(begins, max(0, len(text) - len(spelling)))
        while at >= 0 and not spelling.startswith(text[at:]):
            at = text.find(begins, at + 1)
        if at >= 0:
            text = text[:at] + MASK
    return _LAST_RUN.sub(lambda run: run[0] if is_readable(run[0]) else MASK, text)


def spellings(texts: Iterable[str]) -> list[str]:
    """Return each of `texts` in every notation that may quote it, the longest first, since one may contain
    another.
    """
    found = {spelling for text in texts for spelling in _spellings(text) if spelling}
    return sorted(found, key=len, reverse=True)


def _spellings(text: str) -> Iterator[str]:
    """Return `text` as it is, in lower and upper case, percent-encoded, and quoted by JSON, PHP, HTML and
    Python.
    """
    yield from (text, text.lower(), text.upper())
    if _PLAIN.fullmatch(text):
        return  # each of the others is the text itself
    yield from (html.escape(text), repr(text)[1:-1])
    for encoded in (quote(text, safe="", errors="replace"), quote_plus(text, errors="replace")):
        yield encoded
        yield _ESCAPE.sub(lambda escape: escape[0].lower(), encoded)
    quoted = json.dumps(text)[1:-1]
    yield from (quoted, quoted.replace("/", "\\/"))
