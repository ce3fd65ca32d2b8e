"""Prometheus metrics of the access service."""

from collections.abc import Collection

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from daemon.adapters.telemetry.metric_families import ANOMALIES, UNKNOWN, label_value
from daemon.domain.anomaly import OF_ACCESS
from daemon.domain.event import AnomalyDetected, Event, InternalError
from daemon.domain.jwt import KEYS_UNAVAILABLE, Fault
from daemon.domain.store_event import StoreBack, StoreLost

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
AUTH_FAILURES = ("unauthorized", "rate-limited")


class AccessMetrics:
    """`routes`: the names of the routes. An unknown one counts as `unknown`."""

    def __init__(self, routes: Collection[str], *, version: str, rules: Collection[str] = ()) -> None:
        """`routes`: the names of the routes. An unknown one counts as `unknown`. `rules`: the names of the rules for JWTs."""
        self._registry = CollectorRegistry()
        self._routes = frozenset(routes)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        Gauge("refreshd_build_info", "The version.", ["version"], registry=self._registry).labels(
            version
        ).set(1)
        self._requests = Counter(
            "refreshd_access_requests", "Answered requests.", ["route", "status"], registry=self._registry
        )
        self._duration = Histogram(
            "refreshd_access_duration_seconds",
            "Seconds from a request to its answer, waits for renewals included.",
            ["route"],
            buckets=DURATION_BUCKETS,
            registry=self._registry,
        )
        self._failures = Counter(
            "refreshd_access_auth_failures",
            "Requests without a valid access key, and those over its rate.",
            ["reason"],
            registry=self._registry,
        )
        self._refused_jwts = Counter(
            "refreshd_access_exchange_failures",
            "JWTs of workloads that were not accepted, by the rule for their issuer.",
            ["issuer", "reason"],
            registry=self._registry,
        )
        self._anomalies = Counter("refreshd_anomalies", ANOMALIES, ["kind"], registry=self._registry)
        self._store_up = Gauge("refreshd_store_up", "Whether MongoDB answers.", registry=self._registry)
        self._bugs = Counter(
            "refreshd_internal_errors", "Unexpected errors.", ["where"], registry=self._registry
        )
        for route in (*sorted(self._routes), UNKNOWN):
            self._requests.labels(route, "200")
            self._duration.labels(route)
        for reason in AUTH_FAILURES:
            self._failures.labels(reason)
        # Prometheus sees no increase in a series that begins with its first count.
        for rule in (*rules, UNKNOWN) if rules else ():
            for reason in (*Fault, KEYS_UNAVAILABLE):
                self._refused_jwts.labels(rule, reason)
        for kind in OF_ACCESS:
            self._anomalies.labels(kind.value)
        self._bugs.labels("access")

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        name = label_value(route, self._routes)
        self._requests.labels(name, str(status)).inc()
        self._duration.labels(name).observe(seconds)

    def refused(self, problem: str) -> None:
        """Count a problem, if it is a failure of authentication."""
        if problem in AUTH_FAILURES:
            self._failures.labels(problem).inc()

    def refused_jwt(self, rule: str, reason: str) -> None:
        """Count a JWT that was not accepted. Both labels are from the configuration and the code, never from the JWT."""
        self._refused_jwts.labels(rule, reason).inc()

    def __call__(self, event: Event) -> None:
        """Observe the store, anomalies and unexpected errors."""
        match event:
            case StoreLost():
                self._store_up.set(0)
            case StoreBack():
                self._store_up.set(1)
            case AnomalyDetected():
                self._anomalies.labels(event.kind.value).inc()
            case InternalError():
                self._bugs.labels("access").inc()
            case _:
                pass

    def store_answers(self) -> None:
        self._store_up.set(1)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition for an `Accept` header, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
