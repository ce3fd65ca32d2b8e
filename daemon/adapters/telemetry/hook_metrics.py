"""The metrics of hooks: what came of deliveries, and what waits in the outbox."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from prometheus_client.metrics_core import Metric

from daemon.adapters.telemetry.metric_families import UNKNOWN, counter, gauges
from daemon.domain.event import HookBack, HookCounted, HookDisabled
from daemon.domain.hook import Outcome

OUTCOMES = tuple(Outcome)


class HookMetrics:
    """Subscribes to the events of hooks. The series of a configured hook begin at zero."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._waiting: Mapping[str, tuple[int, datetime]] | None = None
        self._now: datetime | None = None
        self._disabled: set[str] = set()

    def set_hooks(self, names: Iterable[str]) -> None:
        self._names = tuple(names)
        self._disabled &= set(self._names)

    def set_waiting(self, waiting: Mapping[str, tuple[int, datetime]] | None, now: datetime | None) -> None:
        """Take over how many deliveries wait, and since when the oldest does, by hook. None: it is not known."""
        self._waiting, self._now = waiting, now

    def set_disabled(self, names: Iterable[str]) -> None:
        self._disabled = set(names)

    def __call__(self, event: HookCounted | HookBack | HookDisabled) -> None:
        if isinstance(event, HookCounted):
            hook = event.hook if event.hook in self._names else UNKNOWN
            self._counts[hook, event.outcome.value] += event.count
        elif isinstance(event, HookDisabled):
            self._disabled.add(event.hook)
        else:
            self._disabled.discard(event.hook)

    def collect(self) -> Iterator[Metric]:
        if not self._names and not self._counts:
            return  # there is no hook
        zero: dict[tuple[str, ...], int] = {
            (name, outcome.value): 0 for name in (*self._names, UNKNOWN) for outcome in OUTCOMES
        }
        yield counter(
            "hook_deliveries",
            "Ends of requests to a hook's receiver, by outcome, and of deliveries without a request.",
            ["hook", "outcome"],
            {**zero, **self._counts},
        )
        yield gauges(
            "hook_disabled",
            "1 if the receiver said for an hour that it is gone, so that it gets nothing.",
            ["hook"],
            {(name,): float(name in self._disabled) for name in self._names},
        )
        if self._waiting is None or self._now is None:
            return
        now, waiting = self._now, self._waiting
        others = [found for name, found in waiting.items() if name not in self._names]
        counts: dict[tuple[str, ...], float] = {
            (name,): float(waiting[name][0] if name in waiting else 0) for name in self._names
        }
        counts[UNKNOWN,] = float(sum(count for count, _ in others))
        ages: dict[tuple[str, ...], float] = {
            (name,): max((now - waiting[name][1]).total_seconds(), 0.0) if name in waiting else 0.0
            for name in self._names
        }
        yield gauges("outbox_events", "Events that wait to be delivered, by hook.", ["hook"], counts)
        yield gauges(
            "outbox_oldest_seconds",
            "How long the oldest event that waits has waited, by hook; 0 if none does.",
            ["hook"],
            ages,
        )
