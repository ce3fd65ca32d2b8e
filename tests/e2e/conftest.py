"""What end-to-end tests share: installations of refreshd on a database of their own, and a server to point them at."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from tests.e2e.daemon_process import Install, Installation, Table
from tests.e2e.oauth_server.foreign_server import ForeignServer, StartServer


@pytest.fixture
def install(mongod: str, database_name: str, tmp_path: Path) -> Install:
    """Makes installations: all of one test share the database and the key, so a second one is a replica."""
    made: list[Installation] = []

    def installation(providers: Mapping[str, Table], **sections: Table) -> Installation:
        made.append(
            Installation(
                tmp_path / f"installation-{len(made)}",
                uri=mongod,
                database=database_name,
                providers=providers,
                key=made[0].key if made else None,
                **sections,
            )
        )
        return made[-1]

    return installation


@pytest.fixture
async def foreign_server(tmp_path: Path) -> AsyncIterator[StartServer]:
    """Starts django-oauth-toolkit: `await foreign_server(lifetime=..., consents=...)`."""
    async with AsyncExitStack() as running:

        async def start(*, lifetime: timedelta, consents: int, redirect_uri: str = "") -> ForeignServer:
            directory = tmp_path / "server"
            directory.mkdir()
            server = ForeignServer(directory, lifetime=lifetime, consents=consents, redirect_uri=redirect_uri)
            return await running.enter_async_context(server)

        yield start
