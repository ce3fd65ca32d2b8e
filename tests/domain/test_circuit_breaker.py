"""When a provider as a whole must rest: healthy tokens that fail alike are a reason, failing tokens never are."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemon.domain.answer import Cause, Concern, Granted, Misconfigured, Rejected, Unavailable, Unparsed
from daemon.domain.circuit_breaker import (
    FAILURE_THRESHOLD,
    OUTAGE_THRESHOLD,
    REFUSAL_THRESHOLD,
    REJECTION_THRESHOLD,
    SUSPICION,
    CircuitBreaker,
    Pause,
    Reason,
    is_healthy,
    is_proven,
    probe_after,
    probe_size,
)
from daemon.domain.secret import Secret
from daemon.domain.token import Doubt, State, Token

START = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
GOOD = Granted(access_token=Secret("a"))
DEAD = Rejected(code="invalid_grant", message="dead")
ODD = Unparsed(code="refresh_token_elsewhere", message="odd")
PAGE = Unavailable(code="page", message="a page", in_doubt=True, cause=Cause.PAGE)
OUT = Unavailable(code="http_503", message="later")
ALONE = Unavailable(code="account_suspended", message="suspended", cause=Cause.REFUSAL)
OURS = Unavailable(code="not_kept", message="full", cause=Cause.OURS)


def wrong(concern, code="x"):
    return Misconfigured(code=code, message="x", concerns=concern)


CLIENT, PROVIDER, TOKEN = wrong(Concern.CLIENT), wrong(Concern.PROVIDER), wrong(Concern.TOKEN)


def recorded(breaker, answer, count, *, healthy=True, now=START, first=0):
    """What so many different tokens in a row make of it."""
    return [
        breaker.record(f"acme:{n}", answer, healthy=healthy, now=now) for n in range(first, first + count)
    ]


def nothing(count):
    return [None] * count


def test_a_refused_client_is_a_reason_at_first_if_nothing_was_granted_yet():
    """Every token would be refused; and it is said once."""
    breaker = CircuitBreaker()
    assert recorded(breaker, CLIENT, 3) == [Reason.WRONG_CLIENT, None, None]
    assert breaker.reason is Reason.WRONG_CLIENT


def test_a_client_that_was_accepted_must_be_refused_three_times_in_a_row():
    """It may be one token's foreign client."""
    breaker = CircuitBreaker()
    recorded(breaker, GOOD, 1)
    assert recorded(breaker, CLIENT, 3) == [None, None, Reason.WRONG_CLIENT]


@pytest.mark.parametrize("answer", [DEAD, ODD, PAGE, OUT, ALONE, PROVIDER])
def test_only_a_grant_proves_that_the_client_is_accepted(answer):
    """Neither a page nor a rejection does: some providers look at the token first."""
    breaker = CircuitBreaker()
    recorded(breaker, answer, 1)
    assert recorded(breaker, CLIENT, 1) == [Reason.WRONG_CLIENT]


KINDS = pytest.mark.parametrize(
    ("answer", "enough", "reason"),
    [
        (PROVIDER, FAILURE_THRESHOLD, Reason.MISCONFIGURED),
        (ALONE, REFUSAL_THRESHOLD, Reason.MISCONFIGURED),
        (PAGE, FAILURE_THRESHOLD, Reason.UNPARSED),
        (ODD, FAILURE_THRESHOLD, Reason.UNPARSED),
        (OUT, OUTAGE_THRESHOLD, Reason.OUTAGE),
        (DEAD, REJECTION_THRESHOLD, Reason.REJECTIONS),
    ],
)


@KINDS
def test_so_many_different_healthy_tokens_in_a_row_are_a_reason(answer, enough, reason):
    """One token alone never is, however often it fails."""
    assert recorded(CircuitBreaker(), answer, enough) == [*nothing(enough - 1), reason]
    breaker = CircuitBreaker()
    assert [breaker.record("acme:1", answer, healthy=True, now=START) for _ in range(100)] == nothing(100)


