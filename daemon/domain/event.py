"""What is worth telling an operator. The story emits these; logs and metrics subscribe."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.domain.journal_entry import ReplayResult
from daemon.domain.token import Failure, FailureKind


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRenewed:
    """New tokens are stored. `lead`: what was left of the old access token's life then (negative: too late).
    `window`: what should have been left at least when its renewal began; None: nobody knows how long it lived.
    """

    token: str
    provider: str
    revision: int | None
    duration: timedelta | None
    lead: timedelta | None
    expires_at: datetime | None
    rotated: bool
    window: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPostponed:
    token: str
    provider: str
    failure: Failure
    due_at: datetime
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenScheduled:
    """A claimed token was not asked about: it is too early, or it rests."""

    token: str
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenNeedsReauth:
    token: str
    provider: str
    failure: Failure
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSuperseded:
    """A result came too late: a newer consent is stored. `successor`: it held a refresh token, kept sealed."""

    token: str
    provider: str
    successor: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUnparsed:
    token: str
    provider: str
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStuck:
    """Like TokenPostponed, for a token that is past its end and has been refused for hours: it is asked ever less often."""

    token: str
    provider: str
    failure: Failure
    due_at: datetime
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUnreadable:
    """A stored document was set aside: ill-typed, undecryptable, or of a provider that is not configured."""

    token: str
    provider: str
    kind: FailureKind
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenInDoubt:
    """A request may have been processed although no reply came; the same value is presented once more."""

    token: str
    provider: str
    failure: Failure
    tries: int
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenHeld:
    """Due, but perhaps spent by another instance: not touched before `hold`."""

    token: str
    provider: str
    owner: str
    hold: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEnding:
    """No renewal will carry it beyond `ends_at`: its owner must consent again by then."""

    token: str
    provider: str
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAnswered:
    """A provider's endpoint answered (or failed to) after `duration`."""

    provider: str
    duration: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderThrottled:
    """A provider answered that it is asked too much."""

    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """How many requests to a provider are under way in this process, after a change of that number;
    changes of one moment are reported once.
    """

    provider: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderPaused:
    provider: str
    reason: str
    next_probe_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderResumed:
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFinished:
    """One sweep's tally: what it claimed, and what ended since the sweep before. `scheduled`: seen for the first time,
    and not due yet.
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
class LaneFailed:
    """A provider's pass ended with an unexpected error, or does not end although nothing is in flight: none of its
    tokens may have been claimed. `failures`: how many times in a row that was seen; 0: a pass has worked again.
    """

    provider: str
    message: str
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InternalError:
    """A bug of refreshd's. `where`: refresh, lane, sweep, replay, count, repair or another periodic job; a name in the
    code, never a text from outside.
    """

    where: str
    error: BaseException
    token: str | None = None
    provider: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalReplayed:
    """A reply that outlived a crash or an outage was dealt with. `result` is never unusable: see TokenUnreadable and
    InternalError for these.
    """

    token: str
    result: ReplayResult


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorFailed:
    """A mirror could not read or write its place, or the store. It is tried again."""

    mirror: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorBack:
    """A mirror works again."""

    mirror: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorRefused:
    """A mirror left the row of one token as it is: another program has changed it, or it can't be written."""

    mirror: str
    token: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLost:
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreBack:
    pass


Event = (
    TokenRenewed
    | TokenPostponed
    | TokenScheduled
    | TokenNeedsReauth
    | TokenSuperseded
    | TokenUnparsed
    | TokenStuck
    | TokenUnreadable
    | TokenInDoubt
    | TokenHeld
    | TokenEnding
    | ProviderAnswered
    | ProviderThrottled
    | InFlight
    | ProviderPaused
    | ProviderResumed
    | SweepFinished
    | SweepFailed
    | LaneFailed
    | InternalError
    | JournalReplayed
    | MirrorFailed
    | MirrorBack
    | MirrorRefused
    | StoreLost
    | StoreBack
)
