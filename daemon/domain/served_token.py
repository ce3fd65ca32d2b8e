"""A token as applications get it: without its refresh token, and with the access token still sealed."""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from daemon.domain.token import Failure

VERSION_LENGTH = 22  # characters: 132 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """The access tokens of one token that applications reported as refused by the provider. `version`: the last one
    that was renewed early for it, `at` that time. `count`: how many in a row. `usual`: when that version would have
    been renewed otherwise.
    """

    version: str
    at: datetime
    count: int
    usual: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedToken:
    """One stored token. `state` is the stored text, known or not. `selected`: the fields that selectors look at,
    `subject` and `meta.NAME`. Instants are by the store's clock.
    """

    id: str
    provider: str
    account: str
    state: str
    sealed: str | None = None  # the access token
    version: str | None = None  # of the access token
    token_type: str | None = None
    scope: str | None = None
    missing_scopes: tuple[str, ...] = ()
    issued_at: datetime | None = None
    expires_at: datetime | None = None
    due_at: datetime | None = None
    refreshed_at: datetime | None = None
    failures: int = 0
    last_failure: Failure | None = None
    revision: int | None = None
    subject: str | None = None
    selected: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)
    refusals: Refusals | None = None

    @property
    def lifetime(self) -> timedelta | None:
        """The whole lifetime of the access token, if both ends are known."""
        if self.expires_at is None or self.issued_at is None:
            return None
        return self.expires_at - self.issued_at

    def is_usable(self, now: datetime) -> bool:
        """Return whether there is an access token that has not ended."""
        return self.sealed is not None and (self.expires_at is None or now < self.expires_at)


def version_of(sealed: str) -> str:
    """Return the version of a sealed access token. It changes exactly when the stored text does."""
    return urlsafe_b64encode(hashlib.sha256(sealed.encode()).digest()).decode()[:VERSION_LENGTH]
