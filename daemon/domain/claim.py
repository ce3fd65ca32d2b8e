"""The right to present a refresh token once, and the results: types that the use case and the adapters share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from daemon.domain.circuit_breaker import Pause
from daemon.domain.token import FailureKind, Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to present `token`'s refresh token once, until `deadline`.

    `spent` is the sealed text of the presented secret, on which the result is fenced, or None if no stored
    secret is presented. `spent_field` is the field that holds it: `access_token` for an exchange grant. For the code
    of a consent, which is stored in no token, `spent` is the hash of the connect code that came with it.
    """

    token: Token
    id: str
    spent: str | None
    spent_field: str = "refresh_token"
    deadline: timedelta  # by the boot-time clock; no request starts after it


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A due document that can't be used. It is reported once per change, and no request is sent for it."""

    token: str
    provider: str
    kind: FailureKind
    code: str
    message: str
    new: bool  # it was not set aside for the same reason before


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The result of one claim. `more`: more tokens were due than it asked for."""

    items: Sequence[Claim | SetAside]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The state of the store before a sweep: the paused providers, and the due documents of providers without
    a client.
    """

    paused: Mapping[str, Pause]  # by provider
    set_aside: Sequence[SetAside]


class Recorded(Enum):
    """The outcome of a change: it is stored, or a newer one had been stored before it."""

    STORED = "stored"
    SUPERSEDED = "superseded"


class StoreLost(Exception):
    """The store did not answer, or could not confirm with a majority. The result of the last write is
    unknown.
    """


class Unusable(Exception):
    """A journal entry can't be replayed until an operator has looked at it or at its document."""
