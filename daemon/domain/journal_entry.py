"""One reply in the journal, its states, and the results of its replay."""

from dataclasses import dataclass
from enum import StrEnum

from daemon.domain.reply import Reply


class EntryState(StrEnum):
    """Why an entry is in the journal. The values are stored, and label metrics."""

    WAITING = "waiting"  # for the store
    UNPARSED = "unparsed"  # parked: its reply could not be understood
    SUPERSEDED = "superseded"  # parked: a newer consent is stored, or the document is gone
    UNUSABLE = "unusable"  # can't be replayed now; blocks its token and is tried again


class EntryKind(StrEnum):
    """What the reply answers."""

    REFRESH = "refresh"
    CONSENT = "consent"  # an authorization code


_CONSENT_CLAIM = "consent:"  # of a consent, this and its id are the claim


def consent_claim(consent: str) -> str:
    """Return the claim under which the code of a consent is presented."""
    return f"{_CONSENT_CLAIM}{consent}"


def consent_of(claim: str) -> str | None:
    """Return the id of the consent whose code was presented under `claim`, or None if it was a refresh token."""
    return claim.removeprefix(_CONSENT_CLAIM) if claim.startswith(_CONSENT_CLAIM) else None


def kind_of(claim: str) -> EntryKind:
    return EntryKind.REFRESH if consent_of(claim) is None else EntryKind.CONSENT


class ReplayResult(StrEnum):
    """The result of replaying an entry. The values label metrics and log lines."""

    RECORDED = "recorded"
    SUPERSEDED = "superseded"
    UNPARSED = "unparsed"
    UNUSABLE = "unusable"  # only of a salvage: the daemon's replay reports it as an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One reply in the journal. `key` is its number there. `provider` is the token's, `spent` and
    `spent_field` are the claim's.
    """

    key: int
    token: str
    provider: str
    claim: str
    spent: str | None
    spent_field: str = "refresh_token"
    reply: Reply

    @property
    def kind(self) -> EntryKind:
        return kind_of(self.claim)
