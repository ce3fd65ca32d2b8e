"""A locked reply stops blocking its token only when a later grant is stored: both signs are needed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemon.domain.journal_entry import consent_claim
from daemon.domain.locked import Locked, Standing, is_overtaken

ASKED = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER, EARLIER = ASKED + timedelta(seconds=1), ASKED - timedelta(seconds=1)


def locked(*, spent: str | None = "spent", asked_at: datetime | None = ASKED) -> Locked:
    return Locked(
        key=1, token="acme:1", provider="acme", claim="c", spent=spent, asked_at=asked_at, why="no key"
    )


@pytest.mark.parametrize(
    ("refresh", "access", "issued_at", "overtaken"),
    [
        ("another", "another", LATER, True),
        ("another", "another", ASKED, False),
        ("another", "another", EARLIER, False),  # sealed again under another key
        ("another", "another", None, False),
        ("spent", "another", LATER, False),  # renewed by another instance, which kept the refresh token
        ("another", "spent", LATER, False),  # an exchange presents the access token
        (None, "another", LATER, True),
    ],
)
def test_another_sealed_text_and_a_later_grant_are_needed(refresh, access, issued_at, overtaken):
    """Either alone may mean that what was spent is still what is stored."""
    standing = Standing(refresh_token=refresh, access_token=access, issued_at=issued_at)
    assert is_overtaken(locked(), standing) is overtaken


def test_a_reply_whose_document_is_gone_blocks_nothing():
    """The same as for a reply that can be opened."""
    assert is_overtaken(locked(), None)


def test_where_nothing_stored_was_presented_later_tokens_are_enough():
    """No refresh token depends on such a reply."""
    standing = Standing(refresh_token=None, access_token="any", issued_at=LATER)
    assert is_overtaken(locked(spent=None), standing)


def test_a_row_without_a_date_goes_on_blocking():
    """It was altered: nothing can be said of it."""
    standing = Standing(refresh_token="another", access_token=None, issued_at=LATER)
    assert not is_overtaken(locked(asked_at=None), standing)


def test_the_reply_to_a_code_blocks_its_token_until_it_opens():
    """Its token may not be stored yet, and a renewal of the former grant says nothing about the new one."""
    standing = Standing(refresh_token="another", access_token="another", issued_at=LATER)
    consent = replace(locked(spent=None), claim=consent_claim("c1"))
    assert not is_overtaken(consent, None)
    assert not is_overtaken(consent, standing)
