"""Events that operators may need to see. The use case emits them; logs and metrics subscribe."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.domain.anomaly import AnomalyKind
from daemon.domain.deviation import DriftKind
from daemon.domain.hook import Outcome
from daemon.domain.journal_entry import ReplayResult
from daemon.domain.store_event import StoreBack, StoreLost
from daemon.domain.token import Failure, FailureKind


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRenewed:
    """New tokens are stored. `lead`: the remaining life of the old access token at that time (negative: too
    late). `window`: the remaining life that was planned when its renewal began, or None if its lifetime is
    unknown.
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
    """No request was sent for a claimed token: it is too early, or the token is inactive."""

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
    """A result arrived too late, because a newer consent is stored. `successor`: the result contained a
    refresh token, which the journal keeps sealed.
    """

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
    """A TokenPostponed for a token that has expired and has been refused for hours. Its requests become less
    and less frequent.
    """

    token: str
    provider: str
    failure: Failure
    due_at: datetime
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUnreadable:
    """A stored document was set aside: it is ill-typed or undecryptable, or its provider is not configured."""

    token: str
    provider: str
    kind: FailureKind
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenInDoubt:
    """A request may have been processed although no reply arrived. The same value is presented once more."""

    token: str
    provider: str
    failure: Failure
    tries: int
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenHeld:
    """The token is due, but another instance may have spent it. This instance does not touch it before
    `hold`.
    """

    token: str
    provider: str
    owner: str
    hold: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEnding:
    """No renewal extends the token beyond `ends_at`. Its owner must consent again by then."""

    token: str
    provider: str
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRevoked:
    """The provider has ended the grant, and the stored token is a tombstone."""

    token: str
    provider: str
    revision: int | None
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRevocationPostponed:
    """A revocation did not succeed. It is tried again."""

    token: str
    provider: str
    failure: Failure
    tries: int
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRevocationFailed:
    """The grant of a token is still valid at its provider, and an operator must act: the provider refuses the revocation,
    or it has not succeeded for days. It is tried once a day.
    """

    token: str
    provider: str
    failure: Failure
    tries: int
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LateReplyRevoked:
    """A reply arrived after its token had been revoked. The tokens in the reply have been revoked too."""

    token: str
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAnswered:
    """A provider's endpoint answered (or failed to) after `duration`."""

    provider: str
    duration: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderThrottled:
    """A provider asked refreshd to slow down."""

    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderDrifted:
    """A provider's behaviour differs from its definition. `change`: the line of the definition that fits it, or an empty
    text.
    """

    provider: str
    kind: DriftKind
    message: str
    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """The new number of requests in flight to a provider from this process. Changes in one turn of the loop
    are reported once.
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
class LaneFailed:
    """A provider's pass ended with an unexpected error, or is stuck although nothing is in flight. Perhaps
    none of its tokens was claimed. `failures`: how many times in a row; 0: a pass has worked again.
    """

    provider: str
    message: str
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InternalError:
    """A bug in refreshd. `where`: refresh, lane, sweep, replay, count, repair or another periodic job. It is
    a name in the code, never a text from outside.
    """

    where: str
    error: BaseException
    token: str | None = None
    provider: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalReplayed:
    """A reply that outlived a crash or an outage was processed. `result` is never unusable: TokenUnreadable
    and InternalError report that.
    """

    token: str
    result: ReplayResult


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenConnected:
    """The grant of a consent is stored. `missing_scopes`: asked for and not granted."""

    token: str
    provider: str
    consent: str
    missing_scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentFailed:
    """A consent has ended without a stored grant. `kind` and `code` say why, `message` is masked."""

    token: str
    provider: str
    consent: str
    kind: str
    code: str
    message: str


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
class OwnerEventsLost:
    """Events of a token that no hook gets. `malformed`: another program stored them. `pushed_out`: by newer ones, while
    nothing could be put into the outbox.
    """

    token: str
    malformed: int
    pushed_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HookCounted:
    """So many deliveries of a hook have had this outcome. `status`: the receiver's, if it answered. `failures`: in a row,
    with these.
    """

    hook: str
    outcome: Outcome
    count: int = 1
    status: int | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HookBack:
    """A receiver takes events again, after `failures` in a row."""

    hook: str
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HookDisabled:
    """A receiver said for an hour that it is gone. It gets nothing more until its configuration changes."""

    hook: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyDetected:
    """Access that a person should look at. `key`: the id of the access key, the address or the token that it concerns.
    `count`: how many of what the rule counts. `message`: a sentence about it. `name`: the access key's.
    `token`: the token that the access key was used for, if it concerns one.

    `repeated`: the same kind was reported for the same key in this hour. It is counted, and no news.
    """

    kind: AnomalyKind
    key: str
    count: int
    at: datetime
    message: str
    name: str | None = None
    token: str | None = None
    repeated: bool = False

    @property
    def id(self) -> str:
        """The same for all anomalies of one kind and key in one hour, in every process."""
        return f"anomaly:{self.kind}:{self.key}:{self.at:%Y-%m-%dT%H}"


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
    | TokenRevoked
    | TokenRevocationPostponed
    | TokenRevocationFailed
    | LateReplyRevoked
    | ProviderAnswered
    | ProviderThrottled
    | ProviderDrifted
    | InFlight
    | ProviderPaused
    | ProviderResumed
    | SweepFinished
    | SweepFailed
    | LaneFailed
    | InternalError
    | JournalReplayed
    | TokenConnected
    | ConsentFailed
    | MirrorFailed
    | MirrorBack
    | MirrorRefused
    | OwnerEventsLost
    | HookCounted
    | HookBack
    | HookDisabled
    | AnomalyDetected
    | StoreLost
    | StoreBack
)

# Several come with each renewal, and only the metrics use them: no other observer is called.
COUNTED_ONLY: frozenset[type[Event]] = frozenset({ProviderAnswered, ProviderThrottled, InFlight})
