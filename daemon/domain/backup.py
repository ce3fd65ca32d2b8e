"""A backup: its manifest, the tokens in it, and the rule by which a restored token rests.

A refresh token that was replaced after the backup is spent. Presenting it can make the provider revoke the grant, so a
token that may be spent comes back paused.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from daemon.domain.provider import Definition, Grant, Rotation
from daemon.domain.token import Failure, FailureKind, State

FORMAT = 1
MAYBE_SPENT = "maybe_spent"
# From the restore to the first request of the daemon that is started after it
GRACE_MARGIN = timedelta(minutes=5)


class ArchiveInvalid(Exception):
    """An archive can't be read or written. The text is for operators: what, where, and what to do. It contains no
    secret.
    """


class SnapshotLost(Exception):
    """The database can't read all documents as of one moment, or no longer has that moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an archive contains. `counts` and `sha256` are by collection, as it was named there.

    `snapshot`: all documents are of one moment. `key_ids`: the ring's keys by which its sealed texts open.
    """

    created_at: datetime
    version: str
    database: str
    collection: str
    snapshot: bool
    counts: Mapping[str, int]
    sha256: Mapping[str, str]
    key_ids: tuple[str, ...]

    @property
    def tokens(self) -> int:
        return self.counts.get(self.collection, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """The age of a document's content. An application may have written it without a revision."""

    revision: int | None
    updated_at: datetime | None

    def precedes(self, other: "Version") -> bool:
        """Return whether this content is older than `other`. Unknown ages precede nothing."""
        if self.revision is not None and other.revision is not None:
            return self.revision < other.revision
        if self.updated_at is None or other.updated_at is None:
            return False
        return self.updated_at < other.updated_at


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedToken:
    """A token in an archive. `fingerprints`: of its refresh token, under every key of the ring.

    `asked_at`: the start of a request whose result the archive does not have. `undated`: the daemon would give it a
    date, since it is active and has no usable one.
    """

    id: str
    provider: str
    state: str | None
    grant: str
    has_refresh_token: bool
    due_at: datetime | None
    undated: bool
    asked_at: datetime | None
    version: Version
    fingerprints: frozenset[str] = field(default=frozenset(), repr=False)


class Standing(StrEnum):
    """How an archived document compares with the stored one."""

    MISSING = "missing"
    EQUAL = "equal"
    RESTING = "resting"  # the stored one is what an earlier restore of the archived one stored
    OLDER = "older"  # the stored content is older than the archived
    KEPT = "kept"  # the stored content is as old or newer


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """A document in an archive. `token`: None if refreshd can't use it as a token. `document`: as the store has it."""

    id: str
    document: object = field(repr=False)
    token: ArchivedToken | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the store holds under the id of an archived document."""

    standing: Standing
    version: Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A document to be stored. `over`: the stored content that it replaces, which must not have changed.
    `rest`: it comes back paused, with this as its last failure.
    """

    archived: Archived
    over: Version | None
    rest: Failure | None


class Skipped(StrEnum):
    """Why a token of an archive is left out."""

    ENDED = "ended"
    DUPLICATE = "duplicate_grant"
    REFUSED = "refused"


def may_be_spent(
    token: ArchivedToken, definition: Definition | None, *, lost_at: datetime, now: datetime
) -> bool:
    """Return whether the token may have been presented and replaced between the backup and `lost_at`.

    `definition` None: the provider is not configured, so it counts as one that replaces refresh tokens. A replaced
    refresh token that the provider still accepts for a while is not spent.
    """
    if token.state != State.ACTIVE or not token.has_refresh_token or not _rotates(token, definition):
        return False
    due = token.due_at is not None and token.due_at <= lost_at
    if not due and not token.undated and token.asked_at is None:
        return False
    first = min(filter(None, (token.due_at if due else None, token.asked_at)), default=None)
    if definition is None or first is None or definition.grace_until_used:
        return True  # what was renewed since the backup was also used
    return first + definition.grace <= now + GRACE_MARGIN


def _rotates(token: ArchivedToken, definition: Definition | None) -> bool:
    if definition is None:
        return True
    return (
        definition.grant_of(token.grant) is Grant.REFRESH_TOKEN and definition.rotation is not Rotation.NEVER
    )


def rest(created_at: datetime, *, now: datetime) -> Failure:
    """Return what a restored token shows as its last failure while it rests."""
    message = (
        f"restored from a backup of {created_at:%Y-%m-%dT%H:%M:%SZ}. Its refresh token may be spent since, so it is"
        " paused"
    )
    return Failure(kind=FailureKind.IN_DOUBT, code=MAYBE_SPENT, message=message, at=now)


def is_ended(token: ArchivedToken, ended: Collection[str]) -> bool:
    """Return whether `ended`, ids and fingerprints, names the token."""
    return token.id in ended or not token.fingerprints.isdisjoint(ended)
