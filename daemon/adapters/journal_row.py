"""A row of the journal: a reply, sealed together with what its row says about it.

The columns are in the clear, so that an entry whose key is missing still blocks its token. A digest of them is sealed
with the reply: if one was changed, the row doesn't open. Else an old reply could be laid over any value that a document
holds now, by whoever can write to the file. Two columns are not bound, because changing them does no more than deleting
the row would: the state, which changes anyway, and the key, which is a place.

Earlier versions sealed the reply alone. `unbound` says whether such a row is accepted.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from daemon.adapters.keyring import KeyRing, Unopenable
from daemon.domain.claim import Entry
from daemon.domain.dialect import Reply
from daemon.domain.locked import Locked

WAITING, UNREAD, SUPERSEDED, UNUSABLE = STATES = ("waiting", "unread", "superseded", "unusable")
FIELD = "journal"  # the key ring's name for these sealed texts

Row = tuple[
    int, str, str, str, str | None, str, str, str
]  # in the order of the table's columns; `reply` is sealed


def row_of(entry: Entry, ring: KeyRing) -> Row:
    """The row of an entry that waits."""
    bound = (entry.token, entry.provider, entry.claim, entry.spent, entry.reply.asked_at.isoformat())
    sealed = ring.seal(_packed(entry, _digest(*bound)), token_id=entry.token, field=FIELD)
    return entry.key, *bound, sealed, WAITING


def entry_of(row: Row, ring: KeyRing, *, unbound: bool) -> Entry:
    """The entry in a row. Raises Unopenable: its key is missing, or the row was altered."""
    key, token, provider, claim, spent, asked_at, sealed, _ = row
    packed = ring.open(sealed, token_id=token, field=FIELD)
    try:
        held = _unpacked(packed)
        reply = _reply(held, datetime.fromisoformat(asked_at))
    except (ValueError, TypeError, KeyError):
        raise Unopenable("it doesn't hold a reply that this version can read") from None
    if held["bound"] is None and not unbound:
        raise Unopenable(
            "an earlier version sealed it, so a change of its row would not show. If nobody else could write to the"
            " file, accept it with --old-entries"
        )
    if held["bound"] not in (None, _digest(token, provider, claim, spent, asked_at)):
        raise Unopenable("its row was altered")
    return Entry(
        key=key,
        token=token,
        provider=provider,
        claim=claim,
        spent=spent,
        spent_field=held["spent_field"],
        reply=reply,
    )


def locked_of(row: Row, why: str) -> Locked:
    """What the columns of a row say that doesn't open."""
    key, token, provider, claim, spent, asked_at, _, _ = row
    try:
        asked = datetime.fromisoformat(asked_at)
    except ValueError:
        asked = None
    dated = asked if asked is not None and asked.tzinfo is not None else None
    return Locked(key=key, token=token, provider=provider, claim=claim, spent=spent, asked_at=dated, why=why)


def _digest(token: str, provider: str, claim: str, spent: str | None, asked_at: str) -> str:
    """Of the columns, and of where each ends."""
    ends = f"{len(token)} {len(provider)} {len(claim)} {-1 if spent is None else len(spent)} "
    return sha256("".join((ends, token, provider, claim, spent or "", asked_at)).encode()).hexdigest()


def _packed(entry: Entry, bound: str) -> str:
    """A head in JSON, and on the second line the body: it would be the dearest part of the JSON."""
    reply = entry.reply
    head = {
        "bound": bound,
        "spent_field": entry.spent_field,
        "status": reply.status,
        "content_type": reply.content_type,
        "retry_after": reply.retry_after,
        "location": reply.location,
        "whole": reply.whole,
    }
    return f"{json.dumps(head)}\n{b64encode(reply.body).decode()}"


def _unpacked(packed: str) -> Mapping[str, Any]:
    """What was sealed. Raises ValueError, TypeError."""
    head, _, body = packed.partition("\n")
    held = json.loads(head)
    if isinstance(held, dict):
        return {**held, "body": body}
    status, content_type, retry_after, whole, body = held  # of an earlier version
    return {
        "bound": None,
        "spent_field": "refresh_token",
        "status": status,
        "content_type": content_type,
        "retry_after": retry_after,
        "location": None,
        "whole": whole,
        "body": body,
    }


def _reply(held: Mapping[str, Any], asked_at: datetime) -> Reply:
    """Raises ValueError, KeyError."""
    if asked_at.tzinfo is None:
        raise ValueError("the time of asking has no zone")
    return Reply(
        status=held["status"],
        content_type=held["content_type"],
        retry_after=held["retry_after"],
        location=held["location"],
        whole=held["whole"],
        body=b64decode(held["body"]),
        asked_at=asked_at,
    )
