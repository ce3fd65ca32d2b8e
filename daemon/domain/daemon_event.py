"""Events of the process: its sweeps, and errors that nobody expected."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFinished:
    """The results of one sweep: its claims, and the requests that ended since the sweep before. `scheduled`:
    tokens that were seen for the first time and are not due yet.
    """

    claimed: int
    renewed: int
    postponed: int
    rejected: int
    scheduled: int = 0
    in_doubt: int = 0
    duration: timedelta
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFailed:
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InternalError:
    """A bug in refreshd. `where`: refresh, lane, sweep, replay, count, repair or another periodic job. It is
    a name in the code, never a text from outside.
    """

    where: str
    error: BaseException
    token: str | None = None
    provider: str | None = None
