"""What a daemon says of itself: which checks fail when, how old its figures are, and who rests."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from daemon.adapters.telemetry.metrics import Metrics
from daemon.domain.circuit_breaker import Pause, Reason
from daemon.domain.claim import StoreLost
from daemon.domain.event import LaneFailed, SweepFinished
from daemon.domain.key_use import KeyUse
from daemon.domain.provider import Definition, Provider
from daemon.domain.statistics import Statistics
from daemon.runtime.config.settings import RefreshSettings
from daemon.runtime.web.status import STRANGERS, DaemonStatus

AT = datetime(2026, 11, 21, 4, 0, tzinfo=UTC)
SWEPT = SweepFinished(claimed=0, renewed=0, postponed=0, rejected=0, duration=timedelta(0), at=AT)


def configured(name: str) -> Provider:
    definition = Definition(name=name, title=name, token_url=f"https://{name}.example/token")
    return Provider(definition=definition, client_id="me")


class Clock:
    """Stands still until it is moved."""

    skew = timedelta(0)

    def __init__(self) -> None:
        self.passed = timedelta(0)

    def boot(self) -> timedelta:
        return timedelta(hours=1) + self.passed

    def now(self) -> datetime:
        return AT + self.passed


class Mongo:
    up = True
    misplaced = None

    async def hello(self) -> Mapping[str, object]:
        return {}


class Ring:
    active = "2026-11"

    def seal(self, text: str, **_: str) -> str:
        return text

    open = seal


class Stage:
    """A view of parts that are as the test has them."""

    def __init__(self, *providers: str) -> None:
        self.clock = Clock()
        self.lanes = {name: SimpleNamespace(in_flight={}) for name in providers}
        self.sweeper = SimpleNamespace(lanes=self.lanes, paused={})
        self.metrics = Metrics(providers=providers, version="0")
        settings: Any = SimpleNamespace(
            refresh=RefreshSettings(),
            store=SimpleNamespace(max_clock_skew=timedelta(seconds=30)),
            caution="it is old",
            keys=SimpleNamespace(ring={}, max_age=timedelta(days=90)),
        )
        self.view = DaemonStatus(settings, instance="i-1")
        parts: Any = SimpleNamespace(
            clock=self.clock,
            mongo=Mongo(),
            journal=SimpleNamespace(count=0, trouble=None, bytes_by_state={}),
            sweeper=self.sweeper,
            metrics=self.metrics,
            last_hour=SimpleNamespace(
                snapshot=lambda: SimpleNamespace(outcomes={}, shortest_lead=[], mean_lead=[], late=0)
            ),
            keys=SimpleNamespace(ring=Ring(), wrong=None),
        )
        self.view.parts = parts
        self.view.providers = {name: configured(name) for name in providers}
        self.view.started(AT)
        self.view(SWEPT)

    def counted(self, *, took: timedelta = timedelta(seconds=1), **figures: Any) -> None:
        at = self.clock.now()
        self.clock.passed += took
        self.view.counted(Statistics(at=at, looked_at=at, took=took, **figures))

    async def failing(self) -> set[str]:
        return {name for name, (ok, _) in (await self.view.readiness()).items() if not ok}


async def test_what_the_settings_risk_is_in_the_status():
    """It makes nothing unready."""
    stage = Stage()
    assert (await stage.view.status())["warnings"] == ["it is old"]
    assert await stage.failing() == set()


def test_ages_need_no_mongodb():
    """After a start without it the store's time is unknown, and the metrics of the journal matter most."""
    stage = Stage()
    stage.clock.skew = None  # type: ignore[assignment]
    stage.clock.now = lost  # type: ignore[method-assign]
    ring: Any = {"old": SimpleNamespace(created=date(2020, 1, 1), use=KeyUse.ALL)}
    stage.view.keys = SimpleNamespace(ring=ring, max_age=timedelta(days=90))  # type: ignore[assignment]
    assert b"refreshd_journal_entries" in shown(stage)


def shown(stage: Stage) -> bytes:
    """What a scrape would get, were no text of this second kept."""
    return b"".join(stage.view.pieces("")[0])


def lost() -> datetime:
    raise StoreLost("MongoDB has not answered yet")


async def test_an_old_key_and_an_old_client_secret_are_in_the_status():
    """And in the metrics, by the store's clock. One day less is no warning, nor is an unknown day."""
    stage = Stage()
    today = AT.date()
    old, young = today - timedelta(days=91), today - timedelta(days=90)
    created = {"old": old, "young": young, "undated": None, "wrong": today + timedelta(days=400)}
    ring: Any = {name: SimpleNamespace(created=day, use=KeyUse.ALL) for name, day in created.items()}
    ring["leaving"] = SimpleNamespace(created=old, use=KeyUse.OPEN)
    stage.view.keys = SimpleNamespace(ring=ring, max_age=timedelta(days=90, hours=23))  # type: ignore[assignment]
    stage.view.providers = {
        name: replace(configured(name), client_secret_created=day)
        for name, day in (("xero", old), ("google", young), ("zoho", today + timedelta(days=1)))
    }
    assert (await stage.view.status())["warnings"] == [
        "it is old",
        "the key 'old' is 91 days old: rotate it",
        "the key 'leaving' is 91 days old: retire it",
        "the client secret of xero is 91 days old: make a new one",
        f"the date of the key 'wrong', {created['wrong']}, is yet to come: correct it",
    ]
    lines = shown(stage).decode().splitlines()
    ages = {line.split()[0]: float(line.split()[1]) for line in lines if "_age_seconds{" in line}
    assert ages['refreshd_key_age_seconds{key="wrong"}'] == 0
    assert ages['refreshd_key_age_seconds{key="old"}'] // 86_400 == 91
    assert ages['refreshd_client_secret_age_seconds{provider="xero"}'] // 86_400 == 91
    assert not [name for name in ages if "undated" in name]
    assert "refreshd_key_max_age_seconds 7.8588e+06" in lines


