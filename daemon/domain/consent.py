"""A consent: the first token response of a grant, which an operator passes to `refreshd add`.

It is read by the rules of a provider's reply, but more strictly, because an operator can correct an error
here. A response that is refused here would fail every refresh later.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from daemon.domain.consent_ends import Ends, read_ends
from daemon.domain.echo import PlainFields, cleared
from daemon.domain.expiry import jwt_end
from daemon.domain.provider import Definition, Grant
from daemon.domain.reply_body import Body
from daemon.domain.secret import Secret
from daemon.domain.sender_constraint import is_sender_constrained, names_a_key
from daemon.domain.token_response import (
    ASSUMED_LIFETIME,
    first,
    first_text,
    holds_refresh_token_elsewhere,
    kept,
    scope,
)
from daemon.domain.token_text import can_be_token

_CAMEL = {
    "accessToken": "access_token",
    "refreshToken": "refresh_token",
    "tokenType": "token_type",
}
# RFC 6749 appendix A.12 and A.17, and no blanks: they only come by accident.
_TOKEN = re.compile(r"[\x21-\x7e]+")


class ConsentInvalid(ValueError):
    """The token response can't be used. The text is a sentence for people and repeats no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """A parsed token response. `access_token` is None if the response has only a refresh token. Such a token
    is due immediately, and its `expires_at` is the moment of reading.
    """

    access_token: Secret | None
    refresh_token: Secret | None
    token_type: str | None = None
    scope: str | None = None
    issued_at: datetime
    expires_at: datetime | None  # None: it never expires
    refresh_expires_at: datetime | None = None
    consent_ends_at: datetime | None = None
    end_is_known: bool = True  # else `expires_at` is assumed, and the token may have ended already
    unclear: tuple[str, ...] = ()  # fields that sound like an end and were not understood
    extra: Mapping[str, object] = field(default_factory=dict)


def read_consent(
    definition: Definition,
    body: Body,
    *,
    received_at: datetime,
    now: datetime,
    consented_at: datetime | None = None,
) -> Consent:
    """What `body` grants. `received_at`: when the provider sent it; relative ends count from there. `consented_at`:
    when the owner consented, if that was earlier; the consent's own end counts from there.

    Raises ConsentInvalid with one sentence: what is wrong, where, and what to do.
    """
    if received_at > now:
        raise ConsentInvalid("received-at is in the future: give the time at which the response arrived")
    body = _snake_cased(body)
    if body.get("error"):
        raise ConsentInvalid(
            "'error' is set, so this is a refusal by the provider, not a grant: let the owner consent again "
            "and give the token response of the new consent"
        )
    shape = definition.reply
    access = _token(body, (*shape.access_token, "access_token"))
    refresh = _token(body, (*shape.refresh_token, "refresh_token"))
    if refresh is None and holds_refresh_token_elsewhere(body):
        raise ConsentInvalid(
            "the refresh token is in a place that refreshd does not read: give it as 'refresh_token' at the top level"
        )
    if is_sender_constrained(first_text(body, shape.token_type)) or (access and names_a_key(access.reveal())):
        raise ConsentInvalid(
            "the tokens are bound to a key (DPoP, a client certificate or the like): refreshd can't prove possession of"
            " that key, so renew them on the system that holds it"
        )
    if access is None and refresh is None and not definition.grant.issues_anew:
        raise ConsentInvalid(
            "'access_token' and 'refresh_token' are both missing: give the provider's whole token response"
        )
    ends = read_ends(
        definition, body, access_token=access.reveal() if access else "", received_at=received_at
    )
    consented_at = min(consented_at or ends.born_at, ends.born_at)
    renewable = _is_renewable(definition.grant, refresh)
    if ends.unclear and not renewable:
        raise ConsentInvalid(
            f"{_quoted(ends.unclear)} in an unknown format, and this token can't be renewed: give its end in seconds, or as a"
            " date such as 2026-01-31T12:00:00Z, or leave the field out"
        )
    plain = cleared(
        PlainFields(
            scope=scope(first(body, shape.scope)),
            token_type=first_text(body, shape.token_type) or None,
            extra=kept(definition, body),
        ),
        access,
        refresh,
    )
    return Consent(
        access_token=access,
        refresh_token=refresh,
        token_type=plain.token_type,
        scope=plain.scope,
        issued_at=ends.born_at,
        expires_at=_access_end(definition, ends, renewable=renewable) if access else now,
        refresh_expires_at=ends.refresh or _refresh_end(definition, refresh, ends.born_at, consented_at)
        if refresh
        else None,
        consent_ends_at=_final_end(definition, ends, consented_at, renews=refresh is not None),
        end_is_known=access is None or ends.access is not None or not renewable,
        unclear=ends.unclear,
        extra=plain.extra,
    )


def _snake_cased(body: Body) -> Body:
    """Return `body` with RFC 6749's names added, in case an application stored JavaScript's. The original
    names stay, because a definition may refer to them.
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
    """Return the value at the first of `paths` that exists. The last one is the standard's name, which is
    always accepted.
    """
    value, name = first(body, paths), paths[-1]
    if value is None:
        return None
    if not isinstance(value, str):
        raise ConsentInvalid(f"'{name}' is not a text: give it in quotes, as the provider sent it")
    if not value:
        raise ConsentInvalid(f"'{name}' is empty: give the token, or leave the key out")
    if not can_be_token(value) and _TOKEN.fullmatch(value):
        raise ConsentInvalid(
            f"'{name}' is the text of a missing or hidden value, such as null: give the token, or leave the key out"
        )
    if not _TOKEN.fullmatch(value):
        raise ConsentInvalid(
            f"'{name}' contains a space, a control character or a non-ASCII character, which tokens never do: copy it again"
        )
    return Secret(value)


def _access_end(definition: Definition, ends: Ends, *, renewable: bool) -> datetime | None:
    """Return when the access token ends. Without any date, a renewable token is assumed to end, and any other
    to stay valid.
    """
    if ends.access or not renewable:
        return ends.access
    return ends.born_at + (definition.access_lifetime or ASSUMED_LIFETIME)


def _is_renewable(grant: Grant, refresh: Secret | None) -> bool:
    return grant is not Grant.NONE and (refresh is not None or grant is not Grant.REFRESH_TOKEN)


def _refresh_end(
    definition: Definition, refresh: Secret, born_at: datetime, consented_at: datetime
) -> datetime | None:
    """As documented, or by the refresh token itself, whichever comes first."""
    own = jwt_end(refresh.reveal())
    idle_end = born_at + definition.refresh_idle if definition.refresh_idle else None
    own = own if own is not None and own > born_at else None
    return min(filter(None, (_consent_end(definition, consented_at), idle_end, own)), default=None)


def _consent_end(definition: Definition, consented_at: datetime) -> datetime | None:
    """When the owner must consent again, however often the token is renewed: as documented."""
    return consented_at + definition.refresh_lifetime if definition.refresh_lifetime else None


def _final_end(
    definition: Definition, ends: Ends, consented_at: datetime, *, renews: bool
) -> datetime | None:
    """When the owner must bring another grant. What nothing renews, such as an API key, must be replaced at the age that
    the definition or the operator sets.
    """
    if renews:
        return ends.consent or _consent_end(definition, consented_at)
    oldest = definition.max_age if definition.grant is Grant.NONE else None
    return ends.born_at + oldest if oldest else None


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) + (" is" if len(names) == 1 else " are")
