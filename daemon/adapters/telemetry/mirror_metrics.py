"""The metrics of mirrors: what failed, what was left alone, and how far each is behind."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta

from prometheus_client.metrics_core import Metric

from daemon.adapters.telemetry.metric_families import counter, gauges
from daemon.adapters.telemetry.subscriptions import Subscriptions, on
from daemon.domain.event import MirrorBack, MirrorFailed, MirrorRefused


class MirrorMetrics:
    """Subscribes to the events of mirrors. No series without a configured mirror; with one, its series begin at zero."""

    def __init__(self) -> None:
        self._failures: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._lags: Mapping[str, timedelta] = {}

    def set_lags(self, lags: Mapping[str, timedelta]) -> None:
        """Set how long the oldest change has waited, for each configured mirror."""
        self._lags = lags

    def subscriptions(self) -> Subscriptions:
        return dict(
            (
                on(MirrorFailed, lambda event: self._failures.update([event.mirror])),
                on(MirrorRefused, lambda event: self._refused.update([event.mirror])),
                on(MirrorBack, lambda _: None),  # its lag is zero by then
            )
        )

    def collect(self) -> Iterator[Metric]:
        if self._lags:
            yield counter(
                "mirror_failures",
                "Attempts of a mirror to bring its place up to date that failed.",
                ["mirror"],
                {(name,): self._failures[name] for name in self._lags},
            )
            yield counter(
                "mirror_refused",
                "Rows that a mirror left alone.",
                ["mirror"],
                {(name,): self._refused[name] for name in self._lags},
            )
            yield gauges(
                "mirror_lag_seconds",
                "How long the oldest change has waited to be written by a mirror.",
                ["mirror"],
                {(name,): lag.total_seconds() for name, lag in self._lags.items()},
            )
