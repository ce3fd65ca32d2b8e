"""Builds the indexes that the sweep can do without, while the daemon works."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from pymongo import IndexModel

from daemon.adapters.mongo.connection import Collection, Mongo, Refusal
from daemon.adapters.mongo.index_build import build, unbuilt
from daemon.adapters.mongo.indexes import built_beside
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.claim import StoreLost
from daemon.runtime.tasks import end

QUICK = timedelta(seconds=1)  # a build that takes longer is logged
AGAIN = timedelta(seconds=1)  # after a loss of MongoDB


class Indexing:
    """`done`: whether the builds have ended for tokens, and for the smaller collections before them. Lists and the audit
    wait for none. A refused index is logged, and what uses it reads every document.
    """

    def __init__(self, mongo: Mongo, log: EventLog) -> None:
        self.done = False
        self._mongo = mongo
        self._log = log
        self._begin = asyncio.Event()

    def begin(self) -> None:
        """Let `run` start: the store was found."""
        self._begin.set()

    async def run(self) -> None:
        """Build every index once. A loss of MongoDB delays that. If it is cancelled, MongoDB goes on building."""
        await self._begin.wait()
        left = list(built_beside(self._mongo))
        while left:
            try:
                await self._build(*left[0])
            except StoreLost:  # it has reported itself
                await asyncio.sleep(AGAIN.total_seconds())
            else:
                collection, _ = left.pop(0)
                self.done |= collection.name == self._mongo.tokens.name

    async def _build(self, collection: Collection, indexes: Sequence[IndexModel]) -> None:
        work = asyncio.create_task(build(self._mongo, collection, indexes), name="indexes")
        try:
            ended, _ = await asyncio.wait({work}, timeout=QUICK.total_seconds())
            names = () if ended else await self._building(collection, indexes)
            refused = await work
        finally:
            await end(work)
        for index, message in refused.items():
            self._log.log(
                log_lines.STORE_INDEX_REFUSED, collection=collection.name, index=index, message=message
            )
        built = [name for name in names if name not in refused]
        if built:
            self._log.log(log_lines.STORE_INDEXED, collection=collection.name, indexes=built)

    async def _building(self, collection: Collection, indexes: Sequence[IndexModel]) -> Sequence[str]:
        """Log which indexes are being built, and return their names."""
        try:
            names = await unbuilt(self._mongo, collection, indexes)
        except Refusal:
            return ()
        if names:
            self._log.log(log_lines.STORE_INDEXING, collection=collection.name, indexes=names)
        return names
