"""The effect of an answer on the stored token. `policy` decides it; the store carries it out behind a fence."""

from dataclasses import dataclass
from datetime import datetime

from daemon.domain.answer import Granted
from daemon.domain.secret import Secret
from daemon.domain.token import Doubt, Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """New tokens. `successor` is the refresh token that replaces the presented one, or None if that one
    stays.
    """

    granted: Granted
    successor: Secret | None
    issued_at: datetime
    refreshed_at: datetime
    due_at: datetime | None
    refresh_expires_at: datetime | None
    consent_ends_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Postponed:
    """Nothing new: try again at `due_at`. While the token is in `doubt`, the lease stays, so that only the
    instance that asked asks again.
    """

    failure: Failure
    failures: int
    due_at: datetime
    doubt: Doubt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """The grant is dead. The token stays stored as `needs_reauth` until its owner consents again."""

    failure: Failure
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """A success that could not be read completely. The old value is not presented again until an operator has
    decided. `renewed` contains the access token if there was one.
    """

    failure: Failure
    renewed: Renewed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """No request was sent. A document that an application inserted gets its first `due_at`. A token that is
    inactive or has nothing to present gets none.
    """

    due_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """The provider has ended the grant. Only a tombstone remains, until `forget_at`."""

    revoked_at: datetime
    forget_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationPostponed:
    """The grant may still be valid: the revocation is tried again at `due_at`. `failed`: an operator must act."""

    failure: Failure
    tries: int
    due_at: datetime
    failed: bool = False


Change = Renewed | Postponed | Retired | Withheld | Scheduled | Revoked | RevocationPostponed
