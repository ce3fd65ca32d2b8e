"""When a token is due, how long to back off, and what an answer changes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from daemon.domain.answer import Concern, Granted, Misconfigured, Rejected, Unavailable, Unread
from daemon.domain.change import Postponed, Renewed, Retired, Scheduled, Withheld
from daemon.domain.policy import (
    BACKOFF_LAST,
    IN_DOUBT_RETRY,
    REST,
    RETRY_MARGIN,
    Timing,
    backoff,
    decide,
    due_at,
    first_look,
)
from daemon.domain.provider import Definition, Provider
from daemon.domain.secret import Secret
from daemon.domain.token import Doubt, Failure, FailureKind, State, Token

ASKED = datetime(2026, 11, 1, 12, tzinfo=UTC)
NOW = ASKED + timedelta(seconds=1)
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
TIMING = Timing()
PLAIN = Definition(name="acme", title="Acme", token_url="https://login.acme.test/token")
TOKEN = Token(
    id="acme:1",
    provider="acme",
    account="1",
    state=State.ACTIVE,
    refresh_token=Secret("old-refresh"),
    access_token=Secret("old-access"),
    issued_at=ASKED - HOUR,
    expires_at=ASKED + 5 * MINUTE,
    due_at=ASKED,
    revision=4,
)
GRANTED = Granted(
    access_token=Secret("new-access"), refresh_token=Secret("new-refresh"), expires_at=ASKED + HOUR
)
OUTAGE = Unavailable(code="http_500", message="oops")
LOST = Unavailable(code="timeout", message="none came", in_doubt=True)
DEAD = Rejected(code="invalid_grant", message="dead")
WRONG = Misconfigured(code="invalid_client", message="who?", concerns=Concern.CLIENT)

instants = st.timedeltas(timedelta(days=-5000), timedelta(days=5000)).map(lambda away: ASKED + away)
chances = st.floats(0, 1)
lifetimes = st.timedeltas(timedelta(milliseconds=1), timedelta(days=400))


def provider(**known):
    return Provider(definition=replace(PLAIN, **known), client_id="me")


def due(lifetime, *, chance=0.0, now=ASKED, client=None, timing=TIMING, refresh_expires_at=None):
    end = due_at(
        client or provider(),
        ASKED + lifetime,
        issued_at=ASKED,
        now=now,
        chance=chance,
        timing=timing,
        refresh_expires_at=refresh_expires_at,
    )
    return end - ASKED


def decided(answer, *, token=TOKEN, chance=1.0, now=NOW, client=None):
    return decide(client or provider(), token, answer, asked_at=ASKED, now=now, chance=chance, timing=TIMING)


def failed(kind, failures):
    failure = Failure(kind=kind, code="before", message="before", at=ASKED - MINUTE)
    return replace(TOKEN, failures=failures, last_failure=failure)


# ------------------------------------------------------------------------------------------------ due


@pytest.mark.parametrize(
    ("lifetime", "chance", "after"),
    [
        (HOUR, 0, 55 * MINUTE),
        (HOUR, 1, 54.5 * MINUTE),
        (HOUR, 0.5, 54.75 * MINUTE),
        (30 * DAY, 0, 30 * DAY - 5 * MINUTE),
        (15 * MINUTE, 0, 10 * MINUTE),
        (10 * MINUTE, 0, 400 * SECOND),
        (MINUTE, 0, 40 * SECOND),
        (MINUTE, 1, 34 * SECOND),
        (6 * SECOND, 0, 4 * SECOND),
        (6 * SECOND, 1, 3.4 * SECOND),
        (SECOND, 1, SECOND * (1 - 1 / 3 - 0.1)),
    ],
)
def test_a_token_is_due_a_window_and_a_jitter_before_its_end(lifetime, chance, after):
    """A third of the lifetime at most, five minutes at most; a tenth and 30 s for the jitter."""
    assert abs(due(lifetime, chance=chance) - after) < timedelta(milliseconds=1)


def test_the_window_is_the_operators_then_the_definitions_then_the_common_one():
    """The nearest word wins, but a third of the lifetime bounds it all the same."""
    ours = provider(window=2 * MINUTE)
    assert due(HOUR, client=ours) == 58 * MINUTE
    assert due(HOUR, client=replace(ours, window=MINUTE)) == 59 * MINUTE
    assert due(HOUR, timing=Timing(window=10 * MINUTE)) == 50 * MINUTE
    assert due(HOUR, client=replace(ours, window=HOUR)) == 40 * MINUTE


def test_no_token_is_due_before_half_its_lifetime():
    """However large the jitter is configured."""
    assert due(HOUR, chance=1, timing=Timing(window=HOUR, jitter=HOUR)) == HOUR - 20 * MINUTE - 6 * MINUTE
    assert due(2 * SECOND, chance=1, timing=Timing(window=HOUR, jitter=HOUR)) >= SECOND


def test_no_token_is_due_again_within_ten_seconds():
    """Even when its reply came late or says that it is expired already; half the lifetime where that is shorter."""
    late = ASKED + 55 * MINUTE
    assert due(HOUR, now=late) == 55 * MINUTE + REST
    assert due(-HOUR) == REST
    assert due(timedelta(0)) == REST
    assert due(6 * SECOND, now=ASKED + 3 * SECOND) == 6 * SECOND


@given(lifetimes, chances, instants)
def test_a_token_is_always_due_in_the_second_half_of_its_life(lifetime, chance, issued):
    """Where the reply was quick: never before half, and always with time left."""
    end = issued + lifetime
    when = due_at(provider(), end, issued_at=issued, now=issued, chance=chance, timing=TIMING)
    assert issued + lifetime / 2 <= when < end
    assert when >= issued + min(REST, lifetime / 2)


@given(instants, instants, instants, chances, st.none() | instants)
def test_a_token_never_rests_shorter_than_it_must(issued, ends, now, chance, refresh_ends):
    """Whatever the provider claims, there is no storm."""
    when = due_at(
        provider(),
        ends,
        issued_at=issued,
        now=now,
        chance=chance,
        timing=TIMING,
        refresh_expires_at=refresh_ends,
    )
    assert when > now
    if ends - issued >= 2 * REST and refresh_ends is None:
        assert when >= now + REST


@pytest.mark.parametrize(
    ("refresh_life", "after"),
    [
        (30 * MINUTE, 25 * MINUTE),
        (MINUTE, 40 * SECOND),
        (2 * DAY, DAY - 5 * MINUTE),
        (8 * SECOND, DAY - 5 * MINUTE),
        (-DAY, DAY - 5 * MINUTE),
    ],
)
def test_a_refresh_token_that_ends_first_is_used_before_it_ends(refresh_life, after):
    """A session of 30 minutes outlives no access token of a day; what is as good as over changes nothing."""
    assert due(DAY, refresh_expires_at=ASKED + refresh_life) == after


@given(lifetimes, lifetimes, chances)
def test_no_renewal_comes_after_the_refresh_tokens_end(lifetime, refresh_life, chance):
    """But for the last seconds, in which nothing can be gained."""
    assume(refresh_life > 2 * REST)
    when = due(lifetime, chance=chance, refresh_expires_at=ASKED + refresh_life)
    assert when < max(refresh_life, timedelta(0))


# ------------------------------------------------------------------------------------------------ first look


def look(token, chance=0.0):
    return first_look(provider(), token, now=NOW, chance=chance, timing=TIMING)


def test_a_due_token_is_asked_for():
    """Nothing to plan: ask the provider."""
    assert look(TOKEN) is None


@pytest.mark.parametrize("state", [State.NEEDS_REAUTH, State.PAUSED])
def test_a_token_that_rests_is_put_back_to_rest(state):
    """Its due date was set by somebody who doesn't know that it can't be renewed."""
    assert look(replace(TOKEN, state=state)) == Scheduled(due_at=None)


def test_a_token_with_nothing_to_present_is_watched_and_not_refreshed():
    """It would fail for ever."""
    assert look(replace(TOKEN, refresh_token=None)) == Scheduled(due_at=None)


def test_a_new_document_that_expires_beyond_the_window_is_scheduled():
    """An application inserted it with a due date of now; with or without saying when it was issued."""
    new = replace(TOKEN, revision=None, issued_at=NOW, expires_at=NOW + HOUR)
    assert look(new) == Scheduled(due_at=NOW + 55 * MINUTE)
    assert look(new, chance=1) == Scheduled(due_at=NOW + 54.5 * MINUTE)
    assert look(replace(new, issued_at=None)) == Scheduled(due_at=NOW + 55 * MINUTE)
    soon = replace(new, issued_at=None, expires_at=NOW + 6 * MINUTE)
    assert look(soon) == Scheduled(due_at=NOW + MINUTE)


@pytest.mark.parametrize(
    "left", [5 * MINUTE, 4 * MINUTE, timedelta(0), -HOUR, datetime.min.replace(tzinfo=UTC) - NOW]
)
@pytest.mark.parametrize("issued", [None, ASKED - HOUR])
def test_a_new_document_that_expires_within_the_window_is_refreshed(left, issued):
    """Now, not at the end of a shortened window that nobody knows of."""
    assert look(replace(TOKEN, revision=None, issued_at=issued, expires_at=NOW + left)) is None


def test_a_new_document_that_never_expires_is_refreshed_when_it_is_due():
    """Somebody gave it a due date."""
    assert look(replace(TOKEN, revision=None, expires_at=None)) is None


def test_a_known_document_is_refreshed_though_it_lives_long():
    """A due date that was set to now asks for an early renewal."""
    assert look(replace(TOKEN, expires_at=NOW + DAY)) is None


# ------------------------------------------------------------------------------------------------ backoff


@pytest.mark.parametrize(
    ("failures", "most"),
    [(0, 5), (1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 300), (7, 300), (10**6, 300)],
)
def test_a_backoff_doubles_up_to_five_minutes(failures, most):
    """Full jitter: anything between nothing and that."""
    assert backoff(failures, chance=1) == most * SECOND
    assert backoff(failures, chance=0.5) == most * SECOND / 2
    assert backoff(failures, chance=0) == timedelta(0)


@given(st.integers(0, 10**9), chances)
def test_a_backoff_is_never_longer_than_five_minutes(failures, chance):
    """However often it failed."""
    assert timedelta(0) <= backoff(failures, chance=chance) <= BACKOFF_LAST


# ------------------------------------------------------------------------------------------------ renewed


def test_a_grant_renews_and_clears_nothing_but_what_it_replaces():
    """Issued when asked, refreshed now, due again by its own lifetime."""
    assert decided(GRANTED, chance=0) == Renewed(
        granted=GRANTED,
        successor=Secret("new-refresh"),
        issued_at=ASKED,
        refreshed_at=NOW,
        due_at=ASKED + 55 * MINUTE,
        refresh_expires_at=None,
    )


@pytest.mark.parametrize("came", [None, Secret("old-refresh")])
def test_the_same_refresh_token_or_none_is_no_successor(came):
    """Then the record must not be fenced as a rotation."""
    assert decided(replace(GRANTED, refresh_token=came)).successor is None


def test_what_never_expires_is_never_due():
    """There is nothing to renew it for."""
    assert decided(replace(GRANTED, expires_at=None)).due_at is None


STORED_END = ASKED + 3 * DAY


@pytest.mark.parametrize(
    ("told", "stored", "known", "end"),
    [
        (ASKED + DAY, STORED_END, {}, ASKED + DAY),
        (ASKED + 9 * DAY, STORED_END, {"refresh_lifetime": 30 * DAY}, ASKED + 9 * DAY),
        (None, STORED_END, {}, STORED_END),
        (None, None, {}, None),
        (None, STORED_END, {"refresh_idle": 60 * DAY}, ASKED + 60 * DAY),
        (None, None, {"refresh_idle": 60 * DAY}, ASKED + 60 * DAY),
        (None, STORED_END, {"refresh_lifetime": 30 * DAY}, STORED_END),
        (None, STORED_END, {"refresh_lifetime": 30 * DAY, "refresh_idle": DAY}, STORED_END),
        (None, None, {"refresh_lifetime": 30 * DAY, "refresh_idle": DAY}, None),
    ],
)
def test_the_refresh_tokens_own_end(told, stored, known, end):
    """As the reply says; what the consent fixed never moves; idleness counts anew with every use."""
    token = replace(TOKEN, refresh_expires_at=stored)
    change = decided(replace(GRANTED, refresh_expires_at=told), token=token, client=provider(**known))
    assert change.refresh_expires_at == end


def test_a_renewal_is_due_before_its_refresh_token_ends():
    """A session that dies when idle for half an hour, with access tokens of a day."""
    granted = replace(GRANTED, expires_at=ASKED + DAY, refresh_expires_at=ASKED + HOUR / 2)
    assert decided(granted, chance=0).due_at == ASKED + 25 * MINUTE


def test_a_grant_that_came_expired_is_not_asked_for_without_pause():
    """A provider whose clock is wrong."""
    assert decided(replace(GRANTED, expires_at=ASKED - DAY)).due_at == NOW + REST


# ------------------------------------------------------------------------------------------------ unread


def test_an_unread_success_withholds_the_token():
    """Nothing is known of what it brought."""
    got = decided(Unread(code="no_grant", message="what?"))
    assert got == Withheld(failure=Failure(kind=FailureKind.UNREAD, code="no_grant", message="what?", at=NOW))


def test_the_readable_part_of_an_unread_success_is_recorded():
    """The access token, which is good."""
    part = replace(GRANTED, refresh_token=None)
    got = decided(Unread(code="no_refresh_token", message="none", granted=part))
    assert got.failure.kind is FailureKind.UNREAD
    assert got.renewed.granted == part
    assert got.renewed.successor is None


# ------------------------------------------------------------------------------------------------ unavailable


def test_an_outage_postpones_by_the_backoff():
    """And counts."""
    got = decided(OUTAGE, token=failed(FailureKind.UNAVAILABLE, 2))
    assert got == Postponed(
        failure=Failure(kind=FailureKind.UNAVAILABLE, code="http_500", message="oops", at=NOW),
        failures=3,
        due_at=NOW + 20 * SECOND,
    )


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_a_wish_of_the_providers_is_a_floor(chance):
    """It outlasts the access token's end if need be."""
    got = decided(replace(OUTAGE, retry_after=DAY), chance=chance)
    assert got.due_at == NOW + DAY
    assert got.due_at > TOKEN.expires_at


