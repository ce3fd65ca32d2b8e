"""What an import does with a row, by what the store holds, and when an activated token is due."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemon.domain.due import Moment, Timing
from daemon.domain.mirrored import STAND_IN
from daemon.domain.moving import (
    Candidate,
    Origin,
    Refused,
    Standing,
    Step,
    Stored,
    activation_due,
    step_for,
)
from daemon.domain.provider import Definition, Provider
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TOKEN = Token(
    id="xero:1",
    provider="xero",
    account="1",
    state=State.PAUSED,
    refresh_token=Secret("r"),
    access_token=Secret("a"),
    issued_at=NOW,
    expires_at=NOW + HOUR,
)
CANDIDATE = Candidate(
    label="1",
    token=TOKEN,
    origin=Origin(
        layout="plain",
        source="x",
        key="1",
        row=Secret("{}"),
        rest=Secret("{}"),
        read_at=NOW,
        end_is_known=True,
    ),
)
STORED = Stored(
    ours=True,
    same_row=False,
    same_grant=False,
    new_grant=True,
    renewed=False,
    later=False,
    in_use=False,
    version={},
)
PROVIDER = Provider(
    definition=Definition(name="xero", title="Xero", token_url="https://xero.test/token"), client_id="me"
)


def stored(**more):
    return Standing(stored=replace(STORED, **more))


@pytest.mark.parametrize(
    ("standing", "step"),
    [
        (Standing(), Step.INSERT),
        (stored(), Step.UPDATE),
        (stored(same_row=True), Step.LEAVE),
        (stored(in_use=True), Step.LEAVE),
        (stored(renewed=True, new_grant=False), Step.LEAVE),
        (stored(renewed=True, later=True), Step.UPDATE),
        (stored(renewed=True, same_grant=True), Step.UPDATE),
        (stored(ours=False, same_grant=True), Step.LEAVE),
    ],
)
def test_the_step_follows_what_is_stored(standing, step):
    """A token in use, or a newer one, is left alone."""
    assert step_for(CANDIDATE, standing) is step


@pytest.mark.parametrize(
    ("standing", "why"),
    [
        (stored(ours=False), "did not come from this row"),
        (stored(renewed=True), "have both renewed xero:1"),
        (Standing(row_holder="gmail:1"), "stored as gmail:1 already"),
        (Standing(grant_holder="xero:2"), "xero:2 already stores this refresh token"),
        (Standing(revoked="xero:2"), "the grant of xero:2 was revoked"),
        (replace(stored(same_row=True), revoked="xero:1"), "the grant of xero:1 was revoked"),
    ],
)
def test_what_an_operator_must_decide_is_refused(standing, why):
    """With the id that it concerns."""
    with pytest.raises(Refused, match=why):
        step_for(CANDIDATE, standing)


def test_a_stand_in_is_no_refresh_token():
    """A mirror wrote it: the token is newer here, or nowhere to be had."""
    shown = replace(CANDIDATE, token=replace(TOKEN, refresh_token=Secret(STAND_IN)))
    assert step_for(shown, stored()) is Step.LEAVE
    with pytest.raises(Refused, match="a mirror has written this row"):
        step_for(shown, Standing())


@pytest.mark.parametrize(
    ("known", "ends", "now"),
    [(True, NOW + HOUR, False), (False, NOW + HOUR, True), (True, NOW - HOUR, True)],
)
def test_a_token_is_due_now_unless_it_is_known_to_live_on(known, ends, now):
    """One request too many costs less than an access token that has ended."""
    due = activation_due(
        PROVIDER,
        replace(TOKEN, expires_at=ends),
        end_is_known=known,
        moment=Moment(NOW, 0.5, Timing()),
    )
    assert (due == NOW) is now


def test_a_token_that_nothing_renews_is_never_due():
    """It has no refresh token."""
    token = replace(TOKEN, refresh_token=None)
    assert activation_due(PROVIDER, token, end_is_known=False, moment=Moment(NOW, 0.5, Timing())) is None
