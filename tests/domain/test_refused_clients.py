"""How often the source of a refused client's secret is read: soon at first, rarely later, never without a refusal."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.refused_clients import (
    FIRST_PAUSE,
    FORGOTTEN_AFTER,
    HURRIED_PAUSE,
    LONGEST_PAUSE,
    REFUSED_FOR,
    RefusedClients,
)

START, SECOND = timedelta(hours=3), timedelta(seconds=1)
NONE = timedelta(0)


def readings(clients: RefusedClients, *, begin: timedelta, until: timedelta) -> list[int]:
    """Read whenever that is allowed. Returns the seconds since `begin`."""
    now, found = begin, []
    while now + clients.wait(now=now) < until:
        now += clients.wait(now=now)
        clients.read(now=now)
        found.append((now - begin) // SECOND)
    return found


def refused(*names: str) -> RefusedClients:
    clients = RefusedClients()
    for name in names:
        clients.refuse(name, now=START)
    return clients


def test_the_first_refusal_reads_immediately_and_each_pause_is_twice_the_last_one():
    """Up to five minutes."""
    found = readings(refused("xero"), begin=START, until=START + timedelta(minutes=25))
    assert found == [0, 5, 15, 35, 75, 155, 315, 615, 915, 1215]


def test_a_secret_that_stays_wrong_is_read_288_times_a_day():
    """Besides the seven readings of the first minutes."""
    found = readings(refused("xero"), begin=START, until=START + timedelta(days=1))
    assert len(found) <= 288 + 7


def test_the_pause_counts_from_the_end_of_a_reading():
    """So a source that hangs for ten seconds is not read without a pause."""
    clients = refused("xero")
    clients.read(now=START + 10 * SECOND)
    assert clients.wait(now=START + 10 * SECOND) == FIRST_PAUSE


def test_neither_a_grant_nor_another_client_of_the_source_shortens_the_pause():
    """Otherwise a provider that accepts and refuses in turn would cause a reading at each refusal."""
    clients = refused("xero")
    for _ in range(5):
        clients.read(now=START)
    clients.accept("xero")
    clients.refuse("xero", now=START + SECOND)
    clients.refuse("other", now=START + SECOND)
    assert clients.wait(now=START + SECOND) == 16 * FIRST_PAUSE - SECOND


def test_after_ten_minutes_without_a_reading_a_refusal_begins_again():
    """The last rotation is long over then."""
    clients = refused("xero")
    for _ in range(12):
        clients.read(now=START)
    clients.accept("xero")
    clients.refuse("xero", now=START + FORGOTTEN_AFTER)
    assert clients.wait(now=START + LONGEST_PAUSE - SECOND) == SECOND
    clients.refuse("xero", now=START + FORGOTTEN_AFTER + SECOND)
    assert clients.wait(now=START + FORGOTTEN_AFTER + SECOND) == NONE
    clients.read(now=START + FORGOTTEN_AFTER + SECOND)
    assert clients.wait(now=START + FORGOTTEN_AFTER + SECOND) == FIRST_PAUSE


def test_a_sign_of_change_shortens_one_pause_of_a_refused_client():
    """To half a minute, so that pauses which end again and again cause few readings."""
    clients = refused("xero")
    for _ in range(12):
        clients.read(now=START)
    clients.hurry("other")
    assert clients.wait(now=START) == LONGEST_PAUSE
    clients.hurry("xero")
    assert clients.wait(now=START) == HURRIED_PAUSE
    clients.read(now=START + HURRIED_PAUSE)
    assert clients.wait(now=START + HURRIED_PAUSE) == LONGEST_PAUSE


def test_a_sign_of_change_lengthens_no_pause():
    """The second reading follows after a few seconds."""
    clients = refused("xero")
    clients.read(now=START)
    clients.hurry("xero")
    assert clients.wait(now=START) == FIRST_PAUSE


def test_a_client_is_refused_until_a_grant_or_for_an_hour_after_its_last_refusal():
    """So a provider without due tokens is forgotten."""
    clients = refused("xero", "gmail", "stripe")
    clients.refuse("gmail", now=START + SECOND)
    clients.accept("stripe")
    clients.accept("unknown")
    assert clients.refused(now=START + REFUSED_FOR) == ["xero", "gmail"]
    assert clients.refused(now=START + REFUSED_FOR + SECOND) == ["gmail"]
    assert clients.refused(now=START + REFUSED_FOR + 2 * SECOND) == []


@given(st.lists(st.sampled_from(["refuse", "accept", "hurry", "second", "minute", "read"]), max_size=300))
def test_no_order_of_events_reads_more_often_than_the_bound(steps: list[str]):
    """At most ten readings, and three more for each minute, whatever happens."""
    clients, now, count = refused("xero"), START, 0
    for step in steps:
        match step:
            case "refuse":
                clients.refuse("xero", now=now)
            case "accept":
                clients.accept("xero")
            case "hurry":
                clients.hurry("xero")
            case "second":
                now += SECOND
            case "minute":
                now += 60 * SECOND
            case _ if clients.wait(now=now) == NONE:
                clients.read(now=now)
                count += 1
    minutes = (now - START) / timedelta(minutes=1)
    assert count <= 10 + 3 * minutes
