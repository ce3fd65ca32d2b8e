"""Tokens that a reply repeats in a field that is stored unencrypted. Such a field is not stored."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from daemon.domain.answer import Granted, Unparsed
from daemon.domain.secret import Secret
from daemon.domain.token import Token

_SHORTEST = 8  # characters: a shorter token may be a part of an ordinary word


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainFields:
    """The fields of a reply that are stored unencrypted."""

    scope: str | None
    token_type: str | None
    extra: Mapping[str, object]


def without_echoes(answer: Granted | Unparsed, token: Token) -> Granted | Unparsed:
    """Return `answer` without a scope, a token type or a kept field that contains a token: one of the reply, or one
    that was presented as `token`.
    """
    granted = answer.granted if isinstance(answer, Unparsed) else answer
    if granted is None:
        return answer
    secrets = (granted.access_token, granted.refresh_token, token.access_token, token.refresh_token)
    if not any(
        _holds(value, secrets) for value in (granted.scope, granted.token_type, *granted.extra.values())
    ):
        return answer
    fields = PlainFields(scope=granted.scope, token_type=granted.token_type, extra=granted.extra)
    found = cleared(fields, *secrets)
    clean = replace(granted, scope=found.scope, token_type=found.token_type, extra=found.extra)
    return clean if isinstance(answer, Granted) else replace(answer, granted=clean)


def cleared(fields: PlainFields, *secrets: Secret | None) -> PlainFields:
    """Return `fields` without those that contain one of `secrets`."""
    return PlainFields(
        scope=None if _holds(fields.scope, secrets) else fields.scope,
        token_type=None if _holds(fields.token_type, secrets) else fields.token_type,
        extra={name: value for name, value in fields.extra.items() if not _holds(value, secrets)},
    )


def _holds(value: object, secrets: tuple[Secret | None, ...]) -> bool:
    if not isinstance(value, str) or len(value) < _SHORTEST:
        return False
    for secret in secrets:  # each reply comes through here, and a plain loop is the fastest
        if secret is not None and len(text := secret.reveal()) >= _SHORTEST and text in value:
            return True
    return False
