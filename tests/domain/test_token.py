"""A token's id, and what a token says of itself."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.secret import Secret
from daemon.domain.token import State, Token, token_id

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def stored(**changes):
    given = {
        "id": "xero:acme",
        "provider": "xero",
        "account": "acme",
        "state": State.ACTIVE,
        "refresh_token": Secret("refresh-canary"),
        "access_token": Secret("access-canary"),
    }
    return Token(**given | changes)


@pytest.mark.parametrize(
    ("provider", "account", "whole"),
    [
        ("xero", "acme", "xero:acme"),
        ("a", "1", "a:1"),
        ("my-sso_2", "Ünïcode & blanks: 北京", "my-sso_2:Ünïcode & blanks: 北京"),
        ("xero", "a:b", "xero:a:b"),
        ("xero", "a" * 512, "xero:" + "a" * 512),
        ("xero", "é" * 256, "xero:" + "é" * 256),
    ],
)
def test_an_id_is_provider_and_account(provider, account, whole):
    """Odd characters in an account are fine."""
    assert token_id(provider, account) == whole


@pytest.mark.parametrize(
    ("provider", "account", "why"),
    [
        ("", "acme", "provider"),
        ("Xero", "acme", "provider"),
        ("-xero", "acme", "provider"),
        ("_xero", "acme", "provider"),
        ("xe ro", "acme", "provider"),
        ("xero\n", "acme", "provider"),
        ("xe:ro", "acme", "provider"),
        ("xero", "", "empty"),
        ("xero", "a\nb", "control"),
        ("xero", "a\x00b", "control"),
        ("xero", "a\x7fb", "control"),
        ("xero", "a\x9fb", "control"),
        ("xero", "a" * 513, "513 bytes"),
        ("xero", "é" * 257, "514 bytes"),
        ("xero", "a\ud800b", "Unicode"),
    ],
)
def test_an_id_that_is_not_allowed_is_refused_with_a_reason(provider, account, why):
    """The sentence names the half that is wrong."""
    with pytest.raises(ValueError, match=why):
        token_id(provider, account)


@given(st.text(), st.text())
def test_ids_are_never_ambiguous(provider, account):
    """An id that was made can be taken apart again; anything else is refused with ValueError."""
    try:
        whole = token_id(provider, account)
    except ValueError:
        return
    assert whole.partition(":")[::2] == (provider, account)


def test_the_lifetime_lies_between_issue_and_expiry():
    """Known only where both are."""
    later = NOW + timedelta(hours=1)
    assert stored(issued_at=NOW, expires_at=later).lifetime == timedelta(hours=1)
    assert stored(issued_at=NOW).lifetime is None
    assert stored(expires_at=later).lifetime is None


def test_a_printed_token_shows_no_secret():
    """Its secrets are Secrets."""
    assert "canary" not in repr(stored())
