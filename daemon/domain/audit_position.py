"""Where a page of audit records ends: an opaque text for callers, which they send back for the next page."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

DEEDS: Final = "d"  # the audit itself
USES: Final = "u"  # the counts of uses
LONGEST = 4096  # characters
_TEXT = re.compile(r"([0-9]{1,15}) ([du]) (.*)", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 12, 31, tzinfo=UTC)

Source = Literal["d", "u"]


@dataclass(frozen=True, slots=True)
class Position:
    """A record that was given last: its time, the collection it is from and its id there. `id` None: every record of
    that moment was given.

    Newest first; at the same moment, deeds come before uses, and larger ids before smaller ones.
    """

    at: datetime
    source: Source
    id: str | None


def text_of(position: Position) -> str:
    """Return the position as callers see it."""
    ms = (position.at - _EPOCH) // timedelta(milliseconds=1)
    text = f"{ms} {position.source} {position.id or ''}"
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_position(text: str) -> Position | None:
    """Return the position in `text`, or None if there is none."""
    if len(text) > LONGEST or not text.isascii():
        return None
    try:
        decoded = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (Error, ValueError):
        return None
    found = _TEXT.fullmatch(decoded)
    if found is None or "\x00" in decoded:
        return None
    span = timedelta(milliseconds=int(found[1]))
    source: Source = DEEDS if found[2] == DEEDS else USES
    return Position(_EPOCH + span, source, found[3] or None) if span <= _LAST - _EPOCH else None
