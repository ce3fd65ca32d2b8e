"""Which changes of a token are events for its owner, an operator or an application."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.domain.change import Change, RevocationPostponed, Revoked
from daemon.domain.owner_event import Actor, OwnerEventType
from daemon.domain.token import Failure, FailureKind, RevocationOrder
from daemon.domain.transition import WHO_ACTS, connected, resumed, transition_of
from tests.adapters.mongo.mongo_bench import IN_DOUBT, RETIRED, WITHHELD, postponed, renewed

SINCE = datetime(2026, 11, 2, tzinfo=UTC)
ORDER = RevocationOrder(since=SINCE)
REVOKED = Revoked(revoked_at=SINCE, forget_at=SINCE + timedelta(days=30))


def failed(kind: FailureKind, *, after: timedelta = timedelta(days=8)) -> Failure:
    return Failure(kind=kind, code="http_400", message="the provider's own words", at=SINCE + after)


UNPARSED, AWAY = failed(FailureKind.UNPARSED), failed(FailureKind.UNAVAILABLE)
REFUSED = failed(FailureKind.MISCONFIGURED, after=timedelta(hours=1))
EARLIER = failed(FailureKind.MISCONFIGURED, after=-timedelta(hours=1))
FAILED = RevocationPostponed(failure=AWAY, tries=3, due_at=SINCE, failed=True)


@pytest.mark.parametrize(
    ("change", "state", "failure", "expected"),
    [
        (renewed(), "active", None, None),
        (renewed(), "active", AWAY, None),
        (renewed(), "active", UNPARSED, "token.recovered"),
        (renewed(), "needs_reauth", AWAY, "token.recovered"),
        (renewed(), "paused", UNPARSED, None),
        (renewed(), "revoking", UNPARSED, None),
        (postponed(), "active", None, None),
        (IN_DOUBT, "active", None, None),
        (RETIRED, "active", AWAY, "token.needs_reauth"),
        (RETIRED, None, None, "token.needs_reauth"),
        (RETIRED, "needs_reauth", None, None),
        (RETIRED, "paused", None, None),
        (RETIRED, "revoking", None, None),
        (WITHHELD, "active", None, "token.unparsed"),
        (WITHHELD, "paused", None, "token.unparsed"),
        (WITHHELD, "revoking", None, None),
        (REVOKED, "revoking", AWAY, "token.revoked"),
        (FAILED, "revoking", None, "token.revocation_failed"),
        (FAILED, "revoking", EARLIER, "token.revocation_failed"),
        (FAILED, "revoking", REFUSED, None),
        (FAILED, "revoking", AWAY, None),
        (
            FAILED,
            "revoking",
            failed(FailureKind.UNAVAILABLE, after=timedelta(days=6)),
            "token.revocation_failed",
        ),
        (RevocationPostponed(failure=AWAY, tries=1, due_at=SINCE), "revoking", None, None),
    ],
)
def test_a_change_of_what_somebody_must_know_is_an_event(
    change: Change, state: str | None, failure: Failure | None, expected: str | None
) -> None:
    """Renewals are none, nor is what leaves the state as it was, nor a second failure of one order to revoke."""
    found = transition_of(change, state=state, failure=failure, order=ORDER)
    assert (found and found.type) == expected


def test_an_event_names_the_reason_in_our_names() -> None:
    """The kind and the code, and never the provider's sentence."""
    found = transition_of(RETIRED, state="active", failure=None)
    assert found is not None
    assert (found.kind, found.code, found.who_acts) == ("rejected", RETIRED.failure.code, Actor.OWNER)


def test_a_long_code_is_cut() -> None:
    """A code that is a sentence may hold anything of the provider's."""
    change = RevocationPostponed(
        failure=Failure(kind=FailureKind.MISCONFIGURED, code="x" * 5000, message="", at=SINCE),
        tries=1,
        due_at=SINCE,
        failed=True,
    )
    found = transition_of(change, state="revoking", failure=None, order=ORDER)
    assert found is not None
    assert found.code == "x" * 100


def test_a_consent_is_an_event_and_missing_scopes_are_another() -> None:
    """Its owner has to act again for the latter."""
    assert [one.type for one in connected([])] == [OwnerEventType.CONNECTED]
    assert [one.type for one in connected(["write"])] == [
        OwnerEventType.CONNECTED,
        OwnerEventType.SCOPES_MISSING,
    ]


@pytest.mark.parametrize("state", ["active", "paused", "needs_reauth"])
def test_only_a_dead_token_recovers_by_a_resume(state: str) -> None:
    """Nobody was told that it was paused."""
    found = resumed(state)
    assert (found and found.type) == ("token.recovered" if state == "needs_reauth" else None)


def test_every_type_says_who_acts() -> None:
    """A type without an actor would fail at its first event."""
    assert set(WHO_ACTS) == set(OwnerEventType)
