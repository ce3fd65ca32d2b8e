"""Tokens that a reply repeats in a field that is stored unencrypted. Such a field is not stored."""

from dataclasses import replace

from daemon.domain.answer import Granted, Unparsed
from daemon.domain.secret import Secret
from daemon.domain.token import Token

_SHORTEST = 8  # characters: a shorter token may be a part of an ordinary word


def without_echoes(answer: Granted | Unparsed, token: Token) -> Granted | Unparsed:
    """Return `answer` without a scope, a token type or a kept field that contains a token: one of the reply, or one
    that was presented as `token`.
    """
    granted = answer.granted if isinstance(answer, Unparsed) else answer
    if granted is None:
        return answer
    secrets = _texts(granted.access_token, granted.refresh_token, token.access_token, token.refresh_token)
    kept = {name: value for name, value in granted.extra.items() if not _holds(value, secrets)}
    scoped, typed = not _holds(granted.scope, secrets), not _holds(granted.token_type, secrets)
    if scoped and typed and len(kept) == len(granted.extra):
        return answer
    clean = replace(
        granted,
        scope=granted.scope if scoped else None,
        token_type=granted.token_type if typed else None,
        extra=kept,
    )
    return clean if isinstance(answer, Granted) else replace(answer, granted=clean)


def _texts(*secrets: Secret | None) -> list[str]:
    texts = (secret.reveal() for secret in secrets if secret is not None)
    return [text for text in texts if len(text) >= _SHORTEST]


def _holds(value: object, secrets: list[str]) -> bool:
    return isinstance(value, str) and any(secret in value for secret in secrets)
