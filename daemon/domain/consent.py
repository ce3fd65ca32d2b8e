"""What an owner's consent brings: the first token response, as an operator hands it to `refreshd add`.

Read by the rules of a provider's reply, and stricter: here a person waits who can be told what is wrong. What is
refused here would fail every refresh later.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from daemon.domain.expiry import end_of, jwt_end
from daemon.domain.provider import Definition, ExpiryUnit, Grant
from daemon.domain.response_parser import Body
from daemon.domain.secret import Secret
from daemon.domain.token_response import (
    ASSUMED_LIFETIME,
    at_path,
    first,
    first_text,
    holds_refresh_token_elsewhere,
    kept,
    scope,
)

_CAMEL = {
    "accessToken": "access_token",
    "refreshToken": "refresh_token",
    "tokenType": "token_type",
    "expiresIn": "expires_in",
    "expiresAt": "expires_at",
    "refreshTokenExpiresIn": "refresh_token_expires_in",
    "refreshTokenExpiresAt": "refresh_token_expires_at",
}
_TOKEN = re.compile(
    r"[\x21-\x7e]+"
)  # RFC 6749 appendix A.12 and A.17, and no blanks: they only come by accident
_NEVER = (None, 0, "0", "never")  # how providers say that something doesn't end


class ConsentInvalid(ValueError):
    """The token response can't be used. Its text is fit for people and repeats no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """A token response, read. `access_token` is None where only a refresh token came: it must be renewed at once,
    and `expires_at` is the moment of reading then, since there is nothing that anybody could use longer.
    """

    access_token: Secret | None
    refresh_token: Secret | None
    token_type: str | None = None
    scope: str | None = None
    issued_at: datetime
    expires_at: datetime | None  # None: it never expires
    refresh_expires_at: datetime | None = None
    consent_ends_at: datetime | None = None
    extra: Mapping[str, object] = field(default_factory=dict)


def read_consent(definition: Definition, body: Body, *, received_at: datetime, now: datetime) -> Consent:
    """What `body` grants. `received_at`: when the provider sent it; relative ends count from there.

    Raises ConsentInvalid with one sentence: what is wrong, where, and what to do.
    """
    if received_at > now:
        raise ConsentInvalid("received-at lies in the future: give the time at which the response came")
    body = _snake_cased(body)
    if body.get("error"):
        raise ConsentInvalid(
            "'error' is set: this is the provider's refusal, not a grant; let the owner consent again "
            "and give the token response of that"
        )
    shape = definition.reply
    access = _token(body, (*shape.access_token, "access_token"))
    refresh = _token(body, (*shape.refresh_token, "refresh_token"))
    if refresh is None and holds_refresh_token_elsewhere(body):
        raise ConsentInvalid(
            "the refresh token stands where nobody looks for it: give it as 'refresh_token' at the top"
        )
    if access is None and refresh is None and definition.grant is not Grant.CLIENT_CREDENTIALS:
        raise ConsentInvalid(
            "neither 'access_token' nor 'refresh_token' is there: give the provider's whole token response"
        )
    return Consent(
        access_token=access,
        refresh_token=refresh,
        token_type=first_text(body, shape.token_type) or None,
        scope=scope(first(body, shape.scope)),
        issued_at=received_at,
        expires_at=_access_end(definition, body, access, refresh, received_at) if access else now,
        refresh_expires_at=_refresh_end(definition, body, received_at) if refresh else None,
        consent_ends_at=_consent_end(definition, received_at) if refresh else None,
        extra=kept(definition, body),
    )


def _snake_cased(body: Body) -> Body:
    """`body` with RFC 6749's names too, where an application kept it under JavaScript's. Those stay: a definition
    may look there.
    """
    renamed = dict(body)
    for camel, snake in _CAMEL.items():
        value = renamed.get(camel)
        if value is None:
            continue
        if renamed.get(snake) not in (None, value):
            raise ConsentInvalid(f"'{snake}' and '{camel}' differ: leave out the one that is not current")
        renamed[snake] = value
    return renamed


def _token(body: Body, paths: Sequence[str]) -> Secret | None:
    """What stands at the first of `paths` that is there. The last is the standard's name, which always will do."""
    value, name = first(body, paths), paths[-1]
    if value is None:
        return None
    if not isinstance(value, str):
        raise ConsentInvalid(f"'{name}' is not a text: give it in quotes, as the provider sent it")
    if not value:
        raise ConsentInvalid(f"'{name}' is empty: give the token, or leave the key out where there is none")
    if not _TOKEN.fullmatch(value):
        raise ConsentInvalid(
            f"'{name}' holds a blank, a control or a non-ASCII character, which no token does: copy it again"
        )
    return Secret(value)


def _access_end(
    definition: Definition,
    body: Body,
    access: Secret,
    refresh: Secret | None,
    received_at: datetime,
) -> datetime | None:
    """An absolute end counts first: a response that was kept for a while still holds the `expires_in` of its birth.

    Where nothing is told, what can be renewed is taken to end, and what can't is taken to stay.
    """
    shape = definition.reply
    end = (
        _told(body, (*shape.expires_at, "expires_at"), received_at)
        or _told(body, (*shape.expires_in, "expires_in"), received_at, unit=definition.expires_in_unit)
        or jwt_end(access.reveal())
    )
    if end or not _is_renewable(definition.grant, refresh):
        return end
    return received_at + (definition.access_lifetime or ASSUMED_LIFETIME)


def _is_renewable(grant: Grant, refresh: Secret | None) -> bool:
    return grant is not Grant.NONE and (refresh is not None or grant is not Grant.REFRESH_TOKEN)


def _refresh_end(definition: Definition, body: Body, received_at: datetime) -> datetime | None:
    """As told, else as documented: an end that the consent fixes is kept rather than one that every use moves."""
    if end := _told(body, definition.reply.refresh_expires_in, received_at):
        return end
    documented = filter(None, (definition.refresh_lifetime, definition.refresh_idle))
    return min((received_at + span for span in documented), default=None)


def _consent_end(definition: Definition, received_at: datetime) -> datetime | None:
    """When the owner must consent again, however often the token is renewed."""
    return received_at + definition.refresh_lifetime if definition.refresh_lifetime else None


def _told(
    body: Body, paths: Sequence[str], received_at: datetime, *, unit: ExpiryUnit = ExpiryUnit.SECONDS
) -> datetime | None:
    value, name = (
        first(body, paths),
        next((path for path in paths if at_path(body, path) is not None), paths[-1]),
    )
    if value in _NEVER and not isinstance(value, bool):
        return None
    end = end_of(value, asked_at=received_at, unit=unit)
    if end is None:
        raise ConsentInvalid(
            f"'{name}' is not understood: give seconds, or a date such as 2026-01-31T12:00:00Z, or leave it out"
        )
    return end
