"""Prometheus metrics. They subscribe to events; the code that emits the events does not depend on them.

Events only add to plain numbers, which is cheap enough to do for every token. Each scrape builds the series
from those numbers and from the last known facts about the store. A series that an alert needs at zero exists
from the start, every other one from its first count on.

No label ever contains an account, a token id, or text from a document.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from daemon.adapters.telemetry.hook_metrics import HookMetrics
from daemon.adapters.telemetry.metric_families import (
    UNKNOWN,
    Seen,
    anomalies,
    counter,
    gauge,
    gauges,
    label_value,
)
from daemon.adapters.telemetry.mirror_metrics import MirrorMetrics
from daemon.adapters.telemetry.provider_counts import ProviderCounts
from daemon.adapters.telemetry.store_gauges import StoreGauges
from daemon.adapters.telemetry.subscriptions import Subscriptions, on
from daemon.domain.anomaly import OF_DAEMON
from daemon.domain.circuit_breaker import Reason
from daemon.domain.event import (
    AnomalyDetected,
    ConsentFailed,
    Event,
    InternalError,
    JournalReplayed,
    ProviderPaused,
    ProviderResumed,
    SweepFailed,
    SweepFinished,
    TokenConnected,
    TokenEnding,
    TokenHeld,
    TokenScheduled,
)
from daemon.domain.journal_entry import EntryState, ReplayResult
from daemon.domain.statistics import Statistics
from daemon.domain.store_event import StoreBack, StoreLost

PAUSE_REASONS = tuple(reason.value for reason in Reason)
REPLAY_RESULTS = (ReplayResult.RECORDED, ReplayResult.SUPERSEDED, ReplayResult.UNPARSED)
WHERES = (
    "refresh",
    "lane",
    "sweep",
    "replay",
    "in_doubt",
    "lost",
    "count",
    "repair",
    "report",
    "reload",
    "mirror",
    "hook",
    "wishes",
    "events",
    "mongod",
    "http",
    "loop",
)  # else `unknown`: a series that starts at its first error shows no increase
JOURNAL_STATES = tuple(EntryState)
# Older figures would pass for today's. Ten million tokens are counted about once an hour, which is shown for up to two.
COUNT_KEPT, LOOK_KEPT = timedelta(hours=6), timedelta(hours=1)
OPENMETRICS = "application/openmetrics-text"
_END = b"# EOF\n"  # of an exposition in OpenMetrics
# The statistics count these over the whole store, or they are lines of the log alone.
UNCOUNTED: frozenset[type] = frozenset(
    {TokenHeld, TokenEnding, TokenScheduled, TokenConnected, ConsentFailed}
)


class _One:
    """A registry of one family, for the library's encoders."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


