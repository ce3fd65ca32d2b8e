"""When a consent ends: as a reply says (draft-ietf-oauth-refresh-token-expiration), also when a later one moves it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemon.domain.answer import Granted
from daemon.domain.due import Moment, Timing
from daemon.domain.policy import decide
from daemon.domain.provider import Definition, Provider
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PLAIN = Definition(name="acme", title="Acme", token_url="https://login.acme.test/token")
TOKEN = Token(
    id="acme:1",
    provider="acme",
    account="1",
    state=State.ACTIVE,
    refresh_token=Secret("r"),
    issued_at=NOW - DAY,
    refreshed_at=NOW - DAY,
    consent_ends_at=NOW + 30 * DAY,
)
GRANTED = Granted(access_token=Secret("a"), expires_at=NOW + timedelta(hours=1))


def renewed(granted, *, token=TOKEN, **known):
    provider = Provider(definition=replace(PLAIN, **known), client_id="me")
    return decide(provider, token, granted, asked_at=NOW, moment=Moment(NOW, 0.5, Timing()))


@pytest.mark.parametrize("days", [7, 90])
@pytest.mark.parametrize("lifetime", [None, 365 * DAY])
def test_the_reply_moves_the_consents_end(days, lifetime):
    """Nearer or farther; it knows better than the definition."""
    got = renewed(replace(GRANTED, consent_ends_at=NOW + days * DAY), refresh_lifetime=lifetime)
    assert got.consent_ends_at == NOW + days * DAY


def test_a_reply_without_an_end_leaves_the_one_that_is_known():
    """The draft lets a provider leave it out when no refresh token comes."""
    assert renewed(GRANTED).consent_ends_at == NOW + 30 * DAY


def test_a_new_consent_of_an_application_forgets_the_earlier_end():
    """It does not know the field, so what stands there is the earlier consent's."""
    again = replace(TOKEN, issued_at=NOW - timedelta(hours=1))
    assert renewed(GRANTED, token=again).consent_ends_at is None


def test_a_refresh_token_ends_no_later_than_its_consent():
    """Whatever either says."""
    ends = replace(GRANTED, refresh_expires_at=NOW + 7 * DAY, consent_ends_at=NOW + 2 * DAY)
    assert renewed(ends).refresh_expires_at == NOW + 2 * DAY
