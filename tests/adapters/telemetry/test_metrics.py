"""The metrics: every name, type, label and bucket an alert may be written on, and nothing that names an account."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from daemon.adapters.telemetry.access_metrics import AccessMetrics
from daemon.adapters.telemetry.metric_families import NAMED
from daemon.adapters.telemetry.metrics import (
    COUNT_KEPT,
    JOURNAL_STATES,
    LOOK_KEPT,
    OPENMETRICS,
    PAUSE_REASONS,
    UNCOUNTED,
    WHERES,
    Metrics,
)
from daemon.adapters.telemetry.provider_counts import OUTCOMES, REMOVED, REVOCATION_OUTCOMES
from daemon.domain.anomaly import OF_ACCESS, OF_DAEMON, AnomalyKind
from daemon.domain.deviation import DriftKind
from daemon.domain.event import (
    AnomalyDetected,
    Event,
    InFlight,
    InternalError,
    JournalReplayed,
    LaneFailed,
    ProviderAnswered,
    ProviderDrifted,
    ProviderPaused,
    ProviderResumed,
    ProviderThrottled,
    SweepFailed,
    SweepFinished,
    TokenHeld,
    TokenInDoubt,
    TokenNeedsReauth,
    TokenPostponed,
    TokenRenewed,
    TokenRevoked,
    TokenStuck,
    TokenSuperseded,
    TokenUnparsed,
    TokenUnreadable,
)
from daemon.domain.jwt import Fault
from daemon.domain.statistics import Statistics
from daemon.domain.store_event import StoreBack, StoreLost
from daemon.domain.token import Failure, FailureKind

NOW = datetime(2026, 11, 21, 4, 0, tzinfo=UTC)
CANARY = "canary-account-7f3a9c"
XERO = {"provider": "xero"}

ALERTS = [
    rule
    for group in yaml.safe_load(
        (Path(__file__).parents[3] / "deploy" / "prometheus" / "alerts.yml").read_text()
    )["groups"]
    for rule in group["rules"]
]

CONTRACT = {
    "refreshd_refreshes": ("counter", {"provider", "outcome"}),
    "refreshd_refresh_duration_seconds": ("histogram", {"provider"}),
    "refreshd_refresh_lead_seconds": ("histogram", {"provider"}),
    "refreshd_late_renewals": ("counter", {"provider"}),
    "refreshd_narrow_renewals": ("counter", {"provider"}),
    "refreshd_throttled": ("counter", {"provider"}),
    "refreshd_provider_drift": ("counter", {"provider", "kind"}),
    "refreshd_revocations": ("counter", {"provider", "outcome"}),
    "refreshd_tokens": ("gauge", {"provider", "state"}),
    "refreshd_expired_tokens": ("gauge", {"provider"}),
    "refreshd_stuck_tokens": ("gauge", {"provider"}),
    "refreshd_sealed_values": ("gauge", {"key", "field"}),
    "refreshd_key_age_seconds": ("gauge", {"key"}),
    "refreshd_client_secret_age_seconds": ("gauge", {"provider"}),
    "refreshd_key_max_age_seconds": ("gauge", set()),
    "refreshd_counted_timestamp_seconds": ("gauge", set()),
    "refreshd_count_duration_seconds": ("gauge", set()),
    "refreshd_internal_errors": ("counter", {"where"}),
    "refreshd_anomalies": ("counter", {"kind"}),
    "refreshd_lane_failures": ("counter", {"provider"}),
    "refreshd_events_lost": ("counter", {"reason"}),
    "refreshd_journal_bytes": ("gauge", {"state"}),
    "refreshd_set_aside_tokens": ("gauge", {"provider"}),
    "refreshd_held_tokens": ("gauge", {"provider"}),
    "refreshd_ending_tokens": ("gauge", {"provider"}),
    "refreshd_oldest_due_age_seconds": ("gauge", set()),
    "refreshd_refresh_token_expiry_timestamp_seconds": ("gauge", {"provider"}),
    "refreshd_in_flight": ("gauge", {"provider"}),
    "refreshd_journal_entries": ("gauge", set()),
    "refreshd_journal_replayed": ("counter", {"result"}),
    "refreshd_in_doubt": ("counter", {"provider"}),
    "refreshd_sweeps": ("counter", {"outcome"}),
    "refreshd_last_sweep_success_timestamp_seconds": ("gauge", set()),
    "refreshd_provider_paused": ("gauge", {"provider", "reason"}),
    "refreshd_store_up": ("gauge", set()),
    "refreshd_clock_skew_seconds": ("gauge", set()),
    "refreshd_build_info": ("gauge", {"version"}),
}

FULL = Statistics(
    at=NOW,
    sealed={"old": {"access_token": 3}, CANARY: {"access_token": 1}},
    states={
        "xero": {"active": 5, "needs_reauth": 1},
        "stranger": {"active": 2},
        "other": {"active": 3, CANARY: 1},
    },
    expired={"xero": 1},
    stuck={"xero": 2, "stranger": 3},
    set_aside={"stranger": 4, "other": 1},
    held={"xero": 2},
    ending={"xero": 3, "stranger": 1},
    refresh_token_expiry={"xero": NOW, "stranger": NOW + timedelta(days=2), "other": NOW + timedelta(days=1)},
    paused={"xero": "outage"},
    oldest_due_age=timedelta(seconds=12),
)


def metrics(*events: Event) -> Metrics:
    made = Metrics(providers=["xero", "google"], version="0.1.0")
    for event in events:
        made(event)
    return made


def value(of: Metrics, name: str, **labels: str) -> float | None:
    """The value of one series as a scraper reads it; None: there is no such series."""
    found = [
        sample.value
        for family in parse_text(of.expose("")[0].decode())
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    assert len(found) <= 1
    return found[0] if found else None


def totals(of: Metrics) -> Mapping[str, float]:
    """The sums of the counters over all providers."""
    sums: Counter[str] = Counter()
    for family in parse_text(of.expose("")[0].decode()):
        for one in family.samples:
            if family.type == "counter" and "provider" in one.labels:
                sums[one.name] += one.value
    return sums


def renewed(
    lead: float | None, *, provider: str = "xero", window: timedelta | None = timedelta(minutes=5)
) -> TokenRenewed:
    return TokenRenewed(
        token=f"{provider}:{CANARY}",
        provider=provider,
        revision=2,
        duration=timedelta(seconds=1),
        lead=None if lead is None else timedelta(seconds=lead),
        expires_at=NOW,
        rotated=True,
        window=window,
    )


def failure(kind: FailureKind) -> Failure:
    return Failure(kind=kind, code="c", message=CANARY, at=NOW)


def postponed(kind: FailureKind) -> TokenPostponed:
    return TokenPostponed(
        token=f"xero:{CANARY}", provider="xero", failure=failure(kind), due_at=NOW, failures=1
    )


def every_event(provider: str = "xero") -> Iterable[Event]:
    token = f"{provider}:{CANARY}"
    who = {"token": token, "provider": provider}
    why = {"code": "c", "message": CANARY}
    yield renewed(250, provider=provider)
    yield postponed(FailureKind.UNAVAILABLE)
    yield TokenNeedsReauth(**who, failure=failure(FailureKind.REJECTED), failures=2)
    yield TokenSuperseded(**who, successor=True)
    yield TokenUnparsed(**who, failure=failure(FailureKind.UNPARSED))
    yield TokenStuck(**who, failure=failure(FailureKind.STUCK), due_at=NOW, failures=90)
    yield LaneFailed(provider=provider, message=CANARY, failures=1)
    yield AnomalyDetected(kind=AnomalyKind.REUSE_REFUSED, key=token, count=1, at=NOW, message=CANARY)
    yield InternalError(where=CANARY, error=RuntimeError(CANARY), token=token, provider=provider)
    yield TokenUnreadable(**who, **why, kind=FailureKind.UNREADABLE)
    yield TokenInDoubt(**who, failure=failure(FailureKind.IN_DOUBT), tries=1, due_at=NOW)
    yield TokenHeld(**who, owner=CANARY, hold=NOW)
    yield ProviderAnswered(provider=provider, duration=timedelta(seconds=0.2))
    yield ProviderThrottled(provider=provider)
    yield ProviderDrifted(provider=provider, kind=DriftKind.LIFETIME, message=CANARY, change=CANARY)
    yield InFlight(provider=provider, count=1)
    yield ProviderPaused(provider=provider, reason=CANARY, next_probe_at=NOW)
    yield ProviderResumed(provider="google")
    yield SweepFinished(claimed=1, renewed=1, postponed=0, rejected=0, duration=timedelta(seconds=1), at=NOW)
    yield SweepFailed(message=CANARY)
    yield JournalReplayed(token=token, result=CANARY)
    yield StoreLost(message=CANARY)
    yield StoreBack()


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_names_types_and_labels_are_the_contracts(accept: str) -> None:
    """In both formats, and no series of ours beside them."""
    made = metrics()
    made.set_statistics(FULL)
    made.set_clock_skew(timedelta(0))
    day = timedelta(days=1)
    made.set_ages(keys={"old": day, "new": None}, secrets={"xero": day}, limit=90 * day)
    text = made.expose(accept)[0].decode()
    families = {
        (f"{family.name}_info" if family.type == "info" else family.name): (
            "gauge" if family.type == "info" else family.type,
            {name for sample in family.samples for name in sample.labels} - {"le"},
        )
        for family in (parse_openmetrics if accept else parse_text)(text)
        if family.name.startswith("refreshd_")
    }
    assert families == CONTRACT


def test_the_format_follows_the_accept_header() -> None:
    """OpenMetrics for whom asks, text for everyone else, and nothing of the header comes back."""
    made = metrics()
    prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
    body, content_type = made.expose(prometheus)
    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert body.endswith(b"# EOF\n")
    odd = "application/openmetrics-text; version=x\u2028evil, text/plain; version=nonsense"
    assert made.expose(odd)[1] == content_type
    for accept in ("", "*/*", "text/html", "text/plain;version=1.0.0;escaping=allow-utf-8"):
        body, content_type = made.expose(accept)
        assert content_type == "text/plain; version=0.0.4; charset=utf-8"
        assert b"# TYPE refreshd_refreshes_total counter\n" in body


def test_process_figures_come_along() -> None:
    """Memory, CPU and descriptors of this process, and which Python runs it."""
    text = metrics().expose("")[0].decode()
    for name in (
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "python_info",
    ):
        assert f"\n{name}" in text


def test_each_series_of_a_provider_that_an_alert_needs_starts_at_zero() -> None:
    """Prometheus sees no increase from nothing to one. What the alerts ask for is read from them."""
    made = metrics()
    needed = set(counters_of_alerts())
    assert {name for name, _, _ in needed} >= {"refreshd_refreshes_total", "refreshd_in_doubt_total"}
    for name, label, wanted in needed:
        for provider in ("xero", "google", "unknown"):
            labels = {"provider": provider} | ({label: wanted} if label else {})
            assert value(made, name, **labels) == 0, (name, labels)


def counters_of_alerts() -> Iterable[tuple[str, str, str]]:
    """Name, label and value of each counter of a provider in an increase() or a rate() of an alert."""
    values = {
        "refreshd_refreshes_total": ("outcome", OUTCOMES),
        "refreshd_revocations_total": ("outcome", REVOCATION_OUTCOMES),
    }
    by_provider = {
        f"{name}_total" for name, (kind, by) in CONTRACT.items() if kind == "counter" if "provider" in by
    }
    for rule in ALERTS:
        if "unless" in rule["expr"] and "offset" in rule["expr"]:
            continue  # it sees a first count by itself
        for name, matcher in re.findall(r"(?:increase|rate)\((\w+)(?:\{([^}]*)\})?\[", rule["expr"]):
            if name not in by_provider:
                continue
            label, every = values.get(name, ("", ()))
            chosen = re.fullmatch(r'outcome(=|!~)"([^"]+)"', matcher or "")
            if not label:
                yield name, "", ""
            elif chosen:  # a sum over all outcomes is a denominator
                is_it = {one for one in every if re.fullmatch(chosen[2], one)}
                for one in is_it if chosen[1] == "=" else set(every) - is_it:
                    yield name, label, one


def test_other_series_of_a_provider_begin_with_their_first_count() -> None:
    """500 providers that do nothing would fill each scrape. Every label is there once, at zero."""
    made = metrics()
    late = (
        ("refreshes_total", {"outcome": "superseded"}),
        ("revocations_total", {"outcome": "revoked"}),
        ("provider_drift_total", {"kind": "lifetime"}),
        ("provider_paused", {"reason": "outage"}),
        ("in_flight", {}),
        ("late_renewals_total", {}),
        ("refresh_duration_seconds_count", {}),
    )
    for name, labels in late:
        assert value(made, f"refreshd_{name}", **XERO, **labels) is None, name
        assert value(made, f"refreshd_{name}", provider="unknown", **labels) == 0, name
    for event in every_event():
        made(event)
    made(TokenRevoked(token="xero:a", provider="xero", revision=2, tries=1))
    made(renewed(-1))
    made(ProviderPaused(provider="xero", reason="outage", next_probe_at=NOW))
    for name, labels in late:
        assert value(made, f"refreshd_{name}", **XERO, **labels) == 1, name


def test_what_is_no_provider_starts_at_zero() -> None:
    made = metrics()
    for result in ("recorded", "superseded", "unparsed"):
        assert value(made, "refreshd_journal_replayed_total", result=result) == 0
    for outcome in ("ok", "failed"):
        assert value(made, "refreshd_sweeps_total", outcome=outcome) == 0
    for reason in ("malformed", "pushed_out"):
        assert value(made, "refreshd_events_lost_total", reason=reason) == 0


def test_every_event_is_counted_or_said_not_to_be() -> None:
    """A new event must be in a table of subscriptions, or among those that are not counted."""
    taken = set(metrics().takers)
    assert taken | UNCOUNTED == set(get_args(Event))
    assert not taken & UNCOUNTED


def busy(names: Sequence[str]) -> Metrics:
    """All of these providers renew, fail, are asked right now and have tokens of all kinds."""
    made = Metrics(providers=names, version="1")
    for name in names:
        made(InFlight(provider=name, count=1))
        made(renewed(250, provider=name))
        made(ProviderAnswered(provider=name, duration=timedelta(seconds=0.2)))
        made(ProviderThrottled(provider=name))
    made.set_statistics(
        Statistics(
            at=NOW,
            states={name: {"active": 20_000, "needs_reauth": 2} for name in names},
            expired=dict.fromkeys(names, 1),
        )
    )
    return made


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_a_scrape_of_500_providers_stays_below_600_kilobytes(accept: str) -> None:
    """While all of them do nothing, and while all work."""
    names = [f"provider-{number:03d}" for number in range(500)]
    idle = Metrics(providers=names, version="1").expose(accept)[0]
    working = busy(names).expose(accept)[0]
    assert len(idle) < 450_000
    assert len(idle) < len(working) < 600_000


def test_a_histogram_names_the_first_48_providers_and_adds_up_the_rest() -> None:
    """A dozen series for each of 500 would be most of a scrape. The counters name all of them."""
    names = [f"p{number:03d}" for number in range(NAMED + 10)]
    made = busy(names)
    made(ProviderAnswered(provider="p050", duration=timedelta(seconds=0.2)))
    for name in ("refreshd_refresh_lead_seconds_count", "refreshd_refresh_duration_seconds_count"):
        counts = {one.labels["provider"]: one.value for one in samples(made.expose("")[0], name)}
        more = name == "refreshd_refresh_duration_seconds_count"
        assert counts == {**dict.fromkeys(names[:NAMED], 1), "unknown": 0, "other": 10 + more}
    assert value(made, "refreshd_refreshes_total", provider="p057", outcome="renewed") == 1
    made.set_providers(names[1:])
    for name in ("p000", "p050"):  # one is gone, one stays among the others
        assert value(made, "refreshd_refresh_lead_seconds_count", provider=name) is None
    made.set_providers([*names[1:], "new"])
    made(renewed(250, provider="new"))
    assert value(made, "refreshd_refresh_lead_seconds_count", provider="new") == 1


def test_a_provider_called_other_shares_its_series() -> None:
    """Two series of one name would cost the whole scrape."""
    made = busy(["other", *(f"p{number:03d}" for number in range(NAMED + 1))])
    assert value(made, "refreshd_refresh_lead_seconds_count", provider="other") == 2


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (renewed(200), "renewed"),
        (postponed(FailureKind.REJECTED), "rejected"),
        (postponed(FailureKind.MISCONFIGURED), "misconfigured"),
        (postponed(FailureKind.UNAVAILABLE), "unavailable"),
        (
            TokenNeedsReauth(
                token="xero:a", provider="xero", failure=failure(FailureKind.REJECTED), failures=2
            ),
            "rejected",
        ),
        (TokenSuperseded(token="xero:a", provider="xero", successor=True), "superseded"),
        (TokenUnparsed(token="xero:a", provider="xero", failure=failure(FailureKind.UNPARSED)), "unparsed"),
        (
            TokenStuck(
                token="xero:a", provider="xero", failure=failure(FailureKind.STUCK), due_at=NOW, failures=90
            ),
            "unavailable",
        ),
        (
            TokenUnreadable(
                token="xero:a", provider="xero", kind=FailureKind.UNREADABLE, code="c", message=""
            ),
            "unreadable",
        ),
        (
            TokenInDoubt(
                token="xero:a", provider="xero", failure=failure(FailureKind.IN_DOUBT), tries=1, due_at=NOW
            ),
            "unavailable",
        ),
    ],
)
def test_each_end_of_a_refresh_is_counted_once(event: Event, outcome: str) -> None:
    """Under its own outcome, and under no other."""
    made = metrics(event)
    counts = {
        sample.labels["outcome"]: sample.value
        for family in parse_text(made.expose("")[0].decode())
        for sample in family.samples
        if sample.name == "refreshd_refreshes_total" and sample.labels["provider"] == "xero"
    }
    assert {name: count for name, count in counts.items() if count} == {outcome: 1}
    assert value(made, "refreshd_in_doubt_total", **XERO) == float(isinstance(event, TokenInDoubt))


def test_the_lead_is_what_was_left_and_never_negative() -> None:
    """The SLO: a renewal after the old token's expiry counts as late, with a lead of zero."""
    made = metrics(renewed(250), renewed(15), renewed(-3), renewed(None), renewed(601))
    buckets = {
        bound: value(made, "refreshd_refresh_lead_seconds_bucket", provider="xero", le=bound)
        for bound in ("0.0", "15.0", "30.0", "60.0", "120.0", "180.0", "240.0", "300.0", "600.0", "+Inf")
    }
    assert list(buckets.values()) == [1, 2, 2, 2, 2, 2, 2, 3, 3, 4]
    assert value(made, "refreshd_refresh_lead_seconds_sum", **XERO) == 866
    assert value(made, "refreshd_late_renewals_total", **XERO) == 1
    assert value(made, "refreshd_refreshes_total", provider="xero", outcome="renewed") == 5


