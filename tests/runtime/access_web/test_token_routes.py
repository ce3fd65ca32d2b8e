"""A token by HTTP: what its answer says of where it came from."""

from datetime import timedelta

import aiohttp
import pytest
from aiohttp import web

from daemon.runtime.access_web.asked import Asked
from daemon.runtime.access_web.server import AccessServer
from daemon.runtime.access_web.token_routes import TokenRoutes
from daemon.serving.doorkeeper import Caller
from tests.serving.fakes import World, token
from tests.serving.test_reading import reading


@pytest.mark.parametrize(("away", "served_from"), [(False, None), (True, "memory")])
async def test_a_confirmation_says_that_it_comes_from_memory(away: bool, served_from: str | None):
    """A client that keeps the token by its ETag must see an outage as well as one that fetches it."""
    world = World()
    world.store(token())
    _, key = world.key()
    routes = TokenRoutes(reading(world), world.clock, max_wait=timedelta(0))

    async def handle(asked: Asked) -> web.Response:
        return await routes.get(asked, Caller(key=key, address=asked.address), "acme:me")

    server = AccessServer(handle, host="127.0.0.1", port=0)
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(server.url) as first:
                tag = first.headers["ETag"]
            world.away = away
            for headers, status in (({}, 200), ({"If-None-Match": tag}, 304)):
                async with session.get(server.url, headers=headers) as answer:
                    assert answer.status == status
                    assert answer.headers["ETag"] == tag
                    assert answer.headers.get("Refreshd-Served-From") == served_from
    finally:
        await server.stop()
