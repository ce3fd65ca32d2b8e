"""When a provider as a whole must rest: one token's trouble is no reason, several that fail alike are one."""

from datetime import timedelta

import pytest

from daemon.domain.answer import Concern, Granted, Misconfigured, Rejected, Unavailable, Unread
from daemon.domain.brake import ALIKE, OUTAGES, Brake, Reason, probe_after
from daemon.domain.secret import Secret

GOOD = Granted(access_token=Secret("a"))
DEAD = Rejected(code="invalid_grant", message="dead")
ODD = Unread(code="no_grant", message="odd")
OUT = Unavailable(code="http_503", message="later")


def wrong(concern):
    return Misconfigured(code="x", message="x", concerns=concern)


def heard(brake, answer, count):
    """What so many different tokens in a row make of it."""
    return [brake.heard(f"acme:{n}", answer) for n in range(count)]


def test_a_refused_client_is_a_reason_at_once_where_nothing_has_succeeded():
    """Every token would be refused; and it is said once."""
    brake = Brake()
    assert heard(brake, wrong(Concern.CLIENT), 3) == [Reason.WRONG_CLIENT, None, None]
    assert brake.paused


@pytest.mark.parametrize("good", [GOOD, DEAD, ODD])
def test_a_client_that_was_accepted_must_be_refused_three_times_in_a_row(good):
    """A dead grant too shows that the client is known: it may have been one token's foreign client."""
    brake = Brake()
    brake.heard("acme:1", good)
    assert heard(brake, wrong(Concern.CLIENT), 3) == [None, None, Reason.WRONG_CLIENT]


@pytest.mark.parametrize(
    ("answer", "enough", "reason"),
    [(wrong(Concern.PROVIDER), ALIKE, Reason.MISCONFIGURED), (OUT, OUTAGES, Reason.OUTAGE)],
)
def test_so_many_different_tokens_in_a_row_are_a_reason(answer, enough, reason):
    """One token alone never is, however often it fails; one good answer between and the count begins anew."""
    assert heard(Brake(), answer, enough) == [None] * (enough - 1) + [reason]
    brake = Brake()
    assert [brake.heard("acme:1", answer) for _ in range(100)] == [None] * 100
    brake = Brake()
    heard(brake, answer, enough - 1)
    brake.heard("acme:good", GOOD)
    assert heard(brake, answer, enough - 1) == [None] * (enough - 1)


def test_different_troubles_do_not_add_up():
    """They must fail alike."""
    brake = Brake(proven=True)
    for n in range(30):
        assert brake.heard(f"acme:{n}", (wrong(Concern.PROVIDER), OUT)[n % 2]) is None


def test_what_concerns_one_token_is_never_a_reason():
    """A missing variable or a refused scope: neither for a rest nor against one."""
    brake = Brake()
    assert heard(brake, wrong(Concern.TOKEN), 100) == [None] * 100
    assert heard(brake, wrong(Concern.PROVIDER), 2) == [None, None]
    brake.heard("acme:x", wrong(Concern.TOKEN))
    assert brake.heard("acme:y", wrong(Concern.PROVIDER)) is Reason.MISCONFIGURED


def test_only_a_good_answer_ends_a_rest():
    """A probe that fails changes nothing, and afterwards the client must prove itself."""
    brake = Brake()
    brake.heard("acme:1", wrong(Concern.CLIENT))
    for answer in (OUT, wrong(Concern.CLIENT), wrong(Concern.PROVIDER), wrong(Concern.TOKEN)):
        assert brake.heard("acme:2", answer) is None
        assert brake.paused
    brake.heard("acme:3", GOOD)
    assert not brake.paused


def test_at_most_four_requests_reach_a_provider_that_refuses_our_client_in_ten_minutes():
    """The first one and the probes, at the moments when they come."""
    at, asked = timedelta(0), 1
    for probes in range(10):
        at += probe_after(Reason.WRONG_CLIENT, probes)
        asked += at <= timedelta(minutes=10)
    assert asked <= 4
    assert probe_after(Reason.WRONG_CLIENT, 100) == timedelta(minutes=30)


def test_an_outages_end_is_seen_within_a_minute():
    """However long it was."""
    assert [probe_after(Reason.OUTAGE, n) / timedelta(seconds=1) for n in (0, 1, 2, 99)] == [15, 30, 60, 60]
