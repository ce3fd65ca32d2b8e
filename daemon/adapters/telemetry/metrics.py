"""Prometheus metrics. They subscribe to events; the code that emits the events does not depend on them.

Events only add to plain numbers, which is cheap enough to do for every token. Each scrape builds the series
from those numbers and from the last known facts about the store. So no series outlives its cause (a provider
without tokens, a pause that ended), and every series of a configured provider exists from the start, at zero.

No label ever contains an account, a token id, or text from a document.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import assert_never

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from daemon.adapters.telemetry.hook_metrics import HookMetrics
from daemon.adapters.telemetry.metric_families import (
    UNKNOWN,
    Distribution,
    anomalies,
    counter,
    gauge,
    gauges,
    histogram,
    label_value,
)
from daemon.adapters.telemetry.store_gauges import StoreGauges
from daemon.domain.anomaly import OF_DAEMON
from daemon.domain.circuit_breaker import Reason
from daemon.domain.deviation import DriftKind
from daemon.domain.event import (
    AnomalyDetected,
    ConsentFailed,
    Event,
    HookBack,
    HookCounted,
    HookDisabled,
    InFlight,
    InternalError,
    JournalReplayed,
    LaneFailed,
    LateReplyRevoked,
    MirrorBack,
    MirrorFailed,
    MirrorRefused,
    OwnerEventsLost,
    ProviderAnswered,
    ProviderDrifted,
    ProviderPaused,
    ProviderResumed,
    ProviderThrottled,
    SweepFailed,
    SweepFinished,
    TokenConnected,
    TokenEnding,
    TokenHeld,
    TokenInDoubt,
    TokenNeedsReauth,
    TokenPostponed,
    TokenRenewed,
    TokenRevocationFailed,
    TokenRevocationPostponed,
    TokenRevoked,
    TokenScheduled,
    TokenStuck,
    TokenSuperseded,
    TokenUnparsed,
    TokenUnreadable,
)
from daemon.domain.journal_entry import EntryState, ReplayResult
from daemon.domain.statistics import Statistics
from daemon.domain.store_event import StoreBack, StoreLost
from daemon.domain.token import FailureKind

OUTCOMES = ("renewed", "unparsed", "rejected", "misconfigured", "unavailable", "superseded", "unreadable")
REVOCATION_OUTCOMES = ("revoked", "postponed", "failed", "late_reply")
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
LEAD_BUCKETS = (0.0, 15.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 600.0)
DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # the last: the usual request timeout

_OUTCOME_OF = {
    FailureKind.REJECTED: "rejected",
    FailureKind.MISCONFIGURED: "misconfigured",
    FailureKind.UNAVAILABLE: "unavailable",
    FailureKind.UNPARSED: "unparsed",
    FailureKind.IN_DOUBT: "unavailable",
    FailureKind.UNREADABLE: "unreadable",
    FailureKind.UNCONFIGURED: "unreadable",
    FailureKind.STUCK: "unavailable",
    FailureKind.UNSUPPORTED: "unreadable",
    FailureKind.DUPLICATE: "unreadable",
}
_NARROW = 0.2  # of its window: a renewal that leaves less was close


class _Tally:
    """Counts of one provider since the start."""

    __slots__ = (
        "drift",
        "duration",
        "in_doubt",
        "in_flight",
        "late",
        "lead",
        "narrow",
        "outcomes",
        "passes_failed",
        "revocations",
        "throttled",
    )

    def __init__(self) -> None:
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.revocations = dict.fromkeys(REVOCATION_OUTCOMES, 0)
        self.drift = dict.fromkeys(DriftKind, 0)
        self.late = 0
        self.narrow = 0
        self.in_doubt = 0
        self.throttled = 0
        self.passes_failed = 0
        self.in_flight = 0
        self.duration = Distribution(DURATION_BUCKETS)
        self.lead = Distribution(LEAD_BUCKETS)


class Metrics(Collector):
    """Subscribes to events, receives the facts that only the store or the clock has, and exposes all of
    it.
    """

    def __init__(self, *, providers: Iterable[str], version: str) -> None:
        self._version = version
        self.hooks = HookMetrics()
        self._tallies: dict[str, _Tally] = {}
        self._sweeps = {"ok": 0, "failed": 0}
        self._replayed = dict.fromkeys(REPLAY_RESULTS, 0)
        self._internal_errors = dict.fromkeys((*WHERES, UNKNOWN), 0)
        self._anomalies = dict.fromkeys(OF_DAEMON, 0)
        self._mirror_failures: Counter[str] = Counter()
        self._mirror_refused: Counter[str] = Counter()
        self._mirror_lags: Mapping[str, timedelta] = {}
        self._last_sweep_success: datetime | None = None
        self._statistics: Statistics | None = None
        self._count_age = self._look_age = timedelta(0)
        self._paused: dict[str, str] = {}
        self._journal_entries = 0
        self._journal_bytes: Mapping[str, int] = {}
        self._clock_skew: timedelta | None = None
        self._key_ages: Mapping[str, timedelta | None] = {}
        self._secret_ages: Mapping[str, timedelta] = {}
        self._max_age: timedelta | None = None
        self._store_up = False
        self._secret_sources: Mapping[str, bool] = {}
        self.set_providers(providers)
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def set_providers(self, names: Iterable[str]) -> None:
        """Set the configured names. Besides `unknown` they are the only values of a provider label."""
        names = sorted({*names, UNKNOWN})
        self._tallies = {name: self._tallies.get(name) or _Tally() for name in names}
        self._unknown = self._tallies[UNKNOWN]

    def set_statistics(self, statistics: Statistics) -> None:
        before, self._statistics = self._statistics, statistics
        self._count_age = self._look_age = timedelta(0)
        if before is None or before.looked_at != statistics.looked_at or statistics.looked_at is None:
            self._paused = dict(statistics.paused)  # else the events since then are newer

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

    def set_mirror_lags(self, lags: Mapping[str, timedelta]) -> None:
        self._mirror_lags = lags

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
        # Only this word of the header reaches the library: it echoes and parses versions of the client's choice.
        wanted = "application/openmetrics-text" in accept.lower()
        encode, content_type = choose_encoder("application/openmetrics-text" if wanted else "")
        return encode(self._registry), content_type

    def __call__(self, event: Event) -> None:  # noqa: C901, PLR0912, PLR0915  one case per event; mypy checks that
        match event:  # the first three come with every token
            case InFlight():
                self._tallies.get(event.provider, self._unknown).in_flight = event.count
            case ProviderAnswered():
                tally = self._tallies.get(event.provider, self._unknown)
                tally.duration.add(event.duration.total_seconds())
            case ProviderThrottled():
                self._tallies.get(event.provider, self._unknown).throttled += 1
            case ProviderDrifted():
                self._tallies.get(event.provider, self._unknown).drift[event.kind] += 1
            case TokenRenewed():
                self._renewed(event)
            case TokenPostponed() | TokenStuck() | TokenUnparsed() | TokenNeedsReauth():
                self._ended(event.provider, _OUTCOME_OF[event.failure.kind])
            case TokenSuperseded():
                self._ended(event.provider, "superseded")
            case TokenUnreadable():
                self._ended(event.provider, "unreadable")
            case TokenInDoubt():
                self._tallies.get(event.provider, self._unknown).in_doubt += 1
                self._ended(event.provider, "unavailable")
            case TokenRevoked():
                self._revocation(event.provider, "revoked")
            case TokenRevocationPostponed():
                self._revocation(event.provider, "postponed")
            case TokenRevocationFailed():
                self._revocation(event.provider, "failed")
            case LateReplyRevoked():
                self._revocation(event.provider, "late_reply")
            case TokenHeld() | TokenEnding() | TokenScheduled():
                pass  # counted over the whole store, by the statistics
            case ProviderPaused():
                self._paused[event.provider] = event.reason
            case ProviderResumed():
                self._paused.pop(event.provider, None)
            case SweepFinished():
                self._sweeps["ok"] += 1
                self._last_sweep_success = event.at
            case SweepFailed():
                self._sweeps["failed"] += 1
            case LaneFailed():
                if event.failures:  # else a pass has worked again
                    self._tallies.get(event.provider, self._unknown).passes_failed += 1
            case InternalError():
                self._internal_errors[label_value(event.where, WHERES)] += 1
            case JournalReplayed():
                if event.result in self._replayed:
                    self._replayed[event.result] += 1
            case MirrorFailed():
                self._mirror_failures[event.mirror] += 1
            case MirrorRefused():
                self._mirror_refused[event.mirror] += 1
            case AnomalyDetected():
                self._anomalies[event.kind] += 1
            case HookCounted() | HookBack() | HookDisabled():
                self.hooks(event)
            case TokenConnected() | ConsentFailed():
                pass  # each is a line of the log
            case MirrorBack() | OwnerEventsLost():
                pass
            case StoreLost():
                self._store_up = False
            case StoreBack():
                self._store_up = True
            case _:
                assert_never(event)

    def _revocation(self, provider: str, outcome: str) -> None:
        self._tallies.get(provider, self._unknown).revocations[outcome] += 1

    def _renewed(self, event: TokenRenewed) -> None:
        tally = self._tallies.get(event.provider, self._unknown)
        tally.outcomes["renewed"] += 1
        if event.lead is None:
            return
        left = event.lead.total_seconds()
        enough = event.window.total_seconds() * _NARROW if event.window is not None else 0.0
        if left < enough:
            tally.narrow += 1
        if left < 0:
            tally.late += 1
            left = 0.0
        tally.lead.add(left)

    def _ended(self, provider: str, outcome: str) -> None:
        self._tallies.get(provider, self._unknown).outcomes[outcome] += 1

    # ------------------------------------------------------------------ laid out at each scrape

    def collect(self) -> Iterator[Metric]:
        yield from self._happened()
        yield from self._stands()
        yield from self._mirrors()
        yield from self.hooks.collect()
        yield from self._ages()
        yield self._pauses()
        yield from self._counted()
        fresh = self._count_age <= COUNT_KEPT and self._look_age <= LOOK_KEPT
        if self._statistics is not None and fresh:
            yield from StoreGauges(
                self._statistics, providers=self._tallies.keys(), keys=self._key_ages.keys()
            ).collect()

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
        every = self._tallies.items()
        yield counter(
            "refreshes",
            "Refreshes, by outcome.",
            ["provider", "outcome"],
            {(name, outcome): n for name, tally in every for outcome, n in tally.outcomes.items()},
        )
        yield counter(
            "revocations",
            "Revocations of grants, by outcome. A failed one needs an operator.",
            ["provider", "outcome"],
            {(name, outcome): n for name, tally in every for outcome, n in tally.revocations.items()},
        )
        yield counter(
            "late_renewals",
            "Renewals stored after the old token's expiry.",
            ["provider"],
            {(name,): tally.late for name, tally in every},
        )
        yield counter(
            "narrow_renewals",
            "Renewals stored with less than a fifth of their window left, including the late ones.",
            ["provider"],
            {(name,): tally.narrow for name, tally in every},
        )
        yield counter(
            "throttled",
            "Responses in which the provider asked to slow down (HTTP 429 or equivalent).",
            ["provider"],
            {(name,): tally.throttled for name, tally in every},
        )
        yield counter(
            "provider_drift",
            "Differences found between a provider's behaviour and its definition, by kind.",
            ["provider", "kind"],
            {(name, kind.value): n for name, tally in every for kind, n in tally.drift.items()},
        )
        yield counter(
            "in_doubt",
            "Requests without a usable reply that the provider may have processed.",
            ["provider"],
            {(name,): tally.in_doubt for name, tally in every},
        )
        yield histogram(
            "refresh_duration_seconds",
            "Response time of the provider.",
            {name: tally.duration for name, tally in every},
        )
        yield histogram(
            "refresh_lead_seconds",
            "Remaining lifetime of the old token when the new one was stored.",
            {name: tally.lead for name, tally in every},
        )
        yield counter(
            "lane_failures",
            "Passes over a provider's tokens that failed with an unexpected error.",
            ["provider"],
            {(name,): tally.passes_failed for name, tally in every},
        )
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

    def _mirrors(self) -> Iterator[Metric]:
        """Yield the figures of the configured mirrors; no series without one."""
        if self._mirror_lags:
            yield counter(
                "mirror_failures",
                "Attempts of a mirror to bring its place up to date that failed.",
                ["mirror"],
                {(name,): self._mirror_failures[name] for name in self._mirror_lags},
            )
            yield counter(
                "mirror_refused",
                "Rows that a mirror left alone.",
                ["mirror"],
                {(name,): self._mirror_refused[name] for name in self._mirror_lags},
            )
            yield gauges(
                "mirror_lag_seconds",
                "How long the oldest change has waited to be written by a mirror.",
                ["mirror"],
                {(name,): lag.total_seconds() for name, lag in self._mirror_lags.items()},
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
        yield gauges(
            "in_flight",
            "Requests in flight.",
            ["provider"],
            {(name,): tally.in_flight for name, tally in self._tallies.items()},
        )

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
        held = {
            (label_value(name, self._tallies), label_value(reason, PAUSE_REASONS))
            for name, reason in self._paused.items()
        }
        every = {(name, reason) for name in self._tallies for reason in PAUSE_REASONS}
        return gauges(
            "provider_paused",
            "1 for the reason that a provider is paused for.",
            ["provider", "reason"],
            {key: key in held for key in sorted(every | held)},
        )
