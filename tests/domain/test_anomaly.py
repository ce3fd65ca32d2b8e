"""The rules that find anomalies: for each a scenario that fires, and one close to it that does not."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.domain.anomaly import AnomalyKind, Once, network_of
from daemon.domain.auth_failures import EVERYWHERE, AuthFailures
from daemon.domain.device import is_other_device
from daemon.domain.event import AnomalyDetected
from daemon.domain.habit import MOST_HOURS, MOST_NETWORKS, Habit, Seen

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
HOME, CAFE = "10.0.0.0/24", "203.0.113.0/24"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", CAFE),
        ("::ffff:203.0.113.77", CAFE),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("::1", "::/48"),
        ("unix", "unix"),
        ("", None),
        ("203.0.113", None),
        ("203.0.113.7, 10.0.0.1", None),
        ("$where", None),
        ("1" * 10_000, None),
    ],
)
def test_the_network_of_an_address(address, network):
    assert network_of(address) == network


def test_an_event_has_the_same_id_for_an_hour():
    def event(at):
        return AnomalyDetected(kind=AnomalyKind.READ_BURST, key="k", count=1, at=at, message="m")

    assert event(NOON).id == event(NOON + 59 * MINUTE).id == "anomaly:read_burst:k:2026-11-29T12"
    assert event(NOON).id != event(NOON + HOUR).id


def test_once_an_hour_and_no_more_memory_than_allowed():
    once = Once(most=2)
    assert once.is_first("a", "k", hour=NOON)
    assert not once.is_first("a", "k", hour=NOON)
    assert once.is_first("b", "k", hour=NOON)
    assert once.is_first("a", "k", hour=NOON + HOUR)
    assert once.is_first("c", "k", hour=NOON)
    assert once.is_first("b", "k", hour=NOON)  # forgotten


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize(
    ("since", "last_seen", "is_new"),
    [
        (NOON - DAY, None, True),
        (NOON - DAY, NOON - 30 * DAY - SECOND, True),
        (NOON - DAY, NOON - 30 * DAY, False),
        (NOON - DAY + SECOND, None, False),  # still learned
        (None, None, False),  # never used before
    ],
)
def test_a_network_is_new_after_a_day_of_learning_and_thirty_days_without_it(since, last_seen, is_new):
    known = {HOME: NOON - HOUR} | ({CAFE: last_seen} if last_seen else {})
    habit = Habit(since=since, networks=known)
    assert list(habit.new_networks({HOME: NOON, CAFE: NOON})) == ([CAFE] if is_new else [])


def test_a_key_that_comes_from_everywhere_has_no_new_network():
    networks = {f"10.0.{n}.0/24": NOON for n in range(MOST_NETWORKS)}
    assert list(Habit(since=NOON - DAY, networks=networks).new_networks({CAFE: NOON})) == []
    del networks["10.0.0.0/24"]
    assert list(Habit(since=NOON - DAY, networks=networks).new_networks({CAFE: NOON})) == [CAFE]


# ---------------------------------------------------------------- reads


@pytest.mark.parametrize(
    ("usual", "count", "is_burst"),
    [
        (40, 401, True),
        (40, 400, False),  # ten times, and not more
        (2, 101, True),
        (2, 100, False),  # far above ten times its usual hour, and still few
    ],
)
def test_a_burst_is_over_ten_usual_hours_and_over_a_hundred(usual, count, is_burst):
    habit = Habit(since=NOON - 8 * DAY, reads={NOON - n * HOUR: usual for n in range(1, 30)})
    assert habit.is_burst(NOON, count) is is_burst


def test_hours_without_reads_and_hours_of_last_week_are_not_usual():
    reads = {NOON - 7 * DAY - HOUR: 9000, NOON - 7 * DAY: 60, NOON - DAY: 20, NOON: 500}
    assert Habit(since=NOON - 9 * DAY, reads=reads).usual_reads(NOON) == 40


def test_a_key_that_rested_for_a_week_may_not_wake_up_with_a_burst():
    assert Habit(since=NOON - 30 * DAY).is_burst(NOON, 101)


def test_the_first_day_of_a_key_is_no_burst():
    assert not Habit(since=NOON - DAY + SECOND).is_burst(NOON, 5000)
    assert not Habit().is_burst(NOON, 5000)


def test_what_is_not_stored_yet_is_bounded():
    seen = Seen("app")
    for n in range(300):
        seen.note(f"10.{n // 256}.{n % 256}.0/24", NOON + n * HOUR, reads=1)
    assert (len(seen.networks), len(seen.reads)) == (MOST_NETWORKS, MOST_HOURS)
    seen.note("10.0.0.0/24", NOON + MINUTE, reads=1)
    assert (seen.networks["10.0.0.0/24"], seen.reads[NOON]) == (NOON + MINUTE, 2)


# ---------------------------------------------------------------- failures


def test_ten_failures_of_one_address_in_a_minute():
    """The tenth is reported if it comes within a minute of the first."""
    failures = AuthFailures()
    many_requests(failures)
    found = [list(failures.failed("10.0.0.1", 6 * SECOND * n)) for n in range(10)]
    assert found == [[]] * 9 + [[("10.0.0.1", 10)]]


def test_nine_in_a_minute_and_ten_of_several_addresses_are_not_many():
    failures = AuthFailures()
    many_requests(failures)
    assert not any([*failures.failed("10.0.0.1", 7 * SECOND * n)] for n in range(12))
    assert not any([*failures.failed(f"10.0.1.{n}", timedelta(0))] for n in range(12))


def test_one_in_twenty_requests_within_five_minutes():
    failures = AuthFailures()
    many_requests(failures, 399)
    found = [list(failures.failed(f"10.0.0.{n}", timedelta(0))) for n in range(20)]
    assert found == [[]] * 19 + [[(EVERYWHERE, 20)]]


def test_fewer_than_one_in_twenty_are_silent_and_so_are_few_requests():
    failures = AuthFailures()
    many_requests(failures, 400)
    assert not any([*failures.failed(f"10.0.0.{n}", timedelta(0))] for n in range(20))
    alone = AuthFailures()
    assert not any([*alone.failed(f"10.0.0.{n}", timedelta(0))] for n in range(19))


def test_failures_of_more_than_five_minutes_ago_count_no_more():
    failures = AuthFailures()
    for n in range(19):
        list(failures.failed(f"10.0.0.{n}", timedelta(0)))
    assert list(failures.failed("10.0.0.99", 5 * MINUTE)) == []
    within = AuthFailures()
    for n in range(19):
        list(within.failed(f"10.0.0.{n}", timedelta(0)))
    assert list(within.failed("10.0.0.99", 5 * MINUTE - SECOND)) == [(EVERYWHERE, 20)]


def test_the_memory_for_addresses_is_bounded(monkeypatch):
    monkeypatch.setattr("daemon.domain.auth_failures.MOST_ADDRESSES", 3)
    failures = AuthFailures()
    for n in range(50):
        list(failures.failed(f"10.0.0.{n}", n * MINUTE))
    assert (len(failures._times), len(failures._slices)) == (3, 5)


def many_requests(failures: AuthFailures, count: int = 10_000) -> None:
    for _ in range(count):
        failures.answered(timedelta(0))


# ---------------------------------------------------------------- devices


@pytest.mark.parametrize(
    ("stored", "written", "differs"),
    [
        ({"device": "phone"}, {"device": "laptop"}, True),
        ({"device": "phone"}, {}, True),  # removed, so that another could follow unnoticed
        ({"device": "phone"}, {"device": "phone", "tenant": "b"}, False),
        ({}, {"device": "laptop", "ip": "10.0.0.1"}, False),  # the first one
        ({"device": "10.0.0.1"}, {"device": "10.0.0.2"}, True),  # whatever it looks like, it is a name
        ({"ip": "203.0.113.7"}, {"ip": "203.0.113.200"}, False),
        ({"ip": "203.0.113.7"}, {"ip": "203.0.114.7"}, True),
        ({"ip": "2001:db8:1::7"}, {"ip": "2001:db8:1:ffff::1"}, False),
        ({"ip": "2001:db8:1::7"}, {"ip": "2001:db8:2::7"}, True),
        ({"ip": "n/a"}, {"ip": "n/a"}, False),
        ({"ip": "n/a"}, {"ip": "10.0.0.1"}, True),
        ({"device": 7}, {"device": "laptop"}, False),  # not written through the service
        ({"tenant": "a"}, {"tenant": "b"}, False),
    ],
)
def test_another_device_or_network_than_the_consents(stored, written, differs):
    assert is_other_device(stored, written) is differs
