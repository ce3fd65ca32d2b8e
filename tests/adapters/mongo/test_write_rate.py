"""When the stream of wishes is waited for, and when it is read now and then."""

from datetime import timedelta

import pytest

from daemon.adapters.mongo.write_rate import HIGH, LOW, MEASURED_OVER, WriteRate

SECOND = timedelta(seconds=1)


def after(*rates: float, every: timedelta = SECOND) -> bool:
    """The answer after these rates, each for as long as `every`."""
    rate, now, written = WriteRate(), timedelta(hours=7), 5_000_000
    high = rate.is_high(written, now=now)
    for one in rates:
        now += every
        written += round(one * every.total_seconds())
        high = rate.is_high(written, now=now)
    return high


@pytest.mark.parametrize(
    ("rates", "high"),
    [
        ((), False),  # however many were written before
        ((0,), False),
        ((HIGH - 1,), False),
        ((HIGH,), True),
        ((10 * HIGH, LOW), True),
        ((10 * HIGH, LOW - 1), False),
        ((10 * HIGH, LOW - 1, LOW + 1), False),
        ((LOW + 1, LOW + 1), False),
        ((10 * HIGH, 0, 0, HIGH), True),
    ],
)
def test_the_rate_is_high_from_high_on_and_until_low(rates, high):
    """A rate in between changes nothing, so the stream isn't opened again and again."""
    assert after(*rates) is high


def test_a_short_time_says_nothing_about_a_few():
    """A small batch a moment after the last look is no rate."""
    rate = WriteRate()
    rate.is_high(0, now=SECOND)
    early = SECOND + MEASURED_OVER - timedelta(milliseconds=1)
    assert not rate.is_high(HIGH - 1, now=early)
    assert rate.is_high(HIGH - 1, now=SECOND + MEASURED_OVER)


def test_a_burst_is_a_high_rate_at_once():
    """It may be over before the time is."""
    rate = WriteRate()
    rate.is_high(0, now=SECOND)
    assert rate.is_high(HIGH, now=SECOND + timedelta(milliseconds=1))
    assert rate.is_high(HIGH, now=SECOND + timedelta(milliseconds=2))
