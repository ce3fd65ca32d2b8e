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
    secrets = (granted.access_token, granted.refresh_token, token.access_token, token.refresh_token)
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


def _holds(value: object, secrets: tuple[Secret | None, ...]) -> bool:
    if not isinstance(value, str) or len(value) < _SHORTEST:
        return False
    for secret in secrets:  # each reply comes through here, and a plain loop is the fastest
        if secret is not None and len(text := secret.reveal()) >= _SHORTEST and text in value:
            return True
    return False
