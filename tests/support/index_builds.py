"""MongoDB that doesn't end its index builds until a test lets it: as with a store of many millions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure

_FAIL_POINT = "hangAfterStartingIndexBuild"
_NO_SUCH_HINT = 2


@contextmanager
def held(client: MongoClient[dict[str, Any]]) -> Iterator[None]:
    """Every build of an index of a collection with documents waits until the block ends."""
    client.admin.command({"configureFailPoint": _FAIL_POINT, "mode": "alwaysOn"})
    try:
        yield
    finally:
        client.admin.command({"configureFailPoint": _FAIL_POINT, "mode": "off"})


def serves(collection: Any, index: str, condition: dict[str, object]) -> bool:
    """Whether a query with this condition may use the index: it is built to its end."""
    try:
        list(collection.find(condition).hint(index).limit(1))
    except OperationFailure as error:
        if error.code != _NO_SUCH_HINT:
            raise
        return False
    return True
