"""Which events a hook receives, and when the next attempt is made."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.hook import (
    FAILING,
    FIRST,
    LAST,
    Attempt,
    Health,
    Outcome,
    Route,
    matched_types,
    pause_after,
)
from daemon.domain.owner_event import Actor, OwnerEvent, OwnerEventType

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
EVENT = OwnerEvent(
    id="e1", type=OwnerEventType.NEEDS_REAUTH, at=NOON, who_acts=Actor.OWNER, provider="xero", token="xero:a"
)
REFUSED, GONE = Attempt(outcome=Outcome.REFUSED, status=500), Attempt(outcome=Outcome.GONE, status=410)
DELIVERED = Attempt(outcome=Outcome.DELIVERED, status=200)


@pytest.mark.parametrize(
    ("route", "changes", "takes"),
    [
        (Route(name="a"), {}, True),
        (Route(name="a", events=("token.*",)), {}, True),
        (Route(name="a", events=("provider.*", "token.needs_reauth")), {}, True),
        (Route(name="a", events=("provider.*",)), {}, False),
        (Route(name="a", providers=("xero",)), {}, True),
        (Route(name="a", providers=("zoho",)), {}, False),
        (Route(name="a", providers=("xero",)), {"provider": None}, False),
        (Route(name="a"), {"provider": None}, True),
        (Route(name="a"), {"type": OwnerEventType.HOOK_TEST}, False),
        (Route(name="a"), {"type": OwnerEventType.HOOK_DISABLED, "code": "a"}, False),
        (Route(name="b"), {"type": OwnerEventType.HOOK_DISABLED, "code": "a"}, True),
    ],
)
def test_a_hook_takes_what_its_filters_let_through(route: Route, changes: dict[str, Any], takes: bool):
    assert route.takes(replace(EVENT, **changes)) is takes


def test_a_glob_without_a_type_is_found():
    """A wrong filter would silence a hook without a word."""
    assert OwnerEventType.REVOKED in matched_types("token.*")
    assert matched_types("tokens.*") == []


@given(failures=st.integers(1, 10_000), chance=st.floats(0, 1))
def test_a_pause_lies_between_five_seconds_and_an_hour(failures: int, chance: float):
    assert FIRST <= pause_after(failures, chance=chance) <= LAST


def test_pauses_double_and_a_longer_wish_of_the_receiver_is_kept():
    pauses = [pause_after(n, chance=1.0) // SECOND for n in (1, 2, 3, 4, 10, 11, 50)]
    assert pauses == [5, 10, 20, 40, 2560, 3600, 3600]
    assert pause_after(3, chance=0.0) == 10 * SECOND
    assert pause_after(1, chance=1.0, retry_after=2 * HOUR) == 2 * HOUR
    assert pause_after(11, chance=1.0, retry_after=SECOND) == HOUR


def after(health: Health, attempt: Attempt, now: datetime, *, sent_at: datetime | None = None) -> Health:
    return health.after(attempt, sent_at=sent_at or now, now=now, chance=1.0, configuration="c1")


def test_a_single_failure_holds_up_no_other_event():
    """The receiver may refuse just this one."""
    once = after(Health(), REFUSED, NOON)
    assert (once.failures, once.rest(NOON), once.at_once) == (1, timedelta(0), True)


def test_a_receiver_that_fails_again_and_again_rests_and_is_tried_one_by_one():
    health = Health()
    for _ in range(FAILING):
        health = after(health, REFUSED, NOON)
    assert (health.failures, health.rest(NOON), health.at_once) == (3, 20 * SECOND, False)
    assert after(health, DELIVERED, NOON) == Health()


def test_failures_of_requests_that_were_on_their_way_together_count_once():
    """Else one short outage with eight requests would mean a rest of ten minutes."""
    health = Health()
    for number in range(8):
        health = after(health, REFUSED, NOON + MINUTE + number * SECOND, sent_at=NOON)
    assert health.failures == 1


def test_a_wait_that_the_receiver_asks_for_holds_up_all():
    slow = Attempt(outcome=Outcome.THROTTLED, status=429, retry_after=2 * MINUTE)
    assert after(Health(), slow, NOON).rest(NOON) == 2 * MINUTE
    assert after(Health(), replace(slow, retry_after=None), NOON).rest(NOON) == 5 * SECOND


def test_three_times_gone_over_an_hour_disables_until_the_configuration_changes():
    health = Health()
    for minutes in (0, 10, 59):
        health = after(health, GONE, NOON + minutes * MINUTE)
        assert not health.disabled_for("c1")
    health = after(health, GONE, NOON + HOUR)
    assert health.disabled_for("c1")
    assert not health.disabled_for("c2")


def test_twice_gone_is_not_enough_however_long_it_lasts():
    health = after(after(Health(), GONE, NOON), GONE, NOON + 5 * HOUR)
    assert not health.disabled_for("c1")


def test_another_answer_in_between_begins_the_hour_anew():
    health = Health()
    for attempt, minutes in ((GONE, 0), (GONE, 30), (REFUSED, 45), (GONE, 61), (GONE, 62), (GONE, 63)):
        health = after(health, attempt, NOON + minutes * MINUTE)
    assert not health.disabled_for("c1")


def test_an_answer_to_a_request_of_before_does_not_enable_a_hook_again():
    """Two replicas may have had one on its way each."""
    health = Health()
    for minutes in (0, 30, 60):
        health = after(health, GONE, NOON + minutes * MINUTE)
    late = after(health, GONE, NOON + 61 * MINUTE, sent_at=NOON + 59 * MINUTE)
    assert late.disabled_for("c1")
