"""The right to present a refresh token once, and what may come of it: the words that use case and adapters share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from daemon.domain.circuit_breaker import Pause
from daemon.domain.token import FailureKind, Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to present `token`'s refresh token once, until `deadline`.

    `spent` is the sealed text of what is presented: what a result is fenced on. None: nothing stored is presented.
    `spent_field` is where it is stored: `access_token` for an exchange grant.
    """

    token: Token
    id: str
    spent: str | None
    spent_field: str = "refresh_token"
    deadline: timedelta  # by the boot-time clock; no request starts after it


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A due document that can't be used: it is reported once per change, and nothing is sent anywhere."""

    token: str
    provider: str
    kind: FailureKind
    code: str
    message: str
    new: bool  # it was not set aside for the same reason before


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one claim command brought. `more`: there was more due than it asked for."""

    items: Sequence[Claim | SetAside]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """How the store looks before a sweep: who is paused, and the due documents of providers we have no client for."""

    paused: Mapping[str, Pause]  # by provider
    set_aside: Sequence[SetAside]


class Recorded(Enum):
    """What became of a change: it is stored, or something newer had been stored before it."""

    STORED = "stored"
    SUPERSEDED = "superseded"


class StoreLost(Exception):
    """The store did not answer, or could not confirm with a majority. Nothing is known about the last write."""


class Unusable(Exception):
    """A journal entry can't be replayed, now or ever, until somebody has looked at it or at its document."""
