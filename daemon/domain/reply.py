"""The reply of a provider, as it was received."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from daemon.domain.answer import Concern


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply, as it was received. `whole`: the body ended as announced. `location`: the beginning of that
    header.
    """

    status: int
    content_type: str
    retry_after: str | None
    body: bytes = field(repr=False)
    whole: bool
    asked_at: datetime
    location: str | None = field(default=None, repr=False)  # the header, as received


@dataclass(frozen=True, slots=True, kw_only=True)
class NoReply:
    """There was no reply. `sent`: the request may have reached the provider. `concerns`: the scope of a
    problem that the operator must solve, or None if time will solve it. `ours`: trouble of refreshd itself
    prevented the request.
    """

    code: str
    message: str
    sent: bool
    concerns: Concern | None = None
    ours: bool = False
    asked_at: datetime


def by_the_senders_clock(header: str | None, date: str | None) -> str | None:
    """Return a Retry-After header in seconds if it is a date and the sender's `Date` header can be read.

    The date means a wait on the sender's clock, which may be hours from refreshd's (RFC 9110 §10.2.3, §6.6.1).
    """
    if header is None or (until := _date(header)) is None or (sent := _date(date)) is None:
        return header
    return str(max(0, int((until - sent).total_seconds())))


def _date(header: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime((header or "").strip())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def retry_after(header: str | None, *, now: datetime) -> timedelta | None:
    """Return the wait that a Retry-After header asks for: seconds or an HTTP date (RFC 9110 §10.2.3), limited
    to 1 s to 24 h.

    An unparsable header is treated as a missing one.
    """
    if header is None:
        return None
    wish = header.strip()
    if wish.isascii() and wish.isdigit():
        wait = timedelta(seconds=min(int(wish[:9]), 86_400))
    else:
        at = _date(wish)
        if at is None:
            return None
        wait = at - now
    return min(max(wait, timedelta(seconds=1)), timedelta(hours=24))
