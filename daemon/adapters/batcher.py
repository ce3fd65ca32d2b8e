"""Group commit: each caller awaits its own item, and each commit takes all items that arrived during the last
one.

A lone item is committed immediately. Under load the batches grow automatically. An item that nobody awaits waits a
moment for a batch that goes anyway.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Waiting = tuple[Item, asyncio.Future[Result] | None]


class Batcher(Generic[Item, Result]):
    """Coalesce concurrent `submit` calls into one `commit` of at most `limit` items. Commits start at least
    `apart` apart. `patience`: how long items wait for a commit if no caller awaits one.

    `commit` returns a result per item, in order; a result that is an exception is raised to that item's
    caller only. An exception that `commit` itself raises is raised to every caller of the batch. No caller is
    left waiting, even if the runner is cancelled.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Result | BaseException]]],
        *,
        limit: int,
        apart: timedelta = timedelta(0),
        patience: timedelta = timedelta(0),
    ) -> None:
        self._commit = commit
        self._limit = limit
        self._apart = apart.total_seconds()
        self._patience = patience.total_seconds()
        self._waiting: list[Waiting[Item, Result]] = []  # in the order of their commits
        self._due = False  # they are committed now
        self._runner: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None  # makes them due

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """Put `item` into the next commit and return its result. Cancelling the caller does not withdraw the
        item.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._begin()
        return future

    def put(self, item: Item) -> None:
        """Put `item` into the next commit, for callers that don't need the result. It comes within `patience`."""
        self._waiting.append((item, None))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._patience, self._begin)

    async def flush(self) -> None:
        """Commit what waits now, and return when that is done."""
        self._begin()
        if self._runner is not None:
            await asyncio.wait({self._runner})

    def _begin(self) -> None:
        """Make what waits now due."""
        self._due = bool(self._waiting)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due and self._runner is None:
            self._runner = asyncio.create_task(self._run())

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            while self._due:
                began = clock()
                batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                self._due = bool(self._waiting)
                await self._commit_batch(batch)
                if (early := began + self._apart - clock()) > 0:
                    await asyncio.sleep(early)  # noqa: TID251  nothing is tried again
        except BaseException as end:
            # Cancelled, or the process ends: no later commit would answer the callers that still wait.
            _fail(self._waiting, end)
            self._waiting = []
            raise
        finally:
            self._runner = None

    async def _commit_batch(self, batch: Sequence[Waiting[Item, Result]]) -> None:
        try:
            results = await self._commit([item for item, _ in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"a commit of {len(batch)} items gave {len(results)} results")  # noqa: TRY301  it fails its callers too
        except BaseException as error:  # it is the callers' to handle
            _fail(batch, error)
            if isinstance(error, Exception):
                return
            raise
        for (_, future), result in zip(batch, results, strict=True):
            if future is None or future.done():
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)


def _fail(batch: Iterable[Waiting[Item, Result]], why: BaseException) -> None:
    """Raise `why` to all callers of `batch`. A cancellation of the commit reaches them as an ordinary
    exception, since a CancelledError would make each of them believe that it was cancelled itself.
    """
    for _, future in batch:
        if future is not None and not future.done():
            ordinary = isinstance(why, Exception)
            future.set_exception(why if ordinary else RuntimeError(f"the commit ended early: {why!r}"))
