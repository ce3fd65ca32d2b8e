"""Group commit: each caller awaits its own item, and each commit takes all items that arrived during the last
one.

A lone item is committed immediately. Under load the batches grow automatically.
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
    `apart` apart.

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
    ) -> None:
        self._commit = commit
        self._limit = limit
        self._apart = apart.total_seconds()
        self._waiting: list[Waiting[Item, Result]] = []
        self._runner: asyncio.Task[None] | None = None

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """Put `item` into the next commit and return its result. Cancelling the caller does not withdraw the
        item.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._add(item, future)
        return future

    def put(self, item: Item) -> None:
        """Like `submit`, for callers that don't need the result."""
        self._add(item, None)

    def _add(self, item: Item, future: asyncio.Future[Result] | None) -> None:
        self._waiting.append((item, future))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            while self._waiting:
                began = clock()
                batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
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
