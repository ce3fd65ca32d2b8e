"""A stored token as a write at the access service sees it, and the change that the write makes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from daemon.domain.access_key import Stored
from daemon.domain.served_token import ServedToken

REMOVED, REVOKED, REVOKING = "removed", "revoked", "revoking"  # values of `state`
GONE = frozenset({REMOVED, REVOKED})  # unknown to every route; a new consent takes the document's place

_SEALED = ("access_token", "refresh_token", "due_at", "paused_by", "last_failure")


def removed_fields(now: datetime) -> dict[str, object]:
    """Return the mark by which the daemon deletes a token. Its sealed texts are removed immediately."""
    return {"state": REMOVED, "removed_at": now, **dict.fromkeys(_SEALED)}


class PausedBy(StrEnum):
    """The author of a pause, who alone ends it."""

    OPERATOR = "operator"
    APPLICATION = "application"
    DAEMON = "daemon"  # another token holds the same refresh token
    IMPORT = "import"  # the application that it came from still renews it


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGrant:
    """One stored token. `grant`: how it is renewed. `meta`: None if the document holds no object there. `paused_by`:
    if it is paused. `pause`: what the pause's author has stored. `fingerprint`: of its refresh token.
    """

    token: ServedToken
    has_refresh_token: bool
    grant: str = "refresh_token"
    refresh_expires_at: datetime | None = None
    fingerprint: str | None = None
    vars: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, object] | None = None
    paused_by: PausedBy | None = None
    pause: Mapping[str, object] | None = None

    @property
    def is_gone(self) -> bool:
        return self.token.state in GONE

    @property
    def due_when_paused(self) -> datetime | None:
        """Its `due_at` before an application paused it. None: it had none, so that nothing renews it."""
        at = (self.pause or {}).get("due_at")
        return at if isinstance(at, datetime) else None

    @property
    def selected(self) -> Stored:
        """The fields that selectors look at."""
        return Stored(id=self.token.id, fields=self.token.selected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A change of a stored token. `fields`: to set, by path in the document. `unset`: paths to remove. `condition`: of
    the document, beside what was read. `anew`: nothing of the document stays but its lease.
    """

    fields: Mapping[str, object] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    condition: Mapping[str, object] = field(default_factory=dict)
    anew: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who makes a change: an access key, by its id and name, and its caller's address. `peer`: the user id at the other
    end of a unix socket.
    """

    key: str
    name: str
    ip: str
    peer: int | None = None


class DuplicateGrant(Exception):
    """Another token holds the same refresh token."""


class GrantOver(Exception):
    """The refresh token is one that was revoked."""


class KeepsChanging(Exception):
    """The token changed during each of several attempts, so nothing was written."""


class Unclear(Exception):
    """The store was lost during a write, and whether it was stored is unknown."""