@KINDS
def test_tokens_that_had_failed_before_are_never_a_reason(answer, enough, reason):
    """Each has a trouble of its own, and there may be many."""
    assert recorded(CircuitBreaker(), answer, 100 * enough, healthy=False) == nothing(100 * enough)


@KINDS
def test_one_grant_between_begins_the_count_again(answer, enough, reason):
    """The others are as many again, and other tokens. A rejection weighs more: four grants outweigh one."""
    breaker = CircuitBreaker()
    recorded(breaker, answer, enough - 1)
    for _ in range(4 * enough if answer is DEAD else 1):
        recorded(breaker, GOOD, 1)
    assert recorded(breaker, answer, enough - 1, first=1000) == nothing(enough - 1)


def test_a_mass_of_rejections_is_noticed_though_every_other_token_is_granted():
    """Half of a provider's sessions may be lost; what dies in an ordinary hour is far less."""
    breaker, reasons = CircuitBreaker(), []
    for n in range(30):
        reasons += recorded(breaker, DEAD, 1, first=n)
        recorded(breaker, GOOD, 1)
    assert Reason.REJECTIONS in reasons
    breaker, reasons = CircuitBreaker(), []
    for n in range(300):
        reasons += recorded(breaker, DEAD, 1, first=n)
        recorded(breaker, GOOD, 5)
    assert set(reasons) == {None}


@pytest.mark.parametrize("answer", [TOKEN, OURS])
def test_some_answers_say_nothing_of_the_provider(answer):
    """A missing variable or a refused scope, and refreshd's own trouble: neither for a rest nor against one."""
    breaker = CircuitBreaker()
    assert recorded(breaker, answer, 100) == nothing(100)
    assert recorded(breaker, PROVIDER, 2) == [None, None]
    recorded(breaker, answer, 1)
    assert recorded(breaker, PROVIDER, 1, first=2) == [Reason.MISCONFIGURED]


def test_different_troubles_do_not_add_up():
    """They must fail alike; two refusals in different words are two troubles."""
    breaker = CircuitBreaker()
    for n in range(2):
        assert recorded(breaker, PAGE, 1, first=n) == [None]
        assert recorded(breaker, PROVIDER, 1, first=n) == [None]
        assert recorded(breaker, wrong(Concern.PROVIDER, "y"), 1, first=n) == [None]
        assert recorded(breaker, OUT, 1, first=n) == [None]


@KINDS
def test_only_a_grant_ends_a_rest(answer, enough, reason):
    """A probe that fails changes nothing, and afterwards the client must prove itself."""
    breaker = CircuitBreaker()
    recorded(breaker, answer, enough)
    for other in (OUT, CLIENT, PROVIDER, TOKEN, PAGE, ODD, DEAD, ALONE, OURS):
        assert recorded(breaker, other, 1) == [None]
        assert breaker.reason is reason
    recorded(breaker, GOOD, 1)
    assert breaker.reason is None


def test_a_grant_does_not_end_the_operators_pause():
    """One that was in flight as the operator paused the provider."""
    breaker = CircuitBreaker()
    breaker.open(Reason.OPERATOR, START)
    recorded(breaker, GOOD, 1)
    assert breaker.reason is Reason.OPERATOR
    assert not breaker.doubts(START)


@KINDS
def test_a_suspicion_that_a_probe_disproves_needs_twice_the_evidence_next_time(answer, enough, reason):
    """One customer's tokens that came due together. An hour later it is forgotten."""
    breaker = CircuitBreaker()
    recorded(breaker, answer, enough)
    recorded(breaker, GOOD, 1, now=START + MINUTE)
    again = recorded(breaker, answer, 2 * enough, first=1000, now=START + 2 * MINUTE)
    assert again == [*nothing(2 * enough - 1), reason]
    breaker = CircuitBreaker()
    recorded(breaker, answer, enough)
    recorded(breaker, GOOD, 1, now=START + MINUTE)
    assert recorded(breaker, answer, enough, first=1000, now=START + 62 * MINUTE)[-1] is reason


