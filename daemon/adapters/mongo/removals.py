"""Tokens that an application has removed. The access service may not delete documents: it marks them, and the daemon
deletes those that are marked.

A mark takes the sealed tokens out of the document, so that nothing is left to serve or to present.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.adapters.mongo.connection import Mongo, due
from daemon.adapters.mongo.document_limits import NAMED
from daemon.adapters.mongo.token_events import NONE_WAITING
from daemon.domain.claim import Claim, Unusable
from daemon.domain.journal_entry import Entry
from daemon.domain.secret import Secret
from daemon.domain.stored_grant import GONE, REMOVED
from daemon.domain.token import State, Token

AT_ONCE = 1000
_ACTIONS = ("remove", "revoke")  # in the audit, after which a document is deleted


def ended(now: datetime) -> dict[str, object]:
    """Return the condition that a token is marked and no request for it is running: the reply could still come."""
    return {
        "state": REMOVED,
        "refresh_token": None,
        "removed_at": due(now),
        "lease.until": {"$not": {"$gt": now}},
    }


async def delete_removed(mongo: Mongo, *, limit: int = AT_ONCE) -> Sequence[str]:
    """Delete at most `limit` of the marked tokens for which no request is running. Returns their ids.

    A token that an application or an import has stored again in the meantime has no mark. One with an event stays until
    the relay has taken it. Raises StoreLost.
    """
    condition = {**ended(mongo.clock.now()), **NONE_WAITING}
    found = mongo.tokens.find({**condition, **NAMED}, {"_id": 1}).limit(limit)
    names = [str(row["_id"]) for row in await mongo.guarded(found.to_list())]
    if not names:
        return []
    await mongo.guarded(mongo.tokens.delete_many({"_id": {"$in": names}, **condition}))
    left = await mongo.guarded(mongo.tokens.find({"_id": {"$in": names}}, {"_id": 1}).to_list())
    return sorted(set(names) - {str(row["_id"]) for row in left})


async def removed_claim(
    mongo: Mongo, entry: Entry, *, keyring: KeyRing, since: datetime, alone: bool
) -> Claim | None:
    """Return the claim of an entry whose document was removed after `since`, or None: see `refreshing.ports.Store`.
    Raises StoreLost and Unusable.
    """
    if entry.spent is None or not await _was_removed(mongo, entry.token, since=since):
        return None
    try:
        text = keyring.open(entry.spent, token_id=entry.token, field=entry.spent_field)
    except DecryptionError as why:
        raise Unusable(f"the presented secret can't be opened: {why}") from None
    if await _is_needed(mongo, entry, keyring.fingerprints(text), alone=alone):
        return None
    spent = Secret(text)
    exchange = entry.spent_field == "access_token"
    token = Token(
        id=entry.token,
        provider=entry.provider,
        account=entry.token.partition(":")[2],
        state=State.REVOKED,
        refresh_token=None if exchange else spent,
        access_token=spent if exchange else None,
    )
    return Claim(
        token=token,
        id=entry.claim,
        spent=entry.spent,
        spent_field=entry.spent_field,
        deadline=timedelta(0),
    )


async def _was_removed(mongo: Mongo, name: str, *, since: datetime) -> bool:
    document = await mongo.guarded(mongo.tokens.find_one({"_id": name}, {"state": 1}))
    if document is not None:
        return document.get("state") == REMOVED
    query = {"token": name, "action": {"$in": list(_ACTIONS)}, "at": {"$gte": since}}
    return await mongo.guarded(mongo.audit.find_one(query, {"_id": 1})) is not None


async def _is_needed(mongo: Mongo, entry: Entry, prints: Sequence[str], *, alone: bool) -> bool:
    """Return whether a revocation could end the grant of a stored token."""
    stored = {"_id": {"$ne": entry.token}, "state": {"$nin": sorted(GONE)}}
    same = {"grant_fingerprint": {"$in": list(prints), "$type": "string"}, **stored}
    if await mongo.guarded(mongo.tokens.find_one(same, {"_id": 1})) is not None:
        return True
    other = {"provider": entry.provider, **stored}
    return alone and await mongo.guarded(mongo.tokens.find_one(other, {"_id": 1})) is not None