def test_a_short_wish_does_not_shorten_the_backoff():
    """A floor, no more."""
    assert decided(replace(OUTAGE, retry_after=SECOND)).due_at == NOW + 5 * SECOND


def test_a_misconfiguration_postpones_alike():
    """It says nothing about the grant, so the token stays active."""
    got = decided(WRONG)
    assert isinstance(got, Postponed)
    assert got.failure.kind is FailureKind.MISCONFIGURED
    assert got.failures == 1


@pytest.mark.parametrize(
    ("left", "wait"),
    [
        (DAY + HOUR, DAY),
        (HOUR, HOUR - RETRY_MARGIN),
        (2 * MINUTE, MINUTE),
        (MINUTE, 30 * SECOND),
        (SECOND, SECOND / 2),
        (timedelta(0), DAY),
        (-HOUR, DAY),
    ],
)
@pytest.mark.parametrize("answer", [OUTAGE, LOST])
def test_no_wait_outlives_the_refresh_token(answer, left, wait):
    """A minute before its end, or half of what is left; one that has ended binds nobody."""
    token = replace(TOKEN, refresh_expires_at=NOW + left)
    assert decided(replace(answer, retry_after=DAY), token=token).due_at == NOW + wait


@given(
    st.sampled_from([OUTAGE, LOST, WRONG, DEAD]),
    st.integers(0, 50),
    chances,
    st.none() | st.timedeltas(SECOND, DAY),
    st.timedeltas(timedelta(milliseconds=1), timedelta(days=400)),
)
def test_a_retry_always_comes_between_now_and_the_refresh_tokens_end(answer, failures, chance, wish, left):
    """For every failure, every chance and every wish."""
    if isinstance(answer, Unavailable):
        answer = replace(answer, retry_after=wish)
    token = replace(TOKEN, failures=failures, refresh_expires_at=NOW + left)
    got = decided(answer, token=token, chance=chance, client=provider(confirm=2))
    assert isinstance(got, Postponed)
    assert NOW <= got.due_at < NOW + left


