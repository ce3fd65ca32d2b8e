"""Events of one token: what became of a renewal, a revocation, a consent."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.domain.journal_entry import ReplayResult
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
