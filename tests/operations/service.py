"""refreshd as a service of a booted machine: its configuration and credentials, a provider, and the tokens of both."""

import asyncio
import time
from collections.abc import Callable

from tests.faults.stage import Stage
from tests.operations.booted import PATIENCE, POLL_EVERY, Machine

UNIT = "refreshd.service"


class Place:
    """The machine with refreshd on it, and a provider. `secrets` is what the credentials hold."""

    def __init__(self, machine: Machine, scene: Stage) -> None:
        self.machine, self.scene = machine, scene
        place = scene.install(concurrency=16)
        provider, store, keys = (place.tables[name] for name in ("providers.sandbox", "store", "keys"))
        self.secrets = {
            "key-2026-11": keys["ring"]["e2e"],
            "mongodb-uri": store["uri"],
            "xero-secret": provider["client_secret"],
        }
        self._config = place
        place.config = machine.etc / "config.toml"
        place.configure(
            {
                **{name: table for name, table in place.tables.items() if name != "state"},
                "store": {**store, "uri": {"credential": "mongodb-uri"}},
                "keys": {"active": "e2e", "ring": {"e2e": {"credential": "key-2026-11"}}},
                "providers.sandbox": {**provider, "client_secret": {"credential": "xero-secret"}},
            }
        )
        (machine.etc / "credentials").mkdir(mode=0o700, exist_ok=True)
        for name, secret in self.secrets.items():
            self.keep(name, secret)

    def keep(self, name: str, secret: str) -> None:
        file = self.machine.etc / "credentials" / name
        file.touch(mode=0o600)
        file.write_text(f"{secret}\n")

    def configure(self, section: str, **keys: object) -> None:
        """Write the file anew, with these keys in that section."""
        tables = self._config.tables
        self._config.configure({**tables, section: {**tables[section], **keys}})

    async def shows(self, name: str) -> str:
        return await self.machine.shows(UNIT, name)

    async def start(self) -> int:
        """Returns the pid of the daemon, once systemd takes it for ready and it is."""
        await self.machine.systemctl("start", UNIT)
        await self.machine.until(UNIT, "StatusText", "sweeping")
        return int(await self.shows("MainPID"))

    async def kill(self, signal: str) -> None:
        """To the main process alone, as `kill` would."""
        await self.machine.systemctl("kill", "--kill-whom=main", f"--signal={signal}", UNIT)

    async def restarted(self, times: int) -> None:
        """Wait until systemd has started it again so often, and it is ready."""
        await self.machine.until(UNIT, "NRestarts", str(times))
        await self.machine.until(UNIT, "ActiveState", "active")

    async def renewed(self) -> None:
        """Have every token renewed; then nothing may differ from what the provider knows."""
        await self.scene.renew_all(within=PATIENCE)
        assert await self.scene.differing() == []
        assert self.scene.revoked() == []

    async def told(self, text: str) -> None:
        """Wait until the notifier that OnFailure= starts has said so, in the journal."""
        limit = time.monotonic() + PATIENCE.total_seconds()
        while text not in (
            said := await self.machine.journal("--identifier=refreshd-failed", "--priority=alert")
        ):
            assert time.monotonic() < limit, f"not told: {said}\n{await self.machine.journal()}"
            await asyncio.sleep(POLL_EVERY.total_seconds())
        assert f"{UNIT} has failed and stays down" in said

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds that is not the machine's to tell."""
        limit = time.monotonic() + PATIENCE.total_seconds()
        while not holds():
            assert time.monotonic() < limit, f"it never came\n{await self.machine.journal()}"
            await asyncio.sleep(POLL_EVERY.total_seconds())