@pytest.mark.parametrize(
    ("lead", "window", "narrow"),
    [
        (60, timedelta(minutes=5), 0),
        (59.9, timedelta(minutes=5), 1),
        (59.9, timedelta(seconds=20), 0),
        (3.9, timedelta(seconds=20), 1),
        (-1, timedelta(minutes=5), 1),
        (-1, None, 1),
        (1, None, 0),
        (None, timedelta(minutes=5), 0),
    ],
)
def test_a_renewal_is_narrow_by_its_own_window(
    lead: float | None, window: timedelta | None, narrow: int
) -> None:
    """Less than a fifth of it was left: of five minutes for most, of less where tokens are short-lived."""
    assert value(metrics(renewed(lead, window=window)), "refreshd_narrow_renewals_total", **XERO) == narrow


def test_throttles_are_counted_by_provider() -> None:
    """Beside the outcome: `unavailable` alone would not tell them from an outage."""
    made = metrics(ProviderThrottled(provider="xero"), ProviderThrottled(provider="stranger"))
    assert value(made, "refreshd_throttled_total", **XERO) == 1
    assert value(made, "refreshd_throttled_total", provider="google") == 0
    assert value(made, "refreshd_throttled_total", provider="unknown") == 1


def test_durations_and_requests_under_way_are_per_provider() -> None:
    """What ProviderAnswered and InFlight say, seen as they say it."""
    made = metrics(
        ProviderAnswered(provider="xero", duration=timedelta(seconds=0.2)),
        ProviderAnswered(provider="xero", duration=timedelta(seconds=45)),
        InFlight(provider="xero", count=3),
        InFlight(provider="google", count=9),
        InFlight(provider="xero", count=2),
    )
    assert value(made, "refreshd_refresh_duration_seconds_sum", **XERO) == 45.2
    assert value(made, "refreshd_refresh_duration_seconds_bucket", provider="xero", le="0.25") == 1
    assert value(made, "refreshd_refresh_duration_seconds_bucket", provider="xero", le="+Inf") == 2
    assert value(made, "refreshd_in_flight", **XERO) == 2
    assert value(made, "refreshd_in_flight", provider="google") == 9


