"""A token, read from its MongoDB document.

Other programs write these documents too, so no type is assumed.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeGuard, TypeVar

from bson.int64 import Int64

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.stored_number import count, whole
from daemon.domain.locked import Standing
from daemon.domain.provider import Grant, Provider
from daemon.domain.secret import Secret
from daemon.domain.token import (
    UNPARSED_BEFORE,
    Doubt,
    Failure,
    FailureKind,
    RevocationOrder,
    State,
    Token,
    token_id,
)

Document = Mapping[str, object]
T = TypeVar("T")
_FIRST, _LAST = (
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(9000, 1, 1, tzinfo=UTC),
)  # of the dates to reckon with
_STATES = {state.value: state for state in State}
_KINDS = frozenset({*FailureKind, UNPARSED_BEFORE})
_LONGEST_MESSAGE = 300
_SAID: dict[type, str] = {str: "text", int: "whole number", datetime: "date"}
# The fields that a claim needs; the application's own fields are not read.
CLAIMED_FIELDS = dict.fromkeys(
    [
        "provider",
        "account",
        "state",
        "grant",
        "refresh_token",
        "issued_at",
        "expires_at",
        "refresh_expires_at",
        "consent_ends_at",
        "due_at",
        "refreshed_at",
        "doubt",
        "revision",
        "failures",
        "last_failure",
        "vars",
        "revocation",
    ],
    1,
)


def presented_field(grant: Grant) -> str:
    """Return the name of the field that holds the presented value."""
    return "access_token" if grant is Grant.EXCHANGE else "refresh_token"


def standing_of(document: Document) -> Standing:
    """Return the present values of the document. A field of another type counts as empty."""
    refresh, access, issued_at = (
        document.get(name) for name in ("refresh_token", "access_token", "issued_at")
    )
    return Standing(
        refresh_token=refresh if isinstance(refresh, str) else None,
        access_token=access if isinstance(access, str) else None,
        issued_at=issued_at if isinstance(issued_at, datetime) else None,
    )


class InvalidDocument(ValueError):
    """A document is invalid. The text names the field and contains no value of it."""


def token_of(document: Document, keyring: KeyRing) -> Token:
    """Return the token in `document`, its refresh token opened. Raises InvalidDocument or DecryptionError."""
    name = _typed(document, "_id", str)
    provider = _typed(document, "provider", str)
    account = _typed(document, "account", str)
    try:
        matches = token_id(provider, account) == name
    except ValueError:
        raise InvalidDocument("provider or account is invalid") from None
    if not matches:
        raise InvalidDocument("_id is not '<provider>:<account>' of this document")
    sealed = _optional(document, "refresh_token", str)
    state = _STATES.get(_optional(document, "state", str) or "")
    if state is None:
        raise InvalidDocument("state is not one of active, needs_reauth, paused, revoking and revoked")
    return Token(
        id=name,
        provider=provider,
        account=account,
        state=state,
        refresh_token=None
        if sealed is None
        else Secret(keyring.open(sealed, token_id=name, field="refresh_token")),
        access_token=_access_token(document, keyring, name),
        grant=_optional(document, "grant", str) or "refresh_token",
        issued_at=_date(document, "issued_at"),
        expires_at=_date(document, "expires_at"),
        refresh_expires_at=_date(document, "refresh_expires_at"),
        consent_ends_at=_date(document, "consent_ends_at"),
        refreshed_at=_date(document, "refreshed_at"),
        due_at=_date(document, "due_at"),
        revision=_whole(document, "revision"),
        failures=count(_whole(document, "failures")),
        last_failure=failure_of(document),
        doubt=doubt_of(document),
        revocation=_revocation(document) if state is State.REVOKING else None,
        vars=_vars(document),
        echoed=_echoed(document),
    )


def allowed_token(document: Document, keyring: KeyRing, provider: Provider) -> Token:
    """Return the token in `document`, if `provider` allows its grant. Raises InvalidDocument or
    DecryptionError.
    """
    token = token_of(document, keyring)
    if not provider.definition.allows(token.grant):
        named = token.grant if token.grant in set(Grant) else "another grant"
        raise InvalidDocument(f"grant is {named}, which the configuration of {provider.name} does not allow")
    return token


def _access_token(document: Document, keyring: KeyRing, name: str) -> Secret | None:
    """Read the access token only if it is the presented value. Otherwise a claim leaves it in the store."""
    sealed = _optional(document, "access_token", str)
    return None if sealed is None else Secret(keyring.open(sealed, token_id=name, field="access_token"))


def failure_of(document: Document) -> Failure | None:
    """Return the last failure, if it is stored in a known form."""
    stored = document.get("last_failure")
    if stored is None or not isinstance(stored, Mapping):
        return None
    kind, at = stored.get("kind"), stored.get("at")
    if not _is(kind, str) or kind not in _KINDS or not _is(at, datetime):
        return None
    code, message = (str(stored.get(name, ""))[:_LONGEST_MESSAGE] for name in ("code", "message"))
    asked = stored.get("not_before")
    return Failure(
        kind=FailureKind(kind),
        code=code,
        message=message,
        at=usable(at),
        not_before=usable(asked) if _is(asked, datetime) else None,
    )


def _revocation(document: Document) -> RevocationOrder:
    """Return the order to revoke the token. An order that can't be read is as old as the calendar, so that the token is
    revoked anyway, and a failure is reported.
    """
    stored = document.get("revocation")
    order = stored if isinstance(stored, Mapping) else {}
    since, not_before, tries = (order.get(name) for name in ("since", "not_before", "tries"))
    return RevocationOrder(
        since=usable(since) if _is(since, datetime) else _FIRST,
        not_before=usable(not_before) if _is(not_before, datetime) else None,
        tries=count(tries),
    )


def _typed(document: Document, name: str, kind: type[T]) -> T:
    value = document.get(name)
    if type(value) is kind or _is(value, kind):  # the first is the short way: it holds for nearly every field
        return value
    raise InvalidDocument(f"{name} is not a {_SAID.get(kind, kind.__name__)}")


def _is(value: object, kind: type[T]) -> TypeGuard[T]:
    """Return whether `value` has exactly this BSON kind: code is a `str` too, but without a hash."""
    return type(value) is kind or (kind is int and type(value) is Int64)


def _optional(document: Document, name: str, kind: type[T]) -> T | None:
    value = document.get(name)
    return value if value is None or type(value) is kind else _typed(document, name, kind)


def _whole(document: Document, name: str) -> int | None:
    """Return a whole number, also if a language stores every number as floating point."""
    value = document.get(name)
    return int(value) if type(value) is float and value.is_integer() else _optional(document, name, int)


def _date(document: Document, name: str) -> datetime | None:
    value = document.get(name)
    if value is None:
        return None
    return usable(value if type(value) is datetime else _typed(document, name, datetime))


def usable(at: datetime) -> datetime:
    """Return a date within the calendar. Some programs store "none" as the year 1 and "never" as the year
    9999, and sums would overflow.
    """
    return at if _FIRST.year <= at.year < _LAST.year else min(max(at, _FIRST), _LAST)


def as_stored(at: datetime) -> datetime:
    """Return a date as MongoDB returns it, which keeps milliseconds."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _vars(document: Document) -> dict[str, str]:
    stored = document.get("vars")
    if not stored:
        return {}
    if not isinstance(stored, Mapping) or not all(_is(value, str) for value in stored.values()):
        raise InvalidDocument("vars is not an object of strings")
    return {str(name): value for name, value in stored.items()}


def _echoed(document: Document) -> dict[str, str]:
    """Return the texts among the stored reply fields. A claim reads those that its definition names."""
    stored = document.get("extra")
    if stored is None or not isinstance(stored, Mapping):
        return {}
    return {str(name): value for name, value in stored.items() if _is(value, str)}


def doubt_of(document: Document) -> Doubt | None:
    """Return the doubt about the stored value. A consent that was written after it ends the doubt."""
    stored = document.get("doubt")
    if stored is None or not isinstance(stored, Mapping):
        return None
    since, tries, issued_at = stored.get("since"), stored.get("tries"), document.get("issued_at")
    if not _is(since, datetime) or whole(tries) is None:
        return None
    if _is(issued_at, datetime) and issued_at > since:
        return None
    asker = stored.get("asker")
    return Doubt(since=usable(since), tries=count(tries), asker=asker if _is(asker, str) else None)
