"""The indexes that the sweep can do without: of tokens, consents, the outbox, reads and the audit.

`index_build` builds them beside the sweep. Those of tokens are partial, since each index costs each renewal something.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pymongo import ASCENDING, DESCENDING, IndexModel

from daemon.adapters.mongo.connection import EPOCH, Collection, Mongo

# Partial, so that a token without a refresh token, or without an origin, costs nothing.
GRANT_INDEX = IndexModel(
    [("grant_fingerprint", ASCENDING)],
    name="grant_fingerprint",
    partialFilterExpression={"grant_fingerprint": {"$type": "string"}},
)
ORIGIN_INDEX = IndexModel(
    [("origin.layout", ASCENDING), ("origin.source", ASCENDING), ("origin.key", ASCENDING)],
    name="origin",
    unique=True,
    partialFilterExpression={"origin.key": {"$type": "string"}},
)

SUBJECT_INDEX = IndexModel(
    [("subject", ASCENDING), ("_id", ASCENDING)],
    name="subject",
    partialFilterExpression={"subject": {"$type": "string"}},
)
REMOVED_INDEX = IndexModel(
    [("removed_at", ASCENDING)],
    name="removed_at",
    partialFilterExpression={"removed_at": {"$gt": EPOCH}},
)
# Tombstones of revoked tokens. MongoDB deletes nothing in any other state.
FORGET_INDEX = IndexModel(
    [("forget_at", ASCENDING)],
    name="forget_at",
    expireAfterSeconds=0,
    partialFilterExpression={"state": "revoked"},
)
# Tokens whose events wait for the relay: hardly ever one.
EVENTS_INDEX = IndexModel(
    [("updated_at", ASCENDING)],
    name="events",
    partialFilterExpression={"events.0": {"$exists": True}},
)
# Each record states its own end, so that another retention needs no other index.
USE_INDEX = IndexModel(
    [("ends_at", ASCENDING)],
    name="ends_at",
    expireAfterSeconds=0,
    partialFilterExpression={"kind": "access"},
)
# Newest first. Rows that say when a key was last used have no `at`.
AUDIT_TIME_INDEX = IndexModel([("at", DESCENDING), ("_id", DESCENDING)], name="at")
USE_TIME_INDEX = IndexModel(
    [("at", DESCENDING), ("_id", DESCENDING)],
    name="at",
    partialFilterExpression={"at": {"$gt": EPOCH}},
)
# The records of one token. Those of its uses are few, and their `at` moves with each of them, so it is not in the index.
AUDIT_TOKEN_INDEX = IndexModel([("token", ASCENDING), ("at", DESCENDING), ("_id", DESCENDING)], name="token")
USE_TOKEN_INDEX = IndexModel(
    [("token", ASCENDING)],
    name="token",
    partialFilterExpression={"token": {"$type": "string"}},
)

# A consent that has ended is kept for a day, for the process that waits for it.
CONSENT_END_INDEX = IndexModel([("expires_at", ASCENDING)], name="expires_at", expireAfterSeconds=86_400)
# Each daemon looks every second for the consents that have a code: few, whatever the number of those that have ended.
CONSENT_STATE_INDEX = IndexModel(
    [("state", ASCENDING)],
    name="state",
    partialFilterExpression={"code": {"$type": "string"}},
)
# Anyone may try a link or a callback, so neither reads more than one document.
CONSENT_LINK_INDEX = IndexModel(
    [("link_hash", ASCENDING)],
    name="link_hash",
    partialFilterExpression={"link_hash": {"$type": "string"}},
)
CONSENT_CALLBACK_INDEX = IndexModel(
    [("state_hash", ASCENDING)],
    name="state_hash",
    partialFilterExpression={"state_hash": {"$type": "string"}},
)
# Each daemon also looks every second for the grants that are not stored: for those that can be stored or given up now.
CONSENT_GRANT_INDEX = IndexModel(
    [("grant_due_at", ASCENDING)],
    name="grant_due_at",
    partialFilterExpression={"grant": {"$type": "string"}},
)

# What waits for a hook, those that are due first. A delivery that has ended has no due date, and costs nothing here. With
# `added_at` the index alone answers how many wait, and for how long.
OUTBOX_DUE_INDEX = IndexModel(
    [("hook", ASCENDING), ("held", ASCENDING), ("due_at", ASCENDING), ("added_at", ASCENDING)],
    name="due",
    partialFilterExpression={"due_at": {"$gt": EPOCH}},
)
# MongoDB deletes what has ended long ago, and what no daemon has dropped.
OUTBOX_END_INDEX = IndexModel(
    [("ends_at", ASCENDING)],
    name="ends_at",
    expireAfterSeconds=0,
    partialFilterExpression={"ends_at": {"$gt": EPOCH}},
)

GRANT_INDEXES = (GRANT_INDEX, ORIGIN_INDEX)
TOKEN_INDEXES = (*GRANT_INDEXES, SUBJECT_INDEX, REMOVED_INDEX, FORGET_INDEX, EVENTS_INDEX)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexGroup:
    """Indexes of one collection, built together."""

    collection: Collection
    indexes: Sequence[IndexModel]


def built_beside(mongo: Mongo) -> Sequence[IndexGroup]:
    """Return the indexes that the daemon builds beside its work. The small collections come first."""
    consents = (
        CONSENT_END_INDEX,
        CONSENT_STATE_INDEX,
        CONSENT_LINK_INDEX,
        CONSENT_CALLBACK_INDEX,
        CONSENT_GRANT_INDEX,
    )
    return (
        IndexGroup(collection=mongo.consents, indexes=consents),
        IndexGroup(collection=mongo.outbox, indexes=(OUTBOX_DUE_INDEX, OUTBOX_END_INDEX)),
        IndexGroup(collection=mongo.tokens, indexes=TOKEN_INDEXES),
        IndexGroup(collection=mongo.access_use, indexes=(USE_INDEX, USE_TIME_INDEX, USE_TOKEN_INDEX)),
        IndexGroup(collection=mongo.audit, indexes=(AUDIT_TIME_INDEX, AUDIT_TOKEN_INDEX)),
    )


def name_of(index: IndexModel) -> str:
    return str(index.document["name"])
