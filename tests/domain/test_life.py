"""How long tokens live where providers count otherwise: by age, from a replacement, until the next use, until a day."""

import json
from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import date, timedelta

import pytest

from daemon.domain.answer import Concern, Misconfigured, Unavailable
from daemon.domain.consent import read_consent
from daemon.domain.due import Moment, Timing, first_due
from daemon.domain.provider import IdleFrom, Rotation
from daemon.domain.secret import Secret
from tests.domain.replies import ASKED as ASKED_FOR
from tests.domain.replies import answer
from tests.domain.test_policy import (
    ASKED,
    CONSENT,
    DAY,
    GRANTED,
    HOUR,
    MINUTE,
    SECOND,
    TIMING,
    TOKEN,
    decided,
    due,
    provider,
    renewals,
)

KAKAO = {"refresh_idle": 60 * DAY, "refresh_idle_from": IdleFrom.REPLACEMENT}


@pytest.mark.parametrize(
    ("known", "operators", "before"),
    [
        ({}, None, 5 * MINUTE),
        ({"ends_previous": True}, None, MINUTE),
        ({"ends_previous": True, "window": 3 * MINUTE}, None, 3 * MINUTE),
        ({"ends_previous": True}, 4 * MINUTE, 4 * MINUTE),
    ],
)
def test_the_window_is_small_where_a_renewal_ends_the_previous_access_token(known, operators, before):
    """Wise, Sentry, Zendesk: each minute before the end is one that a reader's copy loses."""
    assert HOUR - due(HOUR, client=replace(provider(**known), window=operators)) == before


def test_a_small_window_of_the_operators_stays_smaller_still():
    """The minute is a limit and no minimum."""
    timing = Timing(window=20 * SECOND, jitter=timedelta(0))
    assert HOUR - due(HOUR, client=provider(ends_previous=True), timing=timing) == 20 * SECOND


@pytest.mark.parametrize(
    ("lifetime", "every", "after"),
    [
        (30 * DAY, 7 * DAY, 7 * DAY),
        (30 * DAY, 20 * DAY, 20 * DAY),
        (HOUR, 7 * DAY, 55 * MINUTE),
        (30 * DAY, SECOND, 10 * SECOND),
    ],
)
def test_a_token_is_due_at_its_age_or_before_its_end_whichever_comes_first(lifetime, every, after):
    """Square wants a renewal every 7 days of 30. Never without a pause, whatever a definition says."""
    assert due(lifetime, client=provider(renew_every=every)) == after


def test_ages_are_spread_as_ends_are():
    """Tokens that were stored together are not renewed together."""
    early = due(30 * DAY, chance=1.0, client=provider(renew_every=7 * DAY))
    assert 7 * DAY - early == TIMING.jitter


def test_a_token_without_an_end_is_renewed_at_its_age():
    """Its refresh token would die of idleness otherwise."""
    token = replace(TOKEN, expires_at=None, issued_at=ASKED - DAY)
    asked = Moment(ASKED, 0.0, TIMING)
    assert first_due(provider(), token, moment=asked) is None
    assert first_due(provider(renew_every=7 * DAY), token, moment=asked) == ASKED + 6 * DAY


# ---------------------------------------------------------------- ends that move late


@pytest.mark.parametrize("came", [None, TOKEN.refresh_token])
@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({"refresh_expires_at": ASKED + 3 * DAY, "refreshed_at": ASKED - HOUR}, ASKED + 3 * DAY),
        ({"refresh_expires_at": None, "issued_at": ASKED - DAY}, ASKED + 59 * DAY),
        ({"refresh_expires_at": None, "issued_at": None}, ASKED + 60 * DAY),
        (
            {
                "refresh_expires_at": ASKED + 3 * DAY,
                "refreshed_at": ASKED - 2 * DAY,
                "issued_at": ASKED - DAY,
            },
            ASKED + 59 * DAY,
        ),
    ],
    ids=["known", "never renewed", "of unknown age", "consented to anew"],
)
def test_a_renewal_without_a_replacement_extends_nothing(came, fields, end):
    """Kakao replaces the refresh token in its last month only, Front in its last day: warnings count to the real end."""
    token = replace(TOKEN, **fields)
    change = decided(replace(GRANTED, refresh_token=came), token=token, client=provider(**KAKAO))
    assert change.refresh_expires_at == end


def test_a_replacement_extends_it():
    """Counted from the request that brought it."""
    token = replace(TOKEN, refresh_expires_at=ASKED + DAY, refreshed_at=ASKED - HOUR)
    assert decided(GRANTED, token=token, client=provider(**KAKAO)).refresh_expires_at == ASKED + 60 * DAY


