"""What an application sends to store a grant or to change a token, parsed. Every fault is named."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from daemon.domain.access_key import META, SUBJECT, is_field
from daemon.domain.expiry import end_of
from daemon.domain.subject import fault_of_subject
from daemon.domain.token import State
from daemon.serving.problems import Invalid

LONGEST_TEXT = 1024  # bytes, of one value in `meta` or `vars`
MOST_NAMES = 50  # in `meta` or `vars`
_GRANT = ("response", "received_at", "consented_at", "vars", "meta", "subject")
_PATCH = ("meta", "subject", "state")
_VARIABLE = re.compile(r"[A-Za-z0-9_-]{1,64}")

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

    @property
    def changes_fields(self) -> bool:
        return bool(self.meta) or self.clears_meta or self.sets_subject

    def applied_to(self, meta: Mapping[str, object]) -> Mapping[str, object]:
        """Return `meta` after the changes."""
        merged = {**({} if self.clears_meta else meta), **self.meta}
        return {name: text for name, text in merged.items() if text is not None}


def read_offer(body: Body, *, now: datetime) -> Offer:
    """Return the grant in an `application/vnd.refreshd.grant+json` body. Raises Invalid."""
    faults = _unknown(body, _GRANT)
    response = body.get("response")
    if not isinstance(response, Mapping):
        faults.append(("response", "must be the provider's token response, an object"))
        response = {}
    offer = Offer(
        response=response,
        received_at=_instant(body, "received_at", now, faults),
        consented_at=_instant(body, "consented_at", now, faults),
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


def read_if_match(headers: list[str]) -> frozenset[str] | None:
    """Return the versions in `If-Match` (RFC 9110 §13.1.1), or None for any. Weak tags match nothing."""
    if not headers:
        return None
    tags = [tag.strip() for tag in ",".join(headers).split(",")]
    if tags == ["*"]:
        return None
    return frozenset(tag[1:-1] for tag in tags if len(tag) > 1 and tag[0] == tag[-1] == '"')


def read_subject(text: str) -> str:
    """Return the subject in a path or a query. Raises Invalid."""
    if fault := fault_of_subject(text):
        raise Invalid(("subject", fault))
    return text


def _unknown(body: Body, known: tuple[str, ...]) -> Faults:
    """Return a fault for unknown members. Their names are not repeated: they may hold anything."""
    return [("body", f"has a member other than {', '.join(known)}")] if body.keys() - set(known) else []


def _instant(body: Body, name: str, now: datetime, faults: Faults) -> datetime | None:
    value = body.get(name)
    if value is None:
        return None
    at = end_of(value, asked_at=now) if isinstance(value, str) else None
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
