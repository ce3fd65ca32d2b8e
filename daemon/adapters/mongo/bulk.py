"""Changes of many documents in one command, in which a document that MongoDB refuses to change does not
affect the others.

A validator, a unique index or the limit of 16 MB refuses a single document. MongoDB then reports an error for
the whole command and skips the documents after that one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pymongo import UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, PyMongoError, WriteError

from daemon.adapters.mongo.connection import Mongo

AT_ONCE = 1000

# Write errors that are the server's trouble, not a document's: shutdown, stepped down, busy, disk full, missing rights.
_SERVERS_OWN = frozenset(
    {6, 7, 13, 18, 24, 43, 50, 63, 89, 91, 112, 133, 134, 150, 189, 202, 234, 246, 262}
    | {8000, 9001, 10107, 11600, 11602, 13388, 13435, 13436, 14031}
)

_DUPLICATE = 11000
_INDEX = re.compile(r"index: (.+?) dup key:")

Change = Mapping[str, object] | Sequence[Mapping[str, object]]  # the latter is a pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """`change` for those of `ids` that meet `condition`. Repeating it must be harmless for documents that it
    has changed.
    """

    ids: Sequence[str]
    condition: Mapping[str, object]
    change: Change

    def operation(self) -> UpdateMany | UpdateOne:
        if len(self.ids) == 1:
            return UpdateOne({**self.condition, "_id": self.ids[0]}, self.change)
        return UpdateMany({**self.condition, "_id": {"$in": list(self.ids)}}, self.change)

    def apart(self) -> list["Update"]:
        return [Update(ids=[one], condition=self.condition, change=self.change) for one in self.ids]


@dataclass(frozen=True, slots=True, kw_only=True)
class Updated:
    """The least number of documents that matched (after a refusal, others may have changed uncounted), and
    the reasons of the refusals.
    """

    matched: int
    refused: Mapping[str, str]


async def update_each(mongo: Mongo, updates: Sequence[Update]) -> Updated:
    """Run one command; after a refusal, another one that names each document separately. Raises StoreLost."""
    updates = [one for one in updates if one.ids]
    if not updates:
        return Updated(matched=0, refused={})
    try:
        result = await mongo.tokens.bulk_write([one.operation() for one in updates], ordered=False)
    except PyMongoError as error:
        whys = refusals(error)
        if whys is None:
            raise mongo.lost(error) from None
        matched = int(getattr(error, "details", {}).get("nMatched", 0))
    else:
        whys, matched = {}, result.matched_count
    mongo.seen()
    refused = {updates[index].ids[0]: why for index, why in whys.items() if len(updates[index].ids) == 1}
    several = [updates[index] for index in whys if len(updates[index].ids) > 1]
    rest = await update_each(mongo, [one for update in several for one in update.apart()])
    return Updated(matched=matched + rest.matched, refused={**refused, **rest.refused})


async def update_where(mongo: Mongo, condition: Mapping[str, object], change: Change) -> Updated:
    """Update all documents that meet `condition`; after a refusal, the others by their ids. Raises
    StoreLost.
    """
    try:
        result = await mongo.tokens.update_many(condition, change)
    except WriteError as error:
        if error.code in _SERVERS_OWN:
            raise mongo.lost(error) from None
    except PyMongoError as error:
        raise mongo.lost(error) from None
    else:
        mongo.seen()
        return Updated(matched=result.matched_count, refused={})
    found = await mongo.guarded(mongo.tokens.find(condition, {"_id": 1}).to_list())
    ids = [row["_id"] for row in found if type(row["_id"]) is str]
    matched, refused = 0, dict[str, str]()
    for start in range(0, len(ids), AT_ONCE):
        some = Update(ids=ids[start : start + AT_ONCE], condition=condition, change=change)
        done = await update_each(mongo, some.apart())
        matched, refused = matched + done.matched, {**refused, **done.refused}
    return Updated(matched=matched, refused=refused)


def refusals(error: PyMongoError) -> dict[int, str] | None:
    """Return the operations of a bulk that MongoDB refused because of their documents, with reasons; all
    others were executed.

    None: the error has another cause.
    """
    if not isinstance(error, BulkWriteError) or error.details.get("writeConcernErrors"):
        return None
    errors = {one["index"]: one for one in error.details.get("writeErrors", [])}
    if not errors or any(one.get("code") in _SERVERS_OWN for one in errors.values()):
        return None
    return {index: _why(one) for index, one in errors.items()}


def _why(error: Mapping[str, object]) -> str:
    """Describe the refusal without values of the document. A unique index is named, since an operator must
    drop it.
    """
    code, index = error.get("code"), _INDEX.search(str(error.get("errmsg")))
    if code == _DUPLICATE and index:
        return f"the unique index {index[1]!r} already holds these values for another token"
    return f"code {code}"
