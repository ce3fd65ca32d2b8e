"""The demo: a sandbox provider in this process and a few tokens of it, so that a newcomer sees renewals
immediately.

Its tokens are written like an application's. The sandbox forgets its grants when it stops, so each start is a
new consent for the same accounts.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.connection import Mongo
from daemon.domain.provider import Provider
from daemon.runtime.config.settings import DemoSettings
from daemon.runtime.demo.provider import PROVIDER, forget_sandbox, provider_of, write_sandbox
from daemon.sandbox import Sandbox, SandboxOptions

GRACE = timedelta(seconds=60)


class Demo:
    """Runs from `start()` to `stop()`. `directory`: the state directory, where commands look for the sandbox."""

    def __init__(self, settings: DemoSettings, *, directory: Path, share: int) -> None:
        self._settings = settings
        self._directory = directory
        self._share = share
        self.filled = asyncio.Event()
        self._sandbox = Sandbox(SandboxOptions(lifetime=settings.lifetime, grace=GRACE))

    async def start(self) -> None:
        """Raises OSError."""
        await self._sandbox.start()
        write_sandbox(self._directory, self._sandbox.describe())

    async def stop(self) -> None:
        forget_sandbox(self._directory)
        await self._sandbox.stop()

    @property
    def providers(self) -> Mapping[str, Provider]:
        """Return the sandbox as a configured provider."""
        return {PROVIDER: provider_of(self._sandbox.describe(), share=self._share)}

    async def fill(self, mongo: Mongo, keyring: KeyRing) -> None:
        """Store one token per demo account, due after half of its first lifetime. Raises StoreLost."""
        now = mongo.clock.now()
        for number, consent in enumerate(self._sandbox.consent(self._settings.tokens), start=1):
            account = f"demo-{number}"
            name = f"{PROVIDER}:{account}"
            fields: dict[str, object] = {
                field: keyring.seal(str(consent[field]), token_id=name, field=field)
                for field in ("access_token", "refresh_token")
            }
            fields |= {
                "state": "active",
                "issued_at": now,
                "expires_at": now + self._settings.lifetime,
                "refresh_expires_at": None,
                "failures": 0,
                "last_failure": None,
                "due_at": now + number * self._settings.lifetime / (2 * self._settings.tokens),  # spread out
            }
            first = {"provider": PROVIDER, "account": account, "revision": 0}
            await mongo.guarded(
                mongo.tokens.update_one({"_id": name}, {"$set": fields, "$setOnInsert": first}, upsert=True)
            )
        self.filled.set()
