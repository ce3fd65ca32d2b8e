"""Which texts of a reply can be tokens.

A server that turns a missing value into text, or hides it, sends a word in the place of a token. Stored, that
word would replace the only copy of a good token. RFC 6749 appendix A.12 and A.17 allow visible characters and
spaces; other characters of a text are accepted, except those that break a header or a line.
"""

import re

_NOTHING = frozenset(
    {"null", "none", "nil", "undefined", "nan", "false", "true", "0", "n/a", "-", "object object"}
)
_LONGEST_WORD = max(map(len, _NOTHING))
_BRACKETED = re.compile(r"(?:\((.*)\)|<(.*)>|\[(.*)\])", re.DOTALL)  # "(null)", "<none>", "[object Object]"
_LABEL = re.compile(r"[A-Za-z][A-Za-z _-]{0,39}")
_MASK = re.compile(r"[*\u2022\u2026\u25cf.\s]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def is_nothing(text: str) -> bool:
    """Return whether `text` is how a program writes a value that is missing, such as "null"."""
    word = text.strip()
    bracketed = _BRACKETED.fullmatch(word)
    inner = next(filter(None, bracketed.groups()), "") if bracketed else word
    return not inner.strip() or inner.strip().lower() in _NOTHING


def can_be_token(text: str) -> bool:
    """Return whether `text` can be a token: neither a missing value, nor hidden, nor with a control character."""
    if len(text) > _LONGEST_WORD and text[0].isalnum() and text.isprintable() and " " not in text:
        return (
            True  # the fast way, for most tokens: too long for such a word, and no mask or bracket begins so
        )
    if is_nothing(text) or _CONTROL.search(text) or _MASK.fullmatch(text):
        return False
    bracketed = _BRACKETED.fullmatch(text.strip())
    label = next(filter(None, bracketed.groups()), "") if bracketed else ""
    return not _LABEL.fullmatch(label)
