"""The daemon's composition root: it connects the use case to its adapters."""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta

from daemon import __version__
from daemon.adapters.foreign.cipher import AesGcm
from daemon.adapters.foreign.mirror_memory import MirrorMemory
from daemon.adapters.journal.journal import SqliteJournal
from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.admin.stored_tokens import StoredTokens
from daemon.adapters.mongo.audit import Audit
from daemon.adapters.mongo.connecting.consented_tokens import ConsentedTokens
from daemon.adapters.mongo.connecting.consents import MongoConsents
from daemon.adapters.mongo.connecting.discard_audit import DiscardAudit
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.counting.counter import Counter
from daemon.adapters.mongo.mirror_leases import MirrorLease
from daemon.adapters.mongo.pauses import MongoPauses
from daemon.adapters.mongo.store import MongoStore
from daemon.adapters.mongo.wishes import WishStream
from daemon.adapters.state_files import JOURNAL, MIRRORS
from daemon.adapters.telemetry.event_log import EventLog
from daemon.adapters.telemetry.last_hour import LastHour
from daemon.adapters.telemetry.log_sampling import SampledLog
from daemon.adapters.telemetry.metrics import Metrics
from daemon.adapters.token_endpoint.endpoint import TokenEndpoint
from daemon.adapters.token_endpoint.rate_limiter import LeakyBucket
from daemon.connecting.exchange import CodeExchange
from daemon.domain.claim import Claim
from daemon.domain.due import Timing
from daemon.domain.event import COUNTED_ONLY, Event
from daemon.domain.journal_entry import Entry, ReplayResult
from daemon.domain.mirrored import Shown
from daemon.domain.provider import Provider
from daemon.domain.providers import Providers
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.secret import Secret
from daemon.migrating.mirror import Mirror
from daemon.migrating.write_back import WriteBack
from daemon.refreshing.lane import Lane
from daemon.refreshing.ports import Clients, Endpoint, Journal, Observe, Store
from daemon.refreshing.refresher import Outcome, Refresher
from daemon.refreshing.replay import Replayer
from daemon.refreshing.spare import Spare
from daemon.refreshing.sweep import Sweeper, Tally
from daemon.runtime.clock import Clock
from daemon.runtime.config.providers.provider_settings import most_in_flight
from daemon.runtime.config.settings import RefreshSettings, Settings
from daemon.runtime.jobs.mirrors import MirrorRunner
from daemon.runtime.parts import Keys, Parts
from daemon.runtime.places import open_place
from daemon.runtime.state.instance import Instance


def key_ring(settings: Settings) -> KeyRing:
    return settings.keys.key_ring


def assemble(
    settings: Settings,
    *,
    uri: Secret,
    providers: Providers,
    instance: Instance,
    log: EventLog,
    watch: Observe,
    clients: Clients | None = None,
) -> Parts:
    """Build the daemon's parts. `watch` also observes every event. Raises StoreUriInvalid."""
    clock, keys, tally = Clock(), Keys(key_ring(settings)), Tally()
    metrics = Metrics(providers=(), version=__version__)
    providers.follow(metrics.set_providers)
    last_hour = LastHour(clock.boot)
    sampled = SampledLog(log, boot=clock.boot)

    observe = _observers(metrics, (sampled, tally, last_hour, watch))
    mongo = Mongo(
        uri=uri,
        database=settings.store.database,
        collection=settings.store.collection,
        clock=clock,
        observe=observe,
    )
    refresh = settings.refresh
    store = MongoStore(
        mongo,
        owner=instance.id,
        keyring=keys,
        lease=refresh.lease,
        hold=_hold(refresh),
        max_clock_skew=settings.store.max_clock_skew,
    )
    pauses = MongoPauses(mongo, keyring=keys)
    most = most_in_flight(providers.values(), refresh.concurrency)
    journal = SqliteJournal(instance.directory / JOURNAL, keyring=keys, in_flight=most, now=clock.now)
    endpoint = TokenEndpoint(
        clock=clock,
        timeout=refresh.request_timeout,
        connections=most,
        may_start=lambda: journal.writable,
        proxy=refresh.proxy,
    )
    spare = Spare(refresh.concurrency)
    _reserve(providers, refresh.concurrency, journal, endpoint, spare)
    refresher = _refresher(settings, providers.known, store, journal, endpoint, clock, observe, clients)

    def lane(provider: Provider) -> Lane:
        return Lane(
            provider,
            store=store,
            pauses=pauses,
            rate_limiter=lambda one: LeakyBucket(*one.definition.rates),
            journal=journal,
            refresher=refresher,
            clock=clock,
            observe=observe,
            spare=spare,
        )

    sweeper = Sweeper(
        providers=providers,
        lane=lane,
        store=store,
        journal=journal,
        refresher=refresher,
        clock=clock,
        tally=tally,
        observe=observe,
        period=refresh.sweep_every,
    )
    return Parts(
        clock=clock,
        mongo=mongo,
        journal=journal,
        endpoint=endpoint,
        refresher=refresher,
        sweeper=sweeper,
        metrics=metrics,
        log=sampled,
        counter=Counter(mongo, owner=instance.id),
        wishes=WishStream(mongo, written=lambda: store.written),
        last_hour=last_hour,
        keys=keys,
        observe=observe,
    )


def _observers(metrics: Metrics, others: Sequence[Observe]) -> Observe:
    """Return the observer of everything. What is only counted reaches the metrics alone."""

    def observe(event: Event) -> None:
        metrics(event)
        if type(event) not in COUNTED_ONLY:
            for observer in others:
                observer(event)

    return observe


