"""The metrics of hooks: what came of deliveries, what waits in the outbox, and what never reached it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from prometheus_client.metrics_core import Metric

from daemon.adapters.telemetry.metric_families import UNKNOWN, counter, gauges
from daemon.adapters.telemetry.subscriptions import Subscriptions, on
from daemon.domain.event import HookBack, HookCounted, HookDisabled, OwnerEventsLost
from daemon.domain.hook import Outcome

OUTCOMES = tuple(Outcome)


class HookMetrics:
    """Subscribes to the events of hooks. The series of a configured hook begin at zero."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._lost = {"malformed": 0, "pushed_out": 0}
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

    def subscriptions(self) -> Subscriptions:
        return dict(
            (
                on(HookCounted, self._counted),
                on(HookBack, lambda event: self._disabled.discard(event.hook)),
                on(HookDisabled, lambda event: self._disabled.add(event.hook)),
                on(OwnerEventsLost, self._lost_events),
            )
        )

    def _counted(self, event: HookCounted) -> None:
        hook = event.hook if event.hook in self._names else UNKNOWN
        self._counts[hook, event.outcome.value] += event.count

    def _lost_events(self, event: OwnerEventsLost) -> None:
        self._lost["malformed"] += event.malformed
        self._lost["pushed_out"] += event.pushed_out

    def collect(self) -> Iterator[Metric]:
        yield counter(
            "events_lost",
            "Events of tokens that were lost before they reached the outbox, by reason.",
            ["reason"],
            {(reason,): count for reason, count in self._lost.items()},
        )
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
