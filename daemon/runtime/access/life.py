"""The life of the access service: start, serve, drain, stop. It may run before, beside and without MongoDB."""

import asyncio
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from uuid import uuid4

from daemon import __version__
from daemon.adapters.mongo.audit import Record
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.embedded_mongod import running_uri
from daemon.adapters.mongo.notifying.outbox import MongoOutbox
from daemon.adapters.mongo.serving.habits import ServedHabits
from daemon.adapters.mongo.serving.remembered_keys import ServedKeys
from daemon.adapters.mongo.serving.tokens import ServedTokens
from daemon.adapters.mongo.serving.uses import ServedUses
from daemon.adapters.state_files import MONGODB, MONGODB_URI
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.access_metrics import AccessMetrics
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.claim import StoreLost
from daemon.domain.event import AnomalyDetected, Event, InternalError
from daemon.domain.secret import Secret
from daemon.notifying.announcer import Announcer
from daemon.runtime.access.addresses import AccessAddresses
from daemon.runtime.access.bootstrap import (
    AccessParts,
    connecting_table,
    doorkeeper_of,
    reading_of,
    writing_table,
)
from daemon.runtime.access.issuers import workloads_of
from daemon.runtime.access.jobs import AccessJobs
from daemon.runtime.access.tls import tls_context
from daemon.runtime.access_web.admin_routes import AdminRoutes
from daemon.runtime.access_web.route_tables import token_table
from daemon.runtime.access_web.routes import Route, Routes
from daemon.runtime.access_web.server import AccessServer
from daemon.runtime.access_web.token_endpoint import TokenEndpoint
from daemon.runtime.access_web.token_exchange import TokenExchange
from daemon.runtime.access_web.token_routes import TokenRoutes
from daemon.runtime.clock import Clock
from daemon.runtime.config.access import AccessSettings
from daemon.runtime.service_manager import ServiceManager
from daemon.runtime.stop_limit import StopLimit
from daemon.runtime.tasks import end
from daemon.serving.anomalies import Anomalies
from daemon.serving.doorkeeper import Caller, Doorkeeper
from daemon.serving.reading import Reading
from daemon.serving.usage import Usage

EMBEDDED_AGAIN = timedelta(milliseconds=200)
DRAIN = timedelta(seconds=10)
STOP_AFTER = DRAIN + timedelta(
    seconds=10
)  # with what is stored afterwards; below TimeoutStopSec= of its unit
PROBES = frozenset({"livez", "readyz", "metrics"})  # routes that no application asks


