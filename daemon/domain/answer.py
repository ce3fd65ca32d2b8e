"""The meaning of a provider's reply. Each answer names who must act: no one, the operator, the owner, or
time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from daemon.domain.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """No one must act: a new access token, and possibly a new refresh token."""

    access_token: Secret
    refresh_token: Secret | None = None  # None: none came, the old one stays in use
    token_type: str | None = None
    scope: str | None = None
    expires_at: datetime | None = None  # None: it never expires
    refresh_expires_at: datetime | None = None
    consent_ends_at: datetime | None = None  # the owner's consent itself, however often the token is renewed
    extra: Mapping[str, object] = field(default_factory=dict)
    fields: tuple[str, ...] = field(default=(), compare=False, repr=False)  # the names in the reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Unparsed:
    """The operator must act: a success that refreshd can't read completely. `granted` is the readable part."""

    code: str
    message: str
    granted: Granted | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The owner must act: the provider says that the grant is dead. `used_before`: because its refresh token was used
    before.
    """

    code: str
    message: str
    used_before: bool = False


class Concern(Enum):
    """The scope of a misconfiguration."""

    TOKEN = "token"  # noqa: S105  this one alone: a variable is missing, its scope is refused
    PROVIDER = "provider"  # perhaps all of the provider's: several that fail alike decide it
    CLIENT = "client"  # the client was refused, so it is all of them unless one has just succeeded


@dataclass(frozen=True, slots=True, kw_only=True)
class Misconfigured:
    """The operator must act: the provider refuses the client, the scope, the URL or TLS. The grant may be
    fine.
    """

    code: str
    message: str
    concerns: Concern


class Cause(Enum):
    """The most likely cause of an unavailable answer."""

    OUTAGE = "outage"  # the provider's or the network's: it says nothing about the token
    REFUSAL = (
        "refusal"  # the token's or its tenant's: the reply names an error that the definition does not know
    )
    PAGE = "page"  # the provider's: a success status without a grant, such as a maintenance page
    OURS = "ours"  # refreshd's own: nothing was sent, and the provider was not at fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """Time must pass.

    `in_doubt`: the provider may have processed the request. `throttled`: the provider asks refreshd to slow
    down. `rest`: the shortest wait, unless the access token ends sooner.
    """

    code: str
    message: str
    retry_after: timedelta | None = None
    in_doubt: bool = False
    throttled: bool = False
    cause: Cause = Cause.OUTAGE
    rest: timedelta = timedelta(0)


Answer = Granted | Unparsed | Rejected | Misconfigured | Unavailable
