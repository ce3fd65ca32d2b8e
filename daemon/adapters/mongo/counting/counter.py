"""The count of the store, done by one replica for all.

One replica holds the lease of the count. In each step it queries due tokens by the index. Now and then it
reads the whole store beside the steps, which takes minutes for a large store. The other replicas read its
figures. So a store costs the same small share of MongoDB's time whatever its size and the number of replicas:
a larger one is counted less often.
"""

import asyncio
from collections.abc import Collection
from datetime import timedelta

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.counting.shared_count import Counted, SharedCount
from daemon.adapters.mongo.counting.statistics import due_now, upcoming, whole_store
from daemon.domain.statistics import Statistics, Upcoming, Whole, combined

EVERY = timedelta(seconds=15)
FIRST_EVERY = timedelta(seconds=1)  # as long as nothing was counted yet
SHARE = 30  # the steps take at most this part of MongoDB's time
WHOLE_SHARE = 15  # the counts of the whole store at most this one: ten million are counted about once an hour
PATIENCE = timedelta(seconds=5)  # a small store is counted within the step
UPCOMING_EVERY = timedelta(minutes=1)
LEASE = timedelta(minutes=1)  # beyond the next step


class Counter:
    """`owner` is this instance's id. `leads`: whether this replica counts for all. `pause`: the time until
    the next step.

    `patience`: how long a step waits for a count of the whole store that it has started.
    """

    def __init__(self, mongo: Mongo, *, owner: str, patience: timedelta = PATIENCE) -> None:
        self._mongo = mongo
        self._patience = patience
        self._shared = SharedCount(mongo, owner=owner)
        self.leads = False
        self.pause = EVERY
        self._whole: Whole | None = None
        self._count: asyncio.Task[Whole] | None = None
        self._begun = self._count_after = timedelta(0)  # by the boot clock
        self._upcoming: Upcoming | None = None
        self._upcoming_after = timedelta(0)  # by the boot clock

    async def step(self, configured: Collection[str]) -> Statistics | None:
        """Return the figures of the store, or None if there are none yet. `configured`: providers that are always
        named.

        Raises StoreLost.
        """
        self.pause = EVERY
        await self._mongo.hello()
        self.leads = await self._shared.lead(self.pause + LEASE)
        if self.leads:
            counted = await self._counted(configured)
        else:
            self.close()
            self._whole = None
            counted = await self._shared.read()
        return None if counted is None else combined(counted.whole, counted.due, counted.upcoming)

    async def _counted(self, configured: Collection[str]) -> Counted | None:
        if self._whole is None and (before := await self._shared.read()) is not None:
            self._take(
                before.whole, ended=self._mongo.clock.boot() - (self._mongo.clock.now() - before.whole.at)
            )
        begun = self._mongo.clock.boot()
        try:
            due = await due_now(self._mongo, configured=configured)
            coming = await self._coming()
        finally:
            self.pause = max(EVERY, SHARE * (self._mongo.clock.boot() - begun))
        if self.pause > EVERY:
            await self._shared.lead(self.pause + LEASE)
        try:
            await self._go_on(configured)
        finally:  # publish the due tokens even if the count of the whole store fails
            counted = None
            if self._whole is not None:
                counted = Counted(whole=self._whole, due=due, upcoming=coming)
                await self._shared.publish(counted)
            else:
                self.pause = FIRST_EVERY
        return counted

    async def _go_on(self, configured: Collection[str]) -> None:
        """Start a count of the whole store if it is time, and take its result if it has ended. Raises
        StoreLost.
        """
        patience = 0.0
        if self._count is None and self._mongo.clock.boot() >= self._count_after:
            self._begun, patience = self._mongo.clock.boot(), self._patience.total_seconds()
            self._count = asyncio.create_task(whole_store(self._mongo, configured=configured), name="count")
        if self._count is None:
            return
        await asyncio.wait({self._count}, timeout=patience)
        if self._count.done():
            count, self._count = self._count, None
            now = self._mongo.clock.boot()
            self._count_after = now + WHOLE_SHARE * (now - self._begun)  # also after a failed count
            self._take(count.result(), ended=now)

    def _take(self, whole: Whole, *, ended: timedelta) -> None:
        """Take the result. `ended`: the time of the count, by the boot clock."""
        self._whole, self._count_after = whole, ended + WHOLE_SHARE * whole.took

    def close(self) -> None:
        """Cancel a running count."""
        if self._count is not None and not self._count.cancel() and not self._count.cancelled():
            self._count.exception()  # its result is no longer needed
        self._count = None

    async def _coming(self) -> Upcoming:
        begun = self._mongo.clock.boot()
        if self._upcoming is None or begun >= self._upcoming_after:
            self._upcoming = await upcoming(self._mongo)
            now = self._mongo.clock.boot()
            self._upcoming_after = now + max(UPCOMING_EVERY, SHARE * (now - begun))
        return self._upcoming
