"""A provider that changes: what `PUT /behaviour` asks for holds for all later replies, until it is changed again.

    lifetime        of new access tokens, in seconds
    changes_every   n: each nth refresh replaces the refresh token; 1: all do; 0: none does
    code            the error code of every refusal of a token; null: as the provider words it
    fields          members of every grant, in addition to the provider's own or in their place; null leaves one out

A key that is absent changes nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from daemon.sandbox.terms import Terms
from daemon.sandbox.wording import JSON, Reply, encode

_KEYS = ("lifetime", "changes_every", "code", "fields")
_LONGEST = 10 * 365 * 86_400  # seconds
_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What differs from the provider's recorded words. The lifetime and the rotation are in its terms."""

    code: str | None = None
    fields: Mapping[str, object] = field(default_factory=dict)

    def applied(self, reply: Reply) -> Reply:
        """Return the reply as the changed provider words it."""
        if reply.content_type != JSON or not (self.fields or self.code):
            return reply
        body = json.loads(reply.body)
        if not isinstance(body, dict):
            return reply
        if reply.status == 200:
            body |= self.fields
            body = {
                name: value for name, value in body.items() if name not in self.fields or value is not None
            }
        elif self.code is not None:
            body["error"] = self.code
        return replace(reply, body=encode(body))


def changed(before: Behaviour, terms: Terms, wish: object) -> tuple[Behaviour, Terms]:
    """Return both as the JSON of `PUT /behaviour` asks. Raises ValueError with a sentence that says what to change."""
    if not isinstance(wish, dict):
        raise ValueError('a behaviour is a JSON object, for example {"lifetime": 7200}')  # noqa: TRY004  what a person sent, not a type
    if unknown := sorted(str(key) for key in wish if key not in _KEYS):
        raise ValueError(f"unknown key {unknown[0]!r} in the behaviour; known are {', '.join(_KEYS)}")
    if "lifetime" in wish:
        seconds = _whole(wish["lifetime"], "lifetime", least=1, most=_LONGEST)
        terms = replace(terms, lifetime=timedelta(seconds=seconds))
    if "changes_every" in wish:
        every = _whole(wish["changes_every"], "changes_every", least=0, most=_MOST)
        terms = replace(terms, changes_every=every)
    code, fields = wish.get("code", before.code), wish.get("fields", before.fields)
    if not (code is None or (isinstance(code, str) and code)):
        raise ValueError(f"code must be a text or null, not {code!r}")
    if not isinstance(fields, Mapping):
        raise ValueError(f"fields must be an object, not {fields!r}")  # noqa: TRY004
    return Behaviour(code=code, fields=dict(fields)), terms


def _whole(value: object, key: str, *, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{key} must be a whole number from {least} to {most}, not {value!r}")
    return value