def test_sweeps_and_replays_are_counted() -> None:
    """Only a sweep that succeeded moves the timestamp."""
    made = metrics()
    assert value(made, "refreshd_last_sweep_success_timestamp_seconds") == 0
    made(SweepFailed(message="no primary"))
    assert value(made, "refreshd_last_sweep_success_timestamp_seconds") == 0
    made(SweepFinished(claimed=0, renewed=0, postponed=0, rejected=0, duration=timedelta(0), at=NOW))
    made(JournalReplayed(token="xero:a", result="superseded"))
    assert value(made, "refreshd_last_sweep_success_timestamp_seconds") == NOW.timestamp()
    assert value(made, "refreshd_sweeps_total", outcome="ok") == 1
    assert value(made, "refreshd_sweeps_total", outcome="failed") == 1
    assert value(made, "refreshd_journal_replayed_total", result="superseded") == 1


def test_bugs_are_counted_by_where_and_failed_passes_by_provider() -> None:
    """All from zero, so that the first one is a rate; a pass that works again is no failure."""
    made = metrics()
    assert {value(made, "refreshd_internal_errors_total", where=where) for where in WHERES} == {0}
    assert value(made, "refreshd_lane_failures_total", **XERO) == 0
    for failures in (1, 2, 0):
        made(LaneFailed(provider="xero", message="", failures=failures))
    made(InternalError(where="count", error=TypeError()))
    made(InternalError(where="a new job", error=TypeError()))
    assert value(made, "refreshd_lane_failures_total", **XERO) == 2
    assert value(made, "refreshd_internal_errors_total", where="count") == 1
    assert value(made, "refreshd_internal_errors_total", where="unknown") == 1