# ------------------------------------------------------------------------------------------------ in doubt


def test_a_lost_reply_is_asked_for_again_within_seconds():
    """Inside the provider's grace where it has one; the doubt is counted from the moment of asking."""
    got = decided(LOST, chance=1, token=failed(FailureKind.UNAVAILABLE, 6))
    assert got.failure.kind is FailureKind.IN_DOUBT
    assert got.doubt == Doubt(since=ASKED, tries=1)
    assert got.due_at == NOW + IN_DOUBT_RETRY
    assert got.failures == 7


def test_a_second_lost_reply_backs_off_like_any_outage():
    """The doubt keeps its beginning and counts on."""
    doubt = Doubt(since=ASKED - MINUTE, tries=1)
    got = decided(LOST, chance=1, token=replace(failed(FailureKind.IN_DOUBT, 1), doubt=doubt))
    assert got.doubt == Doubt(since=doubt.since, tries=2)
    assert got.due_at == NOW + 10 * SECOND


def test_a_wish_of_the_providers_is_a_floor_in_doubt_too():
    """A 503 with Retry-After."""
    assert decided(replace(LOST, retry_after=MINUTE)).due_at == NOW + MINUTE


@pytest.mark.parametrize("answer", [OUTAGE, WRONG])
def test_a_doubt_outlasts_what_settles_nothing(answer):
    """Only an answer about the grant ends it: the value may still be spent."""
    doubt = Doubt(since=ASKED - MINUTE, tries=2)
    assert decided(answer, token=replace(TOKEN, doubt=doubt)).doubt == doubt


