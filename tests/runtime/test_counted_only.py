"""Events that only the metrics use: the daemon passes them to no other observer."""

import io
from datetime import timedelta
from typing import get_args

import pytest

from daemon.adapters.telemetry.event_log import configure
from daemon.adapters.telemetry.last_hour import LastHour
from daemon.adapters.telemetry.metrics import Metrics
from daemon.domain.event import COUNTED_ONLY, Event, InFlight, ProviderAnswered, ProviderThrottled
from daemon.refreshing.sweep import Tally

OF_EACH_TYPE = (
    InFlight(provider="acme", count=3),
    ProviderAnswered(provider="acme", duration=timedelta(seconds=1)),
    ProviderThrottled(provider="acme"),
)


def test_each_is_an_event_and_has_an_example_here():
    assert {type(event) for event in OF_EACH_TYPE} == COUNTED_ONLY
    assert set(get_args(Event)) >= COUNTED_ONLY


@pytest.mark.parametrize("event", OF_EACH_TYPE)
def test_the_log_the_tally_and_the_last_hour_would_ignore_it(event):
    """If one of them used it one day, it would have to be passed on again."""
    stream, tally, hour = io.StringIO(), Tally(), LastHour(lambda: timedelta(hours=1))
    for observer in (configure(format="json", level="debug", stream=stream), tally, hour):
        observer(event)
    assert stream.getvalue() == ""
    assert not tally.take()
    assert not hour.snapshot().outcomes


@pytest.mark.parametrize("event", OF_EACH_TYPE)
def test_the_metrics_count_it(event):
    metrics = Metrics(providers=["acme"], version="1")
    before = _figures(metrics)
    metrics(event)
    assert _figures(metrics) != before


def _figures(metrics: Metrics) -> list[str]:
    text, _ = metrics.expose("")
    return [line for line in text.decode().splitlines() if line.startswith("refreshd_")]