def test_the_journal_is_measured_by_state() -> None:
    """Every state is there, and no other."""
    made = metrics()
    made.set_journal_bytes({"unparsed": 9_000, "novel": 1})
    sizes = {state: value(made, "refreshd_journal_bytes", state=state) for state in JOURNAL_STATES}
    assert sizes == {"waiting": 0, "unparsed": 9_000, "superseded": 0, "unusable": 0}
    assert value(made, "refreshd_journal_bytes", state="novel") is None


def test_each_reason_for_a_pause_has_a_series() -> None:
    """The new ones too: an alert asks for them."""
    made = metrics(ProviderPaused(provider="xero", reason="unparsed", next_probe_at=NOW))
    assert set(PAUSE_REASONS) >= {"unparsed", "rejections"}
    seen = {
        reason: value(made, "refreshd_provider_paused", provider="xero", reason=reason)
        for reason in PAUSE_REASONS
    }
    assert {reason for reason, on in seen.items() if on} == {"unparsed"}


def test_the_gauges_of_the_store_say_their_age() -> None:
    """Zero before the first count, so that its age is seen even then. A large store is counted once an hour: after six, and
    an hour after the last look at what is due, only the age is left of them."""
    made = metrics()
    assert value(made, "refreshd_counted_timestamp_seconds") == 0
    made.set_statistics(replace(FULL, took=timedelta(seconds=6)))
    assert value(made, "refreshd_counted_timestamp_seconds") == NOW.timestamp()
    assert value(made, "refreshd_count_duration_seconds") == 6
    made.set_count_age(COUNT_KEPT, looked=LOOK_KEPT)
    assert value(made, "refreshd_expired_tokens", **XERO) == 1
    moment = timedelta(seconds=1)
    for ages in ((COUNT_KEPT + moment, LOOK_KEPT), (COUNT_KEPT, LOOK_KEPT + moment)):
        made.set_count_age(ages[0], looked=ages[1])
        for name in ("expired_tokens", "stuck_tokens", "set_aside_tokens", "held_tokens", "ending_tokens"):
            assert value(made, f"refreshd_{name}", **XERO) is None
        assert value(made, "refreshd_oldest_due_age_seconds") is None
    assert value(made, "refreshd_counted_timestamp_seconds") == NOW.timestamp()
    made.set_statistics(FULL)
    assert value(made, "refreshd_expired_tokens", **XERO) == 1