def test_each_renewal_counts_if_the_definition_does_not_say_otherwise():
    """As before."""
    token = replace(TOKEN, refresh_expires_at=ASKED + DAY, refreshed_at=ASKED - HOUR)
    kept = replace(GRANTED, refresh_token=None)
    assert (
        decided(kept, token=token, client=provider(refresh_idle=60 * DAY)).refresh_expires_at
        == ASKED + 60 * DAY
    )


def test_the_consents_end_still_limits_it():
    """Whichever comes first, over many renewals that all bring a new refresh token."""
    known = KAKAO | {"refresh_lifetime": 90 * DAY}
    token = replace(TOKEN, issued_at=CONSENT, revision=None)
    for asked, after in renewals(token, times=10, every=9 * DAY, known=known):
        assert after.refresh_expires_at == min(asked + 60 * DAY, CONSENT + 90 * DAY)


# ---------------------------------------------------------------- an end inside the refresh token


def jwt(end) -> Secret:
    claims = json.dumps({"exp": int(end.timestamp())}).encode()
    return Secret(f"e30.{urlsafe_b64encode(claims).decode().rstrip('=')}.c2ln")


@pytest.mark.parametrize(
    ("known", "told", "own", "end"),
    [
        ({}, None, 7 * DAY, 7 * DAY),
        ({"refresh_idle": 3 * DAY}, None, 7 * DAY, 3 * DAY),
        ({"refresh_idle": 90 * DAY}, None, 5000 * DAY, 90 * DAY),
        ({"refresh_idle": 90 * DAY}, None, 7 * DAY, 7 * DAY),
        ({}, 2 * DAY, 7 * DAY, 2 * DAY),
        ({}, None, -DAY, None),
    ],
    ids=["its own", "idle first", "a careless one", "its own first", "the reply's word", "over"],
)
@pytest.mark.parametrize("stays", [True, False])
def test_a_refresh_token_that_is_a_jwt_ends_by_its_own_word_at_the_latest(known, told, own, end, stays):
    """NetSuite's ends seven days after the consent, whatever is renewed. A later end than the documented one is no news."""
    refresh = jwt(ASKED + own)
    token = replace(TOKEN, refresh_token=refresh if stays else TOKEN.refresh_token, refresh_expires_at=None)
    granted = replace(
        GRANTED,
        refresh_token=None if stays else refresh,
        refresh_expires_at=None if told is None else ASKED + told,
    )
    change = decided(granted, token=token, client=provider(**known))
    assert change.refresh_expires_at == (None if end is None else ASKED + end)


def test_such_an_end_is_read_from_a_consent_too():
    """So that warnings count from the first day."""
    body = {"access_token": "a", "expires_in": 3600, "refresh_token": jwt(ASKED + 7 * DAY).reveal()}
    read = read_consent(provider().definition, body, received_at=ASKED, now=ASKED)
    assert read.refresh_expires_at == ASKED + 7 * DAY
    over = body | {"refresh_token": jwt(ASKED - DAY).reveal()}
    assert read_consent(provider().definition, over, received_at=ASKED, now=ASKED).refresh_expires_at is None


# ---------------------------------------------------------------- a grace until the next use, a day of retirement


@pytest.mark.parametrize(
    ("grace", "waits"),
    [(timedelta(0), False), (HOUR, False), (MINUTE, True)],
)
def test_another_instance_need_not_wait_while_nothing_new_is_used(grace, waits):
    """Nobody uses what only a dead host's journal holds. A longest time limits that."""
    client = provider(rotation=Rotation.ALWAYS, grace_until_used=True, grace=grace)
    wait = client.adoptable_after(lease=2 * MINUTE, retry_within=MINUTE, adopt_after=15 * MINUTE)
    assert (wait > timedelta(0)) is waits


RETIRES = {"retires": date(2026, 11, 1)}


@pytest.mark.parametrize(
    ("status", "known", "retired"),
    [
        (410, RETIRES, True),
        (410, {"retires": date(2026, 11, 2)}, False),
        (410, {}, False),
        (404, RETIRES, False),
    ],
)
def test_gone_from_the_day_of_retirement_is_the_end(status, known, retired):
    """The operator must act, and no owner: no consent brings it back."""
    got = answer(b"", status, known=known)
    assert ASKED_FOR.date() == date(2026, 11, 1)
    if retired:
        assert isinstance(got, Misconfigured)
        assert (got.code, got.concerns) == ("retired", Concern.PROVIDER)
        assert "2026-11-01" in got.message
    else:
        assert isinstance(got, Unavailable)
