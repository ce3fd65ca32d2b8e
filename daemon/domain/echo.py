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
    fields = PlainFields(scope=granted.scope, token_type=granted.token_type, extra=granted.extra)
    secrets = (granted.access_token, granted.refresh_token, token.access_token, token.refresh_token)
    found = cleared(fields, *secrets)
    if found == fields:
        return answer
    clean = replace(granted, scope=found.scope, token_type=found.token_type, extra=found.extra)
    return clean if isinstance(answer, Granted) else replace(answer, granted=clean)


def cleared(fields: PlainFields, *secrets: Secret | None) -> PlainFields:
    """Return `fields` without those that contain one of `secrets`."""
    texts = _texts(*secrets)
    return PlainFields(
        scope=None if _holds(fields.scope, texts) else fields.scope,
        token_type=None if _holds(fields.token_type, texts) else fields.token_type,
        extra={name: value for name, value in fields.extra.items() if not _holds(value, texts)},
    )


def _texts(*secrets: Secret | None) -> list[str]:
    texts = (secret.reveal() for secret in secrets if secret is not None)
    return [text for text in texts if len(text) >= _SHORTEST]


def _holds(value: object, secrets: list[str]) -> bool:
    return isinstance(value, str) and any(secret in value for secret in secrets)
