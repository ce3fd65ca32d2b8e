"""Early renewals: when an application may ask for one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemon.domain.early_renewal import (
    NotBefore,
    Renew,
    TooOften,
    Underway,
    bounded,
    for_freshness,
    for_refused,
    is_fresh,
)
from daemon.domain.provider import Definition
from daemon.domain.served_token import Refusals, ServedToken, version_of

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
ACME = Definition(name="acme", title="Acme", token_url="https://acme.example/token")
TOKEN = ServedToken(
    id="acme:me",
    provider="acme",
    account="me",
    state="active",
    sealed="v1.a.text",
    version=version_of("v1.a.text"),
    issued_at=NOON - 30 * MINUTE,
    expires_at=NOON + 30 * MINUTE,
    due_at=NOON + 25 * MINUTE,
    refreshed_at=NOON - 30 * MINUTE,
)


@pytest.mark.parametrize(
    ("asked", "earliest", "wanted"),
    [
        (MINUTE, None, MINUTE),
        (HOUR, None, 20 * MINUTE),  # a third of the lifetime
        (HOUR, 5 * MINUTE, 5 * MINUTE),  # earlier, the provider returns the same token
        (timedelta(0), None, timedelta(0)),
    ],
)
def test_the_freshness_that_a_caller_can_ask_for_is_bounded(
    asked: timedelta, earliest: timedelta | None, wanted: timedelta
):
    assert bounded(asked, TOKEN, replace(ACME, earliest=earliest)) == wanted


def test_a_token_without_an_end_is_always_fresh_and_one_past_its_end_never():
    assert is_fresh(replace(TOKEN, expires_at=None), HOUR, NOON)
    assert not is_fresh(TOKEN, timedelta(0), NOON + 30 * MINUTE)
    assert is_fresh(TOKEN, 30 * MINUTE, NOON)
    assert not is_fresh(TOKEN, 30 * MINUTE + timedelta(milliseconds=1), NOON)
    assert not is_fresh(replace(TOKEN, sealed=None), timedelta(0), NOON)


def test_a_token_that_is_due_or_failing_or_just_renewed_is_not_asked_for_again():
    assert for_freshness(TOKEN, ACME, NOON) == Renew()
    assert for_freshness(replace(TOKEN, due_at=NOON), ACME, NOON) == Underway()
    assert for_freshness(replace(TOKEN, failures=1), ACME, NOON) == NotBefore(at=TOKEN.due_at)
    assert for_freshness(replace(TOKEN, due_at=None), ACME, NOON) == NotBefore(at=None)
    just = replace(TOKEN, refreshed_at=NOON - timedelta(seconds=9))
    assert for_freshness(just, ACME, NOON) == NotBefore(at=NOON + timedelta(seconds=1))
    slow = replace(ACME, min_interval=HOUR)
    assert for_freshness(TOKEN, slow, NOON) == NotBefore(at=NOON + 30 * MINUTE)


def test_a_refused_version_is_renewed_once_however_many_report_it():
    first = for_refused(TOKEN, ACME, NOON)
    assert first == Renew(refusals=Refusals(version=str(TOKEN.version), at=NOON, count=1, usual=TOKEN.due_at))
    reported = replace(TOKEN, refusals=first.refusals)
    assert for_refused(reported, ACME, NOON) == Underway()


def _refused_again(token: ServedToken, at: datetime, number: int) -> ServedToken:
    """`token` after the renewal that the refusal at `at` has brought."""
    answer = for_refused(token, ACME, at)
    assert isinstance(answer, Renew), answer
    renewed = at + timedelta(seconds=1)
    return replace(
        token,
        refusals=answer.refusals,
        sealed=f"v1.a.{number}",
        version=version_of(f"v1.a.{number}"),
        issued_at=renewed,
        refreshed_at=renewed,
        expires_at=renewed + HOUR,
        due_at=renewed + 55 * MINUTE,
    )


def test_after_three_refused_versions_in_a_row_the_token_waits_for_its_usual_time():
    token, at = TOKEN, NOON
    for number in range(3):
        token = _refused_again(token, at, number)
        at += 7 * MINUTE
    assert for_refused(token, ACME, at) == TooOften(usual=token.due_at)

    usual = token.due_at
    assert usual is not None
    renewed = replace(
        token, sealed="v1.a.u", version=version_of("v1.a.u"), refreshed_at=usual, due_at=usual + 55 * MINUTE
    )
    answer = for_refused(renewed, ACME, usual + MINUTE)
    assert isinstance(answer, Renew)
    assert answer.refusals is not None
    assert answer.refusals.count == 1


def test_between_two_early_renewals_is_a_tenth_of_the_lifetime_but_at_least_a_minute():
    token = _refused_again(TOKEN, NOON, 1)
    for after in (
        timedelta(seconds=2),
        5 * MINUTE,
    ):  # just renewed, so that two rules forbid it: the later end counts
        assert for_refused(token, ACME, NOON + after) == NotBefore(at=NOON + 6 * MINUTE)
    seldom = replace(ACME, min_interval=15 * MINUTE)
    assert for_refused(token, seldom, NOON + MINUTE) == NotBefore(
        at=NOON + 15 * MINUTE + timedelta(seconds=1)
    )
    failing = replace(token, failures=1, due_at=NOON + 2 * MINUTE)
    assert for_refused(failing, ACME, NOON + MINUTE) == NotBefore(at=NOON + 2 * MINUTE)
    short = replace(token, expires_at=token.refreshed_at and token.refreshed_at + MINUTE)
    assert for_refused(short, ACME, NOON + timedelta(seconds=59)) == NotBefore(at=NOON + MINUTE)
    assert isinstance(for_refused(token, ACME, NOON + 6 * MINUTE), Renew)
