"""A consent request: an authorization code that the daemon exchanges once, and what becomes of it.

`consent` has the other half: the token response to which a code leads.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from hashlib import sha256

from daemon.domain.access_key import Stored
from daemon.domain.secret import Secret
from daemon.domain.token import token_id

WAITS_FOR = timedelta(minutes=15)  # after this long the code is not exchanged any more
LEASE = timedelta(minutes=2)  # no exchange starts later than this after it was taken
# An instance that restarts concludes its replies. Other instances give up on its exchanges after this long.
ABANDONED_AFTER = timedelta(minutes=10)
# Within it, the application completes a consent that it has bound to a session
HELD_FOR = timedelta(minutes=10)
# A daemon may take a code for as long, however late its owner has consented
CODE_LIVES = timedelta(minutes=2)
DISCARDED_WITHIN = timedelta(days=7)  # after it, a grant that is not stored is left alive at its provider
MOST_TRIES = 5  # of wrong completions; then the consent is abandoned
END_CONSENTS = "end_consents"  # in the audit: a subject's consents that store nothing yet have ended
PRESENTED_FIELD = "code"  # the journal's name for a reply that answers a code


class ConsentState(StrEnum):
    """The state of a consent request. The values are stored."""

    WAITING = "waiting"  # for the owner, or with a code for a daemon
    ASKED = "asked"  # a daemon exchanges its code, which happens once, or holds its grant
    DONE = "done"
    FAILED = "failed"
    ABANDONED = "abandoned"  # it was not completed in time

    @property
    def is_final(self) -> bool:
        return not _NEXT[self]

    def may_become(self, other: "ConsentState") -> bool:
        """Return whether this state may be followed by `other`."""
        return other in _NEXT[self]


_NEXT: Mapping[ConsentState, frozenset[ConsentState]] = {
    ConsentState.WAITING: frozenset({ConsentState.ASKED, ConsentState.FAILED, ConsentState.ABANDONED}),
    # A device code's request waits again after a poll without an answer. That doesn't count as a transition.
    ConsentState.ASKED: frozenset({ConsentState.DONE, ConsentState.FAILED, ConsentState.ABANDONED}),
    ConsentState.DONE: frozenset(),
    ConsentState.FAILED: frozenset(),
    ConsentState.ABANDONED: frozenset(),
}


class ConsentKind(StrEnum):
    """What the provider has issued. The values are stored."""

    CODE = "code"  # an authorization code, which is presented once
    DEVICE = "device"  # a device code, which is presented until its owner has answered (RFC 8628 §3.4)


class ConsentFailureKind(StrEnum):
    """Why no grant was stored. The values are stored."""

    DENIED = "denied"  # by the owner or the provider
    EXPIRED = "expired"  # before a daemon took it
    INTERRUPTED = "interrupted"  # a daemon ended after it may have asked
    NOT_SENDABLE = "not_sendable"  # no request could be built
    UNAVAILABLE = "unavailable"  # no reply arrived
    REFUSED = "refused"  # the provider refused the code
    UNPARSED = "unparsed"  # the reply is kept in the journal
    UNUSABLE = "unusable"  # its tokens can't be stored
    NO_REFRESH_TOKEN = "no_refresh_token"  # noqa: S105  a name
    NONCE = "nonce"  # the id token answers another request
    OTHER_ACCOUNT = "other_account"
    DUPLICATE = "duplicate"  # another token holds the same refresh token
    SUPERSEDED = "superseded"  # a newer consent was stored first
    REVOKING = "revoking"
    UNREADABLE = "unreadable"  # the stored request is malformed, or its code can't be opened
    MIXED_UP = "mixed_up"  # the callback came from another browser, or to another provider's address
    ABANDONED = "abandoned"  # the application did not complete it in time, or tried it too often


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentFailure:
    """Why no grant was stored. `code`: the provider's, or that of the kind. `message` is masked and short."""

    kind: ConsentFailureKind
    message: str
    code: str = ""

    @property
    def named(self) -> str:
        return self.code or self.kind.value


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRequest:
    """One stored consent request. `code` and `code_verifier` are None once it was asked. `replace`: the grant of another
    account may be replaced. `interval`: between two polls for a device code.

    `key`: the id of the access key that began it, or None for an operator. `return_url`: the address to which the
    owner's browser goes in the end. `code_challenge`: the application's (S256), which binds the consent to a session
    of the application. Without it, the grant is stored as soon as it is there. `connect_code_hash`: of the connect code
    that the owner's browser got, known to the daemon that opened the code.
    """

    id: str
    kind: ConsentKind = ConsentKind.CODE
    provider: str
    account: str
    code: Secret | None = None
    code_verifier: Secret | None = None
    nonce: str | None = None
    issuer: str | None = None
    redirect_uri: str
    scopes: tuple[str, ...] = ()
    vars: Mapping[str, str] = field(default_factory=dict)
    subject: str | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    replace: bool = False
    interval: timedelta = timedelta(0)
    code_challenge: str | None = None
    connect_code_hash: str | None = None
    key: str | None = None
    return_url: str | None = None
    expires_at: datetime

    @property
    def token(self) -> str:
        """The id of the token to which the consent leads."""
        return token_id(self.provider, self.account)


