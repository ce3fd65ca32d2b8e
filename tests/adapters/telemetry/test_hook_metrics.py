"""The metrics of hooks, in the text that Prometheus gets, and their lines in the log."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon.adapters.telemetry.event_log import configure
from daemon.adapters.telemetry.metrics import Metrics
from daemon.domain.event import Event, HookBack, HookCounted, HookDisabled, OwnerEventsLost
from daemon.domain.hook import Outcome

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def series(made: Metrics, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(made.expose("")[0].decode())
        for sample in family.samples
        if sample.name == f"refreshd_{name}"
    }


@pytest.fixture
def made() -> Metrics:
    metrics = Metrics(providers=(), version="0")
    metrics.hooks.set_hooks(["crm", "mail"])
    return metrics


def test_without_a_hook_there_is_no_series() -> None:
    assert series(Metrics(providers=(), version="0"), "hook_deliveries_total") == {}


def test_every_outcome_of_a_configured_hook_starts_at_zero(made: Metrics) -> None:
    """So that the first failure already is a rate."""
    found = series(made, "hook_deliveries_total")
    assert {key: found[key] for key in found if key[0] != "unknown"} == {
        (name, outcome.value): 0 for name in ("crm", "mail") for outcome in Outcome
    }


def test_deliveries_are_counted_by_outcome(made: Metrics) -> None:
    made(HookCounted(hook="crm", outcome=Outcome.DELIVERED, status=200))
    made(HookCounted(hook="crm", outcome=Outcome.DROPPED, count=7))
    made(HookCounted(hook="removed", outcome=Outcome.DROPPED, count=2))
    found = series(made, "hook_deliveries_total")
    assert (found["crm", "delivered"], found["crm", "dropped"]) == (1, 7)
    assert found["unknown", "dropped"] == 2  # a name from a document is no label


def test_events_that_no_hook_gets_are_counted_by_reason(made: Metrics) -> None:
    """From zero, and without a configured hook too: a token keeps its events until they are relayed."""
    for metrics in (made, Metrics(providers=(), version="0")):
        assert series(metrics, "events_lost_total") == {("malformed",): 0, ("pushed_out",): 0}
        metrics(OwnerEventsLost(token="xero:1", malformed=2, pushed_out=0))
        metrics(OwnerEventsLost(token="xero:2", malformed=1, pushed_out=5))
        assert series(metrics, "events_lost_total") == {("malformed",): 3, ("pushed_out",): 5}


def test_what_waits_is_shown_by_hook(made: Metrics) -> None:
    """That of hooks that are not configured is one series."""
    assert series(made, "outbox_events") == {}
    hour = timedelta(hours=1)
    made.hooks.set_waiting({"crm": (3, NOON - hour), "a": (1, NOON), "b": (2, NOON)}, NOON)
    assert series(made, "outbox_events") == {("crm",): 3, ("mail",): 0, ("unknown",): 3}
    assert series(made, "outbox_oldest_seconds") == {("crm",): 3600, ("mail",): 0}


def test_a_disabled_hook_is_shown_until_it_is_enabled(made: Metrics) -> None:
    made(HookDisabled(hook="crm"))
    assert series(made, "hook_disabled") == {("crm",): 1, ("mail",): 0}
    made.hooks.set_disabled([])
    assert series(made, "hook_disabled") == {("crm",): 0, ("mail",): 0}


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            HookCounted(hook="crm", outcome=Outcome.REFUSED, status=500, failures=1),
            {"event": "hook.failed", "level": "warning", "outcome": "refused", "status": 500},
        ),
        (HookCounted(hook="crm", outcome=Outcome.TIMEOUT, failures=2), None),
        (
            HookCounted(hook="crm", outcome=Outcome.DELIVERED, status=204),
            {"event": "hook.delivered", "level": "debug", "status": 204},
        ),
        (
            HookCounted(hook="crm", outcome=Outcome.DROPPED, count=7),
            {"event": "hook.dropped", "level": "error", "count": 7},
        ),
        (
            HookCounted(hook="crm", outcome=Outcome.MALFORMED, count=7),
            {"event": "hook.malformed", "level": "warning", "count": 7},
        ),
        (HookBack(hook="crm", failures=4), {"event": "hook.back", "level": "info", "failures": 4}),
        (HookDisabled(hook="crm"), {"event": "hook.disabled", "level": "error"}),
    ],
)
def test_each_has_its_line_but_repeated_failures(event: Event, line: dict[str, object] | None) -> None:
    """A receiver that is down for days is one line, not a thousand."""
    stream = StringIO()
    configure(format="json", level="debug", stream=stream)(event)
    written = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert len(written) == (line is not None)
    if line is not None:
        assert {key: written[0].get(key) for key in line} == line
        assert written[0]["hook"] == "crm"
