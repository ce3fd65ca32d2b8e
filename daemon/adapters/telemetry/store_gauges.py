"""Gauges of the whole store. Every replica exports the same figures."""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import TypeVar

from prometheus_client.metrics_core import Metric

from daemon.adapters.telemetry.metric_families import gauge, gauges, label_value
from daemon.domain.statistics import Statistics
from daemon.domain.token import State

STATES = tuple(str(state) for state in State)

_Value = TypeVar("_Value", int, datetime)


class StoreGauges:
    """Export the counted figures. Only `providers` and `keys` become labels; all others are summed up as `unknown`."""

    def __init__(self, statistics: Statistics, *, providers: Collection[str], keys: Collection[str]) -> None:
        self._statistics = statistics
        self._providers = providers
        self._keys = keys

    def collect(self) -> Iterator[Metric]:
        yield self._states(self._statistics.states)
        yield self._counted(
            "expired_tokens",
            "Active tokens past their expiry, excluding stuck ones.",
            self._statistics.expired,
        )
        yield self._counted(
            "stuck_tokens",
            "Tokens past their expiry that the provider has refused to renew for hours; they are retried rarely.",
            self._statistics.stuck,
        )
        yield self._counted(
            "set_aside_tokens", "Documents that refreshd can't read or use.", self._statistics.set_aside
        )
        yield self._counted(
            "held_tokens", "Due tokens that another instance may have spent.", self._statistics.held
        )
        yield self._counted(
            "ending_tokens",
            "Active tokens whose grant ends within a week and can't be extended by renewals.",
            self._statistics.ending,
        )
        age = self._statistics.oldest_due_age.total_seconds() if self._statistics.oldest_due_age else 0
        yield gauge("oldest_due_age_seconds", "Time since the oldest due token became due.", age)
        ends = self._folded(self._statistics.refresh_token_expiry, min)
        yield gauges(
            "refresh_token_expiry_timestamp_seconds",
            "Earliest known end of a refresh token.",
            ["provider"],
            {(name,): end.timestamp() for name, end in ends.items()},
        )
        yield self._sealed()

    def _sealed(self) -> Metric:
        counts: dict[tuple[str, ...], int] = {}
        for key_id, values in self._statistics.sealed.items():
            for field, count in values.items():
                labels = (label_value(key_id, self._keys), field)
                counts[labels] = counts.get(labels, 0) + count
        documentation = "Stored values that a key has sealed; an estimate for more than 200,000 documents."
        return gauges("sealed_values", documentation, ["key", "field"], counts)

    def _states(self, states: Mapping[str, Mapping[str, int]]) -> Metric:
        counts: dict[tuple[str, ...], int] = {
            (name, state): 0 for name in self._providers for state in STATES
        }
        for provider, by_state in states.items():
            for state, count in by_state.items():
                key = (label_value(provider, self._providers), label_value(state, STATES))
                counts[key] = counts.get(key, 0) + count
        return gauges("tokens", "Stored tokens, by state.", ["provider", "state"], counts)

    def _counted(self, name: str, documentation: str, counts: Mapping[str, int]) -> Metric:
        folded = self._folded(counts, lambda one, other: one + other)
        every: dict[tuple[str, ...], int] = {
            (provider,): folded.get(provider, 0) for provider in self._providers
        }
        return gauges(name, documentation, ["provider"], every)

    def _folded(
        self, values: Mapping[str, _Value], fold: Callable[[_Value, _Value], _Value]
    ) -> dict[str, _Value]:
        """Return `values` by label. Those of providers that are not configured are folded into `unknown`."""
        folded: dict[str, _Value] = {}
        for provider, value in values.items():
            label = label_value(provider, self._providers)
            folded[label] = fold(folded[label], value) if label in folded else value
        return folded
