r"""Text for eyes. Characters that steer a terminal, turn other text around or can't be seen become escapes: `\u00ad`.

Names and messages come from documents, providers, other users' processes and command lines, and any of them may be
hostile. Everything that a person reads passes here on its way out. An escape can be typed back: `typed` reads it.
"""

import re

# Letters, marks and symbols that draw nothing (Unicode's Default_Ignorable_Code_Point, and the empty Braille cell).
# `str.isprintable` knows the rest: controls, formats, surrogates, private use, unassigned, line ends and odd spaces.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))")
_LAST = 0x10FFFF


def visible(text: str, *, keep: str = "") -> str:
    """Return `text` with an escape for each invisible character, except those in `keep`."""
    if text.isprintable() and not _BLANK.search(text):
        return text
    return "".join(
        character if character in keep or _is_seen(character) else _escaped(character) for character in text
    )


def typed(text: str) -> str:
    """Return `text` with each escape replaced by its character."""
    return _ESCAPE.sub(_character, text)


def _is_seen(character: str) -> bool:
    return character.isprintable() and not _BLANK.match(character)


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _character(escape: re.Match[str]) -> str:
    number = int(escape[1] or escape[2], 16)
    return chr(number) if number <= _LAST else escape[0]