# ------------------------------------------------------------------------------------------------ rejected


def test_a_dead_grant_is_retired_at_once_where_no_confirmation_is_asked_for():
    """Most providers mean it."""
    assert decided(DEAD) == Retired(
        failure=Failure(kind=FailureKind.REJECTED, code="invalid_grant", message="dead", at=NOW), failures=1
    )


@pytest.mark.parametrize("confirm", [0, 1, 2])
@pytest.mark.parametrize("before", [None, FailureKind.UNAVAILABLE])
def test_a_dead_grant_costs_as_many_further_requests_as_it_takes_to_confirm(confirm, before):
    """Failures of another kind don't count as rejections; then it rests."""
    token = TOKEN if before is None else failed(before, 5)
    client = provider(confirm=confirm)
    asked = 0
    while isinstance(got := decided(DEAD, token=token, client=client), Postponed):
        asked += 1
        assert got.failure.kind is FailureKind.REJECTED
        assert got.failures == asked
        token = replace(token, failures=got.failures, last_failure=got.failure, doubt=got.doubt)
    assert isinstance(got, Retired)
    assert asked == confirm


@pytest.mark.parametrize("confirm", [0, 1, 2])
@pytest.mark.parametrize("rejected_before", [0, 1])
def test_after_a_doubt_a_rejection_is_final(confirm, rejected_before):
    """Doubt and confirmation together cost two further requests at most."""
    token = replace(failed(FailureKind.REJECTED, rejected_before), doubt=Doubt(since=ASKED, tries=1))
    assert isinstance(decided(DEAD, token=token, client=provider(confirm=confirm)), Retired)


