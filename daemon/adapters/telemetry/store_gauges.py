"""Gauges of the whole store. Every replica exports the same figures."""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import TypeVar

from prometheus_client.metrics_core import Metric

from daemon.adapters.telemetry.metric_families import UNKNOWN, Seen, gauge, gauges, label_value
from daemon.domain.statistics import Statistics
from daemon.domain.token import State

STATES = tuple(str(state) for state in State)
# An alert compares the tokens that need a consent with those of an hour ago, and with the other tokens.
ALERTED_STATES = (State.ACTIVE.value, State.NEEDS_REAUTH.value)
COUNTS: Mapping[str, tuple[str, Callable[[Statistics], Mapping[str, int]]]] = {
    "expired_tokens": (
        "Active tokens past their expiry, excluding stuck ones.",
        lambda statistics: statistics.expired,
    ),
    "stuck_tokens": (
        "Tokens past their expiry that the provider has refused to renew for hours; they are retried rarely.",
        lambda statistics: statistics.stuck,
    ),
    "set_aside_tokens": (
        "Documents that refreshd can't read or use.",
        lambda statistics: statistics.set_aside,
    ),
    "held_tokens": (
        "Due tokens that another instance may have spent.",
        lambda statistics: statistics.held,
    ),
    "ending_tokens": (
        "Active tokens whose grant ends within a week and can't be extended by renewals.",
        lambda statistics: statistics.ending,
    ),
}

_Value = TypeVar("_Value", int, datetime)


class StoreGauges:
    """Export the counted figures. Only `providers` and `keys` become labels; all others are summed up as `unknown`.

    A provider without such tokens has no series: 500 of them would make each scrape large.
    """

    def __init__(self) -> None:
        self._providers: Collection[str] = ()
        self._states = Seen((UNKNOWN, state) for state in STATES)
        self._counts = {name: Seen([(UNKNOWN,)]) for name in COUNTS}

    def set_providers(self, providers: Collection[str]) -> None:
        self._providers = providers
        for seen in (self._states, *self._counts.values()):
            seen.keep(lambda row: row[0] in providers)

    def collect(self, statistics: Statistics, *, keys: Collection[str]) -> Iterator[Metric]:
        yield self._tokens(statistics.states)
        for name, (documentation, count) in COUNTS.items():
            yield self._counted(name, documentation, count(statistics))
        age = statistics.oldest_due_age.total_seconds() if statistics.oldest_due_age else 0
        yield gauge("oldest_due_age_seconds", "Time since the oldest due token became due.", age)
        ends = self._folded(statistics.refresh_token_expiry, min)
        yield gauges(
            "refresh_token_expiry_timestamp_seconds",
            "Earliest known end of a refresh token.",
            ["provider"],
            {(name,): end.timestamp() for name, end in ends.items()},
        )
        yield self._sealed(statistics.sealed, keys)

    def _sealed(self, sealed: Mapping[str, Mapping[str, int]], keys: Collection[str]) -> Metric:
        counts: dict[tuple[str, ...], float] = {}
        for key_id, values in sealed.items():
            for field, count in values.items():
                labels = (label_value(key_id, keys), field)
                counts[labels] = counts.get(labels, 0) + count
        documentation = "Stored values that a key has sealed; an estimate for more than 200,000 documents."
        return gauges("sealed_values", documentation, ["key", "field"], counts)

    def _tokens(self, states: Mapping[str, Mapping[str, int]]) -> Metric:
        counts: dict[tuple[str, ...], float] = {}
        for provider, by_state in states.items():
            for state, count in by_state.items():
                row = (label_value(provider, self._providers), label_value(state, STATES))
                counts[row] = counts.get(row, 0) + count
        alerted = [(provider, state) for provider, _ in counts for state in ALERTED_STATES]
        rows = self._states.rows(counts, also=alerted)
        return gauges("tokens", "Stored tokens, by state.", ["provider", "state"], rows)

    def _counted(self, name: str, documentation: str, counts: Mapping[str, int]) -> Metric:
        folded: dict[tuple[str, ...], float] = {
            (provider,): count
            for provider, count in self._folded(counts, lambda one, other: one + other).items()
        }
        return gauges(name, documentation, ["provider"], self._counts[name].rows(folded))

    def _folded(
        self, values: Mapping[str, _Value], fold: Callable[[_Value, _Value], _Value]
    ) -> dict[str, _Value]:
        """Return `values` by label. Those of providers that are not configured are folded into `unknown`."""
        folded: dict[str, _Value] = {}
        for provider, value in values.items():
            label = label_value(provider, self._providers)
            folded[label] = fold(folded[label], value) if label in folded else value
        return folded
