"""The signs of a definition that a reply shows."""

import json

from daemon.domain.provider import Definition, ErrorPattern
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
    return any(shown(signs, status, body) for signs in signs_of(definition))


def is_known_value(text: str, definition: Definition) -> bool:
    return any(text in sign.values for signs in signs_of(definition) for sign in signs)


def shown_value(definition: Definition, status: int, body: Body) -> str:
    """Return the literal text by which the reply shows a sign, if there is one."""
    for signs in signs_of(definition):
        if (sign := shown(signs, status, body)) is not None and sign.values:
            return _text(at_path(body, sign.field))
    return ""


def _is_shown(sign: ErrorPattern, status: int, body: Body) -> bool:
    if sign.status and status not in sign.status:
        return False
    value = at_path(body, sign.field)
    if value is None:
        return False
    try:
        text = _text(value)
    except RecursionError:  # nested almost too deep to be parsed: no sign that anybody meant
        return False
    return text in sign.values or (
        sign.pattern is not None and sign.pattern.search(text[:LONGEST_TEXT]) is not None
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
