"""The fields of a token response (RFC 6749 §5.1) and their meanings.

Two readers must agree on them: that of a provider's reply to a refresh, and that of the response which an
operator brings from the consent.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from daemon.domain.expiry import end_of, jwt_end
from daemon.domain.provider import Definition
from daemon.domain.reply_body import Body
from daemon.domain.token_text import can_be_token, is_nothing
from daemon.domain.token_trace import sounds_like_refresh_token

ASSUMED_LIFETIME = timedelta(hours=1)  # if neither the reply nor the definition states one: the commonest
_KEPT_TEXT = 2048  # characters of one kept reply field; a longer one is dropped
_KEPT_NUMBER = 2**63  # what a BSON integer can hold
_SECRET_LIKE = re.compile(r"(?:token|secret|password|assertion)(?!_?expires)", re.IGNORECASE)


def text(value: object) -> str:
    """Return a text that can be stored, or None: lone surrogates can't be encoded."""
    if not isinstance(value, str):
        return ""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return ""
    return value


def scope(value: object) -> str | None:
    """Return the scope as text with blanks (RFC 6749 §3.3). Some providers send a list."""
    if isinstance(value, list):
        value = " ".join(item for item in value if isinstance(item, str))
    return text(value) or None


def access_end(definition: Definition, body: Body, *, access: str, asked_at: datetime) -> datetime:
    """Return the end of the access token: from `expires_in`, an absolute field, the token's own `exp`, the
    documented lifetime, or a safe assumption.

    An end that is over contradicts the grant. The provider's clock is wrong then, or the date is a local one
    without its zone. Such a token would be renewed every few seconds for as long as that lasts.
    """
    shape = definition.reply
    end = end_of(first(body, shape.expires_in), asked_at=asked_at, unit=definition.expires_in_unit)
    end = _ahead(end, asked_at) or _ahead(end_of(first(body, shape.expires_at), asked_at=asked_at), asked_at)
    end = end or _ahead(jwt_end(access), asked_at)
    return end or asked_at + (definition.access_lifetime or ASSUMED_LIFETIME)


def _ahead(end: datetime | None, asked_at: datetime) -> datetime | None:
    return end if end is not None and end > asked_at else None


def refresh_end(definition: Definition, body: Body, *, asked_at: datetime) -> datetime | None:
    """Return the refresh token's own end, if the reply states it."""
    return end_of(first(body, definition.reply.refresh_expires_in), asked_at=asked_at)


def consent_end(definition: Definition, body: Body, *, asked_at: datetime) -> datetime | None:
    """Return the end of the owner's consent, if the reply states it."""
    return end_of(first(body, definition.reply.consent_expires_in), asked_at=asked_at)


def first(body: Body, paths: Sequence[str]) -> object:
    """Return the value at the first of `paths` that exists."""
    for path in paths:
        value = at_path(body, path) if "." in path else body.get(path)
        if value is not None:
            return value
    return None


def first_text(body: Body, paths: Sequence[str]) -> str:
    """Return the first text at one of `paths`, else an empty one. An empty text is not a token."""
    for path in paths:
        if found := text(at_path(body, path) if "." in path else body.get(path)):
            return found
    return ""


def first_token(body: Body, paths: Sequence[str]) -> str:
    """Return the first text at one of `paths` that can be a token, else an empty one."""
    for path in paths:
        found = text(at_path(body, path) if "." in path else body.get(path))
        if found and can_be_token(found):
            return found
    return ""


def holds_refresh_token_elsewhere(body: Body) -> bool:
    """Return whether a value that is called a refresh token is in a field that the definition does not read.

    Asked only if the definition's fields have no token. Any value with that name would be lost then.
    """
    return any(
        sounds_like_refresh_token(name)
        and value
        and not isinstance(value, bool)
        and not (isinstance(value, str) and is_nothing(value))
        for name, value in _pairs(body)
    )


def kept(definition: Definition, body: Body) -> dict[str, object]:
    """Return the reply fields that the definition names, for applications or for the next refresh. Those that look like
    secrets are not kept in plain text.
    """
    found: dict[str, object] = {}
    for path in definition.keep + definition.echo:
        value = at_path(body, path)
        if not looks_secret(path) and _is_storable(value):
            found[path.replace(".", "_")] = value
    return found


def looks_secret(path: str) -> bool:
    """Return whether the field at `path` must not be stored in plain text, judged by its name. Its expiry may
    be.
    """
    return _SECRET_LIKE.search(path) is not None


def at_path(body: object, path: str) -> object:
    """Return the value at a dotted path. A number selects an item of an array."""
    for step in path.split("."):
        if isinstance(body, Mapping):
            body = body.get(step)
        elif isinstance(body, list) and step.isdecimal() and int(step) < len(body):
            body = body[int(step)]
        else:
            return None
    return body


def _is_storable(value: object) -> bool:
    match value:
        case str():
            return len(value) <= _KEPT_TEXT and text(value) == value
        case int():
            return -_KEPT_NUMBER <= value < _KEPT_NUMBER
        case _:
            return isinstance(value, float) and math.isfinite(value)  # JSON has no other numbers


def _pairs(value: object, depth: int = 0) -> Iterator[tuple[str, object]]:
    """Yield every name with its value, to a limited depth."""
    if depth > 8:
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name), inner
            yield from _pairs(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _pairs(inner, depth + 1)
