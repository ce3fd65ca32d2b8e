"""Which tokens may be deleted as long over: whatever is uncertain keeps one."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.domain.long_over import Criteria, LongOver, Standing, Why, long_over

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
LIMIT = NOW - timedelta(days=90)
OLD, LATER = LIMIT - timedelta(days=10), LIMIT + timedelta(milliseconds=1)
DEAD = Criteria(dead_since=LIMIT)
UNUSED = Criteria(unused_since=LIMIT)
BOTH = Criteria(dead_since=LIMIT, unused_since=LIMIT)


def token(**fields: object) -> Standing:
    usual: dict[str, object] = {"id": "xero:a", "provider": "xero", "state": "active", "created_at": OLD}
    return Standing(**{**usual, **fields})  # type: ignore[arg-type]


def dead(**fields: object) -> Standing:
    return token(**{"state": "needs_reauth", "failure": "rejected", "died_at": OLD, **fields})


def why(one: Standing, criteria: Criteria = BOTH) -> Why | None:
    found = long_over(one, criteria, now=NOW)
    return found and found.why


def test_a_dead_token_is_over_since_its_death():
    assert long_over(dead(), DEAD, now=NOW) == LongOver(id="xero:a", provider="xero", why=Why.DEAD, since=OLD)
    assert why(dead(died_at=LIMIT), DEAD) is Why.DEAD


def test_an_unused_token_is_over_since_its_last_use_or_since_it_was_stored():
    used = LIMIT - timedelta(days=1)
    for one, since in ((token(), OLD), (token(last_used_at=used), used), (token(created_at=LIMIT), LIMIT)):
        found = long_over(one, UNUSED, now=NOW)
        assert found is not None
        assert (found.why, found.since) == (Why.UNUSED, since)


def test_only_what_was_asked_for_is_over():
    assert why(dead(), UNUSED) is Why.UNUSED
    assert why(token(), DEAD) is None
    assert why(dead(), BOTH) is Why.DEAD
    assert why(dead(), Criteria()) is None


@pytest.mark.parametrize(
    "field",
    ["died_at", "created_at", "issued_at", "refreshed_at", "updated_at", "last_used_at", "activated_at"],
)
def test_whatever_happened_later_keeps_a_dead_token(field: str):
    assert why(dead(**{field: LIMIT}), DEAD) is Why.DEAD
    assert why(dead(**{field: LATER}), DEAD) is None


def test_a_dead_token_whose_access_token_still_lives_is_kept():
    assert why(dead(expires_at=NOW), DEAD) is Why.DEAD
    assert why(dead(expires_at=NOW + timedelta(seconds=1)), DEAD) is None


def test_without_the_instant_of_its_death_a_token_is_kept():
    """As of an application that sets the state itself."""
    assert why(dead(died_at=None), DEAD) is None


@pytest.mark.parametrize("field", ["created_at", "last_used_at", "activated_at", "issued_at"])
def test_a_use_or_a_consent_keeps_an_unused_token(field: str):
    assert why(token(**{field: LATER}), UNUSED) is None


def test_a_renewal_is_no_use():
    renewed = {"issued_at": LATER, "refreshed_at": LATER + timedelta(seconds=1), "updated_at": LATER}
    assert why(token(**renewed), UNUSED) is Why.UNUSED
    again = {
        "issued_at": LATER + timedelta(hours=1),
        "refreshed_at": LATER,
    }  # a consent after the last renewal
    assert why(token(**again), UNUSED) is None


def test_a_token_without_its_beginning_is_never_unused():
    assert why(token(created_at=None), UNUSED) is None


@pytest.mark.parametrize("state", ["paused", "removed", "revoking", "revoked", "", "odd", "None"])
def test_no_token_in_another_state_is_over(state: str):
    assert why(dead(state=state)) is None


@pytest.mark.parametrize(
    "fields", [{"held": True}, {"imported": True}, {"failure": "unparsed"}, {"failure": "unread"}]
)
def test_what_is_in_the_middle_of_something_is_kept(fields: dict[str, object]):
    """A request, an import, a reply that waits for an operator."""
    assert why(dead(**fields)) is None
    assert why(token(**fields)) is None


def test_an_activated_token_is_one_like_any_other():
    assert why(token(imported=True, activated_at=OLD)) is Why.UNUSED
    assert why(dead(imported=True, activated_at=OLD)) is Why.DEAD


def test_a_token_with_an_entry_in_a_journal_is_kept():
    for one in (dead(), token()):
        assert long_over(one, BOTH, now=NOW, busy={"xero:a"}) is None
        assert long_over(one, BOTH, now=NOW, busy={"xero:b"}) is not None


def test_where_uses_are_not_counted_a_token_is_never_unused():
    elsewhere = Criteria(dead_since=LIMIT, unused_since=LIMIT, not_unused=frozenset({"xero"}))
    assert why(token(), elsewhere) is None
    assert why(dead(), elsewhere) is Why.DEAD
    assert why(token(provider="acme"), elsewhere) is Why.UNUSED
