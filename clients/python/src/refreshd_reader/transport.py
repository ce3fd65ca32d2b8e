"""What a source of tokens has to do. Both transports fit by shape, and so does the one of the tests."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from refreshd_reader.consent import Consent, Link, Wish
from refreshd_reader.errors import Ending
from refreshd_reader.token import Token

_PROVIDER = re.compile(r"[a-z0-9][a-z0-9_-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Reading:
    """A token, and how long it may be used, by the clock of the source."""

    token: Token
    seconds_left: float | None  # at the time of the request. None: no end


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A provider's token response, and what the application has to say about it."""

    response: Mapping[str, object] = field(repr=False)
    received_at: datetime | None = None
    consented_at: datetime | None = None
    vars: Mapping[str, str] | None = None
    meta: Mapping[str, object] | None = None
    subject: str | None = None


class Transport(Protocol):
    """Thread-safe. Every method raises ReaderError and nothing else, but for the program's own mistakes."""

    def read(self, provider: str, account: str) -> Reading: ...

    def refused(self, token: Token) -> Reading: ...

    def store(self, provider: str, account: str, grant: Grant) -> bool: ...

    def remove(self, provider: str, account: str, *, revoke: bool) -> Ending: ...

    def remove_all(self, subject: str, *, revoke: bool) -> list[Ending]: ...

    def connect(self, wish: Wish) -> Link: ...

    def complete(self, consent: str, connect_code: str, verifier: str) -> Consent: ...

    def consent(self, consent: str) -> Consent: ...

    def forked(self) -> None: ...

    def close(self) -> None: ...


def check_id(provider: str, account: str) -> None:
    """Raise ValueError for an id that no token can have."""
    if not _PROVIDER.fullmatch(provider):
        raise ValueError(f"provider {provider!r}: use a to z, 0 to 9, '_' and '-'")
    if not account or _CONTROL.search(account):
        raise ValueError("account: must not be empty or contain control characters")
