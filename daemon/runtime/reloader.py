"""The configuration while the daemon runs: a reload at a signal, and another attempt for secrets that have not come."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from daemon.adapters.mongo.audit import Audit
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.provider import Provider
from daemon.domain.providers import Providers
from daemon.runtime.awaiting_secrets import retry_after
from daemon.runtime.client_secrets import ClientSecrets
from daemon.runtime.config.problems import SecretsAway
from daemon.runtime.config.reload import moved_urls, needs_restart, unresolved, with_former_clients
from daemon.runtime.config.settings import Settings, SettingsInvalid
from daemon.runtime.reload_notes import log_secrets, note_moved
from daemon.runtime.schedule import Schedule
from daemon.runtime.secret_masks import SecretMasks
from daemon.runtime.service_manager import ServiceManager


class Reloader:
    """Takes over secrets, keys, providers, hooks and the log level from a changed configuration."""

    def __init__(
        self,
        settings: Settings,
        *,
        read: Callable[[], Settings],
        take: Callable[[Settings], Awaitable[bool]],
        taken: Callable[[], Awaitable[None]],
        providers: Providers,
        demo: Mapping[str, Provider],
        clients: ClientSecrets,
        masks: SecretMasks,
        audit: Audit,
        schedule: Schedule,
        manager: ServiceManager,
        log: EventLog,
    ) -> None:
        """`take` puts everything but providers, clients and the log level into use. It returns False if the daemon stops: the
        lanes must not go on then. `taken` is awaited when all of it is in use. The providers of `demo` are in use besides
        the configured ones.
        """
        self._settings = settings
        self._read = read
        self._take = take
        self._taken = taken
        self._providers = providers
        self._demo = demo
        self._clients = clients
        self._masks = masks
        self._audit = audit
        self._schedule = schedule
        self._manager = manager
        self._log = log
        self._reloading = asyncio.Lock()
        # Places whose secrets the last reload has left as they were, since their sources were away.
        self._unresolved: frozenset[str] = frozenset()
        self._unread = 0  # attempts in a row that left a secret unread

    async def reload(self) -> None:
        """Read the configuration and take it over, unless it is invalid or lacks secrets of the daemon."""
        try:
            await self._reload()
        finally:
            self.read_missing_soon()

    async def _reload(self) -> None:
        async with self._reloading:
            with self._manager.reloading():
                if (fresh := await self._fresh()) is not None:
                    await self._take_over(fresh)

    async def _fresh(self) -> Settings | None:
        """Return the current configuration, or log why it can't be used and return None.

        It is read in a thread, so that renewals and probes go on: many providers take seconds.
        """
        try:
            return await asyncio.to_thread(self._read_masked)
        except SettingsInvalid as refused:
            self._log.register_places(problem.where for problem in refused.problems)
            found = [f"{problem.where}: {problem.what}" for problem in refused.problems]
        except SecretsAway as refused:
            self._log.register_places(one.where for one in refused.waiting)
            found = [f"{one.where}: {one.what}" for one in refused.waiting]
            self._unresolved = frozenset(one.where for one in refused.waiting)
        self._log.log(log_lines.RELOAD_REFUSED, problems=found)
        return None

    async def _take_over(self, fresh: Settings) -> None:
        """Use what a running process can take over, and report other changes, which need a restart."""
        self._unresolved = unresolved(fresh)
        log_secrets(fresh, self._log)
        self._log.set_level(fresh.log.level.value)
        if not await self._take(fresh):
            return
        former = dict(self._providers)
        fresh = with_former_clients(fresh, former)
        self._clients.configure(fresh.clients)
        self._providers.replace({**fresh.providers, **self._demo})
        await self._taken()
        await note_moved(moved_urls(former, self._providers), self._audit, self._log)
        self._log.log(log_lines.RELOAD_DONE, restart_needed_for=needs_restart(self._settings, fresh))
        self._settings = replace(
            self._settings,
            providers=fresh.providers,
            hooks=fresh.hooks,
            log=fresh.log,
            keys=fresh.keys,
            server=replace(self._settings.server, bearer_token=fresh.server.bearer_token),
            clients=fresh.clients,
        )
        self._masks.use(self._settings)

    def _read_masked(self) -> Settings:
        """Read the current configuration. The log masks its secrets before anything of it is used."""
        fresh = self._read()
        self._masks.read(fresh)
        return fresh

    # ---------------------------------------------------------------- secrets that come late

    def read_missing_soon(self) -> None:
        """Plan another attempt for the secrets that have not come, if there are any."""
        if self._clients.lacking or self._unresolved:
            self._schedule.once(retry_after(self._unread), self._read_missing, name="secrets")
            self._unread += 1
        else:
            self._unread = 0

    async def _read_missing(self) -> None:
        try:
            await self._clients.read_missing()
            if bool(self._unresolved) and await asyncio.to_thread(self._would_change):
                await self._reload()
        finally:
            self.read_missing_soon()

    def _would_change(self) -> bool:
        """Return whether a reload would find other secrets than the last one, or a problem for an operator."""
        try:
            fresh = self._read()
        except SecretsAway:
            return False
        except SettingsInvalid:
            return True
        return unresolved(fresh) != self._unresolved