@KINDS
def test_a_rest_that_was_needed_is_no_disproof(answer, enough, reason):
    """It lasted: the provider was in trouble, and may soon be again."""
    breaker = CircuitBreaker()
    recorded(breaker, answer, enough)
    recorded(breaker, GOOD, 1, now=START + 10 * MINUTE)
    assert recorded(breaker, answer, enough, first=1000, now=START + 11 * MINUTE)[-1] is reason


def test_nothing_is_believed_while_the_provider_says_it_to_everybody():
    """The seventh rejection in a row is not believed, nor any in the quarter of an hour after the last mass."""
    breaker = CircuitBreaker()
    recorded(breaker, DEAD, REJECTION_THRESHOLD - 1)
    assert not breaker.doubts(START)
    recorded(breaker, DEAD, 1, first=REJECTION_THRESHOLD)
    assert breaker.doubts(START)
    recorded(breaker, GOOD, 1)
    assert breaker.doubts(START + SUSPICION - MINUTE)
    assert not breaker.doubts(START + SUSPICION)


@pytest.mark.parametrize("reason", list(Reason))
def test_what_a_resting_provider_says_is_doubted(reason):
    """But a wrong client says nothing of tokens, and the operator's pause nothing of the provider."""
    breaker = CircuitBreaker()
    breaker.open(reason, START)
    assert breaker.doubts(START) is (reason not in {Reason.WRONG_CLIENT, Reason.OPERATOR})


def test_a_token_is_healthy_if_it_has_neither_failed_nor_a_doubt():
    """After a crash many are rejected because their successors were lost with it: no sign of a mass verdict."""
    token = Token(id="acme:1", provider="acme", account="1", state=State.ACTIVE, refresh_token=None)
    assert is_healthy(token)
    assert not is_healthy(replace(token, failures=1))
    assert not is_healthy(replace(token, doubt=Doubt(since=NOON, tries=1)))
    assert not is_proven(token)
    assert is_proven(replace(token, refreshed_at=NOON))


def test_at_most_four_requests_reach_a_provider_that_refuses_our_client_in_ten_minutes():
    """The first one and the probes, at the moments when they come."""
    at, asked = timedelta(0), 1
    for probes in range(10):
        at += probe_after(Reason.WRONG_CLIENT, probes)
        asked += at <= timedelta(minutes=10)
    assert asked <= 4
    assert probe_after(Reason.WRONG_CLIENT, 100) == timedelta(minutes=30)


@pytest.mark.parametrize("reason", [Reason.OUTAGE, Reason.UNPARSED, Reason.REJECTIONS])
def test_the_end_of_a_providers_trouble_is_seen_within_a_minute(reason):
    """However long it was."""
    waits = [probe_after(reason, n) for n in range(99)]
    assert waits == sorted(waits)
    assert waits[0] <= MINUTE / 4
    assert waits[-1] == MINUTE


def test_a_widening_probe_finds_a_good_token_among_thirty_bad_ones_within_three_minutes():
    """One customer's tokens that are all due at the same time; after that little is asked."""
    at, asked, pause = timedelta(0), 0, Pause(reason=Reason.MISCONFIGURED)
    while asked <= 30:
        at += probe_after(pause.reason, pause.probes)
        asked += probe_size(pause.reason, pause.probes)
        pause = pause.after(NOON, proven=True)
    assert at <= timedelta(minutes=3)
    assert [probe_size(Reason.MISCONFIGURED, n) for n in (5, 6, 50)] == [1, 1, 1]
    assert [probe_size(Reason.OUTAGE, n) for n in (0, 3, 50)] == [1, 1, 1]


def test_another_tokens_probe_does_not_put_off_a_proven_ones():
    """A proven one's puts off both."""
    pause = Pause(reason=Reason.MISCONFIGURED, since=NOON, next_probe_at=NOON, next_retry_at=NOON)
    for _ in range(8):
        pause = pause.after(NOON, proven=False)
    assert pause.next_probe_at == NOON
    assert pause.next_retry_at == NOON + 30 * MINUTE
    pause = Pause(reason=Reason.MISCONFIGURED).after(NOON, proven=True)
    assert pause.next_probe_at == pause.next_retry_at == NOON + probe_after(Reason.MISCONFIGURED, 1)
