"""The life of the daemon: start, sweep, reload, drain, stop."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta

from daemon import __version__
from daemon.adapters.mongo.audit import Audit, Record
from daemon.adapters.mongo.embedded_mongod import EmbeddedMongod
from daemon.adapters.mongo.notifying.waiting_events import MongoTokenEvents
from daemon.adapters.mongo.pause_events import PauseEvents
from daemon.adapters.state_files import MONGODB, MONGODB_URI
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog, loop_errors
from daemon.domain.claim import StoreLost
from daemon.domain.event import (
    Event,
    InternalError,
    ProviderResumed,
    TokenInDoubt,
    TokenRenewed,
)
from daemon.domain.provider import Provider
from daemon.domain.providers import Providers
from daemon.domain.secret import Secret
from daemon.domain.store_event import StoreLost as StoreLostEvent
from daemon.notifying.announcer import Announcer
from daemon.notifying.relay import Relay
from daemon.runtime.bootstrap import assemble, code_exchange, key_ring, mirrors
from daemon.runtime.client_secrets import ClientSecrets
from daemon.runtime.clock import Clock
from daemon.runtime.config.fields import format_duration
from daemon.runtime.config.secret_reading import SecretReader
from daemon.runtime.config.settings import Settings
from daemon.runtime.demo.first_run import FirstRun
from daemon.runtime.housekeeping import Housekeeping
from daemon.runtime.jobs.consents import ConsentFollower
from daemon.runtime.jobs.indexing import Indexing
from daemon.runtime.jobs.key_check import KeyCheck
from daemon.runtime.jobs.mirrors import MirrorRunner
from daemon.runtime.jobs.notifying import Notifying
from daemon.runtime.jobs.own_row import OwnRow
from daemon.runtime.jobs.owner_events import EventFollower
from daemon.runtime.jobs.wishes import WishFollower
from daemon.runtime.own_mongod import revive
from daemon.runtime.parts import Parts
from daemon.runtime.reload_notes import log_secrets
from daemon.runtime.reloader import Reloader
from daemon.runtime.schedule import Schedule
from daemon.runtime.secret_masks import SecretMasks
from daemon.runtime.service_manager import ServiceManager
from daemon.runtime.state.instance import Instance
from daemon.runtime.stop_limit import StopLimit
from daemon.runtime.sweeping import Sweeping
from daemon.runtime.tasks import end
from daemon.runtime.web.server import HealthServer
from daemon.runtime.web.status import DaemonStatus
from daemon.runtime.who import who


class Daemon:
    """One process of refreshd."""

    def __init__(
        self,
        settings: Settings,
        *,
        instance: Instance,
        log: EventLog,
        manager: ServiceManager,
        reload: Callable[[], Settings],
        greet: Callable[[str], None],
        serve: Sequence[str] = (),
        greet_access: Callable[[str], None] = lambda _curl: None,
        reader: SecretReader | None = None,
        limit: StopLimit | None = None,
    ) -> None:
        """`serve`: the command of `refreshd serve`, for the demo. `greet_access` receives a line for curl. `limit`: of the
        stop; None: there is none.
        """
        self._settings = settings
        self._instance = instance
        self._log = log
        self._manager = manager
        self._read = reload
        self._greet = greet
        self._view = DaemonStatus(settings, instance=instance.id)
        self._schedule = Schedule(failed=self._failed_unexpectedly)
        self._demo = FirstRun(settings, instance=instance, log=log, serve=serve, ready=greet_access)
        self._stop = asyncio.Event()
        self._force = asyncio.Event()
        self._limit = limit
        self._mongod: EmbeddedMongod | None = None
        self._announcer: Announcer | None = None  # once the daemon has begun
        self._mirrors: Sequence[MirrorRunner] = ()
        self._reader = reader or SecretReader()
        self._view.secret_sources = lambda: self._reader.up
        self._providers = Providers()
        self._providers.follow(self._view.use)
        self._clients = ClientSecrets(
            self._reader,
            providers=self._providers,
            later=self._read_later,
            changed=self._try_changed_client,
            boot=Clock().boot,
            log=log,
        )
        self._parts: Parts

    async def run(self) -> int:
        """Run until a signal. Returns the exit code: 0, or 1 if the drain was not finished.

        Raises MongodMissing, MongodFailed, StoreUriInvalid, JournalDamaged or PortTaken when it can't start.
        """
        async with AsyncExitStack() as closing:
            await self._start(closing)
            await self._stop.wait()
            self._stopping()
            drained = await self._drain()
            self._parts.log.report_left_out()
            self._log.log(log_lines.DAEMON_STOPPED, drained=drained)
        return 0 if drained else 1

    # ---------------------------------------------------------------- start

    async def _start(self, closing: AsyncExitStack) -> None:
        self._listen_to_signals()
        settings = self._settings
        uri = await self._database(closing)
        demo = await self._demo.start_provider(closing)
        masks = SecretMasks(settings, uri, self._log)
        self._providers.follow(masks.use_providers)
        self._providers.replace({**settings.providers, **demo})
        self._clients.configure(settings.clients)
        parts = assemble(
            settings,
            uri=uri,
            providers=self._providers,
            instance=self._instance,
            log=self._log,
            watch=self._watch,
            clients=self._clients,
        )
        self._parts = self._view.parts = parts
        masks.follow_ring(parts.keys)
        self._compose(demo, masks)
        self._mirrors = self._view.mirrors = await mirrors(settings, parts, self._instance, closing)
        asyncio.get_running_loop().set_exception_handler(loop_errors(parts.observe))
        closing.push_async_callback(parts.mongo.close)
        closing.callback(parts.counter.close)
        closing.push_async_callback(parts.endpoint.close)
        if unusable := await parts.journal.open():
            self._log.log(log_lines.JOURNAL_UNUSABLE, entries=unusable)
        closing.push_async_callback(parts.journal.close)
        self._demo.start_access(parts, self._audit, closing)
        await self._serve_health(closing)
        self._begin(closing)

    def _compose(self, demo: Mapping[str, Provider], masks: SecretMasks) -> None:
        """Build what works beside the sweeps. `demo`: the demo's providers."""
        settings, parts = self._settings, self._parts
        self._key_check = KeyCheck(parts.keys, parts.mongo, self._log)
        self._indexing = Indexing(parts.mongo, self._log, failed=self._failed_unexpectedly)
        self._sweeping = Sweeping(
            parts,
            schedule=self._schedule,
            every=settings.refresh.sweep_every,
            key_check=self._key_check,
            prepare_demo=lambda: self._demo.fill(parts),
            prepared=self._indexing.begin,
            view=self._view,
            manager=self._manager,
            log=self._log,
        )
        self._audit = Audit(parts.mongo, who=who(os.environ), log=self._log_record)
        self._exchange = code_exchange(settings, parts, self._instance, self._providers, self._audit)
        self._own_row = OwnRow(parts.mongo, parts.keys, parts.journal, self._instance, self._log)
        self._reloader = Reloader(
            settings,
            read=self._read,
            take=self._take,
            taken=self._taken,
            providers=self._providers,
            demo=demo,
            clients=self._clients,
            masks=masks,
            audit=self._audit,
            schedule=self._schedule,
            manager=self._manager,
            log=self._log,
        )

    async def _serve_health(self, closing: AsyncExitStack) -> None:
        """Serve probes, metrics and the status page. Raises PortTaken."""
        server = self._settings.server
        self._server = HealthServer(
            self._view,
            host=server.host,
            port=server.port,
            bearer_token=server.bearer_token,
            failed=self._failed_unexpectedly,
        )
        await self._server.start()
        closing.push_async_callback(self._server.stop)

    def _begin(self, closing: AsyncExitStack) -> None:
        """Begin to sweep, and everything beside it."""
        self._view.started(datetime.now(UTC))
        url = f"http://{self._settings.server.host}:{self._server.port}"
        self._log.log(log_lines.DAEMON_STARTED, version=__version__, instance=self._instance.id, url=url)
        self._manager.ready("waiting for MongoDB")
        self._greet(url)
        self._sweeping.plan()
        log_secrets(self._settings, self._log)
        self._reloader.read_missing_soon()
        self._schedule.start()
        closing.callback(self._schedule.close)
        self._revive_mongod(closing)
        self._notify(closing)
        self._keep_house()
        self._run_beside(closing)
        self._view.sweep_begins()  # counted from now, so that a first sweep which never starts is noticed too
        pings = self._manager.feed_watchdog(self._view.liveness, starved=self._starved)
        closing.callback(asyncio.create_task(pings, name="watchdog").cancel)

    def _revive_mongod(self, closing: AsyncExitStack) -> None:
        """Restart refreshd's own MongoDB whenever it dies, if there is one."""
        if self._mongod is None:
            return
        revived = revive(
            self._mongod,
            log=self._log,
            failed=self._failed_unexpectedly,
            every=self._settings.refresh.sweep_every,
        )
        # Ended before the MongoDB is stopped: a restart that is cancelled stops it too.
        closing.push_async_callback(end, asyncio.create_task(revived, name="mongod"))

    def _notify(self, closing: AsyncExitStack) -> None:
        """Build what carries events to the hooks."""
        mongo, observe = self._parts.mongo, self._parts.observe
        self._notifying = self._view.notifying = Notifying(self._parts, log=self._log, ready=self._is_ready)
        closing.push_async_callback(self._notifying.close)
        self._notifying.configure(self._settings.hooks)
        relay = Relay(MongoTokenEvents(mongo), self._notifying, observe=observe)
        self._announcer = Announcer(self._notifying, self._parts.clock, pauses=PauseEvents(mongo))
        self._events = EventFollower(
            relay, self._announcer, indexed=lambda: self._indexing.done, log=self._log, observe=observe
        )

    def _keep_house(self) -> None:
        Housekeeping(
            self._parts,
            schedule=self._schedule,
            view=self._view,
            instance=self._instance.id,
            ready=lambda: self._sweeping.prepared,
            indexed=lambda: self._indexing.done,
            events=self._events,
            keys=self._key_check,
            row=self._own_row,
            log=self._log,
        ).plan()

    def _run_beside(self, closing: AsyncExitStack) -> None:
        """Start the tasks that run until the daemon stops."""
        for mirror in self._mirrors:
            task = asyncio.create_task(mirror.run(self._is_ready), name=f"mirror {mirror.name}")
            closing.callback(task.cancel)
        closing.push_async_callback(end, asyncio.create_task(self._indexing.run(), name="indexing"))
        closing.push_async_callback(end, asyncio.create_task(self._follow_wishes(), name="wishes"))
        closing.push_async_callback(end, asyncio.create_task(self._follow_consents(), name="consents"))
        closing.push_async_callback(end, asyncio.create_task(self._follow_events(), name="events"))

    def _log_record(self, record: Record) -> None:
        self._log.log(log_lines.AUDIT_RECORDED, **record)

    def _starved(self, detail: str) -> None:
        self._log.log(
            log_lines.WATCHDOG_STARVED,
            detail=detail,
        )

    async def _database(self, closing: AsyncExitStack) -> Secret:
        """Return the URI to use. If it is embedded, start refreshd's own MongoDB, and restart it if it
        dies.
        """
        configured = self._settings.store.uri
        if isinstance(configured, Secret):
            return configured
        directory = self._instance.directory
        mongod = EmbeddedMongod(data_dir=directory / MONGODB, uri_file=directory / MONGODB_URI)
        uri = await mongod.start()
        closing.push_async_callback(mongod.stop)
        self._mongod = mongod
        return Secret(uri)

    # ---------------------------------------------------------------- what happens again and again

    def _failed_unexpectedly(self, where: str, error: Exception) -> None:
        """Report the error that ended a periodic job. A lost store isn't a bug: it has reported itself."""
        if not isinstance(error, StoreLost):
            self._parts.observe(InternalError(where=where, error=error))

    async def _follow_wishes(self) -> None:
        """Renew what applications ask for, until cancelled."""
        parts = self._parts
        follower = WishFollower(
            parts.wishes, renew=self._renew, clock=parts.clock, log=self._log, observe=parts.observe
        )
        await follower.run(self._is_ready)

    async def _follow_consents(self) -> None:
        """Exchange the authorization codes that wait, until cancelled."""
        follower = ConsentFollower(self._exchange, log=self._log, observe=self._parts.observe)
        await follower.run(
            lambda: self._is_ready() and self._indexing.done, lambda: self._parts.sweeper.lanes
        )

    async def _follow_events(self) -> None:
        """Relay the events of tokens into the outbox, until cancelled."""
        await self._events.run(self._is_ready)

    def _renew(self, tokens: Collection[str]) -> None:
        if self._is_ready():
            self._parts.sweeper.wish(tokens)

    def _is_ready(self) -> bool:
        return self._sweeping.is_ready

    def _watch(self, event: Event) -> None:
        """Plan a sweep after an event that may also come while none runs, or long before a running one ends."""
        for mirror in self._mirrors:
            mirror(event)
        if type(event) is TokenRenewed:
            return  # nearly every event is one, and it concerns nobody else here
        self._view(event)
        if self._announcer is not None:
            self._announcer(event)
        if isinstance(event, TokenInDoubt):
            self._sweeping.after_doubt(event.due_at)
        elif isinstance(event, StoreLostEvent):
            self._sweeping.retry_soon(event.message)
        elif isinstance(event, ProviderResumed):
            self._clients.hurry(event.provider)

    # ---------------------------------------------------------------- signals

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._asked_to_reload)
        if self._limit is not None:
            self._limit.listen()

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            self._force.set()
        self._stop.set()

    def _asked_to_reload(self) -> None:
        self._schedule.once(timedelta(0), self._reload, name="reload")  # not before the daemon has begun

    async def _reload(self) -> None:
        await self._reloader.reload()

    async def _take(self, fresh: Settings) -> bool:
        """Use a reload's bearer token, keys and hooks. Returns False if the daemon stops."""
        self._server.set_bearer_token(fresh.server.bearer_token)
        await self._key_check.offer(key_ring(fresh))
        if self._stop.is_set():
            return False
        self._notifying.configure(fresh.hooks)
        self._view.keys = fresh.keys
        return True

    async def _taken(self) -> None:
        """Let the other instances read which keys this one has now."""
        if self._sweeping.prepared:
            with suppress(StoreLost):  # it has reported itself, and the row is written every minute
                await self._own_row.write()

    def _try_changed_client(self) -> None:
        self._sweeping.also(timedelta(0), name="client")

    def _read_later(self, after: timedelta, read: Callable[[], Awaitable[None]]) -> None:
        self._schedule.once(after, read, name="client_secrets")

    # ---------------------------------------------------------------- stop

    def _stopping(self) -> None:
        """Announce the stop before the drain begins, so that clients can send work and probes elsewhere."""
        self._manager.stopping()
        self._view.draining = True
        in_flight = sum(len(lane.in_flight) for lane in self._parts.sweeper.lanes.values())
        drain = format_duration(self._settings.refresh.drain)
        self._log.log(log_lines.DAEMON_STOPPING, in_flight=in_flight, drain=drain)

    async def _drain(self) -> bool:
        """Start nothing new and let requests in flight be recorded. Returns False at the time limit or after
        a second signal.
        """
        self._schedule.stop()
        drain = asyncio.create_task(self._drained(), name="drain")
        force = asyncio.create_task(self._force.wait(), name="force")
        limit = self._settings.refresh.drain.total_seconds()
        await asyncio.wait({drain, force}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        force.cancel()
        return drain.done()

    async def _drained(self) -> None:
        await self._parts.sweeper.drain()
        await self._exchange.ended()