class Metrics(Collector):
    """Subscribes to events, receives the facts that only the store or the clock has, and exposes all of
    it.
    """

    def __init__(self, *, providers: Iterable[str], version: str) -> None:
        self._version = version
        self.hooks = HookMetrics()
        self.mirrors = MirrorMetrics()
        self._counts = ProviderCounts(providers)
        self._store = StoreGauges()
        self._store.set_providers(self._names)
        self._paused_rows = Seen((UNKNOWN, reason) for reason in PAUSE_REASONS)
        self._sweeps = {"ok": 0, "failed": 0}
        self._replayed = dict.fromkeys(REPLAY_RESULTS, 0)
        self._internal_errors = dict.fromkeys((*WHERES, UNKNOWN), 0)
        self._anomalies = dict.fromkeys(OF_DAEMON, 0)
        self._last_sweep_success: datetime | None = None
        self._statistics: Statistics | None = None
        self._count_age = self._look_age = timedelta(0)
        self._paused: dict[str, str] = {}
        self._pauses_since: dict[str, str | None] = {}  # by events after the last look; None: resumed
        self._journal_entries = 0
        self._journal_bytes: Mapping[str, int] = {}
        self._clock_skew: timedelta | None = None
        self._key_ages: Mapping[str, timedelta | None] = {}
        self._secret_ages: Mapping[str, timedelta] = {}
        self._max_age: timedelta | None = None
        self._store_up = False
        self._secret_sources: Mapping[str, bool] = {}
        self.takers: Subscriptions = {
            **self._counts.subscriptions(),
            **self.hooks.subscriptions(),
            **self.mirrors.subscriptions(),
            **self._subscriptions(),
        }
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    @property
    def _names(self) -> frozenset[str]:
        return frozenset(self._counts.names)

    def set_providers(self, names: Iterable[str]) -> None:
        """Set the configured names. Besides `unknown`, `other` and names that were configured before, they are the only values of
        a provider label.

        Of a removed provider only its counters remain.
        """
        before = self._names
        self._counts.set_providers(names)
        known = self._names
        self._store.set_providers(known)
        for name in before - known:
            self._paused.pop(name, None)
            self._pauses_since.pop(name, None)
        self._paused_rows.keep(lambda row: row[0] in known)

    def set_statistics(self, statistics: Statistics) -> None:
        before, self._statistics = self._statistics, statistics
        self._count_age = self._look_age = timedelta(0)
        if before is None or before.looked_at != statistics.looked_at or statistics.looked_at is None:
            self._paused = dict(statistics.paused)
            for name, reason in self._pauses_since.items():
                self._set_pause(name, reason)  # the look may have begun before
            self._pauses_since = {}

    def set_count_age(self, age: timedelta, *, looked: timedelta) -> None:
        """Set the time since the start of the last count of the whole store, and since the last look at due
        tokens. Beyond COUNT_KEPT and LOOK_KEPT the gauges are left out.
        """
        self._count_age, self._look_age = age, looked

    def set_journal_entries(self, count: int) -> None:
        self._journal_entries = count

    def set_journal_bytes(self, by_state: Mapping[str, int]) -> None:
        self._journal_bytes = by_state

    def set_secret_sources(self, up: Mapping[str, bool]) -> None:
        """Set whether each source of secrets outside this machine gave one when it was last asked."""
        self._secret_sources = up

    def set_ages(
        self,
        *,
        keys: Mapping[str, timedelta | None],
        secrets: Mapping[str, timedelta],
        limit: timedelta,
    ) -> None:
        """Set the ages of all keys of the ring, None if unknown, and those of client secrets with a known date."""
        self._key_ages, self._secret_ages, self._max_age = keys, secrets, limit

    def set_clock_skew(self, skew: timedelta) -> None:
        self._clock_skew = skew

    def set_store_up(self, up: bool) -> None:
        self._store_up = up

    def expose(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition and its content type: OpenMetrics 1.0.0 if `accept` asks for it, else text
        0.0.4.
        """
        pieces, content_type = self.pieces(accept)
        return b"".join(pieces), content_type

    def pieces(self, accept: str) -> tuple[Iterator[bytes], str]:
        """Return the exposition in pieces, so that a caller can do other things in between, and its content type."""
        # Only this word of the header reaches the library: it echoes and parses versions of the client's choice.
        wanted = OPENMETRICS in accept.lower()
        encode, content_type = choose_encoder(OPENMETRICS if wanted else "")
        families = (encode(_One(family)).removesuffix(_END) for family in self._registry.collect())
        return _ended(families, _END if wanted else b""), content_type

    def __call__(self, event: Event) -> None:
        take = self.takers.get(type(event))
        if take is not None:
            take(event)

    def _subscriptions(self) -> Subscriptions:
        return dict(
            (
                on(ProviderPaused, self._provider_paused),
                on(ProviderResumed, self._provider_resumed),
                on(SweepFinished, self._sweep_finished),
                on(SweepFailed, lambda _: self._sweep("failed")),
                on(InternalError, self._internal_error),
                on(JournalReplayed, self._journal_replayed),
                on(AnomalyDetected, self._anomaly),
                on(StoreLost, lambda _: self.set_store_up(False)),
                on(StoreBack, lambda _: self.set_store_up(True)),
            )
        )

    def _provider_paused(self, event: ProviderPaused) -> None:
        self._set_pause(event.provider, event.reason)
        self._pauses_since[event.provider] = event.reason

    def _provider_resumed(self, event: ProviderResumed) -> None:
        self._set_pause(event.provider, None)
        self._pauses_since[event.provider] = None

    def _set_pause(self, provider: str, reason: str | None) -> None:
        if reason is None:
            self._paused.pop(provider, None)
        else:
            self._paused[provider] = reason

    def _sweep(self, outcome: str) -> None:
        self._sweeps[outcome] += 1

    def _sweep_finished(self, event: SweepFinished) -> None:
        self._sweep("ok")
        self._last_sweep_success = event.at

    def _internal_error(self, event: InternalError) -> None:
        self._internal_errors[label_value(event.where, WHERES)] += 1

    def _journal_replayed(self, event: JournalReplayed) -> None:
        if event.result in self._replayed:
            self._replayed[event.result] += 1

    def _anomaly(self, event: AnomalyDetected) -> None:
        self._anomalies[event.kind] += 1

    # ------------------------------------------------------------------ laid out at each scrape

    def collect(self) -> Iterator[Metric]:
        yield from self._counts.collect()
        yield from self._happened()
        yield from self._stands()
        yield from self.mirrors.collect()
        yield from self.hooks.collect()
        yield from self._ages()
        yield self._pauses()
        yield from self._counted()
        fresh = self._count_age <= COUNT_KEPT and self._look_age <= LOOK_KEPT
        if self._statistics is not None and fresh:
            yield from self._store.collect(self._statistics, keys=self._key_ages.keys())

    def _ages(self) -> Iterator[Metric]:
        ages: dict[tuple[str, ...], float] = {
            (name,): age.total_seconds() for name, age in self._key_ages.items() if age is not None
        }
        yield gauges(
            "key_age_seconds", "Age of a key of the ring, if the configuration dates it.", ["key"], ages
        )
        secrets: dict[tuple[str, ...], float] = {
            (name,): age.total_seconds() for name, age in self._secret_ages.items()
        }
        yield gauges(
            "client_secret_age_seconds",
            "Age of a provider's client secret, if the configuration dates it.",
            ["provider"],
            secrets,
        )
        if self._max_age is not None:
            limit = self._max_age.total_seconds()
            yield gauge(
                "key_max_age_seconds", "keys.max_age: the age at which keys and secrets are old.", limit
            )

    def _happened(self) -> Iterator[Metric]:
        """Yield the counters of this process since its start."""
        yield counter(
            "internal_errors",
            "Internal errors (bugs of refreshd), by place in the code.",
            ["where"],
            {(k,): n for k, n in self._internal_errors.items()},
        )
        yield anomalies({(kind.value,): n for kind, n in self._anomalies.items()})
        yield counter(
            "sweeps", "Sweeps, by outcome.", ["outcome"], {(k,): n for k, n in self._sweeps.items()}
        )
        yield counter(
            "journal_replayed",
            "Journal entries replayed, by result.",
            ["result"],
            {(k,): n for k, n in self._replayed.items()},
        )

    def _stands(self) -> Iterator[Metric]:
        """Yield the gauges of this process."""
        if self._secret_sources:
            yield gauges(
                "secret_source_up",
                "1 if the source of a secret gave one when it was last asked.",
                ["source"],
                {(name,): up for name, up in self._secret_sources.items()},
            )
        yield InfoMetricFamily("refreshd_build", "The running version.", value={"version": self._version})
        yield gauge("store_up", "1 while MongoDB answers and accepts writes.", self._store_up)
        yield gauge(
            "journal_entries", "Replies in the journal that MongoDB has not confirmed.", self._journal_entries
        )
        yield gauges(
            "journal_bytes",
            "Size of the replies in the journal, by state.",
            ["state"],
            {(state,): self._journal_bytes.get(state, 0) for state in JOURNAL_STATES},
        )
        last = self._last_sweep_success  # 0 before the first one, so that an alert on its age fires too
        yield gauge(
            "last_sweep_success_timestamp_seconds",
            "Time of the last successful sweep, 0 before the first.",
            last.timestamp() if last else 0,
        )
        if self._clock_skew is not None:
            skew = self._clock_skew.total_seconds()
            yield gauge("clock_skew_seconds", "Local clock minus MongoDB's clock.", skew)

    def _counted(self) -> Iterator[Metric]:
        """Yield the age of the gauges of the whole store and the duration of its count. 0: not yet
        counted.
        """
        statistics = self._statistics
        yield gauge(
            "counted_timestamp_seconds",
            "Start of the last count of the whole store, 0 before the first.",
            statistics.at.timestamp() if statistics else 0,
        )
        yield gauge(
            "count_duration_seconds",
            "Time that MongoDB spent on the last count.",
            statistics.took.total_seconds() if statistics else 0,
        )

    def _pauses(self) -> Metric:
        names = self._names
        held: dict[tuple[str, ...], float] = {
            (label_value(name, names), label_value(reason, PAUSE_REASONS)): 1
            for name, reason in self._paused.items()
        }
        return gauges(
            "provider_paused",
            "1 for the reason that a provider is paused for.",
            ["provider", "reason"],
            self._paused_rows.rows(held),
        )


def _ended(pieces: Iterator[bytes], end: bytes) -> Iterator[bytes]:
    yield from pieces
    yield end
