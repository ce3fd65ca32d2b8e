"""What one process did within the last hour, by minutes, in a memory that does not grow."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.adapters.telemetry.last_hour import LastHour
from daemon.domain import event
from daemon.domain.store_event import StoreBack
from daemon.domain.token import Failure, FailureKind

MINUTE = timedelta(minutes=1)
NOW = datetime(2026, 11, 21, tzinfo=UTC)
WHO = {"token": "a:1", "provider": "a"}
WHY = {"code": "c", "message": "m"}


class Boot:
    def __init__(self) -> None:
        self.now = timedelta(minutes=7, seconds=30)

    def __call__(self) -> timedelta:
        return self.now


@pytest.fixture
def boot() -> Boot:
    return Boot()


def failure(kind: FailureKind) -> Failure:
    return Failure(**WHY, kind=kind, at=NOW)


def renewed(lead: float | None) -> event.TokenRenewed:
    left = None if lead is None else timedelta(seconds=lead)
    return event.TokenRenewed(**WHO, revision=2, duration=None, lead=left, expires_at=None, rotated=True)


def test_nothing_happened_yet(boot: Boot) -> None:
    """Also in the first minutes after the machine has booted."""
    told = LastHour(boot).snapshot()
    assert (told.outcomes, told.late) == ({}, 0)
    assert told.shortest_lead == told.mean_lead == [None] * 60


def test_each_minute_keeps_its_outcomes_and_leads(boot: Boot) -> None:
    """The current minute is the last one; a negative lead is late."""
    hour = LastHour(boot)
    for lead in (300, 100, None):
        hour(renewed(lead))
    boot.now += 3 * MINUTE
    hour(renewed(-5))
    told = hour.snapshot()
    assert told.outcomes == {"renewed": [0] * 56 + [3, 0, 0, 1]}
    assert told.shortest_lead[56:] == [timedelta(seconds=100), None, None, timedelta(seconds=-5)]
    assert told.mean_lead[56] == timedelta(seconds=200)
    assert told.late == 1


def test_every_end_of_a_refresh_is_an_outcome(boot: Boot) -> None:
    """Failures by their kind, as the stored documents name them; what ends no refresh is none."""
    hour = LastHour(boot)
    ends = [
        renewed(1),
        event.TokenSuperseded(**WHO, successor=False),
        event.TokenInDoubt(**WHO, failure=failure(FailureKind.IN_DOUBT), tries=1, due_at=NOW),
        event.TokenUnparsed(**WHO, failure=failure(FailureKind.UNPARSED)),
        event.TokenPostponed(**WHO, failure=failure(FailureKind.UNAVAILABLE), due_at=NOW, failures=1),
        event.TokenPostponed(**WHO, failure=failure(FailureKind.MISCONFIGURED), due_at=NOW, failures=1),
        event.TokenNeedsReauth(**WHO, failure=failure(FailureKind.REJECTED), failures=1),
        event.TokenUnreadable(**WHO, **WHY, kind=FailureKind.UNCONFIGURED),
    ]
    for one in (*ends, StoreBack(), event.ProviderResumed(provider="a")):
        hour(one)
    assert {name: counts[-1] for name, counts in hour.snapshot().outcomes.items()} == dict.fromkeys(
        ("renewed", "superseded", "in_doubt", "unparsed", "unavailable", "misconfigured", "rejected", "unconfigured"), 1
    )  # fmt: skip


def test_what_is_older_than_an_hour_is_gone(boot: Boot) -> None:
    """Minute by minute, and all at once after a long silence."""
    hour = LastHour(boot)
    hour(renewed(10))
    boot.now += 59 * MINUTE
    hour(renewed(20))
    assert hour.snapshot().outcomes == {"renewed": [1] + [0] * 58 + [1]}
    boot.now += MINUTE
    assert hour.snapshot().outcomes == {"renewed": [0] * 58 + [1, 0]}
    boot.now += 600 * MINUTE
    assert hour.snapshot().outcomes == {}
    hour(renewed(30))
    assert hour.snapshot().outcomes == {"renewed": [0] * 59 + [1]}
