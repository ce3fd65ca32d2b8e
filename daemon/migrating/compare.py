"""Compares an application's store with the stored tokens, without changing either: which side has the newer token."""

from datetime import datetime
from enum import StrEnum

from daemon.domain.expiry import end_of
from daemon.domain.layout import Reading
from daemon.domain.mirrored import STAND_IN
from daemon.domain.origin import StoredToken
from daemon.domain.secret import Secret


class Difference(StrEnum):
    """How a row and the stored token differ."""

    EQUAL = "equal"
    NEWER_HERE = "newer_here"  # refreshd has renewed it since
    NEWER_THERE = "newer_there"  # the application has renewed it since
    DIVERGED = "diverged"  # both have renewed it, or nothing shows which is newer
    ONLY_HERE = "only_here"
    ONLY_THERE = "only_there"


def difference(row: Reading, token: StoredToken, *, row_unchanged: bool | None, now: datetime) -> Difference:
    """Return how `row` differs from `token`.

    `row_unchanged`: whether the row is still as refreshd has read or written it last; None: that is unknown.
    """
    values = token.values
    same_access = _same(values.access_token, row.body.get("access_token"))
    refresh = row.body.get("refresh_token")
    if same_access and (refresh == STAND_IN or _same(values.refresh_token, refresh)):
        return Difference.EQUAL
    if row_unchanged:
        return Difference.NEWER_HERE
    if row_unchanged is False and token.origin is not None and not token.origin.activated:
        return Difference.NEWER_THERE
    end = end_of(row.body.get("expires_at"), asked_at=now)
    if row_unchanged is False or end is None or values.expires_at is None or end == values.expires_at:
        return Difference.DIVERGED
    return Difference.NEWER_THERE if end > values.expires_at else Difference.NEWER_HERE


def _same(secret: Secret | None, text: object) -> bool:
    if secret is None or not isinstance(text, str):
        return secret is None and text is None
    return Secret(text) == secret
