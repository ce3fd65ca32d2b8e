"""The end of tasks that run until they are cancelled."""

import asyncio
from datetime import timedelta
from typing import Any

CANCEL_AGAIN = timedelta(milliseconds=200)


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks, and wait until they have let go of what they use.

    Up to Python 3.11, `asyncio.wait_for` can swallow a cancellation that comes at the moment of the result, and PyMongo
    uses it. So each task is cancelled until it ends.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN.total_seconds())