def _reserve(
    providers: Providers,
    concurrency: int,
    journal: SqliteJournal,
    endpoint: TokenEndpoint,
    spare: Spare,
) -> None:
    """Keep connections, space in the journal and guaranteed shares for as many requests as the providers may have."""

    def reserve(now: Mapping[str, Provider]) -> None:
        most = most_in_flight(now.values(), concurrency)
        journal.allow(most)
        endpoint.allow(most)
        spare.guarantee(now.values())

    providers.follow(reserve)


def code_exchange(
    settings: Settings,
    parts: Parts,
    instance: Instance,
    providers: Providers,
    audit: Audit,
) -> CodeExchange:
    """Build what exchanges authorization codes, and let the sweep replay their replies with it."""
    exchange = CodeExchange(
        providers=providers.known,
        lanes=parts.sweeper.lanes.get,
        consents=MongoConsents(parts.mongo, owner=instance.id, keyring=parts.keys),
        tokens=ConsentedTokens(parts.mongo, parts.keys, audit),
        journal=parts.journal,
        deeds=DiscardAudit(audit),
        endpoint=parts.endpoint,
        clock=parts.clock,
        chance=random.random,
        timing=Timing(window=settings.refresh.window, jitter=settings.refresh.jitter),
        observe=parts.observe,
    )
    parts.sweeper.conclude_consents(exchange.replay)
    return exchange


async def mirrors(
    settings: Settings, parts: Parts, instance: Instance, closing: AsyncExitStack
) -> Sequence[MirrorRunner]:
    """Build the runners of the configured mirrors. Raises SettingsInvalid, SourceLost."""
    runners = []
    for one in settings.mirrors:
        opened = open_place(one.layout, path=one.path, uri=one.uri, keep=one.keep, owner=one.owner)
        place = await closing.enter_async_context(opened)
        tokens = StoredTokens(parts.mongo, parts.keys)
        cipher = AesGcm(one.layout.encryption, one.key) if one.layout.encryption and one.key else None
        write_back = WriteBack(layout=one.layout, place=place, cipher=cipher, digests=tokens, show=one.show)
        memory = MirrorMemory(instance.directory / MIRRORS, place.name) if one.show is Shown.LIVE else None
        mirror = Mirror(write_back, tokens=tokens, memory=memory, providers=one.providers)
        runners.append(
            MirrorRunner(
                one.name,
                mirror,
                may_write=_always
                if one.path
                else MirrorLease(parts.mongo, place.name, owner=instance.id).hold,
                clock=parts.clock,
                observe=parts.observe,
            )
        )
    return runners


async def _always() -> bool:
    return True


def salvager(
    settings: Settings,
    mongo: Mongo,
    journal: SqliteJournal,
    *,
    keys: KeyRing,
    clock: Clock,
    audit: Audit,
    before: Callable[[Entry], Awaitable[None]],
    report: Callable[[Entry, ReplayResult | Exception], None],
) -> Replayer:
    """Takes another instance's journal entries, of configured providers, into the store. `before` is awaited before each is concluded."""
    providers = dict(settings.providers)
    store = MongoStore(
        mongo,
        owner="salvage",  # it claims nothing, so it owns nothing
        keyring=lambda: keys,
        lease=settings.refresh.lease,
        hold=lambda _provider: settings.refresh.adopt_after,
    )
    refresher = _refresher(
        settings, providers, store, journal, _NoEndpoint(clock), clock, lambda _event: None
    )
    exchange = CodeExchange(
        providers=providers,
        lanes=lambda _name: None,
        consents=MongoConsents(mongo, owner="salvage", keyring=lambda: keys),
        tokens=ConsentedTokens(mongo, lambda: keys, audit),
        journal=journal,
        deeds=DiscardAudit(audit),
        endpoint=_NoEndpoint(clock),
        clock=clock,
        chance=random.random,
        timing=Timing(window=settings.refresh.window, jitter=settings.refresh.jitter),
        observe=lambda _event: None,
    )

    async def conclude(claim: Claim, entry: Entry) -> Outcome:
        await before(entry)
        return await refresher.conclude(claim, entry)

    async def conclude_consent(entry: Entry) -> ReplayResult | None:
        await before(entry)
        return await exchange.replay(entry)

    return Replayer(store=store, journal=journal, conclude=conclude, report=report, consent=conclude_consent)


class _NoEndpoint:
    """Fits `refreshing.ports.Endpoint`: a salvage sends nothing. Only the tokens of a late reply for a revoked token would
    be presented, and that is the daemon's work.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def send(self, request: Request, *, deadline: timedelta) -> Reply | NoReply:  # noqa: ARG002
        return NoReply(
            code="salvage",
            message="only a daemon with this journal in its state directory revokes them",
            sent=False,
            ours=True,
            asked_at=self._clock.now(),
        )


def _refresher(
    settings: Settings,
    providers: Mapping[str, Provider],
    store: Store,
    journal: Journal,
    endpoint: Endpoint,
    clock: Clock,
    observe: Observe,
    clients: Clients | None = None,
) -> Refresher:
    """Build the refresher. Here mypy checks that the adapters fit the ports."""
    return Refresher(
        providers=providers,
        store=store,
        journal=journal,
        endpoint=endpoint,
        clock=clock,
        chance=random.random,
        timing=Timing(window=settings.refresh.window, jitter=settings.refresh.jitter),
        observe=observe,
        clients=clients,
    )


def _hold(refresh: RefreshSettings) -> Callable[[Provider], timedelta]:
    """Return how long after a lease's end no other instance may claim its token."""
    retry_within = 2 * refresh.sweep_every + refresh.request_timeout

    def hold(provider: Provider) -> timedelta:
        return provider.adoptable_after(
            lease=refresh.lease, retry_within=retry_within, adopt_after=refresh.adopt_after
        )

    return hold
