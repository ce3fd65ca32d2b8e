"""What an answer does to the stored token. Decided in `policy`, carried out by the store, fenced there."""

from dataclasses import dataclass
from datetime import datetime

from daemon.domain.answer import Granted
from daemon.domain.secret import Secret
from daemon.domain.token import Doubt, Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """New tokens. `successor` is the refresh token that replaces the presented one; None: that one stays."""

    granted: Granted
    successor: Secret | None
    issued_at: datetime
    refreshed_at: datetime
    due_at: datetime | None
    refresh_expires_at: datetime | None
    consent_ends_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Postponed:
    """Nothing new; try again at `due_at`. While in `doubt` the lease stays, so that only the asker asks again."""

    failure: Failure
    failures: int
    due_at: datetime
    doubt: Doubt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """The grant is dead: rests as `needs_reauth` until its owner consents again. It is never deleted."""

    failure: Failure
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """A success that we couldn't read whole: the old value is not presented again until somebody has looked.
    `renewed` carries the access token where one was found.
    """

    failure: Failure
    renewed: Renewed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """Not asked at all: an application's new document gets its first `due_at`; a token that is not active, or has
    nothing to present, gets none.
    """

    due_at: datetime | None


Change = Renewed | Postponed | Retired | Withheld | Scheduled