@pytest.mark.parametrize("message", ["dead", "x" * 300])
def test_a_rejection_after_a_doubt_says_what_may_have_happened(message):
    """Honestly, and however much the provider had to say."""
    token = replace(TOKEN, doubt=Doubt(since=ASKED, tries=1))
    got = decided(replace(DEAD, message=message), token=token)
    assert got.failure.message.endswith(
        "(an earlier request had no answer: its reply may have held the successor)"
    )
    assert got.failure.message.startswith(message[:10].strip())
    assert len(got.failure.message) <= 300


def test_a_rejection_after_an_adoption_names_whose_journal_may_hold_the_successor():
    """The operator is told where to look, also when the adopter's own request had no answer either."""
    adopted = replace(TOKEN, doubt=Doubt(since=ASKED, tries=1, asker="gone-1"))
    got = decided(DEAD, token=adopted)
    assert (
        "(instance gone-1 asked before and is gone: its journal may hold the successor)"
        in got.failure.message
    )
    assert decided(LOST, token=adopted).doubt == Doubt(since=ASKED, tries=2, asker="gone-1")


@pytest.mark.parametrize("answer", [OUTAGE, LOST, WRONG, Unread(code="a", message="b")])
@pytest.mark.parametrize("failures", [0, 100])
def test_nothing_but_a_rejection_retires_a_token(answer, failures):
    """A wrong client secret condemns no token, however often it fails."""
    token = replace(failed(FailureKind.MISCONFIGURED, failures), doubt=Doubt(since=ASKED, tries=3))
    assert not isinstance(decided(answer, token=token), Retired)
