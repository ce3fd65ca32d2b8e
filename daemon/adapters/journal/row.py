"""A row of the journal: a reply, sealed together with a digest of the row's other columns.

The columns are not encrypted, so that an entry whose key is missing still blocks its token. The digest
detects changes: if a column was changed, the row doesn't open. Otherwise anyone who can write to the file
could apply an old reply to the current value of a document. Two columns are not bound, because changing them
has the same effect as deleting the row: the state, which changes anyway, and the key, which is a position.

Earlier versions sealed the reply alone. `unbound` says whether such a row is accepted.
"""

import json
import re
from base64 import b64decode, b64encode
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.domain.journal_entry import Entry, EntryState
from daemon.domain.locked import Locked
from daemon.domain.reply import Reply

KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
FIELD = "journal"  # the key ring's name for these sealed texts
_encoded = json.JSONEncoder(check_circular=False).encode
_WAITING = EntryState.WAITING.value  # a plain text, which SQLite takes without an adapter


class Row(NamedTuple):
    """In the order of the table's columns."""

    key: int
    token: str
    provider: str
    claim: str
    spent: str | None
    asked_at: str  # RFC 3339, if nobody altered it
    sealed: str  # the reply
    state: str  # an EntryState's value; a file from elsewhere may have another text


def row_of(entry: Entry, ring: KeyRing) -> Row:
    """Return the row of a waiting entry."""
    bound = (entry.token, entry.provider, entry.claim, entry.spent, entry.reply.asked_at.isoformat())
    sealed = ring.seal(_packed(entry, _digest(*bound)), token_id=entry.token, field=FIELD)
    return Row(entry.key, *bound, sealed, _WAITING)


def entry_of(row: Row, ring: KeyRing, *, unbound: bool) -> Entry:
    """The entry in a row. Raises DecryptionError: its key is missing, or the row was altered."""
    packed = ring.open(row.sealed, token_id=row.token, field=FIELD)
    try:
        bound, spent_field, reply = _unpacked(packed, asked_at=datetime.fromisoformat(row.asked_at))
    except (ValueError, TypeError):
        raise DecryptionError("it holds a reply that this version can't read") from None
    if bound is None and not unbound:
        raise DecryptionError(
            "an earlier version sealed it, which does not detect a changed row. If no other user could write to the file,"
            " accept it with --old-entries"
        )
    if bound not in (None, _digest(row.token, row.provider, row.claim, row.spent, row.asked_at)):
        raise DecryptionError("its row was altered")
    return Entry(
        key=row.key,
        token=row.token,
        provider=row.provider,
        claim=row.claim,
        spent=row.spent,
        spent_field=spent_field,
        reply=reply,
    )


def locked_of(row: Row, why: str) -> Locked:
    """The columns of a row that doesn't open."""
    try:
        asked = datetime.fromisoformat(row.asked_at)
    except ValueError:
        asked = None
    return Locked(
        key=row.key,
        token=row.token,
        provider=row.provider,
        claim=row.claim,
        spent=row.spent,
        asked_at=asked if asked is not None and asked.tzinfo is not None else None,
        why=why,
    )


def key_of(sealed: str) -> str:
    """Return the id of the key that sealed a text, of which the start suffices. For other texts the result
    doesn't match KEY_ID.
    """
    return sealed[3 : max(3, sealed.find(".", 3, 80))]


def _digest(token: str, provider: str, claim: str, spent: str | None, asked_at: str) -> str:
    """Return the digest of the columns and of the position at which each ends."""
    ends = f"{len(token)} {len(provider)} {len(claim)} {-1 if spent is None else len(spent)} "
    columns = "".join((ends, token, provider, claim, spent or "", asked_at))
    return b64encode(sha256(columns.encode()).digest()).decode()


def _packed(entry: Entry, bound: str) -> str:
    """Return the head in JSON and, on a second line, the body, which would be expensive to encode in JSON."""
    reply = entry.reply
    head = [
        bound,
        entry.spent_field,
        reply.status,
        reply.content_type,
        reply.retry_after,
        reply.location,
        reply.whole,
    ]
    return f"{_encoded(head)}\n{b64encode(reply.body).decode()}"


def _unpacked(packed: str, *, asked_at: datetime) -> tuple[str | None, str, Reply]:
    """Return the digest, the spent field and the reply. Raises ValueError, TypeError."""
    head, second, body = packed.partition("\n")
    if second:
        bound, spent_field, status, content_type, retry_after, location, whole = json.loads(head)
    else:  # of an earlier version
        status, content_type, retry_after, whole, body = json.loads(packed)
        bound, spent_field, location = None, "refresh_token", None
    if asked_at.tzinfo is None:
        raise ValueError("the time of its request has no zone")
    reply = Reply(
        status=status,
        content_type=content_type,
        retry_after=retry_after,
        location=location,
        whole=whole,
        body=b64decode(body),
        asked_at=asked_at,
    )
    return bound, spent_field, reply
