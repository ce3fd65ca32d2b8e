"""Which restored tokens rest, and which content is older."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.domain.backup import ArchivedToken, Version, is_ended, may_be_spent
from daemon.domain.provider import Definition, Grant, Rotation

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LOST = NOW - timedelta(hours=1)
BEFORE, AFTER = LOST - timedelta(minutes=1), LOST + timedelta(minutes=1)
NO_GRACE = timedelta(0)


def definition(rotation: Rotation = Rotation.ALWAYS, grace: timedelta = NO_GRACE, **more: Any) -> Definition:
    return Definition(
        name="acme",
        title="Acme",
        token_url="https://acme.example/token",
        rotation=rotation,
        grace=grace,
        **more,
    )


def token(**fields: Any) -> ArchivedToken:
    plain: dict[str, Any] = {
        "id": "acme:a",
        "provider": "acme",
        "state": "active",
        "grant": "refresh_token",
        "has_refresh_token": True,
        "due_at": AFTER,
        "undated": False,
        "asked_at": None,
        "version": Version(revision=1, updated_at=None),
    }
    return ArchivedToken(**plain | fields)


@pytest.mark.parametrize(
    ("fields", "known", "rests"),
    [
        ({"due_at": BEFORE}, definition(), True),
        ({"due_at": LOST}, definition(), True),
        ({"due_at": AFTER}, definition(), False),
        ({"due_at": BEFORE}, definition(Rotation.SOMETIMES), True),
        ({"due_at": BEFORE}, definition(Rotation.NEVER), False),
        ({"due_at": BEFORE}, None, True),
        ({"due_at": AFTER}, None, False),
        ({"due_at": BEFORE, "state": "paused"}, definition(), False),
        ({"due_at": None, "state": "needs_reauth"}, definition(), False),
        ({"due_at": BEFORE, "has_refresh_token": False}, definition(), False),
        ({"due_at": BEFORE}, definition(grant=Grant.EXCHANGE), False),
        ({"due_at": BEFORE, "grant": "client_credentials"}, definition(grants=frozenset({Grant.CLIENT_CREDENTIALS})), False),
        ({"due_at": None}, definition(), False),  # a reply could not be parsed: nothing is presented
        ({"due_at": None, "undated": True}, definition(grace=timedelta(days=9)), True),
        ({"asked_at": BEFORE}, definition(), True),
        ({"due_at": BEFORE}, definition(grace=timedelta(hours=2)), False),  # still accepted
        ({"due_at": BEFORE}, definition(grace=timedelta(minutes=64)), True),  # not by the time a daemon has started
        ({"due_at": BEFORE}, definition(grace=timedelta(minutes=67)), False),
        ({"due_at": BEFORE}, definition(grace=timedelta(hours=2), grace_until_used=True), True),  # used since
        ({"due_at": BEFORE, "asked_at": NOW - timedelta(hours=9)}, definition(grace=timedelta(hours=2)), True),
    ],
)  # fmt: skip
def test_a_token_rests_if_it_may_be_spent(fields: dict[str, Any], known: Definition | None, rests: bool):
    """Due before the loss, or asked for at the backup, unless nothing replaces its refresh token or it is still accepted."""
    assert may_be_spent(token(**fields), known, lost_at=LOST, now=NOW) is rests


@pytest.mark.parametrize(
    ("this", "other", "older"),
    [
        ((1, None), (2, None), True),
        ((2, None), (2, None), False),
        ((3, BEFORE), (2, AFTER), False),  # the revision decides
        ((None, BEFORE), (None, AFTER), True),
        ((None, BEFORE), (2, AFTER), True),
        ((None, None), (2, AFTER), False),
        ((1, BEFORE), (None, None), False),
    ],
)
def test_content_is_older_by_revision_or_else_by_date(this, other, older):
    assert version(this).precedes(version(other)) is older


def version(of: tuple[int | None, datetime | None]) -> Version:
    return Version(revision=of[0], updated_at=of[1])


def test_a_token_has_ended_by_its_id_or_a_fingerprint():
    one = token(fingerprints=frozenset({"k.1", "k.2"}))
    assert [is_ended(one, {name}) for name in ("acme:a", "k.2", "acme:b")] == [True, True, False]
