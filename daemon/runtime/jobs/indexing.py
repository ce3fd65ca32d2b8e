"""Builds the indexes that the sweep can do without, while the daemon works."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

from daemon.adapters.mongo.connection import Mongo, Refusal
from daemon.adapters.mongo.index_build import build, unbuilt
from daemon.adapters.mongo.indexes import IndexGroup, built_beside
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.claim import StoreLost
from daemon.runtime.tasks import end

QUICK = timedelta(seconds=1)  # a build that takes longer is logged
AGAIN = timedelta(seconds=1)  # after a loss of MongoDB


class Indexing:
    """`done`: whether the builds have ended for tokens, and for the smaller collections before them. Lists and the audit
    wait for none. A refused index is logged, and what uses it reads every document. `failed` receives unexpected errors.
    """

    def __init__(self, mongo: Mongo, log: EventLog, *, failed: Callable[[str, Exception], None]) -> None:
        self.done = False
        self._mongo = mongo
        self._log = log
        self._failed = failed
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
                await self._build(left[0])
            except StoreLost:  # it has reported itself
                await asyncio.sleep(AGAIN.total_seconds())
                continue
            except Exception as error:  # noqa: BLE001  what waits for the indexes must begin
                self._failed("indexing", error)
            self.done |= left.pop(0).collection.name == self._mongo.tokens.name

    async def _build(self, group: IndexGroup) -> None:
        name = group.collection.name
        work = asyncio.create_task(build(self._mongo, group.collection, group.indexes), name="indexes")
        try:
            ended, _ = await asyncio.wait({work}, timeout=QUICK.total_seconds())
            building = () if ended else await self._building(group)
            refused = await work
        finally:
            await end(work)
        for index, message in refused.items():
            self._log.log(log_lines.STORE_INDEX_REFUSED, collection=name, index=index, message=message)
        built = [index for index in building if index not in refused]
        if built:
            self._log.log(log_lines.STORE_INDEXED, collection=name, indexes=built)

    async def _building(self, group: IndexGroup) -> Sequence[str]:
        """Log which indexes are being built, and return their names."""
        try:
            names = await unbuilt(self._mongo, group.collection, group.indexes)
        except Refusal:
            return ()
        if names:
            self._log.log(log_lines.STORE_INDEXING, collection=group.collection.name, indexes=names)
        return names
