"""The keys about time: what they bring, and what is refused by which name."""

from datetime import date, timedelta

import pytest

from daemon.domain.provider import IdleFrom, Rate
from tests.runtime.config.providers.test_definitions import PLAIN, read, refused


@pytest.mark.parametrize(
    ("text", "grace", "until_used"),
    [
        ("10m", timedelta(minutes=10), False),
        ("0s", timedelta(), False),
        ("until_used", timedelta(), True),
        ("until_used 60m", timedelta(minutes=60), True),
    ],
)
def test_a_grace_is_a_time_or_lasts_until_the_next_use(text, grace, until_used):
    """Or the first of the two (RingCentral)."""
    known = read(f"{PLAIN}grace = '{text}'")
    assert (known.grace, known.grace_until_used) == (grace, until_used)


def test_several_rates_hold_together():
    """Ten a second, and 200 in a quarter of an hour."""
    known = read(f"{PLAIN}rate = ['10/s', '200/15m']")
    second, quarter = timedelta(seconds=1), timedelta(minutes=15)
    assert known.rates == (Rate(count=10, per=second), Rate(count=200, per=quarter))


def test_facts_about_lives_are_read():
    """Those that only people read, too."""
    known = read(
        PLAIN
        + "ends_previous = true\nlive_tokens = 10\nretires = 2026-11-02\nrenew_every = '7d'\n"
        + "refresh_idle = '60d'\nrefresh_idle_from = 'replacement'\n"
    )
    assert (known.ends_previous, known.live_tokens, known.retires) == (True, 10, date(2026, 11, 2))
    assert (known.renew_every, known.refresh_idle_from) == (timedelta(days=7), IdleFrom.REPLACEMENT)


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("grace = 'until_used 0s'", "grace", "until_used"),
        ("grace = 'until_used soon'", "grace", "duration"),
        ("grace = 'until_use'", "grace", "duration"),
        ("rate = []", "rate", "empty"),
        ("rate = ['10/s', 'often']", "rate", "not a rate"),
        ("refresh_idle_from = 'replacement'", "refresh_idle_from", "refresh_idle"),
        (
            "refresh_idle_from = 'replacement'\nrefresh_idle = '1d'\nrotation = 'never'",
            "refresh_idle_from",
            "refresh_lifetime",
        ),
        ("renew_every = '7d'\nearliest = '1h'", "renew_every", "one of the two"),
        ("renew_every = '7d'\ngrant = 'none'", "renew_every", "nothing renews"),
        ("ends_previous = true\ngrant = 'none'", "ends_previous", "nothing renews"),
        ("live_tokens = 0", "live_tokens", "from 1"),
        ("retires = 'soon'", "retires", "date"),
    ],
)
def test_nonsense_is_refused_by_its_key(text, key, words):
    """With the key to change, and to what."""
    assert words in refused(PLAIN + text)[f"providers/trial.toml: {key}"]
