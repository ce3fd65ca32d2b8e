"""The token: one stored grant that is kept alive. It has a provider, an account, an access token and usually
a refresh token.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from daemon.domain.secret import Secret

PROVIDER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
ACCOUNT_BYTES = 512
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class State(StrEnum):
    """The required action of the token's owner or operator: none, consent again, or resume. A revoked token needs a new
    consent to come back.
    """

    ACTIVE = "active"
    NEEDS_REAUTH = "needs_reauth"
    PAUSED = "paused"
    REVOKING = "revoking"  # never served; the daemon ends its grant at the provider
    REVOKED = "revoked"  # the tombstone of a token whose grant was ended


class FailureKind(StrEnum):
    """Why a token was not renewed. It names who must act."""

    REJECTED = "rejected"
    MISCONFIGURED = "misconfigured"
    UNAVAILABLE = "unavailable"
    UNPARSED = "unparsed"
    IN_DOUBT = "in_doubt"
    UNREADABLE = "unreadable"
    UNCONFIGURED = "unconfigured"
    STUCK = "stuck"  # past its end, and refused for hours: asked ever more rarely
    DUPLICATE = "duplicate"  # another token holds the same refresh token
    UNSUPPORTED = "unsupported"  # a sender-constrained grant: refreshd can't prove possession of its key

    @classmethod
    def _missing_(cls, value: object) -> "FailureKind | None":
        return cls.UNPARSED if value == UNPARSED_BEFORE else None


UNPARSED_BEFORE = "unread"  # the name under which earlier versions stored `unparsed`
UNPARSED_STORED = (FailureKind.UNPARSED.value, UNPARSED_BEFORE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The last failure, as it is stored. `message` is masked and short. `not_before`: the provider asked for no request
    earlier (Retry-After, RFC 9110 section 10.2.3).
    """

    kind: FailureKind
    code: str
    message: str
    at: datetime
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A request with an unknown outcome: since when, and how often the same value was presented. `asker`: the
    other instance that sent it, if the token was adopted from one. Its journal may hold the answer.
    """

    since: datetime
    tries: int
    asker: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationOrder:
    """The order to end a token's grant at its provider. `not_before`: no request is sent earlier. `tries`: the requests
    so far.
    """

    since: datetime
    not_before: datetime | None = None
    tries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One grant, as it was read from the store. Instants are by the store's clock."""

    id: str
    provider: str
    account: str
    state: State
    refresh_token: Secret | None
    access_token: Secret | None = None
    grant: str = "refresh_token"
    token_type: str | None = None
    scope: str | None = None
    issued_at: datetime | None = None
    expires_at: datetime | None = None
    refresh_expires_at: datetime | None = None
    consent_ends_at: datetime | None = None  # whatever is renewed: the owner must consent again by then
    due_at: datetime | None = None
    refreshed_at: datetime | None = None
    revision: int | None = None  # None: an application wrote it and we have not touched it yet
    failures: int = 0
    last_failure: Failure | None = None
    doubt: Doubt | None = None
    revocation: RevocationOrder | None = None
    vars: Mapping[str, str] = field(default_factory=dict)
    echoed: Mapping[str, str] = field(default_factory=dict)  # stored reply fields that may be sent back

    @property
    def lifetime(self) -> timedelta | None:
        """The whole lifetime of the access token, if both ends are known."""
        if self.expires_at is None or self.issued_at is None:
            return None
        return self.expires_at - self.issued_at


def token_id(provider: str, account: str) -> str:
    """Return the id of the token of `account` at `provider`.

    Raises ValueError with a sentence for people if either half is not allowed.
    """
    if not PROVIDER_NAME.fullmatch(provider):
        raise ValueError(
            f"provider {provider!r}: use a to z, 0 to 9, '_' and '-', not starting with '_' or '-'"
        )
    if not account:
        raise ValueError("account: must not be empty")
    if not account.isprintable() and _CONTROL.search(account):
        raise ValueError("account: must not contain control characters")
    try:
        size = len(account.encode())
    except UnicodeEncodeError:
        raise ValueError("account: must be valid Unicode text") from None
    if size > ACCOUNT_BYTES:
        raise ValueError(f"account: {size} bytes, at most {ACCOUNT_BYTES} are allowed")
    return f"{provider}:{account}"
