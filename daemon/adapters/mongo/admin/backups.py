"""The store as a backup reads it: its documents as lines of text."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Self

from pymongo import ASCENDING
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

from daemon.adapters.mongo.admin.document_lines import RAW, line_of
from daemon.adapters.mongo.connection import Mongo
from daemon.domain.backup import (
    SnapshotLost,
)

READ_AT_ONCE = 1000  # documents
MOST_READ = 4 << 20  # bytes, of the documents that are yielded together
# Rows of running processes; and consents, which live for minutes: by the time of a restore, their codes are spent, and
# their grants were stored or revoked.
NOT_BACKED_UP = frozenset({"_instances", "_consents"})

# SnapshotTooOld, SnapshotUnavailable; InvalidOptions, IllegalOperation, NotImplemented: there are no snapshots.
_NO_SNAPSHOT = frozenset({239, 246, 72, 20, 238})


class MongoBackupSource:
    """Implements `migrating.backup_ports.BackupSource`. `snapshot`: all collections are read as of one moment."""

    def __init__(self, mongo: Mongo, *, snapshot: bool) -> None:
        self._mongo = mongo
        self._session = mongo.tokens.database.client.start_session(snapshot=True) if snapshot else None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.end_session()

    async def suffixes(self) -> Sequence[str]:
        """Return the ends of the names of the collections; that of the tokens is empty and comes last. A login needs no
        privilege beyond those on the collections.
        """
        tokens = self._mongo.tokens
        cursor = await self._mongo.guarded(
            tokens.database.cursor_command("listCollections", nameOnly=True, authorizedCollections=True)
        )
        rows: list[dict[str, Any]] = await self._mongo.guarded(cursor.to_list())
        names = [str(row["name"]) for row in rows if row.get("type") == "collection"]
        found = [name.removeprefix(tokens.name) for name in names if name.startswith(f"{tokens.name}_")]
        return [*sorted(one for one in found if one not in NOT_BACKED_UP), ""]

    async def documents(self, suffix: str) -> AsyncIterator[Sequence[bytes]]:
        """Yield the documents of a collection, by id. Raises SnapshotLost, StoreLost."""
        collection = beside(self._mongo, suffix).with_options(codec_options=RAW)
        cursor = collection.find({}, session=self._session, batch_size=READ_AT_ONCE).sort("_id", ASCENDING)
        lines: list[bytes] = []
        size = 0
        try:
            async with cursor:
                async for raw in cursor:
                    lines.append(line_of(raw))
                    size += len(lines[-1])
                    if len(lines) >= READ_AT_ONCE or size >= MOST_READ:
                        yield lines
                        lines, size = [], 0
        except ConfigurationError:
            if self._session is None:
                raise
            raise SnapshotLost from None
        except PyMongoError as error:
            if isinstance(error, OperationFailure) and error.code in _NO_SNAPSHOT and self._session:
                raise SnapshotLost from None
            raise self._mongo.lost(error) from None
        if lines:
            yield lines


def beside(mongo: Mongo, suffix: str) -> AsyncCollection[dict[str, object]]:
    """Return the collection whose name is that of the tokens and `suffix`."""
    return mongo.tokens.database[f"{mongo.tokens.name}{suffix}"]
