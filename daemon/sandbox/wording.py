"""Answers as a provider words them: shapes that were recorded, with places for what differs from reply to reply."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Complaint = Literal[
    "invalid_request", "invalid_client", "invalid_grant", "unsupported_grant_type", "throttled", "broken", "down",
    "invalid_code", "authorization_pending", "slow_down", "access_denied", "expired_token",
]  # fmt: skip
JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"

PLACES: Final = frozenset(
    {
        "access_token",
        "refresh_token",
        "expires_in",  # seconds left, `..._text`: as a text; `expires_at`: the same end in seconds since 1970; `..._iso`: as a text (ISO 8601)
        "expires_in_text",
        "expires_at",
        "expires_at_iso",
        "refresh_expires_in",
        "refresh_expires_at",
        "issued_at",  # now, in seconds since 1970
        "issued_at_ms",  # ... and in milliseconds, as a text
        "detail",  # what a person should do about a refusal
        "account",  # whose consent it is
        "id_token",  # present if the scope `openid` was granted
        "device_code",
        "user_code",
        "verification_uri",  # where the owner enters the user code; `..._complete`: with the code in it
        "verification_uri_complete",
        "interval",  # seconds between two polls
        "token",  # the one that was revoked
    }
)
_LEFT_OUT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A complete HTTP answer that nobody has sent yet."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A complaint, and for a person what to do about it.

    `challenge`: the client had tried HTTP Basic; `interval`: the seconds between two polls from now on.
    """

    complaint: Complaint
    detail: str
    challenge: bool = False
    interval: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The shape of one answer: JSON whose texts `"{place}"` are filled in, or any other text as it stands."""

    status: int
    body: object
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    def reply(self, values: Mapping[str, object]) -> Reply:
        body = encode(filled(self.body, values)) if self.content_type == JSON else str(self.body).encode()
        return Reply(
            status=self.status, body=body, content_type=self.content_type, headers=dict(self.headers)
        )


def filled(shape: object, values: Mapping[str, object]) -> object:
    """`shape` with its places filled in. A member without a value is left out, as providers leave it out."""
    if isinstance(shape, dict):
        pairs = ((name, filled(inner, values)) for name, inner in shape.items())
        return {name: value for name, value in pairs if value is not _LEFT_OUT}
    if isinstance(shape, list):
        return [filled(inner, values) for inner in shape]
    if (name := place(shape)) is None:
        return shape
    value = values.get(name)
    return _LEFT_OUT if value is None else value


def place(shape: object) -> str | None:
    """The name of the place that `shape` is, if it is one."""
    if isinstance(shape, str) and shape.startswith("{") and shape.endswith("}"):
        return shape[1:-1]
    return None


def encode(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
