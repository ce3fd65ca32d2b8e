"""Events that wait in a document, whatever another program has written there."""

from datetime import UTC, datetime
from typing import Any

import pytest

from daemon.domain.owner_event import Actor, OwnerEvent, OwnerEventType
from daemon.domain.waiting_events import waiting_events

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
STORED: dict[str, Any] = {
    "n": "id-1",
    "type": "token.needs_reauth",
    "at": NOON,
    "who_acts": "owner",
    "kind": "rejected",
    "code": "invalid_grant",
    "subject": "u1",
    "revision": 8,
    "lost": 0,
}


def test_an_event_says_whom_it_concerns() -> None:
    """An account may contain colons, a provider's name never does."""
    [event] = waiting_events("acme:a:b", [STORED]).events
    assert event == OwnerEvent(
        id="id-1",
        type=OwnerEventType.NEEDS_REAUTH,
        at=NOON,
        who_acts=Actor.OWNER,
        provider="acme",
        token="acme:a:b",
        account="a:b",
        subject="u1",
        kind="rejected",
        code="invalid_grant",
        revision=8,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "token.sold"},
        {"type": 7},
        {"type": None},
        {"type": ["token.revoked"]},
        {"type": "provider.paused"},
        {"at": "now"},
        {"at": None},
        {"who_acts": "everybody"},
        {"who_acts": {}},
    ],
    ids=repr,
)
def test_a_malformed_event_is_counted_and_taken_away(changes: dict[str, Any]) -> None:
    """It is nobody's, and the one after it is."""
    found = waiting_events("acme:1", [{**STORED, **changes}, {**STORED, "n": "id-2"}])
    assert ([one.id for one in found.events], found.ids, found.malformed) == (["id-2"], ["id-1", "id-2"], 1)


@pytest.mark.parametrize("value", [7, "x" * 2000, {"a": 1}, None, NOON], ids=lambda one: repr(one)[:20])
def test_a_strange_detail_is_left_out(value: object) -> None:
    """The event is true without it."""
    [event] = waiting_events("acme:1", [{**STORED, "kind": value, "code": value, "subject": value}]).events
    assert (event.kind, event.code, event.subject) == (None, None, None)


def test_what_was_pushed_out_is_counted() -> None:
    """And entries without an id are malformed."""
    found = waiting_events(
        "acme:1", [{**STORED, "lost": 3}, {**STORED, "lost": True}, {**STORED, "lost": -4}], others=2
    )
    assert (found.lost, found.malformed) == (3, 2)


@pytest.mark.parametrize(
    ("stored", "read"), [(8.0, 8), (8.5, 0), (float("inf"), 0), (float("nan"), 0), (1e300, 0)]
)
def test_a_revision_counts_though_it_is_stored_as_floating_point(stored: float, read: int) -> None:
    """A language may know no other numbers. Receivers order events by it, and 0 would be older than every other."""
    [event] = waiting_events("acme:1", [{**STORED, "revision": stored}]).events
    assert event.revision == read
