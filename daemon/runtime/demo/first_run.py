"""The demo within the life of the daemon: its provider, its tokens and its access service, if the configuration has one."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack

from daemon.adapters.mongo.admin.access_keys import AccessKeys
from daemon.adapters.mongo.audit import Audit
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.provider import Provider
from daemon.runtime.config.settings import Settings
from daemon.runtime.demo.access import DemoAccess
from daemon.runtime.demo.tokens import Demo
from daemon.runtime.parts import Parts
from daemon.runtime.state.instance import Instance


class FirstRun:
    """Does nothing without a demo. `serve`: the command of `refreshd serve`; without it, no access service is started.
    `ready` receives a line for curl.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        instance: Instance,
        log: EventLog,
        serve: Sequence[str],
        ready: Callable[[str], None],
    ) -> None:
        demo, directory = settings.demo, instance.directory
        self._demo = (
            Demo(demo, directory=directory, share=settings.refresh.concurrency) if demo.enabled else None
        )
        self._access = (
            DemoAccess(serve, directory=directory, log=log, ready=ready) if self._demo and serve else None
        )

    async def start_provider(self, closing: AsyncExitStack) -> Mapping[str, Provider]:
        """Start the demo's provider. Returns its configuration. Raises OSError."""
        if self._demo is None:
            return {}
        await self._demo.start()
        closing.push_async_callback(self._demo.stop)
        return self._demo.providers

    async def fill(self, parts: Parts) -> None:
        """Store the demo's tokens. Raises StoreLost."""
        if self._demo is not None:
            await self._demo.fill(parts.mongo, parts.keys.ring)

    def start_access(self, parts: Parts, audit: Audit, closing: AsyncExitStack) -> None:
        """Start the access service as soon as the tokens are stored."""
        if self._demo is None or self._access is None:
            return
        keys = AccessKeys(parts.mongo, audit)
        self._access.start(keys, lambda: parts.keys.ring, now=parts.clock.now, filled=self._demo.filled)
        closing.push_async_callback(self._access.stop)
