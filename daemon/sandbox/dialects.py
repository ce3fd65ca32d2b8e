"""How the sandbox words its answers: what happened is decided elsewhere, a dialect only says it.

A dialect is data: a new provider is an entry in `DIALECTS` whose shapes were recorded from that provider, never taken
from the daemon's own definition files (a wrong definition would then agree with itself).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from daemon.sandbox.grants import Pair

Complaint = Literal[
    "invalid_request", "invalid_client", "invalid_grant", "unsupported_grant_type", "throttled", "broken", "down"
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A complete HTTP answer that nobody has sent yet."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A complaint, and for a person what to do about it. `challenge`: the client had tried HTTP Basic."""

    complaint: Complaint
    detail: str
    challenge: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One provider's words. `complaints` gives the status and the error code for each complaint."""

    scope: str
    complaints: Mapping[Complaint, tuple[int, str]]

    def grant(
        self, pair: Pair, *, lifetime: timedelta, refresh_lifetime: timedelta | None
    ) -> dict[str, object]:
        """The members of a successful answer (RFC 6749, section 5.1)."""
        answer: dict[str, object] = {
            "token_type": "Bearer",
            "access_token": pair.access_token,
            "expires_in": int(lifetime.total_seconds()),
            "scope": self.scope,
        }
        if pair.refresh_token is not None:
            answer["refresh_token"] = pair.refresh_token
            if refresh_lifetime is not None:
                answer["refresh_token_expires_in"] = int(refresh_lifetime.total_seconds())
        return answer

    def refuse(self, refusal: Refusal) -> Reply:
        """An error answer (RFC 6749, section 5.2)."""
        status, code = self.complaints[refusal.complaint]
        headers = {"WWW-Authenticate": 'Basic realm="sandbox", charset="UTF-8"'} if refusal.challenge else {}
        return Reply(
            status=status, body=encode({"error": code, "error_description": refusal.detail}), headers=headers
        )


def encode(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


DIALECTS: Mapping[str, Dialect] = {
    # RFC 6749 as written, rotation as in RFC 9700, section 4.14.2.
    "sandbox": Dialect(
        scope="accounting.read offline_access",
        complaints={
            "invalid_request": (400, "invalid_request"),
            "invalid_client": (401, "invalid_client"),
            "invalid_grant": (400, "invalid_grant"),
            "unsupported_grant_type": (400, "unsupported_grant_type"),
            "throttled": (429, "slow_down"),
            "broken": (500, "server_error"),
            "down": (503, "temporarily_unavailable"),
        },
    ),
}
