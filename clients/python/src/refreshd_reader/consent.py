"""Consents that the application begins: the link for the owner's browser, and what has become of it."""

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Link:
    """A consent that has begun. Keep `id` and `verifier` in the session of the user, and send the browser to `url`."""

    id: str
    url: str = field(repr=False)  # works once, for 15 minutes
    verifier: str = field(repr=False)  # proves in `complete` that it is the same session
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Consent:
    """The state of a consent: waiting, asked, done, failed or abandoned. The token is stored if it is done."""

    id: str
    state: str
    held: bool = False  # the grant waits for `complete`
    scope: str | None = None
    missing_scopes: tuple[str, ...] = ()
    expires_at: datetime | None = None
    failure_kind: str | None = None  # such as "denied"
    failure_code: str | None = None  # the provider's own code, if it gave one

    @property
    def is_done(self) -> bool:
        return self.state == "done"

    @property
    def is_over(self) -> bool:
        """Whether nothing changes any more."""
        return self.state in ("done", "failed", "abandoned")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What `connect` asks for."""

    provider: str
    account: str
    return_url: str
    scopes: Sequence[str] | None = None
    vars: Mapping[str, str] | None = None
    meta: Mapping[str, str] | None = None
    subject: str | None = None
    replace: bool = False

    def body(self, verifier: str) -> dict[str, object]:
        """Return the request, with the challenge of the verifier (RFC 7636, S256)."""
        digest = hashlib.sha256(verifier.encode("ascii")).digest()
        stated = {
            "scopes": None if self.scopes is None else list(self.scopes),
            "vars": self.vars,
            "meta": self.meta,
            "subject": self.subject,
            "replace": self.replace or None,
        }
        return {
            "provider": self.provider,
            "account": self.account,
            "return_url": self.return_url,
            "code_challenge": base64.urlsafe_b64encode(digest).decode("ascii").rstrip("="),
            **{name: value for name, value in stated.items() if value is not None},
        }


def new_verifier() -> str:
    """Return a code verifier of 256 random bits."""
    return secrets.token_urlsafe(32)
