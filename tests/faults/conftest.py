"""What the fault tests share: stages, closed when their test ends."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.sandbox import Sandbox, SandboxOptions
from tests.faults.stage import Stage

MakeStage = Callable[..., Awaitable[Stage]]


@pytest.fixture
async def stage(mongod: str, database_name: str, tmp_path: Path) -> AsyncIterator[MakeStage]:
    """`await stage(grace=..., lifetime=..., latency=..., sweep_every="1s")`: the strictest provider unless told."""
    async with AsyncExitStack() as closing:

        async def make(
            *,
            grace: timedelta = timedelta(),
            lifetime: timedelta = timedelta(minutes=10),
            latency: timedelta = timedelta(),
            **refresh: str,
        ) -> Stage:
            options = SandboxOptions(grace=grace, lifetime=lifetime, latency=latency)
            sandbox = await closing.enter_async_context(Sandbox(options))
            made = Stage(tmp_path, uri=mongod, database=database_name, sandbox=sandbox, **refresh)
            closing.push_async_callback(made.close)
            return made

        yield make
