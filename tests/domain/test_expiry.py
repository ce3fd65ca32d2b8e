"""Every spelling of "it ends then"."""

import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.expiry import LONGEST, end_of, jwt_end
from daemon.domain.provider import ExpiryUnit

ASKED = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
AT = datetime(2026, 11, 1, 13, tzinfo=UTC)
EPOCH = int(AT.timestamp())


ISO = ["2026-11-01T13:00:00Z", "2026-11-01T14:00:00+01:00", "2026-11-01T13:00:00.000Z", "2026-11-01 13:00:00"]
ZONES = ["2026-11-01 13:00:00 UTC", "2026-11-01 13:00:00 +0000", "Sun, 01 Nov 2026 13:00:00 GMT"]
DURATIONS = ["3600s", "3600.0s", "3600.000000000s"]
NOTHING = [None, 0, "0", "", " ", -1, "-3600", True, False, "soon", "never", [], {}, [3600], {"s": 1}]
UNBOUNDED = [float("nan"), float("inf"), "nan", "inf", "1e999", 10**400, "9" * 500, 1e308]
NO_DATES = [
    "s",
    "-5s",
    "1e3s",
    "5 s",
    "٣s",
    "/Date()/",
    "/Date(-62135596800000)/",
    "/Date(999999999999999)/",
    "9999-12-31 23:59:59 UTC UTC",
    "٣٦٠٠",
    "2026-13-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
]


def jwt(claims):
    def part(value):
        return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part(claims)}.sig"


@pytest.mark.parametrize(
    "value",
    [
        3600,
        3600.0,
        "3600",
        " 3600 ",
        EPOCH,
        str(EPOCH),
        EPOCH * 1000,
        *ISO,
        *ZONES,
        *DURATIONS,
        f"/Date({EPOCH}000)/",
        f"/Date({EPOCH}000+0100)/",
    ],
)
def test_an_hour_is_an_hour_however_it_is_spelt(value):
    """Number or text, relative or absolute, seconds, milliseconds or ISO 8601 (UTC where it says nothing)."""
    assert end_of(value, asked_at=ASKED) == AT


@pytest.mark.parametrize("value", [3_600_000, "3600000", EPOCH * 1000])
def test_a_definition_can_say_milliseconds(value):
    """Then a relative number counts them; an absolute one is recognised by its size."""
    assert end_of(value, asked_at=ASKED, unit=ExpiryUnit.MILLISECONDS) == AT


def test_a_duration_in_seconds_is_one_whatever_the_definition_says():
    """It names its own unit."""
    assert end_of("3600s", asked_at=ASKED, unit=ExpiryUnit.MILLISECONDS) == AT


def test_eleven_days_in_milliseconds_are_no_point_in_time():
    """The size of a number means a date only where it counts seconds."""
    end = end_of(1_000_000_000, asked_at=ASKED, unit=ExpiryUnit.MILLISECONDS)
    assert end == ASKED + timedelta(seconds=1_000_000)


@pytest.mark.parametrize("value", [*NOTHING, *UNBOUNDED, *NO_DATES])
def test_what_means_nothing_is_none(value):
    """Zero, negative, boolean, unbounded, misspelt or of another type: as if it had not been told."""
    assert end_of(value, asked_at=ASKED) is None


def test_nothing_relative_lives_longer_than_ten_years():
    """A typo of a provider's must not overflow a date."""
    assert end_of(999_999_999, asked_at=ASKED) == ASKED + LONGEST


@given(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())),
    st.sampled_from(ExpiryUnit),
)
def test_any_value_is_an_aware_instant_or_none(value, unit):
    """Never an exception: the value comes from outside."""
    end = end_of(value, asked_at=ASKED, unit=unit)
    assert end is None or end.tzinfo is not None


@given(st.integers(1, 300_000_000))
def test_relative_seconds_count_from_the_moment_of_asking(seconds):
    """So they're never too late."""
    assert end_of(seconds, asked_at=ASKED) == ASKED + timedelta(seconds=seconds)


def test_a_jwt_tells_its_own_end():
    """Its `exp`, unverified."""
    assert jwt_end(jwt({"exp": EPOCH})) == AT
    assert jwt_end(jwt({"exp": float(EPOCH)})) == AT


@pytest.mark.parametrize(
    "token",
    ["", "opaque", "a.b", "a.b.c", "a.b.c.d", "é.é.é", "....", "a.e30.c", jwt([]), jwt("exp"), jwt(None)]
    + [jwt({"exp": value}) for value in (None, "1793538000", True, 0, -1, 3600, 10**400, 1e308, [EPOCH])],
)
def test_what_is_no_jwt_with_a_date_tells_nothing(token):
    """An opaque token, a broken one, an `exp` that is no point in time."""
    assert jwt_end(token) is None


@given(st.text(), st.binary())
def test_any_text_is_tried_as_a_jwt_without_harm(text, middle):
    """Never an exception."""
    assert jwt_end(text) is None or text.count(".") == 2
    jwt_end("a." + urlsafe_b64encode(middle).decode() + ".c")
