"""Distinguishes words from tokens among long texts.

Messages of providers and libraries are treated as hostile, so any long run of token characters in them is
masked. Error codes, names of classes and host names are long runs as well, and an operator needs them. This
module separates the two without a dictionary: words are short, consist of letters except for a few digits at
their end, and can be pronounced. Of random tokens of 20 characters out of letters and digits, one in 2,000
passes for words, of those of 32 one in 100,000.

Nothing here protects a known secret. Those are masked by their value.
"""

import re

LONGEST_WORD = 18  # letters
LONGEST_RUN = 500  # characters
_SEPARATORS = re.compile(r"[/._=-]+")
_PIECE = re.compile(r"([A-Za-z]*)[0-9]{0,3}")
_HUMP = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # one word of camel case
_ACRONYM = 6  # so many capitals may stand together without a vowel, and four letters of any kind
_SHORT = 4
_UNSPEAKABLE = re.compile(
    r"[bcdfghjklmnpqrstvwxz]{5}|(.)\1\1|q[^u]|[jv][bcdfghjklmnpqrstvwxz]", re.IGNORECASE
)
_VOWEL = re.compile(r"[aeiouy]", re.IGNORECASE)
_OAUTH2 = re.compile(r"oauth2", re.IGNORECASE)  # the one common word with a digit inside


def is_readable(run: str) -> bool:
    """Return whether `run`, a text without blanks, consists of words: `invalid_grant`,
    `login.example.com/token`, `InvalidRefreshTokenException`.
    """
    if len(run) > LONGEST_RUN or run.endswith("="):  # base64
        return False
    return all(map(_is_word, _SEPARATORS.split(_OAUTH2.sub("oauth", run))))


def _is_word(piece: str) -> bool:
    """Return whether `piece` is one word, or several in camel case with an average of four letters."""
    found = _PIECE.fullmatch(piece)
    if found is None:
        return False
    humps = _HUMP.findall(found[1])
    if len(humps) > 1 and len(humps) * 4 > len(found[1]) + 2:
        return False
    return all(map(_is_speakable, humps))


def _is_speakable(word: str) -> bool:
    if len(word) <= _SHORT or (word.isupper() and len(word) <= _ACRONYM):
        return True
    vowels = len(_VOWEL.findall(word))
    speakable = len(word) <= 5 * vowels <= 4 * len(word)
    return speakable and len(word) <= LONGEST_WORD and not _UNSPEAKABLE.search(word)
