"""Tokens in another application's collection. Fits `migrating.ports.ForeignStore`. Every BSON type is kept."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps, loads
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ConfigurationError, DuplicateKeyError, OperationFailure, PyMongoError, WriteError
from pymongo.read_concern import ReadConcern

from daemon.adapters.mongo.address import address_of
from daemon.adapters.mongo.connection import stated_options
from daemon.domain.foreign import LARGEST_ROW, TOO_LARGE, BadRow, Replacement, SourceLost
from daemon.domain.layout import Cells, Layout, Row
from daemon.domain.layout_reading import key_of
from daemon.domain.secret import Secret, masked

AT_ONCE = 500
CHANGED = "another program has changed it in the meantime"
_LONGEST_LABEL = 100  # characters
_JSON = CANONICAL_JSON_OPTIONS.with_options(
    tz_aware=True, tzinfo=UTC, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
_CODEC = CodecOptions[dict[str, object]](tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO)
_OPTIONS: dict[str, Any] = {
    "serverSelectionTimeoutMS": 5000,
    "connectTimeoutMS": 5000,
    "socketTimeoutMS": 60000,
}


class BsonText:
    """Documents as texts of extended JSON, which keep every BSON type. It needs no connection."""

    def encode(self, cells: Cells) -> str:
        """Return `cells` as a text."""
        return dumps(cells, json_options=_JSON)

    def decode(self, text: str) -> Cells:
        """Return what `encode` made a text of."""
        cells: Cells = loads(text, json_options=_JSON)
        return cells


class TokenCollection(BsonText):
    """The collection of a layout. `uri` names its database, and may hold a password, which is never printed.

    Close it after use. Raises SourceLost if the URI can't be used.
    """

    def __init__(self, layout: Layout, uri: Secret) -> None:
        self._layout = layout
        self._uri = uri
        address = address_of(uri.reveal())
        if not layout.collection:
            raise SourceLost(f"mongodb://{address}: no collection is named. Name one with --collection")
        if address.database is None:
            raise SourceLost(
                f"mongodb://{address}: the URI names no database. Write it like mongodb://{address}/NAME"
            )
        self.name = f"mongodb://{address}/{address.database}#{layout.collection}"
        try:
            stated = stated_options(uri.reveal())
            options = {name: value for name, value in _OPTIONS.items() if name.lower() not in stated}
            self._client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(
                uri.reveal(), appname="refreshd-migration", **options
            )
        except (PyMongoError, ValueError, OSError) as error:
            raise self._lost(error) from None
        self._collection: AsyncCollection[dict[str, object]] = self._client[address.database].get_collection(
            layout.collection or "",
            codec_options=_CODEC,
            write_concern=WriteConcern(w="majority", j=True, wtimeout=10000),
            read_concern=ReadConcern("majority"),
        )

    async def close(self) -> None:
        await self._client.close()

    async def rows(self, *, new: bool = False) -> AsyncIterator[Row | BadRow]:  # noqa: ARG002  MongoDB creates it
        """Yield every document. Raises SourceLost."""
        number = 0
        try:
            async for document in self._collection.find({}, batch_size=AT_ONCE).sort("_id", 1):
                number += 1
                yield _row(document, number)
        except (PyMongoError, BSONError) as error:
            raise self._lost(error) from None

    async def again(self, rows: Sequence[Row]) -> Mapping[str, Row]:
        """Return the present content of these rows, by key. Raises SourceLost."""
        places = [self._place(row.cells) for row in rows]
        if not places:
            return {}
        try:
            documents = await self._collection.find({"$or": places}).to_list()
        except (PyMongoError, BSONError) as error:
            raise self._lost(error) from None
        found = (_row(document, 0) for document in documents)
        return {key_of(self._layout, row): row for row in found if isinstance(row, Row)}

    async def replace(self, changes: Sequence[Replacement]) -> Mapping[str, str]:
        """Make the changes, one document after the other. Returns those that were not made. Raises SourceLost."""
        refused: dict[str, str] = {}
        for change in changes:
            try:
                done = await self._replace(change)
            except WriteError as error:
                refused[change.key] = f"MongoDB refuses the new document: code {error.code}"
                continue
            except (PyMongoError, BSONError) as error:
                raise self._lost(error) from None
            if not done:
                refused[change.key] = CHANGED
        return refused

    async def as_written(self, rows: Sequence[Row]) -> Mapping[str, Row]:
        """Return rows that `replace` has written, by key, as MongoDB has them: a new one has an `_id` now. Raises SourceLost."""
        return await self.again(rows)

    async def _replace(self, change: Replacement) -> bool:
        """Insert, change or delete one document. Returns False unless it stood as expected."""
        before, after = change.before, change.after
        if before is None:
            return after is None or await self._insert(dict(after.cells))
        unchanged = {name: {"$eq": value} for name, value in before.cells.items()}
        if after is None:
            return (await self._collection.delete_one(unchanged)).deleted_count == 1
        new = {name: value for name, value in after.cells.items() if before.cells.get(name) != value}
        if not new:
            return True
        return (await self._collection.update_one(unchanged, {"$set": new})).matched_count == 1

    async def _insert(self, document: dict[str, object]) -> bool:
        if await self._collection.find_one(self._place(document), {"_id": 1}) is not None:
            return False
        try:
            await self._collection.insert_one(document)
        except DuplicateKeyError:
            return False
        return True

    def _place(self, cells: Cells) -> dict[str, object]:
        """Return the condition for the one document of these cells."""
        if "_id" in cells:
            return {"_id": {"$eq": cells["_id"]}}
        heads = {path.partition(".")[0] for path in (*self._layout.provider, *self._layout.account)}
        return {name: {"$eq": cells[name]} for name in heads if name in cells}

    def _lost(self, error: Exception) -> SourceLost:
        text = masked(str(error).split(", Timeout:")[0], (self._uri,))
        if isinstance(error, OperationFailure):
            do = "Grant the right, or use another user"
        elif isinstance(error, ConfigurationError | ValueError):
            do = "Correct the URI"
        else:
            do = "Try again when MongoDB is back, or correct the URI"
        return SourceLost(f"{self.name}: {text.rstrip('.')}. {do}")


def _row(document: Mapping[str, object], number: int) -> Row | BadRow:
    label = f"document {str(document.get('_id', number))[:_LONGEST_LABEL]}"
    if len(bson.encode(document)) > LARGEST_ROW:
        return BadRow(label=label, why=TOO_LARGE)
    if _has_an_operator(document):
        return BadRow(label=label, why="one of its names begins with $, as only types in extended JSON do")
    return Row(cells=dict(document))


def _has_an_operator(value: object) -> bool:
    match value:
        case Mapping():
            return any(name.startswith("$") or _has_an_operator(inner) for name, inner in value.items())
        case list():
            return any(map(_has_an_operator, value))
        case _:
            return False