def test_the_store_is_down_until_it_is_up() -> None:
    """By the events and by the setter alike."""
    made = metrics()
    seen = [value(made, "refreshd_store_up")]
    made.set_store_up(True)
    seen.append(value(made, "refreshd_store_up"))
    made(StoreLost(message="no primary"))
    seen.append(value(made, "refreshd_store_up"))
    made(StoreBack())
    seen.append(value(made, "refreshd_store_up"))
    assert seen == [0, 1, 0, 1]


def test_what_is_not_known_is_absent_rather_than_zero() -> None:
    """No clock skew before a measurement, and no store-wide figure before the first statistics."""
    made = metrics()
    for name in ("clock_skew_seconds", "oldest_due_age_seconds"):
        assert value(made, f"refreshd_{name}") is None
    assert value(made, "refreshd_tokens", provider="xero", state="active") is None
    made.set_clock_skew(timedelta(seconds=-1.5))
    made.set_journal_entries(7)
    assert value(made, "refreshd_clock_skew_seconds") == -1.5
    assert value(made, "refreshd_journal_entries") == 7
    assert value(made, "refreshd_build_info", version="0.1.0") == 1


def test_store_wide_figures_fold_what_is_not_configured() -> None:
    """Counts of strangers are added up under `unknown`; of their ends the earliest is told."""
    made = metrics()
    made.set_statistics(FULL)
    assert value(made, "refreshd_tokens", provider="xero", state="active") == 5
    assert value(made, "refreshd_tokens", provider="xero", state="needs_reauth") == 1
    assert value(made, "refreshd_tokens", provider="other", state="needs_reauth") is None
    assert value(made, "refreshd_tokens", provider="google", state="active") is None
    assert value(made, "refreshd_tokens", provider="unknown", state="active") == 5
    assert value(made, "refreshd_tokens", provider="unknown", state="unknown") == 1
    assert value(made, "refreshd_set_aside_tokens", provider="unknown") == 5
    assert value(made, "refreshd_expired_tokens", **XERO) == 1
    assert value(made, "refreshd_held_tokens", **XERO) == 2
    assert value(made, "refreshd_ending_tokens", **XERO) == 3
    assert value(made, "refreshd_ending_tokens", provider="unknown") == 1
    assert value(made, "refreshd_oldest_due_age_seconds") == 12
    name = "refreshd_refresh_token_expiry_timestamp_seconds"
    assert value(made, name, **XERO) == NOW.timestamp()
    assert value(made, name, provider="unknown") == (NOW + timedelta(days=1)).timestamp()
    assert value(made, name, provider="google") is None


