"""The provider: a definition of how it speaks, and our own credentials with it. Data; the code is the dialect's."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum

from daemon.domain.secret import Secret


class ClientAuth(StrEnum):
    """How the client proves itself to the token endpoint (RFC 6749 §2.3)."""

    BASIC = "basic"
    POST = "post"
    NONE = "none"


class BodyFormat(StrEnum):
    """How the request's parameters travel."""

    FORM = "form"
    JSON = "json"


class Rotation(StrEnum):
    """Whether a refresh replaces the refresh token."""

    NEVER = "never"
    SOMETIMES = "sometimes"  # also where we don't know: whatever comes back is stored
    ALWAYS = "always"


class ExpiryUnit(StrEnum):
    """What the number in `expires_in` counts."""

    SECONDS = "s"
    MILLISECONDS = "ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A part of the token URL that differs from connection to connection. It comes from a database: only what
    `pattern` matches whole may stand there.
    """

    pattern: re.Pattern[str]
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """How one meaning looks in a reply: the text at `field` (a dotted path in the body) is one of `values`, or
    matches `pattern`; where `status` is not empty, the status must be one of them too.
    """

    field: str
    values: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None
    status: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What is known of a provider, from its own pages, and how sure we are."""

    name: str
    title: str
    token_url: str
    verified: bool = False
    docs: str = ""
    as_of: date | None = None
    variables: Mapping[str, Variable] = field(default_factory=dict)
    domain: str | None = None  # where a variable fills the host: the host must lie in this domain
    client_auth: ClientAuth = ClientAuth.POST
    body: BodyFormat = BodyFormat.FORM
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    access_lifetime: timedelta | None = None  # documented; used where the reply tells none
    expires_in_unit: ExpiryUnit = ExpiryUnit.SECONDS
    refresh_idle: timedelta | None = None  # the refresh token dies when unused for this long
    refresh_lifetime: timedelta | None = None  # ... and this long after the consent, whatever happens
    rotation: Rotation = Rotation.SOMETIMES
    grace: timedelta = timedelta(0)  # for this long a spent refresh token still works (documented; else none)
    reuse_refused: bool = False  # reuse of a spent refresh token is merely refused and harms nothing else
    window: timedelta | None = None
    confirm: int = 0  # how many rejections in a row must follow the first before the grant counts as dead
    rejected: tuple[Sign, ...] = ()
    misconfigured: tuple[Sign, ...] = ()
    unavailable: tuple[Sign, ...] = ()
    keep: tuple[str, ...] = ()  # reply fields that applications need
    revoke_url: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider that we hold a client with. `share` is how many requests it may have in flight here."""

    definition: Definition
    client_id: str
    client_secret: Secret | None = None
    share: int = 256
    window: timedelta | None = None

    @property
    def name(self) -> str:
        return self.definition.name

    def adoptable_after(
        self, *, lease: timedelta, retry_within: timedelta, adopt_after: timedelta
    ) -> timedelta:
        """How long after a lease's end another instance must still wait before it presents the same value.

        Nothing where presenting it again is harmless: it does not rotate, or reuse is merely refused, or the retry
        (at latest `retry_within` after the lease) still falls inside a documented grace. Otherwise `adopt_after`:
        a spent value can make the provider revoke the successor that a dead host's journal still holds.
        """
        known = self.definition
        harmless = known.rotation is Rotation.NEVER or known.reuse_refused
        return timedelta(0) if harmless or known.grace >= lease + retry_within else adopt_after
