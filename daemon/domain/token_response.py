"""The fields of a token response (RFC 6749 §5.1), and what each means.

Read in two places that must agree: a provider's reply to a refresh, and the response that an operator brings at the
consent.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from daemon.domain.expiry import end_of, jwt_end
from daemon.domain.provider import Definition
from daemon.domain.reply_body import Body
from daemon.domain.token_trace import sounds_like_refresh_token

ASSUMED_LIFETIME = timedelta(hours=1)  # where neither the reply nor the definition tells: the commonest one
_KEPT_TEXT = 2048  # characters of one kept reply field; a longer one is dropped
_KEPT_NUMBER = 2**63  # what a BSON integer can hold
_SECRET_LIKE = re.compile(r"(?:token|secret|password|assertion)(?!_?expires)", re.IGNORECASE)


def text(value: object) -> str:
    """A text that can be stored, or none: lone surrogates can't be encoded."""
    if not isinstance(value, str):
        return ""
    try:
        value.encode()
    except UnicodeEncodeError:
        return ""
    return value


def scope(value: object) -> str | None:
    """RFC 6749 §3.3 wants a text with blanks; some providers send a list."""
    if isinstance(value, list):
        value = " ".join(item for item in value if isinstance(item, str))
    return text(value) or None


def access_end(definition: Definition, body: Body, *, access: str, asked_at: datetime) -> datetime:
    """`expires_in`, an absolute key, the token's own `exp`, the documented lifetime, or one that is safe to assume."""
    shape = definition.reply
    end = end_of(first(body, shape.expires_in), asked_at=asked_at, unit=definition.expires_in_unit)
    end = end or end_of(first(body, shape.expires_at), asked_at=asked_at) or jwt_end(access)
    return end or asked_at + (definition.access_lifetime or ASSUMED_LIFETIME)


def refresh_end(definition: Definition, body: Body, *, asked_at: datetime) -> datetime | None:
    """The refresh token's own end, if the reply names it."""
    return end_of(first(body, definition.reply.refresh_expires_in), asked_at=asked_at)


def consent_end(definition: Definition, body: Body, *, asked_at: datetime) -> datetime | None:
    """The end of the owner's consent, if the reply names it."""
    return end_of(first(body, definition.reply.consent_expires_in), asked_at=asked_at)


def first(body: Body, paths: Sequence[str]) -> object:
    """What the first of `paths` that leads to something holds."""
    for path in paths:
        value = body.get(path) if "." not in path else at_path(body, path)
        if value is not None:
            return value
    return None


def first_text(body: Body, paths: Sequence[str]) -> str:
    """The first text that stands at one of `paths`, or none: an empty place is not where a token stands."""
    for path in paths:
        if found := text(first(body, (path,))):
            return found
    return ""


def holds_refresh_token_elsewhere(body: Body) -> bool:
    """Whether something that is called a refresh token stands where nobody looks for it.

    Only asked when no text stands where the definition looks: whatever bears that name is then a value we'd lose.
    """
    return any(
        sounds_like_refresh_token(name) and value and not isinstance(value, bool)
        for name, value in _pairs(body)
    )


def kept(definition: Definition, body: Body) -> dict[str, object]:
    """The reply fields that the definition names. One that looks like a secret is not kept in the clear."""
    found: dict[str, object] = {}
    for path in definition.keep:
        value = at_path(body, path)
        if not looks_secret(path) and _is_storable(value):
            found[path.replace(".", "_")] = value
    return found


def looks_secret(path: str) -> bool:
    """Whether the field at `path` sounds like one that must not be stored in the clear; when it ends is none."""
    return _SECRET_LIKE.search(path) is not None


def at_path(body: object, path: str) -> object:
    """The value at a dotted path; a number steps into an array."""
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
            return isinstance(value, float)


def _pairs(value: object, depth: int = 0) -> Iterator[tuple[str, object]]:
    """Every name with its value, however deep (within reason)."""
    if depth > 8:
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name), inner
            yield from _pairs(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _pairs(inner, depth + 1)
