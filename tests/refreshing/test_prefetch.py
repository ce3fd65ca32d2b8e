"""How many tokens a lane claims ahead."""

from datetime import timedelta

import pytest

from daemon.refreshing.prefetch import AHEAD, MOST_AHEAD, Prefetch

BEGIN = timedelta(hours=7)
SHARE = 256


def after(*windows: tuple[timedelta, int]) -> int:
    """The estimate after these times, and so many tokens finished in each."""
    prefetch, now = Prefetch(), BEGIN
    prefetch.begin(now)
    for past, finished in windows:
        now += past
        for _ in range(finished):
            prefetch.finished()
        prefetch.measure(now, share=SHARE)
    return prefetch.count


@pytest.mark.parametrize(
    ("windows", "count"),
    [
        ((), 0),
        (((timedelta(0), 0),), 0),  # the first claim of a pass
        (((AHEAD / 3, 100),), 300),  # a first estimate does not wait until the speed is measured
        (((AHEAD / 3, 0), (AHEAD / 3, 100)), 150),  # it counts from the beginning
        (((AHEAD, 100),), 100),
        (((AHEAD, 100), (AHEAD / 3, 300)), 100),  # measured: a burst changes nothing
        (((AHEAD, 100), (AHEAD / 3, 300), (2 * AHEAD / 3, 0)), 300),
        (((AHEAD, 100), (AHEAD, 0)), 0),  # a provider that hangs
        (((AHEAD / 100, 256),), MOST_AHEAD * SHARE),
    ],
)
def test_it_is_the_work_of_the_next_moments(windows, count):
    assert after(*windows) == count


def test_a_new_pass_begins_at_nothing():
    prefetch = Prefetch()
    prefetch.begin(BEGIN)
    prefetch.finished()
    prefetch.measure(BEGIN + AHEAD, share=SHARE)
    prefetch.begin(BEGIN + AHEAD)
    assert prefetch.count == 0
    prefetch.measure(BEGIN + AHEAD, share=SHARE)
    assert prefetch.count == 0
