"""What comes back from a provider, as it was received."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from daemon.domain.answer import Concern


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back, as received. `whole`: the body ended as announced. `location`: that header's beginning."""

    status: int
    content_type: str
    retry_after: str | None
    body: bytes = field(repr=False)
    whole: bool
    asked_at: datetime
    location: str | None = field(default=None, repr=False)  # the header, as received


@dataclass(frozen=True, slots=True, kw_only=True)
class NoReply:
    """Nothing came back. `sent`: the request may have reached the provider; `concerns`: it is
    the operator's to mend, and how far it reaches; None: time's. `ours`: refreshd's own trouble kept it from asking.
    """

    code: str
    message: str
    sent: bool
    concerns: Concern | None = None
    ours: bool = False
    asked_at: datetime


def retry_after(header: str | None, *, now: datetime) -> timedelta | None:
    """The wait that a Retry-After header asks for: seconds or an HTTP date (RFC 9110 §10.2.3), 1 s to 24 h.

    Unparsable is None: as if it weren't there.
    """
    if header is None:
        return None
    wish = header.strip()
    if wish.isascii() and wish.isdigit():
        wait = timedelta(seconds=min(int(wish[:9]), 86_400))
    else:
        try:
            at = parsedate_to_datetime(wish)
            wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - now
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    return min(max(wait, timedelta(seconds=1)), timedelta(hours=24))
