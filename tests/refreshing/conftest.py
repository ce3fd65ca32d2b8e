"""A world in memory for each test, and complaints that nobody expected are failures."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from daemon.domain.provider import Provider
from tests.refreshing.fakes import World


@pytest.fixture
async def complaints() -> AsyncIterator[list[str]]:
    """What was said to the loop's exception handler. A test that expects some takes them out."""
    said: list[str] = []
    loop = asyncio.get_running_loop()

    def listen(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        said.append(f"{context['message']}: {context.get('exception')!r}")

    loop.set_exception_handler(listen)
    yield said
    loop.set_exception_handler(None)
    assert said == []


@pytest.fixture
def world(complaints: list[str]) -> World:
    """With one provider, acme, that may have four in flight."""
    return World()


@pytest.fixture
def world_of(complaints: list[str]) -> Callable[..., World]:
    def made(*providers: Provider, **more: Any) -> World:
        return World(providers=list(providers), **more)

    return made
