"""The time before the daemon, in which secrets that it can't work without have not come: alive, and not ready."""

import asyncio
import secrets
import signal
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from daemon import __version__
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.adapters.telemetry.metrics import Metrics
from daemon.domain.secret import Secret
from daemon.runtime.config.problems import SecretsAway, SettingsInvalid, Waiting
from daemon.runtime.config.settings import Settings
from daemon.runtime.service_manager import ServiceManager
from daemon.runtime.stop_limit import StopLimit
from daemon.runtime.web.server import HealthServer
from daemon.runtime.web.status import Check, DaemonStatus

RETRY, LAST_RETRY = timedelta(seconds=1), timedelta(seconds=30)  # doubled each time

Kind = TypeVar("Kind")  # of settings


def retry_after(failures: int) -> timedelta:
    """Return how long to wait after so many failures in a row."""
    return min(RETRY * (1 << min(failures, 10)), LAST_RETRY)


class AwaitingStatus(DaemonStatus):
    """The daemon's status while it waits for secrets."""

    def __init__(self, settings: Settings, sources: Callable[[], Mapping[str, bool]]) -> None:
        super().__init__(settings, instance="")
        self._waiting: Sequence[Waiting] = ()
        self._sources = sources
        self._metrics = Metrics(providers=(), version=__version__)
        self.started(datetime.now(UTC))

    def note(self, waiting: Sequence[Waiting]) -> None:
        """Show that these have not come."""
        self._waiting = waiting

    def _secrets(self) -> Check:
        return False, "; ".join(f"{one.where}: {one.what}" for one in self._waiting)

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        self._metrics.set_secret_sources(self._sources())
        return self._metrics.expose(accept)


async def wait_for_secrets(
    away: SecretsAway,
    read: Callable[[], Settings],
    *,
    sources: Callable[[], Mapping[str, bool]],
    log: EventLog,
    manager: ServiceManager,
    limit: StopLimit | None = None,
) -> Settings | None:
    """Read again until every secret of the daemon has come, and serve probes while that takes. Returns the settings,
    or None after a signal to stop.

    SIGHUP reads again immediately. If the configuration becomes invalid in between, that is logged, and the wait goes
    on. Raises PortTaken, OSError.
    """
    assert away.settings is not None  # noqa: S101  the daemon's own
    server_settings = away.settings.server
    status = AwaitingStatus(away.settings, sources)
    token = server_settings.bearer_token
    if token is not None and not token:
        token = Secret(secrets.token_urlsafe(32))  # the right one has not come, so no token is right
    server = HealthServer(status, host=server_settings.host, port=server_settings.port, bearer_token=token)
    await server.start()
    try:
        return await wait_without_listener(
            away, read, log=log, manager=manager, note=status.note, limit=limit
        )
    finally:
        await server.stop()


async def wait_without_listener(
    away: SecretsAway,
    read: Callable[[], Kind],
    *,
    log: EventLog,
    manager: ServiceManager,
    note: Callable[[Sequence[Waiting]], None] = lambda _waiting: None,
    limit: StopLimit | None = None,
) -> Kind | None:
    """The same for a process that serves nothing before it has its secrets. `note` receives those that have not come.
    `limit`: of the stop, since a source may never answer.
    """
    stop, again = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, again.set)
    if limit is not None:
        limit.listen()
    pings = asyncio.create_task(manager.feed_watchdog(_alive, starved=lambda _detail: None))
    try:
        manager.ready("waiting for secrets")
        return await _until_read(away, read, note, log, stop, again)
    finally:
        pings.cancel()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the daemon listens to it


def _alive() -> Check:
    return True, "waiting for secrets"


async def _until_read(
    away: SecretsAway,
    read: Callable[[], Kind],
    note: Callable[[Sequence[Waiting]], None],
    log: EventLog,
    stop: asyncio.Event,
    again: asyncio.Event,
) -> Kind | None:
    logged: set[Waiting] = set()
    failures = 0
    while True:
        for one in away.waiting:
            if one not in logged:
                log.log(log_lines.SECRET_AWAY, place=one.where, source=one.source, message=one.why)
        logged = set(away.waiting)
        note(away.waiting)
        await _first(stop, again, within=retry_after(failures))
        if stop.is_set():
            return None
        failures = 0 if again.is_set() else failures + 1
        again.clear()
        try:
            return await asyncio.to_thread(read)
        except SecretsAway as still:
            away = still
        except SettingsInvalid as invalid:
            log.register_places(problem.where for problem in invalid.problems)
            problems = [f"{problem.where}: {problem.what}" for problem in invalid.problems]
            log.log(log_lines.RELOAD_REFUSED, problems=problems)


async def _first(*events: asyncio.Event, within: timedelta) -> None:
    """Wait until one of `events` is set, at most for `within`."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=within.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
