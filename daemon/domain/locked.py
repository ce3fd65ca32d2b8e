"""Journal replies that can't be opened, and when they may stop blocking their tokens."""

from dataclasses import dataclass
from datetime import datetime

from daemon.domain.journal_entry import consent_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """A journal entry whose reply can't be opened, because its key is not on the ring or its row was altered.

    These fields are proved only by their place in the file.
    """

    key: int
    token: str
    provider: str
    claim: str
    spent: str | None
    asked_at: datetime | None  # None: the row holds no date
    why: str  # for operators; no secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The current content of a token's document: its sealed texts, and when its tokens were issued."""

    refresh_token: str | None
    access_token: str | None
    issued_at: datetime | None


def is_overtaken(locked: Locked, standing: Standing | None) -> bool:
    """Return whether a later grant than the one in `locked` is stored. `standing` is None if the document is
    gone.

    Both signs are needed. A different sealed text alone may be the spent value, sealed again under a new key.
    A later `issued_at` alone may come from a renewal that kept the refresh token, which the locked reply may
    have replaced. If no stored secret was presented, no refresh token depends on the reply, and the later
    tokens are enough. The reply to the code of a consent is never overtaken: its document may not exist yet, and
    a renewal of the former grant says nothing about the new one.
    """
    if consent_of(locked.claim) is not None:
        return False
    if standing is None:
        return True
    if locked.asked_at is None or standing.issued_at is None or standing.issued_at <= locked.asked_at:
        return False
    return locked.spent is None or locked.spent not in (standing.refresh_token, standing.access_token)
