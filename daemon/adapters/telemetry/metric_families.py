"""Prometheus families whose names start with `refreshd_`."""

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

ANOMALIES = "Anomalies: access that a person should look at, by kind."
UNKNOWN = "unknown"  # stands for every text that is not a known name


class Distribution:
    """Count how often a value fell into each bucket. The last bucket takes values above all bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        names = (*(str(bound) for bound in self.bounds), "+Inf")
        return list(zip(names, accumulate(self.counts), strict=True))


def label_value(text: str, names: Collection[str]) -> str:
    """Return `text` if it is one of `names`, else `unknown`, as a label."""
    return text if text in names else UNKNOWN


def gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"refreshd_{name}", documentation, value=value)


def gauges(
    name: str, documentation: str, labels: list[str], values: Mapping[tuple[str, ...], float]
) -> Metric:
    return _filled(GaugeMetricFamily(f"refreshd_{name}", documentation, labels=labels), values)


def counter(
    name: str, documentation: str, labels: list[str], values: Mapping[tuple[str, ...], int]
) -> Metric:
    return _filled(CounterMetricFamily(f"refreshd_{name}", documentation, labels=labels), values)


def anomalies(values: Mapping[tuple[str, ...], int]) -> Metric:
    """Return the family that the daemon and the access service share."""
    return counter("anomalies", ANOMALIES, ["kind"], values)


def histogram(name: str, documentation: str, values: Mapping[str, Distribution]) -> Metric:
    family = HistogramMetricFamily(f"refreshd_{name}", documentation, labels=["provider"])
    for provider, distribution in values.items():
        family.add_metric([provider], distribution.cumulative(), distribution.total)
    return family


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[tuple[str, ...], float]
) -> Metric:
    for key, value in values.items():
        family.add_metric(key, value)
    return family
