"""A key leaves the ring only when nothing needs it (J7): each condition of `keys retire`, on its own."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemon.domain.key_use import KeyNeeds, KeyUse, NeededBy, Process, needed_by

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
OPEN = KeyNeeds(use=KeyUse.OPEN)
DAEMON = Process(
    id="i-1",
    host="one.example",
    seen_at=NOW - timedelta(seconds=30),
    keys={"old": OPEN, "new": KeyNeeds(use=KeyUse.ALL)},
    writer_key_ids=["new"],
)


def needed(*processes: Process, values: int = 0, consents: int = 0) -> NeededBy:
    return needed_by("old", values=values, consents=consents, processes=processes, now=NOW)


def daemon(needs: KeyNeeds = OPEN, *, silent: timedelta = timedelta(seconds=30), **fields: object) -> Process:
    changed = {"keys": {"old": needs}, "seen_at": NOW - silent, **fields}
    return replace(DAEMON, **changed)  # type: ignore[arg-type]


def test_a_key_that_only_opens_and_has_sealed_nothing_may_leave():
    assert needed(DAEMON) == NeededBy()
    assert needed(DAEMON).may_leave


def test_a_key_that_no_ring_has_may_leave():
    assert needed(daemon(keys={})).may_leave


@pytest.mark.parametrize(
    ("found", "name", "expected"),
    [
        (needed(DAEMON, values=3), "values", 3),
        (needed(DAEMON, consents=1), "consents", 1),
        (needed(daemon(KeyNeeds(use=KeyUse.OPEN, journal=2))), "journal", 2),
        (needed(daemon(KeyNeeds(use=KeyUse.OPEN, kept=1))), "kept", 1),
        (needed(daemon(writer_key_ids=["old"])), "writers", ["one.example"]),
        (needed(daemon(KeyNeeds(use=KeyUse.ALL))), "in_use", ["one.example"]),
    ],
    ids=["values", "consents", "journal", "kept", "writers", "in use"],
)
def test_each_need_alone_keeps_the_key(found, name, expected):
    """And no other need is reported."""
    assert found == NeededBy(**{name: expected})
    assert not found.may_leave


def test_a_silent_instance_keeps_the_key_if_its_journal_has_entries():
    found = needed(daemon(KeyNeeds(use=KeyUse.OPEN, journal=1), silent=timedelta(days=20)))
    assert found == NeededBy(journal=1, silent_instances=["i-1 on one.example"])


def test_a_silent_instance_keeps_the_key_if_it_could_still_seal_with_it():
    """It may have kept a reply after it wrote its row, however long ago that was."""
    found = needed(daemon(KeyNeeds(use=KeyUse.ALL), silent=timedelta(days=20)))
    assert found == NeededBy(silent_instances=["i-1 on one.example"])
    assert not found.may_leave


@pytest.mark.parametrize(
    ("silent", "counts"), [(timedelta(days=7), True), (timedelta(days=7, seconds=1), False)]
)
def test_an_instance_counts_for_seven_days(silent, counts):
    assert bool(needed(daemon(KeyNeeds(use=KeyUse.ALL), silent=silent)).in_use) is counts
    assert bool(needed(daemon(silent=silent, writer_key_ids=["old"])).writers) is counts


@pytest.mark.parametrize(
    ("silent", "named"), [(timedelta(minutes=5), False), (timedelta(minutes=5, seconds=1), True)]
)
def test_an_instance_is_silent_after_five_minutes(silent, named):
    found = needed(daemon(KeyNeeds(use=KeyUse.OPEN, kept=1), silent=silent))
    assert bool(found.silent_instances) is named


def test_a_silent_instance_that_only_opens_and_has_no_entries_needs_nothing():
    """No entry can have come under a key that doesn't seal."""
    assert needed(daemon(silent=timedelta(days=20))).may_leave


def test_an_adopted_instance_needs_nothing():
    lost = daemon(KeyNeeds(use=KeyUse.ALL, journal=4, kept=1), silent=timedelta(days=2), adopted=True)
    assert needed(lost, DAEMON).may_leave
    assert not needed(replace(lost, adopted=False), DAEMON).may_leave