async def test_a_lane_that_fails_three_times_in_a_row_makes_it_not_ready():
    """The detail names it; a pass that works again ends it."""
    stage = Stage("xero", "google")
    for failures in (1, 2):
        stage.view(LaneFailed(provider="xero", message="TypeError", failures=failures))
        assert await stage.failing() == set()
    stage.view(LaneFailed(provider="xero", message="TypeError", failures=3))
    assert await stage.failing() == {"lanes"}
    _, detail = (await stage.view.readiness())["lanes"]
    assert detail.endswith("are stuck: xero")
    status: Any = await stage.view.status()
    assert (status["ready"], status["providers"]["xero"]["failed_passes"]) == (False, 3)
    stage.view(LaneFailed(provider="xero", message="", failures=0))
    assert await stage.failing() == set()


async def test_a_lane_that_is_not_configured_any_more_keeps_nothing_back():
    """A reload took the provider away. If another one brings it back, it starts without failures."""
    stage = Stage("xero", "google")
    stage.view(LaneFailed(provider="xero", message="TypeError", failures=9))
    stage.view.use({"google": configured("google")})
    assert await stage.failing() == set()
    stage.view.use({"google": configured("google"), "xero": configured("xero")})
    assert await stage.failing() == set()


async def test_the_readiness_of_a_lane_does_not_depend_on_its_provider():
    """One that rests for an outage, with all its tokens expired, is no reason to send the work elsewhere."""
    stage = Stage("xero")
    stage.counted(paused={"xero": "outage"}, expired={"xero": 9}, states={"xero": {"active": 9}})
    assert await stage.failing() == set()


async def test_while_draining_its_status_is_not_ready():
    """Though every check passes."""
    stage = Stage("xero")
    assert (await stage.view.status())["ready"] is True
    stage.view.draining = True
    status = await stage.view.status()
    assert (status["ready"], status["draining"]) == (False, True)


@pytest.mark.parametrize(
    ("took", "after", "late"),
    [(1, 6, False), (1, 8, True), (6, 16, False), (6, 18, True), (30, 60, False), (30, 70, True)],
)
async def test_a_count_is_late_by_what_the_last_one_took(took: int, after: int, late: bool):
    """Minutes after a count of so many seconds: a large store is counted more rarely, by design."""
    stage = Stage("xero")
    stage.counted(took=timedelta(seconds=took))
    stage.clock.passed += timedelta(minutes=after)
    status: Any = await stage.view.status()
    assert status["counted_age_seconds"] == after * 60 + took
    assert status["count_late"] is late


async def test_a_store_that_was_never_counted_is_late_after_five_minutes():
    """Counted from the start."""
    stage = Stage("xero")
    assert (await stage.view.status())["count_late"] is False
    stage.clock.passed += timedelta(minutes=6)
    status = await stage.view.status()
    assert (status["count_late"], status["counted_age_seconds"]) == (True, None)


async def test_the_gauges_of_a_count_go_with_their_hour():
    """What a scrape shows of the store is never older than that."""
    stage = Stage("xero")
    stage.counted(expired={"xero": 2})
    assert b'refreshd_expired_tokens{provider="xero"} 2.0' in shown(stage)
    stage.clock.passed += timedelta(minutes=61)
    text = shown(stage).decode()
    assert "refreshd_expired_tokens" not in text
    [at] = [line.split()[1] for line in text.splitlines() if line.startswith("refreshd_counted_timestamp")]
    assert float(at) == AT.timestamp()


async def test_who_rests_is_what_the_last_sweep_saw():
    """With its next probe; the count is older, and speaks only for providers that are not configured."""
    stage = Stage("xero", "google")
    stage.counted(paused={"google": "operator", "old": "outage"}, states={"old": {"active": 1}})
    probe = AT + timedelta(seconds=40)
    stage.sweeper.paused = {"xero": Pause(reason=Reason.UNPARSED, next_probe_at=probe)}
    providers: Any = (await stage.view.status())["providers"]
    assert (providers["xero"]["paused"], providers["xero"]["next_probe_at"]) == (
        "unparsed",
        "2026-11-21T04:00:40.000Z",
    )
    assert providers["google"]["paused"] is None
    assert providers["old"]["paused"] == "outage"


async def test_documents_of_any_number_of_providers_do_not_fill_the_status():
    """Those that are configured are all there; of the others some, and how many more there are."""
    stage = Stage("xero")
    stage.counted(states={f"made-up-{n}": {"active": 1} for n in range(30_000)})
    status: Any = await stage.view.status()
    assert len(status["providers"]) == 1 + STRANGERS
    assert "xero" in status["providers"]
    assert status["providers_left_out"] == 30_000 - STRANGERS


async def test_a_client_whose_secret_has_not_come_makes_it_not_ready():
    """The check names the source, and passes again with the secret."""
    stage = Stage("google", "xero")
    why = "vault secret/xero#client: it can't be reached"
    stage.view.providers = {"google": configured("google"), "xero": replace(configured("xero"), lacking=why)}
    ok, detail = (await stage.view.readiness())["secrets"]
    assert not ok
    assert why in detail
    stage.view.providers = {name: configured(name) for name in ("google", "xero")}
    assert (await stage.view.readiness())["secrets"] == (True, "every secret has come")
