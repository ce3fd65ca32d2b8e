"""Builds indexes, however long MongoDB takes for it, while everything else goes on.

MongoDB builds an index to its end even if the client that asked for it is gone, and a second command for the same
index waits for the first build. So a command may be repeated, by this process, by its next start or by another replica.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from pymongo import IndexModel
from pymongo.errors import DuplicateKeyError, NetworkTimeout, OperationFailure

from daemon.adapters.mongo.connection import Collection, Mongo, Refusal
from daemon.adapters.mongo.indexes import GRANT_INDEXES, built_beside, name_of

_NO_SUCH_HINT = (2, 291)  # BadValue, NoQueryExecutionPlans


class _StillBuilding(Exception):
    """MongoDB has not answered within the socket's timeout. That isn't a loss: it builds."""


async def build(mongo: Mongo, collection: Collection, indexes: Sequence[IndexModel]) -> Mapping[str, str]:
    """Create `indexes`, and wait until they are built. Returns the names of those that MongoDB refuses, with reasons.

    One command for all reads the collection once. If MongoDB refuses it, each index is created alone, since one that
    conflicts must not keep the others away. Raises StoreLost.
    """
    try:
        await _created(mongo, collection, indexes)
    except (Refusal, DuplicateKeyError) as why:
        if len(indexes) == 1:
            return {name_of(indexes[0]): _reason(why)}
    else:
        return {}
    refused: dict[str, str] = {}
    for index in indexes:
        refused |= await build(mongo, collection, [index])
    return refused


async def index_grants(mongo: Mongo) -> None:
    """Create the indexes by which an import, `add` and a copy find a refresh token and a row, and wait until they are
    built. Without them, these read every token, so a refusal isn't a failure; `check` reports it. Raises StoreLost.
    """
    await build(mongo, mongo.tokens, GRANT_INDEXES)


async def build_all(mongo: Mongo) -> None:
    """Build every index that the daemon builds beside its work, one collection after the other. Raises StoreLost."""
    for group in built_beside(mongo):
        await build(mongo, group.collection, group.indexes)


async def unbuilt(mongo: Mongo, collection: Collection, indexes: Sequence[IndexModel]) -> Sequence[str]:
    """Return the names of those of `indexes` that serve no query yet: they are missing, or being built. Raises StoreLost
    and Refusal.
    """
    return [name_of(one) for one in indexes if not await _serves(mongo, collection, one)]


async def _serves(mongo: Mongo, collection: Collection, index: IndexModel) -> bool:
    """Return whether a query may use the index. MongoDB lists an index from the beginning of its build, but refuses it as
    a hint until the end.
    """
    condition = index.document.get("partialFilterExpression", {})
    found = collection.find(condition, {"_id": 1}).hint(name_of(index)).limit(1)

    async def tried() -> bool:
        try:
            await found.to_list()
        except OperationFailure as error:
            if error.code in _NO_SUCH_HINT:
                return False
            raise
        return True

    return await mongo.tried(tried())


async def _created(mongo: Mongo, collection: Collection, indexes: Sequence[IndexModel]) -> None:
    """Create `indexes` with one command, which is repeated while MongoDB builds. Raises StoreLost, Refusal and
    DuplicateKeyError.
    """

    async def command() -> None:
        try:
            await collection.create_indexes(list(indexes))
        except NetworkTimeout:
            raise _StillBuilding from None

    while True:
        with suppress(_StillBuilding):
            return await mongo.tried(command())


def _reason(why: Refusal | DuplicateKeyError) -> str:
    """Describe a refusal without values of documents, which a duplicate key would show."""
    return str(why) if isinstance(why, Refusal) else "two documents have the same values"
