"""Events for owners and applications: what a hook reports, in words that reveal nothing secret."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class OwnerEventType(StrEnum):
    """What has happened. The values are the `type` of a webhook."""

    NEEDS_REAUTH = "token.needs_reauth"
    RECOVERED = "token.recovered"
    CONNECTED = "token.connected"
    ENDING = "token.ending"
    REVOKED = "token.revoked"
    REVOCATION_FAILED = "token.revocation_failed"
    SCOPES_MISSING = "token.scopes_missing"
    UNPARSED = "token.unparsed"
    PROVIDER_PAUSED = "provider.paused"
    PROVIDER_RESUMED = "provider.resumed"
    ANOMALY = "anomaly.detected"
    HOOK_DISABLED = "hook.disabled"
    HOOK_TEST = "hook.test"


class Actor(StrEnum):
    """Who must act."""

    OWNER = "owner"  # consents again
    OPERATOR = "operator"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerEvent:
    """One event. `id`: the same for each delivery, and for each replica that reports the same. `revision`: the token's at
    this change, by which receivers order its events. `kind` and `code`: why, in refreshd's names and the provider's code,
    never in the provider's sentences.
    """

    id: str
    type: OwnerEventType
    at: datetime
    who_acts: Actor
    provider: str | None = None
    token: str | None = None
    account: str | None = None
    subject: str | None = None
    kind: str | None = None
    code: str | None = None
    revision: int | None = None

    def body(self) -> Mapping[str, object]:
        """Return the JSON object that a receiver gets."""
        return {
            "type": self.type.value,
            "timestamp": self.at.isoformat().replace("+00:00", "Z"),
            "data": {
                "id": self.token,
                "provider": self.provider,
                "account": self.account,
                "subject": self.subject,
                "who_acts": self.who_acts.value,
                "kind": self.kind,
                "code": self.code,
                "revision": self.revision,
            },
        }
