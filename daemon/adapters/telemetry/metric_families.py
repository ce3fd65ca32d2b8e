"""Prometheus families whose names start with `refreshd_`."""

from bisect import bisect_left
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

ANOMALIES = "Anomalies: access that a person should look at, by kind."
UNKNOWN = "unknown"  # stands for every text that is not a known name
OTHER = "other"  # stands for the providers beyond the first NAMED in a histogram
NAMED = 48  # a histogram has a dozen series for each provider: more would be most of a scrape


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


class Distributions:
    """A distribution for each of the first NAMED providers that have a value, and one for all others. `unknown` has one
    from the start, so that the family exists.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._other = Distribution(bounds)
        self._of = {UNKNOWN: Distribution(bounds), OTHER: self._other}  # a provider may be called `other`

    def add(self, provider: str, value: float) -> None:
        found = self._of.get(provider)
        if found is None:
            found = self._of[provider] = Distribution(self._bounds) if self._has_room() else self._other
        found.add(value)

    def keep(self, providers: Container[str]) -> None:
        """Forget the distributions of all providers except these."""
        self._of = {
            name: one for name, one in self._of.items() if name in providers or name in {UNKNOWN, OTHER}
        }

    def family(self, name: str, documentation: str) -> Metric:
        family = HistogramMetricFamily(f"refreshd_{name}", documentation, labels=["provider"])
        named = {provider: one for provider, one in self._of.items() if one is not self._other}
        rest = {OTHER: self._other} if any(self._other.counts) else {}
        for provider, one in (*sorted(named.items()), *rest.items()):
            family.add_metric([provider], one.cumulative(), one.total)
        return family

    def _has_room(self) -> bool:
        named = sum(one is not self._other for one in self._of.values())
        return named <= NAMED  # one of them is `unknown`


class Seen:
    """Rows of a gauge that were shown with a value. They stay at zero afterwards: an alert that looks back some minutes
    would take the last value for today's.
    """

    def __init__(self, always: Iterable[tuple[str, ...]] = ()) -> None:
        self._rows = set(always)

    def rows(
        self, values: Mapping[tuple[str, ...], float], *, also: Iterable[tuple[str, ...]] = ()
    ) -> Mapping[tuple[str, ...], float]:
        """Return `values` without the zeros of rows that never had one, except for those in `also`."""
        self._rows.update(row for row, value in values.items() if value)
        self._rows.update(also)
        return {row: values.get(row, 0) for row in sorted(self._rows)}

    def keep(self, wanted: Callable[[tuple[str, ...]], bool]) -> None:
        """Forget the rows that are not `wanted`."""
        self._rows = {row for row in self._rows if wanted(row)}


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


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[tuple[str, ...], float]
) -> Metric:
    for key, value in values.items():
        family.add_metric(key, value)
    return family