def test_nothing_outlives_its_cause() -> None:
    """After statistics of an empty store no figure of the full one is left. What was shown is zero for an alert that
    looks back."""
    made = metrics()
    made.set_statistics(FULL)
    assert value(made, "refreshd_tokens", provider="xero", state="active") == 5
    made.set_statistics(Statistics(at=NOW))
    assert value(made, "refreshd_tokens", provider="xero", state="active") == 0
    assert value(made, "refreshd_tokens", provider="unknown", state="unknown") == 0
    assert value(made, "refreshd_expired_tokens", **XERO) == 0
    assert value(made, "refreshd_oldest_due_age_seconds") == 0
    assert value(made, "refreshd_refresh_token_expiry_timestamp_seconds", **XERO) is None
    assert value(made, "refreshd_provider_paused", provider="xero", reason="outage") == 0


def test_a_pause_is_one_for_its_reason_alone() -> None:
    """Told by events at once, and by the statistics for what another replica decided."""
    made = metrics(ProviderPaused(provider="xero", reason="wrong_client", next_probe_at=NOW))
    assert value(made, "refreshd_provider_paused", provider="xero", reason="wrong_client") == 1
    made(ProviderPaused(provider="xero", reason="outage", next_probe_at=NOW))
    assert value(made, "refreshd_provider_paused", provider="xero", reason="wrong_client") == 0
    assert value(made, "refreshd_provider_paused", provider="xero", reason="outage") == 1
    made(ProviderResumed(provider="xero"))
    assert value(made, "refreshd_provider_paused", provider="xero", reason="outage") == 0
    made.set_statistics(Statistics(at=NOW, paused={"google": "operator"}))
    assert value(made, "refreshd_provider_paused", provider="google", reason="operator") == 1


