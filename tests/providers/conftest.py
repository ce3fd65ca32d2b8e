"""One sandbox for each provider that is spoken to, and the daemon's own way there."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest_asyncio

from daemon.domain.token import Token
from daemon.sandbox import Sandbox, SandboxOptions
from tests.providers import samples
from tests.providers.expectations import ROWS
from tests.providers.row import TOLD
from tests.providers.speaking import Outcome, Speaker
from tests.providers.wire import endpoint

HASTE = timedelta(seconds=1)  # all that hang do so together, so one second is spent


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def speakers() -> AsyncIterator[dict[str, Speaker]]:
    """All rows' speakers, for the whole module."""
    async with AsyncExitStack() as closing:
        through = await closing.enter_async_context(endpoint())
        boxes = {
            name: Sandbox(
                SandboxOptions(
                    name=row.sandbox,
                    lifetime=TOLD,
                    client_id=samples.CLIENT_ID,
                    client_secret=samples.CLIENT_SECRET,
                )
            )
            for name, row in ROWS.items()
        }
        await asyncio.gather(*(sandbox.start() for sandbox in boxes.values()))
        try:
            yield {name: Speaker(row, boxes[name], through) for name, row in ROWS.items()}
        finally:
            await asyncio.gather(*(sandbox.stop() for sandbox in boxes.values()))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hung(speakers: dict[str, Speaker]) -> Mapping[str, tuple[Token, str, Outcome]]:
    """What comes of a request that is taken and never answered, for each provider: all wait at the same time."""
    async with endpoint(HASTE) as hasty:

        async def ask(speaker: Speaker) -> tuple[Token, str, Outcome]:
            token, grant = speaker.consent()
            return token, grant, await speaker.ask(token, through=hasty, kind="hang", after_processing=True)

        outcomes = await asyncio.gather(*map(ask, speakers.values()))
    return dict(zip(speakers, outcomes, strict=True))