def identified(request: ConsentRequest) -> ConsentRequest:
    """Return `request` with the id that belongs to its fields. Its id so far, a random text, is the beginning of it.

    The code is sealed for this id. So an attacker with write access to the database, but without a key, can't let an
    owner's consent end at another account: the id would be another one, for which the code doesn't open.
    """
    fields = (
        request.provider,
        request.account,
        request.nonce,
        request.issuer,
        request.redirect_uri,
        request.scopes,
        sorted(request.vars.items()),
        request.subject,
        sorted(request.meta.items()),
        request.replace,
        request.kind,
        request.code_challenge,
        request.key,
        request.return_url,
    )
    digest = sha256(json.dumps([request.id, *fields]).encode()).digest()
    return replace(request, id=f"{request.id}.{urlsafe_b64encode(digest).rstrip(b'=').decode()}")


def is_identified(request: ConsentRequest) -> bool:
    """Return whether the id of `request` belongs to its fields."""
    beginning = request.id.partition(".")[0]
    return identified(replace(request, id=beginning)).id == request.id


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentResult:
    """The token that a consent has stored."""

    scope: str | None
    missing_scopes: tuple[str, ...]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentProgress:
    """The state of a stored consent request, for the process that waits for it. `asked_before`: a daemon has asked the
    provider at least once. `held`: the grant is there, and waits for its completion or, after that, for a daemon.
    `account`: the provider's name for the account of a grant that is held.
    """

    state: ConsentState
    asked_before: bool = False
    failure: ConsentFailure | None = None
    result: ConsentResult | None = None
    held: bool = False
    key: str | None = None
    return_url: str | None = None
    account: str | None = None


class Completion(StrEnum):
    """The outcome of an attempt to complete a consent."""

    TAKEN = "taken"  # a daemon stores the grant within a second or so
    WRONG = "wrong"
    OVER = "over"  # it has ended, was completed before, or was tried too often
    UNKNOWN = "unknown"  # or another key has begun it


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A consent request that waits for a daemon, or that this instance has asked for. `repeatable`: it may be asked for
    again, because its device code is presented more than once anyway.
    """

    id: str
    provider: str
    repeatable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedConsent:
    """A consent that stores nothing yet, and the properties of the token to which it leads."""

    id: str
    token: Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A consent request that was taken, but can't be read. `message`: a clause for operators."""

    id: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What is stored beside the token of a consent. `asked_at`: when its code was presented. `account`: the provider's
    name for the account. `replace`: the grant of another account may be replaced.
    """

    consent: str
    asked_at: datetime
    account: str | None = None
    missing_scopes: tuple[str, ...] = ()
    subject: str | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)
    replace: bool = False


class Bound(Enum):
    """The outcome of storing a grant."""

    STORED = "stored"  # now, or by an earlier attempt of the same consent
    SUPERSEDED = "superseded"  # a newer consent was stored first