def test_a_look_that_began_before_a_pause_does_not_end_it() -> None:
    """The figures of the store may be read before the event and arrive after it. The next look has seen the pause."""
    made = metrics()
    made.set_statistics(Statistics(at=NOW, looked_at=NOW, paused={"google": "operator"}))
    made(ProviderPaused(provider="xero", reason="outage", next_probe_at=None))
    made(ProviderResumed(provider="google"))
    for later, outage in ((timedelta(seconds=1), 1), (timedelta(seconds=2), 0)):
        paused = {"google": "operator"} if outage else {}
        made.set_statistics(Statistics(at=NOW, looked_at=NOW + later, paused=paused))
        assert value(made, "refreshd_provider_paused", provider="xero", reason="outage") == outage
        assert not value(made, "refreshd_provider_paused", provider="google", reason="operator")


def test_a_reload_brings_and_takes_providers() -> None:
    """A new one starts at zero, one that stays keeps its counts, one that is gone keeps them and counts nothing more."""
    made = metrics(renewed(1), renewed(1, provider="google"))
    made.set_providers(["xero", "pipedrive"])
    assert value(made, "refreshd_refreshes_total", provider="xero", outcome="renewed") == 1
    assert value(made, "refreshd_refreshes_total", provider="pipedrive", outcome="renewed") == 0
    made(renewed(1, provider="google"))
    assert value(made, "refreshd_refreshes_total", provider="google", outcome="renewed") == 1
    assert value(made, "refreshd_refreshes_total", provider="unknown", outcome="renewed") == 1


def test_no_sum_of_a_counter_goes_down_when_providers_come_and_go() -> None:
    """A dashboard that adds up all providers would show a fall, or an increase that never was after the return."""
    events = [*every_event(provider="google"), renewed(1, provider="google"), renewed(-1, provider="google")]
    made = metrics(*events)
    before = totals(made)
    assert before["refreshd_refreshes_total"] > 1
    for names in (["xero"], ["xero", "google"], ["xero"], ["google"], [], ["xero", "google"]):
        made.set_providers(names)
        assert totals(made) == before
    made(renewed(1, provider="google"))
    assert totals(made)["refreshd_refreshes_total"] == before["refreshd_refreshes_total"] + 1


