"""The rules of a write: what a key may change, and what becomes of a stored token. Pure functions that raise Problem.

A write is checked on the token as it is stored and as it would become. Whatever a key may not do looks like a token
that is not there.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime

from daemon.domain.access_key import META, SUBJECT, AccessKey, Stored, Verb
from daemon.domain.served_token import ServedToken
from daemon.domain.stored_grant import REVOKING, Author, Edit, PausedBy, StoredGrant, removed_fields
from daemon.domain.token import State
from daemon.serving.grant_request import Offer, Patch
from daemon.serving.preconditions import UNCONDITIONAL, Preconditions
from daemon.serving.problems import Invalid, Problem, not_found

LARGEST_META = 8 * 1024  # bytes of names and texts


def filled_in(offer: Offer, where: Mapping[str, str]) -> Offer:
    """Return the offer with the fields that the key's `where` names and the offer does not."""
    meta = {name.removeprefix(META): text for name, text in where.items() if name.startswith(META)}
    return replace(offer, meta={**meta, **offer.meta}, subject=offer.subject or where.get(SUBJECT))


def laid(
    stored: StoredGrant | None,
    offer: Offer,
    *,
    key: AccessKey,
    name: str,
    received_at: datetime,
    fingerprints: Collection[str],
    due_at: datetime | None,
    conditions: Preconditions = UNCONDITIONAL,
) -> Edit:
    """Return the change that lays a consent over the stored token, beside the consent's own fields.

    `offer`: filled in. `fingerprints`: of its refresh token, empty if it has none. `due_at`: when it is first renewed.
    """
    fields: dict[str, object] = {} if offer.subject is None else {SUBJECT: offer.subject}
    if stored is None or stored.is_gone:
        _require(key, Verb.WRITE, Stored(id=name, fields=_selected(offer)))
        conditions.require(None)
        _require_room({}, offer.meta)
        return Edit(fields={SUBJECT: None, **fields}, anew=stored is not None)
    _require(key, Verb.WRITE, stored.selected)
    _require(key, Verb.WRITE, Stored(id=name, fields={**stored.token.selected, **_selected(offer)}))
    conditions.require(stored.token)
    _require_unrevoked(stored.token)
    if _changes_owner(stored, offer) and Verb.REPLACE not in key.can:
        raise not_found()
    _require_newer(stored, received_at, fingerprints)
    same_grant = stored.fingerprint in fingerprints
    if same_grant and any(stored.vars.get(one) != text for one, text in offer.vars.items()):
        raise Problem(
            "conflict", "Variables change only together with a new grant, and this one is stored already."
        )
    _require_room(stored.meta or {}, offer.meta)
    return Edit(fields={**fields, **_of_pause(stored, key, due_at)})


def patched(
    stored: StoredGrant | None,
    patch: Patch,
    *,
    key: AccessKey,
    author: Author,
    now: datetime,
    due_at: datetime | None,
    conditions: Preconditions = UNCONDITIONAL,
) -> tuple[str, Edit] | None:
    """Return the change, and its name in the audit. None: nothing is to be changed. `due_at`: if it is resumed."""
    if patch.state is not None:
        token = _permitted(stored, Verb.PAUSE, key, conditions)
        return _paused(token, author, now) if patch.state is State.PAUSED else _resumed(token, due_at)
    token = _permitted(stored, Verb.WRITE, key, conditions)
    edit = _changed(token, patch)
    _require(key, Verb.WRITE, Stored(id=token.token.id, fields=_becomes(token, patch)))
    return ("update", edit) if edit.fields or edit.unset else None


def removed(
    stored: StoredGrant | None, *, key: AccessKey, now: datetime, conditions: Preconditions = UNCONDITIONAL
) -> Edit:
    """Return the mark by which the daemon deletes the token. Its sealed texts go now."""
    _permitted(stored, Verb.REVOKE, key, conditions)
    return Edit(fields=removed_fields(now))


def revoking(
    stored: StoredGrant | None, *, key: AccessKey, now: datetime, conditions: Preconditions = UNCONDITIONAL
) -> tuple[StoredGrant, Edit]:
    """Return the token, and the order by which the daemon ends its grant at the provider. Nothing of it is served any more;
    its texts stay until the provider has confirmed.
    """
    token = _permitted(stored, Verb.REVOKE, key, conditions)
    order = {
        "since": now,
        "not_before": None,
        "tries": 0,
        "was": {"state": token.token.state, "due_at": None},
    }
    return token, Edit(fields={"state": REVOKING, "due_at": now, "revocation": order})


# ---------------------------------------------------------------- may they


def _permitted(
    stored: StoredGrant | None, verb: Verb, key: AccessKey, conditions: Preconditions
) -> StoredGrant:
    if stored is None or stored.is_gone:
        raise not_found()
    _require(key, verb, stored.selected)
    conditions.require(stored.token)
    _require_unrevoked(stored.token)
    return stored


def _require(key: AccessKey, verb: Verb, token: Stored) -> None:
    if not key.may(verb, token):
        raise not_found()


