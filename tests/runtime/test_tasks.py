"""The end of tasks."""

import asyncio

from daemon.runtime.tasks import end


async def test_a_task_that_swallows_a_cancellation_ends_all_the_same():
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 2:
                    raise

    async def failing() -> None:
        raise ValueError

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(failing())]
    await asyncio.sleep(0)
    await asyncio.wait_for(end(*tasks), 5)
    assert tasks[0].cancelled()
    assert isinstance(tasks[1].exception(), ValueError)
    assert swallowed == 3
