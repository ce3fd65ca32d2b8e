"""Counts the store for all replicas, a little at a time.

One of them holds the lease of the count. In each step it looks at what is due, by the index, and goes on with the count of
the whole store; the others read what it found. So a store costs the same share of MongoDB's time whatever its size and
the number of replicas: a larger one is counted more rarely.
"""

from collections.abc import Collection
from datetime import timedelta

from daemon.adapters.mongo import Mongo
from daemon.adapters.mongo_shared_count import Counted, SharedCount
from daemon.adapters.mongo_statistics import WholeCount, due_now, upcoming
from daemon.domain.statistics import Statistics, Upcoming, Whole, combined

EVERY = timedelta(seconds=15)
SHARE = 30  # the steps take at most this part of MongoDB's time
BUDGET = EVERY / SHARE  # of the count of the whole store, in each step
FIRST_BUDGET, FIRST_EVERY = timedelta(seconds=5), timedelta(seconds=1)  # as long as nothing was counted yet
UPCOMING_EVERY = timedelta(minutes=1)
LEASE = timedelta(minutes=1)  # beyond the next step


class Counter:
    """`owner` is this instance's id. `leads`: whether this replica counts for all. `pause`: until the next step."""

    def __init__(self, mongo: Mongo, *, owner: str) -> None:
        self._mongo = mongo
        self._shared = SharedCount(mongo, owner=owner)
        self.leads = False
        self.pause = EVERY
        self._whole: Whole | None = None
        self._count: WholeCount | None = None
        self._upcoming: Upcoming | None = None
        self._upcoming_after = timedelta(0)  # by the boot clock

    async def step(self, known: Collection[str]) -> Statistics | None:
        """What the store looks like; None: nobody knows yet. `known`: the providers that are named, whatever their number.
        Raises StoreLost.
        """
        begun = self._mongo.clock.boot()
        self.pause = EVERY
        try:
            await self._mongo.hello()
            self.leads = await self._shared.lead(self.pause + LEASE)
            if self.leads:
                counted = await self._counted(known)
            else:
                self._whole, self._count = None, None
                counted = await self._shared.read()
        finally:
            took = self._mongo.clock.boot() - begun
            if self.leads and self._whole is not None:
                self.pause = max(EVERY, SHARE * took)
            elif self.leads:
                self.pause = FIRST_EVERY
        if self.leads and self.pause > EVERY:
            await self._shared.lead(self.pause + LEASE)
        return None if counted is None else combined(counted.whole, counted.due, counted.upcoming)

    async def _counted(self, known: Collection[str]) -> Counted | None:
        if self._whole is None and (before := await self._shared.read()) is not None:
            self._whole = before.whole
        due = await due_now(self._mongo, known=known)
        coming = await self._coming()
        try:
            await self._go_on(known)
        finally:  # what is due is news also where the count of the whole store fails
            counted = None
            if self._whole is not None:
                counted = Counted(whole=self._whole, due=due, upcoming=coming)
                await self._shared.publish(counted)
        return counted

    async def _go_on(self, known: Collection[str]) -> None:
        """With the count of the whole store. One that fails begins again with the next step."""
        count, self._count = self._count or WholeCount(self._mongo, known), None
        whole = await count.go_on(FIRST_BUDGET if self._whole is None else BUDGET)
        if whole is None:
            self._count = count
        else:
            self._whole = whole

    async def _coming(self) -> Upcoming:
        begun = self._mongo.clock.boot()
        if self._upcoming is None or begun >= self._upcoming_after:
            self._upcoming = await upcoming(self._mongo)
            now = self._mongo.clock.boot()
            self._upcoming_after = now + max(UPCOMING_EVERY, SHARE * (now - begun))
        return self._upcoming
