"""What the sandbox writes down about a grant, and how `GET /ledger` shows it.

Refresh tokens appear by fingerprint only: enough to compare with, useless to steal.
"""

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Literal

# Per grant, presentations and values remembered. A demonstration may run for weeks; the largest fault test presents
# some hundred times per grant.
REMEMBERED = 10_000

# reuse: of a spent refresh token; code_reuse: of a code; client: by the revocation endpoint; crowded: a newer consent
RevokedBy = Literal["reuse", "owner", "client", "code_reuse", "crowded"]


def fingerprint(value: str) -> str:
    """The ledger's name for a refresh token: SHA-256 of its UTF-8 bytes, in hex."""
    return sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(slots=True, kw_only=True)
class Presentation:
    """One time that a known refresh token reached us. `replied_at` is filled in once the reply was written."""

    at: datetime
    sha256: str
    outcome: str
    fault: str | None = None
    replied_at: datetime | None = None

    def as_json(self) -> dict[str, object]:
        return {
            "at": self.at.timestamp(),
            "sha256": self.sha256,
            "outcome": self.outcome,
            "fault": self.fault,
            "replied_at": self.replied_at and self.replied_at.timestamp(),
        }


@dataclass(slots=True, kw_only=True)
class Revocation:
    """One time that a token of this grant was presented for revocation."""

    at: datetime
    sha256: str
    kind: str
    outcome: str
    fault: str | None = None

    def as_json(self) -> dict[str, object]:
        return {
            "at": self.at.timestamp(),
            "sha256": self.sha256,
            "kind": self.kind,
            "outcome": self.outcome,
            "fault": self.fault,
        }


@dataclass(slots=True, kw_only=True)
class Grant:
    """One consent and its line of refresh tokens. `live` holds the values of the generation it stands on."""

    id: str
    consented_at: datetime
    account: str = ""
    scopes: tuple[str, ...] | None = None  # None: those of the recorded response
    offline: bool = True  # whether it has refresh tokens
    refreshes: int = 0  # that gave a new access token
    generation: int = 0
    left_at: datetime | None = None  # when the generation before this one was first spent
    used: bool = False  # whether an access token of this generation was used
    current: str = ""
    revoked_by: RevokedBy | None = None
    live: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)  # all issued, live or spent, oldest first
    presented: list[Presentation] = field(default_factory=list)
    revocations: list[Revocation] = field(default_factory=list)
    access_token: str = field(default="", repr=False)  # the latest; never shown
    access_ends: datetime | None = None

    def issued(self, value: str) -> str | None:
        """A new current value; the value that is forgotten in its place, if any."""
        self.current = value
        self.live.append(value)
        self.values.append(value)
        if len(self.values) <= REMEMBERED:
            return None
        forgotten = self.values.pop(0)
        if self.live[0] == forgotten:
            del self.live[0]
        return forgotten

    def record(self, presentation: Presentation) -> None:
        self.presented.append(presentation)
        del self.presented[:-REMEMBERED]

    def record_revocation(self, revocation: Revocation) -> None:
        self.revocations.append(revocation)
        del self.revocations[:-REMEMBERED]

    def revoke(self, by: RevokedBy) -> None:
        self.revoked_by = self.revoked_by or by
        self.live.clear()

    def as_json(self) -> dict[str, object]:
        return {
            "id": self.id,
            "generation": self.generation,
            "current": self.current,
            "live": list(self.live),
            "presented": [presentation.as_json() for presentation in self.presented],
            "revoked_by": self.revoked_by,
            "account": self.account,
            "scopes": None if self.scopes is None else list(self.scopes),
            "revocations": [revocation.as_json() for revocation in self.revocations],
        }
