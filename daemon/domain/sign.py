"""The signs of a definition that a reply shows."""

import json

from daemon.domain.provider import Condition, Definition, ErrorPattern
from daemon.domain.reply_body import Body
from daemon.domain.token_response import at_path

LONGEST_TEXT = 500  # characters that a sign's pattern is searched in, so that its cost is bounded


def signs_of(definition: Definition) -> tuple[tuple[ErrorPattern, ...], ...]:
    """Return all signs of a definition, the mildest meaning first."""
    return definition.unavailable, definition.misconfigured, definition.rejected


def shown(signs: tuple[ErrorPattern, ...], status: int, body: Body) -> ErrorPattern | None:
    """Return the first of `signs` that the reply shows."""
    return next((sign for sign in signs if _is_shown(sign, status, body)), None)


def any_shown(definition: Definition, status: int, body: Body) -> bool:
    """Return whether the body shows a sign, or contradicts the definition's success. A status alone shows nothing here:
    tokens beside it are a grant.
    """
    if definition.success is not None and contradicts_success(definition, body):
        return True
    for signs in signs_of(definition):  # each reply comes through here, and plain loops are the fastest
        for sign in signs:
            if sign.field and _is_shown(sign, status, body):
                return True
    return False


def contradicts_success(definition: Definition, body: Body) -> bool:
    """Return whether the field of `success` has another value. A body without that field contradicts nothing, because it
    may hold the only copy of a token.
    """
    success = definition.success
    return success is not None and at_path(body, success.field) is not None and not _holds(success, body)


def is_known_value(text: str, definition: Definition) -> bool:
    return any(text in sign.values for signs in signs_of(definition) for sign in signs)


def shown_value(definition: Definition, status: int, body: Body) -> str:
    """Return the literal text by which the reply shows a sign, if there is one."""
    for signs in signs_of(definition):
        if (sign := shown(signs, status, body)) is not None and sign.values:
            return _text(at_path(body, sign.field)) or ""
    if definition.success is not None and contradicts_success(definition, body):
        return _text(at_path(body, definition.success.field)) or ""
    return ""


def _is_shown(sign: ErrorPattern, status: int, body: Body) -> bool:
    if sign.status and status not in sign.status:
        return False
    if sign.also is not None and not _holds(sign.also, body):
        return False
    return not sign.field or _holds(sign, body)


def _holds(condition: Condition | ErrorPattern, body: Body) -> bool:
    value = at_path(body, condition.field)
    text = None if value is None else _text(value)
    if text is None:
        return False
    return text in condition.values or (
        condition.pattern is not None and condition.pattern.search(text[:LONGEST_TEXT]) is not None
    )


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value)
    except RecursionError:  # nested almost too deep to be parsed: no sign that anybody meant
        return None
