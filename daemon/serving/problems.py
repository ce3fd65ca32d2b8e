"""The refusals of the access service. Each has a name that programs compare, and a sentence for people."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

STATUS: Mapping[str, int] = {
    "invalid-request": 400,
    "unauthorized": 401,
    "scope-missing": 403,
    "not-found": 404,
    "unknown-provider": 404,
    "method-not-allowed": 405,
    "conflict": 409,
    "duplicate-grant": 409,
    "needs-reauth": 409,
    "paused": 409,
    "no-revocation": 409,
    "refused-again": 409,
    "revoking": 409,
    "precondition-failed": 412,
    "too-large": 413,
    "unsupported-media-type": 415,
    "misdirected": 421,
    "rate-limited": 429,
    "internal": 500,
    "not-implemented": 501,
    "renewing": 503,
    "unavailable": 503,
}

USE_A_KEY = "Send a valid access key: Authorization: Bearer rfk_..."


class Problem(Exception):
    """A request is refused. `name` is one of STATUS. `retry_after`: the wait after which it may succeed. `fields`: what
    else the answer holds. `allow`: the methods of the resource.
    """

    def __init__(
        self,
        name: str,
        detail: str,
        *,
        retry_after: timedelta | None = None,
        fields: Mapping[str, object] | None = None,
        allow: Sequence[str] = (),
    ) -> None:
        super().__init__(detail)
        self.allow = allow
        self.name, self.detail, self.retry_after, self.fields = name, detail, retry_after, fields or {}

    @property
    def status(self) -> int:
        return STATUS[self.name]


class Invalid(Problem):
    """The request is malformed. `faults`: each place, and a sentence about it that begins with a verb."""

    def __init__(self, *faults: tuple[str, str]) -> None:
        self.faults = faults
        named = [{"where": where, "what": what} for where, what in faults]
        super().__init__(
            "invalid-request",
            "; ".join(f"{where} {what}" for where, what in faults),
            fields={"faults": named},
        )


def not_found() -> Problem:
    """The answer for a token that is unknown, and for one that the key may not use."""
    return Problem("not-found", "No token with this id is stored, or this key may not use it.")


class Unauthorized(Problem):
    """No valid access key. `presented`: the request had one, which is refused. Why it is refused is not answered."""

    def __init__(self, detail: str = USE_A_KEY, *, presented: bool) -> None:
        super().__init__("unauthorized", detail)
        self.presented = presented