class AccessService:
    """One process of `refreshd serve`."""

    def __init__(
        self,
        settings: AccessSettings,
        *,
        log: EventLog,
        manager: ServiceManager,
        limit: StopLimit | None = None,
    ) -> None:
        self._settings = settings
        self._log = log
        self._manager = manager
        self._limit = limit
        self._stop = asyncio.Event()
        self._force = asyncio.Event()
        self._polling = False
        self._id = f"serve-{socket.gethostname()}-{uuid4().hex[:12]}"
        self._clock = Clock()
        self._addresses = AccessAddresses(settings, url=lambda: self._server.url)
        self._mongo: Mongo
        self._jobs: AccessJobs
        self._metrics: AccessMetrics

    async def run(self) -> int:
        """Run until a signal. Returns the exit code. Raises PortTaken, OSError, StoreUriInvalid, SslInvalid."""
        self._listen_to_signals()
        async with AsyncExitStack() as closing:
            uri = await self._uri()
            if uri is None:
                return 0
            server, reading = await self._start(uri, closing)
            self._log.log(log_lines.ACCESS_STARTED, version=__version__, instance=self._id, url=server.url)
            if self._settings.with_ring:
                self._log.log(log_lines.ACCESS_WITH_RING)
            self._manager.ready("serving", url=server.url)
            await self._stop.wait()
            self._manager.stopping()
            self._log.log(log_lines.ACCESS_STOPPING)
            reading.stop_waiting()
            drained = await self._drained(server)
            with suppress(StoreLost):
                await self._usage.store()
                await self._anomalies.store()
                await self._announcer.run()
            self._log.log(log_lines.ACCESS_STOPPED, drained=drained)
            return 0 if drained else 1

    async def _drained(self, server: AccessServer) -> bool:
        """Return whether every open request was answered in time, and before a second signal."""
        draining = asyncio.create_task(server.drain(DRAIN))
        forced = asyncio.create_task(self._force.wait())
        await asyncio.wait({draining, forced}, return_when=asyncio.FIRST_COMPLETED)
        forced.cancel()
        if draining.done():
            return draining.result()
        draining.cancel()
        return False

    # ---------------------------------------------------------------- start

    async def _start(self, uri: Secret, closing: AsyncExitStack) -> tuple[AccessServer, Reading]:
        settings, access = self._settings, self._settings.access
        self._log.register_secrets([uri, *([access.bearer_token] if access.bearer_token else [])])
        self._mongo = Mongo(
            uri=uri,
            database=settings.store.database,
            collection=settings.store.collection,
            clock=self._clock,
            observe=self._observe,
        )
        closing.push_async_callback(self._mongo.close)
        outbox = MongoOutbox(self._mongo, routes=lambda: settings.hooks)
        self._announcer = Announcer(outbox, self._clock)
        tokens = ServedTokens(
            self._mongo, offline_for=access.offline_for, without_streams=self._without_streams
        )
        keys = ServedKeys(self._mongo, offline_for=access.offline_for, without_streams=self._without_streams)
        self._usage = Usage(ServedUses(self._mongo, retention=access.audit_reads_retention), self._clock)
        self._anomalies = Anomalies(ServedHabits(self._mongo), self._clock, self._observe)
        self._jobs = AccessJobs(
            self._mongo,
            settings,
            clock=self._clock,
            instance=self._id,
            stored=(
                ("uses", self._usage.store),
                ("anomalies", self._anomalies.store),
                ("events", self._announcer.run),
            ),
            on_prepared=self._reached,
            failed=self._failed,
            log=self._log,
        )
        return await self._serve(tokens, keys, closing)

    async def _serve(
        self, tokens: ServedTokens, keys: ServedKeys, closing: AsyncExitStack
    ) -> tuple[AccessServer, Reading]:
        settings, access = self._settings, self._settings.access
        parts = AccessParts(
            settings=settings,
            mongo=self._mongo,
            clock=self._clock,
            tokens=tokens,
            keys=keys,
            anomalies=self._anomalies,
            usage=self._usage,
            record=self._log_record,
            note=self._note,
        )
        doorkeeper, reading = doorkeeper_of(parts), reading_of(parts)
        endpoint = TokenEndpoint(
            doorkeeper,
            reading,
            self._clock,
            max_wait=access.max_wait,
            providers=settings.definitions.keys,
            note=self._note,
            exchange=await self._exchange(reading, closing),
            refused=lambda problem: self._refused(problem, None),
        )
        table = [
            *self._reading_table(reading, endpoint),
            *writing_table(parts),
            *connecting_table(parts, self._addresses.public_url),
        ]
        server = await self._listening(table, doorkeeper, closing)
        self._keep_running(tokens, keys, closing)
        return server, reading

    async def _exchange(self, reading: Reading, closing: AsyncExitStack) -> TokenExchange | None:
        """Return the exchange of workloads' JWTs, if any issuer is trusted."""
        access = self._settings.access
        if not self._settings.issuers.rules:
            return None
        workloads = await closing.enter_async_context(
            workloads_of(
                self._settings.issuers,
                self._clock,
                log=self._log,
                rate=access.rate,
                count=self._jwt_refused,
                failed=self._anomalies.failed,
            )
        )
        return TokenExchange(workloads, reading, self._clock, max_wait=access.max_wait, note=self._note)

    async def _listening(
        self, table: Sequence[Route], doorkeeper: Doorkeeper, closing: AsyncExitStack
    ) -> AccessServer:
        """Return the server of the applications' routes. A second one serves operators, if it has a port of its own."""
        access = self._settings.access
        admin = AdminRoutes(self, bearer_token=access.bearer_token)
        public = [*table, *admin.public()]
        rules = [one.name for one in self._settings.issuers.rules]
        self._metrics = AccessMetrics({one.name for one in public}, version=__version__, rules=rules)
        self._server = AccessServer(
            Routes(public, doorkeeper, observe=self._answered, refused=self._refused, failed=self._failed),
            host=access.host,
            port=access.port,
            path=self._settings.socket,
            tls=tls_context(self._settings),
            hosts=self._addresses.hosts(),
            trusted_proxies=access.trusted_proxies,
        )
        await self._server.start()
        closing.push_async_callback(self._server.stop)
        if access.admin_port is not None:
            private = AccessServer(
                Routes(
                    admin.private(),
                    doorkeeper,
                    observe=self._metrics.answered,
                    refused=self._refused,
                    failed=self._failed,
                ),
                host="127.0.0.1",
                port=access.admin_port,
                hosts=frozenset({"localhost"}),
            )
            await private.start()
            closing.push_async_callback(private.stop)
        return self._server

    def _keep_running(self, tokens: ServedTokens, keys: ServedKeys, closing: AsyncExitStack) -> None:
        """Begin what happens again and again."""
        pings = self._manager.feed_watchdog(lambda: (True, ""), starved=lambda _detail: None)
        running = (
            ("watchdog", pings),
            ("prepare", self._jobs.prepare()),
            ("hello", self._jobs.say_hello()),
            ("report", self._jobs.report()),
            ("uses", self._jobs.store_uses()),
            ("tokens", tokens.watch()),
            ("keys", keys.watch()),
        )
        closing.push_async_callback(end, *(asyncio.create_task(work, name=name) for name, work in running))

    def _reading_table(self, reading: Reading, endpoint: TokenEndpoint) -> list[Route]:
        routes = TokenRoutes(reading, self._clock, max_wait=self._settings.access.max_wait)
        return token_table(routes, endpoint, base=self._addresses.base, note=self._note)

    def _log_record(self, record: Record) -> None:
        self._log.log(log_lines.AUDIT_RECORDED, **record)

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        # There is no reload, since a restart loses nothing.
        signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        for one in signals:
            loop.add_signal_handler(one, self._signalled)
        if self._limit is not None:
            self._limit.listen(signals)

    def _signalled(self) -> None:
        (self._force if self._stop.is_set() else self._stop).set()

    async def _uri(self) -> Secret | None:
        """Return the URI. An embedded MongoDB is the daemon's: wait for it to run. None: a signal came before."""
        configured = self._settings.store.uri
        if isinstance(configured, Secret):
            return configured
        directory = self._settings.state_dir
        while not self._stop.is_set():
            if uri := running_uri(directory / MONGODB_URI, directory / MONGODB):
                return Secret(uri)
            with suppress(TimeoutError):
                async with asyncio.timeout(EMBEDDED_AGAIN.total_seconds()):
                    await self._stop.wait()
        return None

    # ---------------------------------------------------------------- what is observed

    def _observe(self, event: Event) -> None:
        self._log(event)
        self._metrics(event)
        if isinstance(event, AnomalyDetected):
            self._announcer(event)

    def _reached(self) -> None:
        """MongoDB was reached for the first time."""
        self._metrics.store_answers()

    def _failed(self, where: str, error: Exception) -> None:
        self._observe(InternalError(where=where, error=error))

    def _refused(self, problem: str, caller: Caller | None) -> None:
        self._metrics.refused(problem)
        if caller is not None:
            self._note(caller, None, problem)

    def _note(self, caller: Caller, token: str | None, result: str) -> None:
        """Count the use of a token, or a refused request."""
        self._usage.note(caller, token, result)
        self._anomalies.used(caller, result)

    def _answered(self, route: str, status: int, seconds: float) -> None:
        self._metrics.answered(route, status, seconds)
        if route not in PROBES:
            self._anomalies.answered()

    def _jwt_refused(self, rule: str, reason: str) -> None:
        self._metrics.refused_jwt(rule, reason)

    def _without_streams(self, why: str) -> None:
        if not self._polling:
            self._polling = True
            self._log.log(log_lines.ACCESS_POLLING, message=why)

    # ---------------------------------------------------------------- for the probes

    @property
    def draining(self) -> bool:
        return self._stop.is_set()

    def readiness(self) -> Mapping[str, tuple[bool, str]]:
        """Return for each check whether it passes, and a sentence."""
        up = self._mongo.up and self._jobs.prepared
        return {
            "store": (up, "MongoDB answers" if up else "MongoDB does not answer"),
            "keys": (not self._jobs.wrong, "; ".join(self._jobs.wrong) or "the keys are those of this store"),
        }

    def metrics(self, accept: str) -> tuple[bytes, str]:
        return self._metrics.exposition(accept)
