"""A large store's renewals are told in a sample, and so are documents that no one can read; other trouble has its line."""

import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from daemon.adapters.telemetry.event_log import configure
from daemon.adapters.telemetry.log_sampling import AT_ONCE, LINES_A_SECOND, LOST_AT_ONCE, SampledLog
from daemon.domain.event import Event, HookCounted, OwnerEventsLost, TokenHeld, TokenRenewed, TokenUnreadable
from daemon.domain.hook import Outcome
from daemon.domain.token import FailureKind

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Told:
    """A sampled log, its clock, and the lines that it wrote."""

    def __init__(self, level="info"):
        self.stream, self.boot = io.StringIO(), timedelta(hours=1)
        log = configure(format="json", level=level, stream=self.stream)
        self.log = SampledLog(log, boot=lambda: self.boot)

    def renew(self, count: int) -> None:
        for number in range(count):
            self.log(renewed(number))

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def count(self, event: str) -> int:
        return sum(line["event"] == event for line in self.lines)


@pytest.fixture
def told() -> Told:
    return Told()


def renewed(number: int) -> Event:
    return TokenRenewed(
        token=f"acme:{number}",
        provider="acme",
        revision=2,
        duration=None,
        lead=None,
        expires_at=NOW,
        rotated=True,
    )


def unreadable(number: int) -> Event:
    return TokenUnreadable(
        token=f"invented-{number}:1",
        provider=f"invented-{number}",
        kind=FailureKind.UNCONFIGURED,
        code="unknown_provider",
        message="its provider is not configured",
    )


def test_few_renewals_are_told_one_by_one(told):
    """A herd of a small store, and as many a second as the log takes for good."""
    told.renew(AT_ONCE)
    for _ in range(10):
        told.boot += timedelta(seconds=1)
        told.renew(LINES_A_SECOND)
    told.log.report_left_out()
    assert told.count("token.renewed") == len(told.lines) == AT_ONCE + 10 * LINES_A_SECOND


def test_of_many_renewals_a_sample_is_told_and_the_others_are_counted(told):
    """Three thousand a second for ten seconds: not one is lost from the sum."""
    for _ in range(10):
        told.boot += timedelta(seconds=1)
        told.renew(3000)
    told.log.report_left_out()
    [left_out] = [line for line in told.lines if line["event"] == "log.left_out"]
    assert told.count("token.renewed") == AT_ONCE + 9 * LINES_A_SECOND
    assert (left_out["of"], left_out["count"]) == ("token.renewed", 30_000 - told.count("token.renewed"))
    told.log.report_left_out()
    assert told.count("log.left_out") == 1


def test_a_pause_between_renewals_saves_no_more_than_one_herd(told):
    """An hour without any."""
    told.renew(AT_ONCE)
    told.boot += timedelta(hours=1)
    told.renew(3 * AT_ONCE)
    assert told.count("token.renewed") == 2 * AT_ONCE


def test_trouble_is_never_left_out(told):
    """Beside as many renewals as one likes."""
    told.renew(2 * AT_ONCE)
    for number in range(100):
        told.log(TokenHeld(token=f"acme:{number}", provider="acme", owner="me", hold=NOW))
    assert told.count("token.held") == 100


def test_whoever_writes_odd_documents_does_not_write_the_log(told):
    """30,000 documents of invented providers, beside as many renewals as the log takes."""
    told.renew(AT_ONCE)
    for number in range(30_000):
        told.log(unreadable(number))
    told.boot += timedelta(seconds=1)
    told.renew(LINES_A_SECOND)
    told.log.report_left_out()
    assert told.count("token.renewed") == AT_ONCE + LINES_A_SECOND
    assert told.count("token.unreadable") == AT_ONCE
    [left_out] = [line for line in told.lines if line["event"] == "log.left_out"]
    assert (left_out["of"], left_out["count"]) == ("token.unreadable", 29_000)


def lost(number: int, *, malformed: int = 0, pushed_out: int = 0) -> Event:
    return OwnerEventsLost(token=f"acme:{number}", malformed=malformed, pushed_out=pushed_out)


def strange(hook: str) -> Event:
    return HookCounted(hook=hook, outcome=Outcome.MALFORMED)


def test_whoever_stores_wrong_events_does_not_write_the_log(told):
    """One in each second for a day, in a token and in the outbox of a hook: some lines, then one a minute, and a count."""
    for second in range(24 * 3600):
        told.boot += timedelta(seconds=1)
        told.log(lost(second, malformed=1))
        told.log(strange("crm"))
    told.log.report_left_out()
    lines = LOST_AT_ONCE + 24 * 60
    for event in ("events.lost", "hook.malformed"):
        assert lines - 1 <= told.count(event) <= lines + 1
        [left_out] = [line for line in told.lines if line["event"] == "log.left_out" and line["of"] == event]
        assert left_out["count"] == 24 * 3600 - told.count(event)


def test_a_flood_of_one_cause_hides_no_other(told):
    """Events that were pushed out are a loss; those of another hook are another program's."""
    for number in range(1000):
        told.log(lost(number, malformed=1))
        told.log(strange("crm"))
    before = len(told.lines)
    told.log(lost(1, pushed_out=3))
    told.log(strange("erp"))
    told.log(HookCounted(hook="crm", outcome=Outcome.REFUSED, failures=1))
    assert [line["event"] for line in told.lines[before:]] == ["events.lost", "hook.malformed", "hook.failed"]


def test_at_level_debug_every_renewal_is_told():
    """For who needs them all."""
    told = Told("debug")
    told.renew(3 * AT_ONCE)
    told.log.report_left_out()
    assert told.count("token.renewed") == len(told.lines) == 3 * AT_ONCE
