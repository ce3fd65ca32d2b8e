"""A running sandbox and a client that speaks to it over a real socket."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from daemon.sandbox import Sandbox, SandboxOptions

SECRET = "s p+c/ia:l%é"


class Peer:
    """What the tests do to one sandbox, in one word each."""

    def __init__(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self.session = session

    async def refresh(self, token: str) -> tuple[int, Any]:
        async with self.ask(token) as reply:
            return reply.status, await reply.json()

    def ask(self, token: str, **form: str) -> Any:
        """A refresh request whose reply, or lack of one, the test looks at itself."""
        return self.session.post(
            self.sandbox.token_url,
            data={
                "grant_type": "refresh_token",
                "refresh_token": token,
                "client_id": self.sandbox.client_id,
                "client_secret": self.sandbox.client_secret,
                **form,
            },
        )

    async def consent(self) -> tuple[str, str]:
        """A new grant: its ledger id and its refresh token."""
        [reply] = await self.call("POST", "/grants?n=1")
        return reply["grant"], reply["refresh_token"]

    async def ledger(self, grant: str) -> Any:
        return await self.call("GET", f"/ledger?grant={grant}")

    async def fault(self, **wish: object) -> Any:
        return await self.call("PUT", "/faults", json=wish)

    async def call(self, method: str, path: str, *, status: int = 200, **kwargs: Any) -> Any:
        async with self.session.request(method, self.sandbox.url + path, **kwargs) as reply:
            assert reply.status == status, await reply.text()
            return await reply.json()


StartSandbox = Callable[..., Awaitable[Peer]]


@pytest.fixture
async def start_sandbox() -> AsyncIterator[StartSandbox]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        )

        async def start(**options: Any) -> Peer:
            chosen = SandboxOptions(**{"client_secret": SECRET, **options})
            return Peer(await stack.enter_async_context(Sandbox(chosen)), session)

        yield start


@pytest.fixture
async def peer(start_sandbox: StartSandbox) -> Peer:
    """Strict: no grace, reuse revokes."""
    return await start_sandbox()