def test_a_removed_provider_shows_what_was_counted_and_no_zeros() -> None:
    """Its zeros are for alerts on what is configured. As soon as it is back, they are too."""
    made = metrics(renewed(1, provider="google"), InFlight(provider="google", count=3))
    made.set_providers(["xero"])
    families = parse_text(made.expose("")[0].decode())
    rows = [
        (one.name, one.value)
        for family in families
        for one in family.samples
        if one.labels.get("provider") == "google"
    ]
    assert rows == [("refreshd_refreshes_total", 1), ("refreshd_narrow_renewals_total", 1)]
    assert value(made, "refreshd_in_flight", provider="google") is None
    made.set_providers(["xero", "google"])
    assert value(made, "refreshd_refreshes_total", provider="google", outcome="rejected") == 0


def test_of_many_removed_providers_the_first_are_forgotten() -> None:
    """A configuration that is written by a program may name another provider with every reload."""
    made = metrics()
    for number in range(REMOVED + 5):
        made.set_providers([f"p{number}"])
        made(renewed(1, provider=f"p{number}"))
    shown = {one.labels["provider"] for one in samples(made.expose("")[0], "refreshd_refreshes_total")}
    assert len(shown - {"unknown"}) <= REMOVED + 1
    assert {f"p{REMOVED + 4}", f"p{REMOVED + 3}"} <= shown
    assert "p0" not in shown


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text"])
def test_no_account_and_no_foreign_text_is_ever_shown(accept: str) -> None:
    """Whatever an event or a document holds: a label is a name that we know, else `unknown`."""
    made = metrics(*every_event(), *every_event(provider=CANARY))
    foreign = {CANARY: 1}
    made.set_statistics(
        Statistics(
            at=NOW,
            states={CANARY: foreign, "xero": foreign},
            expired=foreign,
            stuck=foreign,
            set_aside=foreign,
            held=foreign,
            refresh_token_expiry={CANARY: NOW},
            paused={CANARY: CANARY, "xero": CANARY},
        )
    )
    text = made.expose(accept)[0].decode()
    assert CANARY not in text
    assert "xero:" not in text


# ------------------------------------------------------------------------------- anomalies


def anomaly(kind: AnomalyKind, **fields: object) -> AnomalyDetected:
    return AnomalyDetected(kind=kind, key=CANARY, count=7, at=NOW, message=CANARY, name=CANARY, **fields)  # type: ignore[arg-type]


def test_each_anomaly_counts_as_one_and_its_kinds_start_at_zero():
    """The first of a key and hour, and those after it; each process has the kinds that it can find."""
    made = metrics()
    kind = AnomalyKind.REUSE_REFUSED
    assert {one.labels["kind"] for one in samples(made.expose("")[0], "refreshd_anomalies_total")} == set(
        OF_DAEMON
    )
    assert value(made, "refreshd_anomalies_total", kind=kind) == 0
    made(anomaly(kind))
    made(anomaly(kind, repeated=True))
    assert value(made, "refreshd_anomalies_total", kind=kind) == 2


def test_the_access_service_counts_its_own_kinds_and_names_nobody():
    made = AccessMetrics(["token"], version="1")
    for kind in OF_ACCESS:
        made(anomaly(kind))
        made(anomaly(kind, repeated=True))
    text = made.exposition("")[0]
    found = {one.labels["kind"]: one.value for one in samples(text, "refreshd_anomalies_total")}
    assert found == dict.fromkeys(OF_ACCESS, 2.0)
    assert CANARY.encode() not in text


def test_refused_jwts_are_counted_from_zero():
    """Prometheus sees no increase from nothing to one."""
    name = "refreshd_access_exchange_failures_total"
    made = AccessMetrics(["token"], version="1", rules=["ci"])
    before = samples(made.exposition("")[0], name)
    assert {one.value for one in before} == {0.0}
    assert {one.labels["issuer"] for one in before} == {"ci", "unknown"}
    made.refused_jwt("ci", Fault.AUDIENCE)
    after = samples(made.exposition("")[0], name)
    assert len(after) == len(before)
    assert [one.labels["reason"] for one in after if one.value] == ["audience"]
    assert samples(AccessMetrics(["token"], version="1").exposition("")[0], name) == []


def samples(text: bytes, name: str) -> list[Sample]:
    families = parse_text(text.decode())
    return [one for family in families for one in family.samples if one.name == name]
