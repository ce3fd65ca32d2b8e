"""A grant that is not stored: one that waits for its completion, or one that is to be discarded. Both are sealed as text."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from daemon.domain.consent import Consent
from daemon.domain.consent_request import ConsentRequest, ConsentState, Malformed
from daemon.domain.secret import Secret

_SECRETS = ("access_token", "refresh_token")
_DATES = ("issued_at", "expires_at", "refresh_expires_at", "consent_ends_at")
_TEXTS = ("token_type", "scope")


class NotReadable(ValueError):
    """The text is not one of this version. The message contains no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldGrant:
    """A grant, checked against its request. `asked_at`: when its code was presented. `account`: the provider's name for
    the owner's account, if it is known. `connect_code_hash`: of the connect code that the owner's browser got. Without
    it, the grant can't be completed.
    """

    consent: Consent
    account: str | None
    connect_code_hash: str | None = None
    missing_scopes: tuple[str, ...]
    asked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardedGrant:
    """The tokens of a grant that is not stored, and the provider's name for its account, if it is known. `expires_at`: of
    the access token, if the provider has stated it.
    """

    access_token: Secret | None
    refresh_token: Secret | None
    account: str | None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DueGrant:
    """A sealed grant that is to be stored or given up now. `completed`: by its application."""

    id: str
    provider: str
    state: ConsentState
    completed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenGrant:
    """A due grant in the hands of one instance. `text` and `proof`, of its completion, are None if they can't be opened.
    `until`: how long its revocation is tried. `tries`: the attempts so far.
    """

    due: DueGrant
    request: ConsentRequest | Malformed
    text: Secret | None
    proof: Secret | None = None
    until: datetime | None = None
    tries: int = 0


def held_text(grant: HeldGrant) -> Secret:
    """Return `grant` as a text to be sealed."""
    consent = grant.consent
    found = {
        **{name: None if (one := getattr(consent, name)) is None else one.reveal() for name in _SECRETS},
        **{name: None if (at := getattr(consent, name)) is None else at.isoformat() for name in _DATES},
        **{name: getattr(consent, name) for name in _TEXTS},
        "end_is_known": consent.end_is_known,
        "unclear": consent.unclear,
        "extra": consent.extra,
        "account": grant.account,
        "connect_code_hash": grant.connect_code_hash,
        "missing_scopes": grant.missing_scopes,
        "asked_at": grant.asked_at.isoformat(),
    }
    return Secret(json.dumps(found, ensure_ascii=False))


def held_grant(text: Secret) -> HeldGrant:
    """Return the grant in a text of `held_text`. Raises NotReadable."""
    found = _object(text)
    try:
        issued_at = _date(found["issued_at"])
        asked_at = _date(found["asked_at"])
        if issued_at is None or asked_at is None:
            raise NotReadable("a date is missing")
        return HeldGrant(
            consent=Consent(
                access_token=_secret(found["access_token"]),
                refresh_token=_secret(found["refresh_token"]),
                token_type=_text(found["token_type"]),
                scope=_text(found["scope"]),
                issued_at=issued_at,
                expires_at=_date(found["expires_at"]),
                refresh_expires_at=_date(found["refresh_expires_at"]),
                consent_ends_at=_date(found["consent_ends_at"]),
                end_is_known=found["end_is_known"] is True,
                unclear=_texts(found["unclear"]),
                extra=_mapping(found["extra"]),
            ),
            account=_text(found["account"]),
            connect_code_hash=_text(found.get("connect_code_hash")),
            missing_scopes=_texts(found["missing_scopes"]),
            asked_at=asked_at,
        )
    except KeyError:
        raise NotReadable("a field is missing") from None


def discarded_text(grant: DiscardedGrant) -> Secret:
    """Return `grant` as a text to be sealed."""
    found = {name: None if secret is None else secret.reveal() for name, secret in _secrets_of(grant).items()}
    ends = None if grant.expires_at is None else grant.expires_at.isoformat()
    return Secret(json.dumps({**found, "account": grant.account, "expires_at": ends}, ensure_ascii=False))


def discarded_grant(text: Secret) -> DiscardedGrant:
    """Return the tokens in a text of `discarded_text` or `held_text`. Raises NotReadable."""
    found = _object(text)
    return DiscardedGrant(
        access_token=_secret(found.get("access_token")),
        refresh_token=_secret(found.get("refresh_token")),
        account=_text(found.get("account")),
        expires_at=_date(found.get("expires_at")),
    )


def _secrets_of(grant: DiscardedGrant) -> Mapping[str, Secret | None]:
    return {"access_token": grant.access_token, "refresh_token": grant.refresh_token}


def _object(text: Secret) -> Mapping[str, object]:
    try:
        found = json.loads(text.reveal())
    except (ValueError, RecursionError):
        raise NotReadable("it is not JSON") from None
    return _mapping(found)


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise NotReadable("it is not an object")
    return value


def _text(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise NotReadable("a field is not a text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise NotReadable("a field is not a list of texts")
    return tuple(value)


def _secret(value: object) -> Secret | None:
    text = _text(value)
    return None if text is None else Secret(text)


def _date(value: object) -> datetime | None:
    text = _text(value)
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise NotReadable("a field is not a date")
    return at