def _require_unrevoked(token: ServedToken) -> None:
    if token.state == REVOKING:
        raise Problem("revoking", "This token is being revoked.")


def _changes_owner(stored: StoredGrant, offer: Offer) -> bool:
    """Return whether another account's grant would be replaced. The subject is the one thing that shows it: a token
    response does not name its account.
    """
    return stored.token.subject is not None and offer.subject not in (None, stored.token.subject)


# ---------------------------------------------------------------- a new consent


def _require_newer(stored: StoredGrant, received_at: datetime, fingerprints: Collection[str]) -> None:
    if stored.has_refresh_token and not fingerprints:
        raise Problem(
            "conflict",
            "The stored token has a refresh token and this response has none, so the grant would be lost. Let the owner"
            " consent again with offline access.",
        )
    if stored.token.issued_at is not None and received_at < stored.token.issued_at:
        raise Problem("conflict", "The stored token was issued after this response was received.")


def _of_pause(stored: StoredGrant, key: AccessKey, due_at: datetime | None) -> dict[str, object]:
    """Return the fields that keep a pause. A consent ends no pause that its key could not end: only the operator, or a
    key with `pause`, resumes the token.
    """
    match stored.paused_by:
        case PausedBy.OPERATOR:
            pause = stored.pause
        case PausedBy.APPLICATION if Verb.PAUSE not in key.can:
            pause = {**(stored.pause or {}), "due_at": due_at}
        case _:
            return {}
    return {"state": State.PAUSED.value, "due_at": None, "paused_by": pause}


def _selected(offer: Offer) -> dict[str, str]:
    subject = {} if offer.subject is None else {SUBJECT: offer.subject}
    return {f"{META}{name}": text for name, text in offer.meta.items()} | subject


def _require_room(stored: Mapping[str, object], changed: Mapping[str, str | None]) -> None:
    texts = {**{name: text for name, text in stored.items() if isinstance(text, str)}, **changed}
    size = sum(len(name.encode()) + len((text or "").encode()) for name, text in texts.items())
    if size > LARGEST_META:
        raise Invalid(("meta", f"would have more than {LARGEST_META} bytes"))


# ---------------------------------------------------------------- changes of fields


def _changed(stored: StoredGrant, patch: Patch) -> Edit:
    fields: dict[str, object] = {SUBJECT: patch.subject} if patch.sets_subject else {}
    set_ = {name: text for name, text in patch.meta.items() if text is not None}
    if patch.clears_meta or stored.meta is None:
        if not patch.clears_meta and not set_:
            return Edit(fields=fields)
        kind = {"$not": {"$type": "object"}} if stored.meta is None else {"$type": "object"}
        return Edit(fields={**fields, "meta": set_}, condition={"meta": kind})
    _require_room(stored.meta, patch.meta)
    fields |= {f"{META}{name}": text for name, text in set_.items()}
    unset = tuple(
        f"{META}{name}" for name, text in patch.meta.items() if text is None and name in stored.meta
    )
    return Edit(fields=fields, unset=unset, condition={"meta": {"$type": "object"}} if set_ or unset else {})


def _becomes(stored: StoredGrant, patch: Patch) -> Mapping[str, str]:
    """Return the fields that selectors look at, after the patch."""
    fields = dict(stored.token.selected)
    if patch.clears_meta:
        fields = {name: text for name, text in fields.items() if not name.startswith(META)}
    changed: dict[str, str | None] = {f"{META}{name}": text for name, text in patch.meta.items()}
    if patch.sets_subject:
        changed[SUBJECT] = patch.subject
    return {name: text for name, text in {**fields, **changed}.items() if text is not None}


# ---------------------------------------------------------------- pauses


def _paused(stored: StoredGrant, author: Author, now: datetime) -> tuple[str, Edit] | None:
    if stored.paused_by is PausedBy.APPLICATION:
        return None
    if stored.token.state != State.ACTIVE:
        raise _not_ours(stored)
    paused_by = {
        "kind": PausedBy.APPLICATION.value,
        "key": author.key,
        "name": author.name,
        "at": now,
        "due_at": stored.token.due_at,
    }
    return "pause", Edit(fields={"state": State.PAUSED.value, "due_at": None, "paused_by": paused_by})


def _resumed(stored: StoredGrant, due_at: datetime | None) -> tuple[str, Edit] | None:
    if stored.token.state == State.ACTIVE:
        return None
    if stored.paused_by is not PausedBy.APPLICATION:
        raise _not_ours(stored)
    return "resume", Edit(fields={"state": State.ACTIVE.value, "due_at": due_at, "paused_by": None})


def _not_ours(stored: StoredGrant) -> Problem:
    match stored.paused_by:
        case PausedBy.OPERATOR:
            detail = "An operator has paused this token."
        case PausedBy.DAEMON:
            detail = "Another token holds the same refresh token, so this one is paused."
        case PausedBy.IMPORT:
            detail = "The application that this token was imported from still renews it."
        case _:
            detail = "This token is neither active nor paused by an application."
    return Problem("conflict", detail)
