"""What an application sends to store a grant, to change a token or to connect an account, parsed. Every fault is named."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from daemon.domain.access_key import META, SUBJECT, is_field
from daemon.domain.expiry import instant_of
from daemon.domain.secret import Secret
from daemon.domain.session_proof import Proof
from daemon.domain.subject import fault_of_subject
from daemon.domain.token import State
from daemon.serving.problems import Invalid

LONGEST_TEXT = 1024  # bytes, of one value in `meta` or `vars`
MOST_NAMES = 50  # in `meta` or `vars`
_GRANT = ("response", "received_at", "consented_at", "vars", "meta", "subject")
_PATCH = ("meta", "subject", "state")
_CONNECT = (
    *("provider", "account", "scopes", "vars", "subject", "meta", "return_url", "code_challenge"),
    "replace",
)
_COMPLETE = ("connect_code", "code_verifier")
MOST_SCOPES = 100
_VARIABLE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")  # 256 bits, and an S256 challenge (RFC 7636 §4.2)
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636 §4.1

Body = Mapping[str, object]
Faults = list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A grant to store. `response`: the provider's token response. None: not given."""

    response: Body = field(repr=False)
    received_at: datetime | None = None
    consented_at: datetime | None = None
    vars: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, str] = field(default_factory=dict)
    subject: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """Changes of a token. In `meta`, None removes a name. `clears_meta`: every name that is not given. `sets_subject`:
    `subject` is to be stored, also as null. `state`: active or paused.
    """

    meta: Mapping[str, str | None] = field(default_factory=dict)
    clears_meta: bool = False
    sets_subject: bool = False
    subject: str | None = None
    state: State | None = None

    def applied_to(self, meta: Mapping[str, object]) -> Mapping[str, object]:
        """Return `meta` after the changes."""
        merged = {**({} if self.clears_meta else meta), **self.meta}
        return {name: text for name, text in merged.items() if text is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An account to connect. `code_challenge`: of the application's session (S256). `replace`: another account at the
    provider than the one connected before is allowed.
    """

    provider: str
    account: str
    scopes: tuple[str, ...] = ()
    vars: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, str] = field(default_factory=dict)
    subject: str | None = None
    return_url: str | None = None
    code_challenge: str | None = None
    replace: bool = False


def read_offer(body: Body) -> Offer:
    """Return the grant in an `application/vnd.refreshd.grant+json` body. Raises Invalid."""
    faults = _unknown(body, _GRANT)
    response = body.get("response")
    if not isinstance(response, Mapping):
        faults.append(("response", "must be the provider's token response, an object"))
        response = {}
    offer = Offer(
        response=response,
        received_at=_instant(body, "received_at", faults),
        consented_at=_instant(body, "consented_at", faults),
        vars=_texts(body, "vars", faults),
        meta=_texts(body, "meta", faults),
        subject=_subject(body, faults),
    )
    if faults:
        raise Invalid(*faults)
    return offer


def read_patch(body: Body) -> Patch:
    """Return the changes in a JSON merge patch (RFC 7396). Raises Invalid."""
    faults = _unknown(body, _PATCH)
    meta = body.get("meta")
    changed = _changed(meta, faults) if "meta" in body and meta is not None else {}
    state = body.get("state")
    if "state" in body and state not in (State.ACTIVE, State.PAUSED):
        faults.append(("state", 'must be "active" or "paused"'))
        state = None
    if "state" in body and len(body) > 1:
        faults.append(("state", "must be changed alone: it needs another right than meta and subject"))
    patch = Patch(
        meta=changed,
        clears_meta="meta" in body and meta is None,
        sets_subject="subject" in body,
        subject=_subject(body, faults),
        state=State(state) if isinstance(state, str) else None,
    )
    if faults:
        raise Invalid(*faults)
    return patch


def read_wish(body: Body) -> Wish:
    """Return the account to connect. Raises Invalid."""
    faults = _unknown(body, _CONNECT)
    scopes = body.get("scopes")
    if scopes is None:
        scopes = []
    if not isinstance(scopes, list) or not all(isinstance(one, str) and one for one in scopes):
        faults.append(("scopes", "must be a list of texts"))
        scopes = []
    elif len(scopes) > MOST_SCOPES or any(len(one.encode()) > LONGEST_TEXT for one in scopes):
        faults.append(("scopes", f"has more than {MOST_SCOPES} scopes, or a scope that is too long"))
    challenge = _text(body, "code_challenge", faults)
    if challenge is not None and not _SECRET.fullmatch(challenge):
        faults.append(("code_challenge", "must be an S256 challenge: 43 characters in base64url"))
    if not isinstance(body.get("replace"), bool | None):
        faults.append(("replace", "must be true or false"))
    wish = Wish(
        provider=_text(body, "provider", faults, required=True) or "",
        account=_text(body, "account", faults, required=True) or "",
        scopes=tuple(scopes),
        vars=_texts(body, "vars", faults),
        meta=_texts(body, "meta", faults),
        subject=_subject(body, faults),
        return_url=_text(body, "return_url", faults),
        code_challenge=challenge,
        replace=body.get("replace") is True,
    )
    if faults:
        raise Invalid(*faults)
    return wish


def read_proof(body: Body) -> Proof:
    """Return the proof that completes a consent. Raises Invalid."""
    faults = _unknown(body, _COMPLETE)
    code = _text(body, "connect_code", faults, required=True) or ""
    verifier = _text(body, "code_verifier", faults, required=True) or ""
    if code and not _SECRET.fullmatch(code):
        faults.append(("connect_code", "must have the 43 characters in base64url that return_url got"))
    if verifier and not _VERIFIER.fullmatch(verifier):
        faults.append(
            ("code_verifier", "must have 43 to 128 characters of A-Z, a-z, 0-9, '-', '.', '_', '~'")
        )
    if faults:
        raise Invalid(*faults)
    return Proof(connect_code=Secret(code), code_verifier=Secret(verifier))


def read_subject(text: str) -> str:
    """Return the subject in a path or a query. Raises Invalid."""
    if fault := fault_of_subject(text):
        raise Invalid(("subject", fault))
    return text


def _unknown(body: Body, known: tuple[str, ...]) -> Faults:
    """Return a fault for unknown members. Their names are not repeated: they may hold anything."""
    return [("body", f"has a member other than {', '.join(known)}")] if body.keys() - set(known) else []


def _text(body: Body, name: str, faults: Faults, *, required: bool = False) -> str | None:
    value = body.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, str) or not value:
        faults.append((name, "must be a text"))
        return None
    return value


def _instant(body: Body, name: str, faults: Faults) -> datetime | None:
    value = body.get(name)
    if value is None:
        return None
    at = instant_of(value) if isinstance(value, str) else None
    if at is None:
        faults.append((name, 'must be an instant like "2026-01-31T12:00:00Z"'))
    return at


def _texts(body: Body, name: str, faults: Faults) -> dict[str, str]:
    given = body.get(name)
    if given is None:
        return {}
    changed = _changed(given, faults, member=name)
    if None in changed.values():
        faults.append((name, "must hold texts, not null"))
    return {inner: text for inner, text in changed.items() if text is not None}


def _changed(given: object, faults: Faults, *, member: str = "meta") -> dict[str, str | None]:
    """Return the texts by name, and None for each null."""
    if not isinstance(given, Mapping):
        faults.append((member, "must be an object"))
        return {}
    if len(given) > MOST_NAMES:
        faults.append((member, f"has more than {MOST_NAMES} names"))
        return {}
    found: dict[str, str | None] = {}
    for name, value in given.items():
        good = is_field(f"{META}{name}") if member == "meta" else _VARIABLE.fullmatch(name) is not None
        if not good:
            faults.append(
                (member, "has a name that is too long, or holds a dot, '$', '=' or a control character")
            )
        elif value is not None and not isinstance(value, str):
            faults.append((f"{member}.{name}", "must be a text"))
        elif isinstance(value, str) and len(value.encode()) > LONGEST_TEXT:
            faults.append((f"{member}.{name}", f"has more than {LONGEST_TEXT} bytes"))
        elif isinstance(value, str) and "\x00" in value:
            faults.append((f"{member}.{name}", "contains a NUL"))
        else:
            found[name] = value
    return found


def _subject(body: Body, faults: Faults) -> str | None:
    value = body.get(SUBJECT)
    if value is None:
        return None
    fault = fault_of_subject(value) if isinstance(value, str) else "must be a text or null"
    if fault:
        faults.append((SUBJECT, fault))
        return None
    return str(value)
