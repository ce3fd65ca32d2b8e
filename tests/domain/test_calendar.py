"""Leap days, ends of months and years: refreshd counts in seconds, so they are days like any other."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.consent import read_consent
from daemon.domain.expiry import end_of
from daemon.domain.provider import Definition
from daemon.domain.reply import retry_after

SECOND = timedelta(seconds=1)
BEFORE_MIDNIGHT = [
    datetime(2028, 2, 28, 23, 59, 50, tzinfo=UTC),  # a leap year
    datetime(2028, 2, 29, 23, 59, 50, tzinfo=UTC),
    datetime(2027, 2, 28, 23, 59, 50, tzinfo=UTC),
    datetime(2100, 2, 28, 23, 59, 50, tzinfo=UTC),  # a century that is no leap year
    datetime(2026, 11, 30, 23, 59, 50, tzinfo=UTC),
    datetime(2027, 12, 31, 23, 59, 50, tzinfo=UTC),
    datetime(2038, 1, 19, 3, 14, 0, tzinfo=UTC),  # 32 bits of seconds end here
]
ACME = Definition(
    name="acme", title="Acme", token_url="https://acme.example/token", refresh_lifetime=timedelta(days=365)
)
instants = st.datetimes(datetime(2026, 1, 1), datetime(2110, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
spans = st.timedeltas(SECOND, timedelta(days=3660))


@pytest.mark.parametrize("now", BEFORE_MIDNIGHT, ids=str)
def test_a_date_behind_midnight_is_some_seconds_away(now: datetime):
    """Whether a reply writes it as HTTP, as ISO 8601, or as seconds since 1970."""
    then = now + 20 * SECOND
    assert retry_after(format_datetime(then, usegmt=True), now=now) == 20 * SECOND
    for value in (then.isoformat(), then.isoformat().replace("+00:00", "Z"), then.timestamp(), 20, "20"):
        assert end_of(value, asked_at=now) == then


@pytest.mark.parametrize("text", ["2027-02-29T12:00:00Z", "2100-02-29T12:00:00Z", "2028-02-30T12:00:00Z"])
def test_a_day_that_its_year_lacks_is_no_date(text: str):
    """It is left aside, as any other text is."""
    assert end_of(text, asked_at=BEFORE_MIDNIGHT[0]) is None


@given(asked_at=instants, span=spans)
def test_a_lifetime_has_as_many_seconds_on_every_day(asked_at: datetime, span: timedelta):
    """What ends so many seconds after the response does so whatever lies between."""
    consent = read_consent(
        ACME,
        {"access_token": "a", "refresh_token": "r", "expires_in": span.total_seconds()},
        received_at=asked_at,
        now=asked_at,
    )
    assert consent.expires_at == asked_at + span
    assert consent.consent_ends_at == asked_at + timedelta(days=365)
