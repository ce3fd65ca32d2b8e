"""When a token is due, how long to back off, and what an answer changes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from daemon.domain.answer import Cause, Concern, Granted, Misconfigured, Rejected, Unavailable, Unparsed
from daemon.domain.change import Postponed, Renewed, Retired, Scheduled, Withheld
from daemon.domain.due import (
    MIN_RENEWAL_INTERVAL,
    RETRY_MARGIN,
    Moment,
    Timing,
    due_at,
    first_due,
    first_look,
)
from daemon.domain.policy import (
    BACKOFF_LAST,
    BACKOFF_STUCK,
    DOUBTED_RETRY,
    IN_DOUBT_RETRY,
    STUCK_AFTER,
    backoff,
    decide,
)
from daemon.domain.provider import Definition, Grant, Provider
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
REFUSED = Unavailable(code="account_suspended", message="suspended", cause=Cause.REFUSAL)
OURS = Unavailable(code="not_kept", message="the disk is full", cause=Cause.OURS)

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
        moment=Moment(now, chance, timing),
        refresh_expires_at=refresh_expires_at,
    )
    return end - ASKED


def decided(answer, *, token=TOKEN, chance=1.0, now=NOW, client=None, doubted=False):
    return decide(
        client or provider(),
        token,
        answer,
        asked_at=ASKED,
        moment=Moment(now, chance, TIMING),
        doubted=doubted,
    )


def ended(ago, **fields):
    """A token whose access token ended so long ago, and that has failed often since."""
    return replace(failed(FailureKind.UNAVAILABLE, 1000), expires_at=NOW - ago, **fields)


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
    assert due(HOUR, now=late) == 55 * MINUTE + MIN_RENEWAL_INTERVAL
    assert due(-HOUR) == MIN_RENEWAL_INTERVAL
    assert due(timedelta(0)) == MIN_RENEWAL_INTERVAL
    assert due(6 * SECOND, now=ASKED + 3 * SECOND) == 6 * SECOND


@given(lifetimes, chances, instants)
def test_a_token_is_always_due_in_the_second_half_of_its_life(lifetime, chance, issued):
    """Where the reply was quick: never before half, and always with time left."""
    end = issued + lifetime
    when = due_at(provider(), end, issued_at=issued, moment=Moment(issued, chance, TIMING))
    assert issued + lifetime / 2 <= when < end
    assert when >= issued + min(MIN_RENEWAL_INTERVAL, lifetime / 2)


@given(instants, instants, instants, chances, st.none() | instants)
def test_a_token_never_rests_shorter_than_it_must(issued, ends, now, chance, refresh_ends):
    """Whatever the provider claims, there is no storm."""
    when = due_at(
        provider(),
        ends,
        issued_at=issued,
        moment=Moment(now, chance, TIMING),
        refresh_expires_at=refresh_ends,
    )
    assert when > now
    if ends - issued >= 2 * MIN_RENEWAL_INTERVAL and refresh_ends is None:
        assert when >= now + MIN_RENEWAL_INTERVAL


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
    assume(refresh_life > 2 * MIN_RENEWAL_INTERVAL)
    when = due(lifetime, chance=chance, refresh_expires_at=ASKED + refresh_life)
    assert when < max(refresh_life, timedelta(0))


@pytest.mark.parametrize("chance", [0.0, 1.0])
@pytest.mark.parametrize("earliest", [30 * SECOND, MINUTE, 3 * HOUR])
def test_no_token_is_due_before_its_provider_gives_anything_new(earliest, chance):
    """However large the window is."""
    when = due(6 * HOUR, chance=chance, client=provider(earliest=earliest, window=2 * HOUR))
    assert when == 6 * HOUR - min(earliest, 2 * HOUR + chance * 30 * SECOND)


# ------------------------------------------------------------------------------------------------ first look


def look(token, chance=0.0, now=NOW, **known):
    return first_look(provider(**known), token, moment=Moment(now, chance, TIMING))


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


@pytest.mark.parametrize(
    ("grant", "stored", "missing", "asks"),
    [
        (Grant.REFRESH_TOKEN, "refresh_token", "access_token", True),
        (Grant.EXCHANGE, "refresh_token", "refresh_token", True),
        (Grant.EXCHANGE, "refresh_token", "access_token", False),
        (Grant.CLIENT_CREDENTIALS, "refresh_token", "refresh_token", True),
        (Grant.CLIENT_CREDENTIALS, "refresh_token", "access_token", True),
        (Grant.REFRESH_TOKEN, "client_credentials", "refresh_token", True),
        (Grant.NONE, "client_credentials", "refresh_token", True),
        (Grant.NONE, "refresh_token", "access_token", False),
        (Grant.NONE, "refresh_token", "refresh_token", False),
    ],
)
def test_each_grant_needs_what_it_presents_and_no_more(grant, stored, missing, asks):
    """A refresh token, the access token, nothing; and what nothing renews is only watched."""
    token = replace(TOKEN, grant=stored, **{missing: None})
    client = frozenset({Grant.CLIENT_CREDENTIALS})
    assert look(token, grant=grant, grants=client) == (None if asks else Scheduled(due_at=None))


def test_a_provider_gets_its_rest_between_two_requests():
    """Whether the last one succeeded or failed, and whoever wants it sooner."""
    rest = {"min_interval": MINUTE}
    assert look(TOKEN, **rest) is None
    done = replace(TOKEN, refreshed_at=NOW - 10 * SECOND)
    assert look(done, **rest) == Scheduled(due_at=NOW + 50 * SECOND)
    assert look(done, now=NOW + 50 * SECOND, **rest) is None
    assert look(done) is None
    failure = Failure(kind=FailureKind.UNAVAILABLE, code="a", message="b", at=NOW - SECOND)
    assert look(replace(done, last_failure=failure), **rest) == Scheduled(due_at=NOW + 59 * SECOND)
    older = replace(failure, at=NOW - HOUR)
    assert look(replace(done, last_failure=older), **rest) == Scheduled(due_at=NOW + 50 * SECOND)


@pytest.mark.parametrize("known", [{"min_interval": DAY}, {"earliest": MINUTE}, {"confirm_after": DAY}])
def test_a_doubt_does_not_wait(known):
    """The lost reply may have been the only copy of the successor."""
    doubtful = replace(
        failed(FailureKind.REJECTED, 1),
        doubt=Doubt(since=NOW, tries=1),
        refreshed_at=NOW,
        expires_at=NOW + DAY,
    )
    assert look(doubtful, **known) is None
    assert isinstance(look(replace(doubtful, doubt=None), **known), Scheduled)


@pytest.mark.parametrize("doubt", [None, Doubt(since=NOW, tries=1)])
@pytest.mark.parametrize("answer", [OUTAGE, LOST], ids=["outage", "lost"])
def test_a_wish_does_not_shorten_what_the_provider_asked_for(answer, doubt):
    """Whoever sets the date, and in doubt too: a provider that says "not before" is not asked before."""
    postponed = decided(replace(answer, retry_after=10 * MINUTE), token=replace(TOKEN, doubt=doubt))
    until = NOW + 10 * MINUTE
    assert postponed.failure.not_before == until
    wished = replace(TOKEN, last_failure=postponed.failure, failures=1, doubt=postponed.doubt, due_at=NOW)
    assert look(wished, now=NOW + SECOND) == Scheduled(due_at=until)
    assert look(wished, now=until - timedelta(milliseconds=1)) == Scheduled(due_at=until)
    assert look(wished, now=until) is None


def test_a_wish_shortens_our_own_backoff():
    """Nobody but refreshd has set that date."""
    postponed = decided(OUTAGE, token=failed(FailureKind.UNAVAILABLE, 9))
    assert postponed.due_at > NOW + MINUTE
    assert postponed.failure.not_before is None
    assert look(replace(TOKEN, last_failure=postponed.failure, failures=10)) is None


@given(left=st.timedeltas(SECOND, 40 * DAY), wait=st.timedeltas(SECOND, DAY))
def test_no_wait_of_the_providers_outlives_the_refresh_token(left, wait):
    """The last moment to save the grant is before its end, whatever the provider asks for."""
    token = replace(TOKEN, refresh_expires_at=NOW + left)
    until = decided(replace(OUTAGE, retry_after=wait), token=token).failure.not_before
    assert until is not None
    assert NOW < until < NOW + left


STRAVA = {"earliest": HOUR}


@pytest.mark.parametrize("revision", [None, 4])
def test_what_would_come_too_early_waits(revision):
    """Strava gives the same token back while it lives for more than an hour: an early wish gains nothing."""
    token = replace(TOKEN, revision=revision, issued_at=NOW - HOUR, expires_at=NOW + 5 * HOUR)
    assert look(token, **STRAVA) == Scheduled(due_at=NOW + 5 * HOUR - 5 * MINUTE)
    assert look(token, now=NOW + 4 * HOUR - SECOND, **STRAVA) == Scheduled(due_at=NOW + 5 * HOUR - 5 * MINUTE)
    near = replace(token, revision=4)
    assert look(near, now=NOW + 4 * HOUR, **STRAVA) is None
    assert look(replace(near, expires_at=None), **STRAVA) is None


def test_a_wait_of_seconds_is_kept_too():
    """Exact Online refuses whoever comes before the last half minute."""
    token = replace(TOKEN, issued_at=NOW - 10 * MINUTE, expires_at=NOW + 35 * SECOND)
    got = look(token, earliest=30 * SECOND)
    assert got.due_at >= NOW + 5 * SECOND
    assert look(token, now=got.due_at, earliest=30 * SECOND) is None


@pytest.mark.parametrize("left", [SECOND, 11 * SECOND, 30 * MINUTE, 2 * HOUR])
def test_a_refresh_token_that_ends_first_is_never_too_early(left):
    """Else it would be put off until it is dead."""
    token = replace(TOKEN, issued_at=NOW - HOUR, expires_at=NOW + 5 * HOUR, refresh_expires_at=NOW + left)
    assert look(token, **STRAVA) is None
    assert look(replace(token, refresh_expires_at=NOW - SECOND), **STRAVA) is not None


@given(
    st.timedeltas(SECOND, 2 * DAY),
    st.timedeltas(-DAY, 2 * DAY),
    st.none() | st.timedeltas(-DAY, 3 * DAY),
    st.timedeltas(SECOND, 3 * HOUR),
    st.none() | st.timedeltas(SECOND, HOUR),
    st.none() | st.timedeltas(SECOND, HOUR),
    chances,
)
def test_what_is_put_off_is_asked_for_when_its_time_comes(
    age, left, refresh_left, early, rest, window, chance
):
    """No token is put off twice, none for ever, and none into the past."""
    known = {"earliest": early, "min_interval": rest, "window": window}
    token = replace(
        TOKEN,
        issued_at=NOW - age,
        refreshed_at=NOW - age,
        expires_at=NOW + left,
        refresh_expires_at=None if refresh_left is None else NOW + refresh_left,
    )
    now = NOW
    for _ in range(2):  # the provider's rest, then its earliest moment
        if (planned := look(token, chance, now=now, **known)) is None:
            break
        assert planned.due_at > now
        now = planned.due_at
    assert look(token, chance, now=now, **known) is None
    assert now <= max(NOW + left, NOW - age + (rest or SECOND), NOW) + MIN_RENEWAL_INTERVAL


def test_a_new_document_that_expires_beyond_the_window_is_scheduled():
    """An application inserted it with a due date of now; with or without saying when it was issued."""
    new = replace(TOKEN, revision=None, issued_at=NOW, expires_at=NOW + HOUR)
    assert look(new) == Scheduled(due_at=NOW + 55 * MINUTE)
    assert look(new, chance=1) == Scheduled(due_at=NOW + 54.5 * MINUTE)
    assert look(replace(new, issued_at=None)) == Scheduled(due_at=NOW + 55 * MINUTE)
    soon = replace(new, issued_at=None, expires_at=NOW + 6 * MINUTE, due_at=NOW - HOUR)
    assert look(soon) == Scheduled(due_at=NOW + MINUTE)


@pytest.mark.parametrize(
    ("issued", "left", "wished"),
    [
        (NOW - 30 * MINUTE, 30 * MINUTE, NOW - 20 * SECOND),
        (NOW - 30 * MINUTE, 30 * MINUTE, NOW),
        (NOW - 30 * MINUTE, 30 * MINUTE, NOW - 29 * MINUTE),
        (NOW - 10 * SECOND, HOUR, NOW - 2 * SECOND),
        (NOW - DAY, DAY, NOW),
        (None, 30 * MINUTE, NOW),
    ],
)
def test_the_first_wish_of_an_application_counts(issued, left, wished):
    """It got a 401, and moved the date up: the token is refreshed although refreshd has never seen it."""
    new = replace(TOKEN, revision=None, issued_at=issued, expires_at=NOW + left, due_at=wished)
    assert look(new) is None


@pytest.mark.parametrize(
    ("issued", "written"),
    [
        (NOW, NOW),
        (NOW - SECOND, NOW - SECOND / 2),
        (NOW - 10 * MINUTE, NOW - 10 * MINUTE),
        (NOW, NOW - DAY),
        (NOW - 15 * SECOND, NOW - 15 * SECOND),
    ],
)
def test_a_date_that_every_new_token_gets_is_no_wish(issued, written):
    """Else each consent would be followed by a renewal, which some providers refuse or count."""
    new = replace(TOKEN, revision=None, issued_at=issued, expires_at=NOW + HOUR, due_at=written)
    assert look(new) is not None


def test_a_wish_for_what_the_provider_would_refuse_waits():
    """The definition's `earliest` stands."""
    new = replace(TOKEN, revision=None, issued_at=NOW - 30 * MINUTE, expires_at=NOW + 30 * MINUTE, due_at=NOW)
    assert look(new, earliest=10 * MINUTE) is not None


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


# ------------------------------------------------------------------------------------------------ first due


@pytest.mark.parametrize("grant", [Grant.REFRESH_TOKEN, Grant.EXCHANGE, Grant.CLIENT_CREDENTIALS])
def test_what_was_just_consented_to_is_due_before_its_end(grant):
    """Whatever renews it."""
    token = replace(TOKEN, revision=None, issued_at=NOW, expires_at=NOW + HOUR)
    client = provider(grant=grant)
    assert first_due(client, token, moment=Moment(NOW, 0, TIMING)) == NOW + 55 * MINUTE
    assert first_due(client, replace(token, expires_at=None), moment=Moment(NOW, 0, TIMING)) is None


@pytest.mark.parametrize(
    ("grant", "missing", "due_now"),
    [
        (Grant.REFRESH_TOKEN, "access_token", True),
        (Grant.REFRESH_TOKEN, "refresh_token", False),
        (Grant.EXCHANGE, "access_token", False),
        (Grant.CLIENT_CREDENTIALS, "access_token", True),
        (Grant.NONE, "access_token", False),
    ],
)
def test_what_has_no_access_token_is_renewed_at_once_where_something_renews_it(grant, missing, due_now):
    """Else it is only watched."""
    token = replace(TOKEN, revision=None, expires_at=NOW, **{missing: None})
    due_date = first_due(provider(grant=grant), token, moment=Moment(NOW, 0, TIMING))
    assert due_date == (NOW if due_now else None)


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
        (None, STORED_END, {"refresh_lifetime": 30 * DAY, "refresh_idle": DAY}, ASKED + DAY),
        (None, STORED_END, {"refresh_lifetime": 30 * DAY, "refresh_idle": 5 * DAY}, STORED_END),
        (None, None, {"refresh_lifetime": 30 * DAY, "refresh_idle": DAY}, ASKED + DAY),
        (None, None, {"refresh_lifetime": 30 * DAY}, None),
    ],
)
def test_the_refresh_tokens_own_end(told, stored, known, end):
    """As the reply says; else idleness counts anew with every use, and what the consent fixed never moves."""
    token = replace(TOKEN, refresh_expires_at=stored, refreshed_at=ASKED - HOUR)
    change = decided(replace(GRANTED, refresh_expires_at=told), token=token, client=provider(**known))
    assert change.refresh_expires_at == end


ATLASSIAN = {"refresh_idle": 90 * DAY, "refresh_lifetime": 365 * DAY}
CONSENT = ASKED - HOUR


def renewed(token, change):
    """`token` as the store has it after `change`."""
    return replace(
        token,
        issued_at=change.issued_at,
        expires_at=change.granted.expires_at,
        refreshed_at=change.refreshed_at,
        refresh_expires_at=change.refresh_expires_at,
        consent_ends_at=change.consent_ends_at,
        revision=(token.revision or 0) + 1,
    )


def renewals(token, *, times, every, known=ATLASSIAN):
    """What `times` renewals, one `every` so often, each of 1 s, make of `token`."""
    client = provider(**known)
    for turn in range(times):
        asked = ASKED + turn * every
        got = decide(
            client,
            token,
            replace(GRANTED, expires_at=asked + HOUR),
            asked_at=asked,
            moment=Moment(asked + SECOND, 0.5, TIMING),
        )
        token = renewed(token, got)
        yield asked, token


@pytest.mark.parametrize(
    "token",
    [
        replace(TOKEN, issued_at=CONSENT, consent_ends_at=CONSENT + 365 * DAY),
        replace(TOKEN, issued_at=CONSENT, revision=None),
        replace(TOKEN, issued_at=CONSENT, revision=None, refresh_expires_at=CONSENT + 90 * DAY),
        replace(TOKEN, issued_at=None, revision=None, refresh_expires_at=CONSENT + 365 * DAY),
    ],
    ids=["added", "inserted", "inserted with its idle end", "inserted with its consent's end"],
)
def test_no_renewal_moves_the_consents_end(token):
    """Atlassian: dead after 90 idle days, and 365 days after the consent, however often it was renewed."""
    for asked, after in renewals(token, times=80, every=5 * DAY):
        assert after.consent_ends_at == CONSENT + 365 * DAY
        assert after.refresh_expires_at == min(asked + 90 * DAY, CONSENT + 365 * DAY)


@given(
    st.lists(st.timedeltas(SECOND, 100 * DAY), min_size=1, max_size=30),
    st.timedeltas(DAY, 400 * DAY),
    st.timedeltas(DAY, 400 * DAY),
)
def test_the_refresh_tokens_end_never_passes_the_consents(pauses, idle, lifetime):
    """Whenever it is renewed, and whichever is longer."""
    token = replace(TOKEN, issued_at=CONSENT, revision=None)
    for pause in pauses:
        ((asked, token),) = renewals(
            token, times=1, every=pause, known={"refresh_idle": idle, "refresh_lifetime": lifetime}
        )
        assert token.consent_ends_at == CONSENT + lifetime
        assert token.refresh_expires_at == min(asked + idle, CONSENT + lifetime)


def test_an_applications_new_consent_starts_anew():
    """It writes when it was issued, after our last renewal, and nothing of our own field."""
    *_, (_, token) = renewals(replace(TOKEN, issued_at=CONSENT), times=3, every=HOUR)
    again = ASKED + 10 * HOUR
    anew = replace(token, issued_at=again, expires_at=again + HOUR, refresh_expires_at=None)
    got = decide(
        provider(**ATLASSIAN),
        anew,
        GRANTED,
        asked_at=again + HOUR,
        moment=Moment(again + HOUR + SECOND, 0, TIMING),
    )
    assert token.consent_ends_at == CONSENT + 365 * DAY
    assert got.consent_ends_at == again + 365 * DAY
    assert got.refresh_expires_at == again + HOUR + 90 * DAY


def test_a_renewal_of_our_own_is_no_new_consent():
    """Though it was issued when we asked, and the store keeps milliseconds only."""
    *_, (_, token) = renewals(replace(TOKEN, issued_at=CONSENT), times=1, every=HOUR)
    same = replace(token, issued_at=ASKED, refreshed_at=ASKED)
    got = decided(GRANTED, token=same, client=provider(**ATLASSIAN))
    assert got.consent_ends_at == CONSENT + 365 * DAY


def test_the_replys_word_about_the_end_counts_beside_the_consents():
    """LinkedIn counts down; the consent's end stays what it was."""
    token = replace(TOKEN, issued_at=CONSENT)
    got = decided(
        replace(GRANTED, refresh_expires_at=ASKED + 9 * DAY), token=token, client=provider(**ATLASSIAN)
    )
    assert (got.refresh_expires_at, got.consent_ends_at) == (ASKED + 9 * DAY, CONSENT + 365 * DAY)


@pytest.mark.parametrize(
    ("grant", "stored"), [(Grant.EXCHANGE, "refresh_token"), (Grant.REFRESH_TOKEN, "client_credentials")]
)
def test_what_has_no_refresh_token_has_none_of_its_ends(grant, stored):
    """Nobody is to be warned of a consent that doesn't end."""
    token = replace(TOKEN, grant=stored, refresh_expires_at=STORED_END, consent_ends_at=STORED_END)
    client = provider(grant=grant, grants=frozenset({Grant.CLIENT_CREDENTIALS}), **ATLASSIAN)
    got = decided(replace(GRANTED, refresh_token=None), token=token, client=client)
    assert (got.refresh_expires_at, got.consent_ends_at) == (None, None)


def test_a_renewal_is_due_before_its_refresh_token_ends():
    """A session that dies when idle for half an hour, with access tokens of a day."""
    granted = replace(GRANTED, expires_at=ASKED + DAY, refresh_expires_at=ASKED + HOUR / 2)
    assert decided(granted, chance=0).due_at == ASKED + 25 * MINUTE


def test_a_grant_that_came_expired_is_not_asked_for_without_pause():
    """A provider whose clock is wrong."""
    assert decided(replace(GRANTED, expires_at=ASKED - DAY)).due_at == NOW + MIN_RENEWAL_INTERVAL


# ------------------------------------------------------------------------------------------------ unread


def test_an_unread_success_withholds_the_token():
    """Nothing is known of what it brought."""
    got = decided(Unparsed(code="no_grant", message="what?"))
    assert got == Withheld(
        failure=Failure(kind=FailureKind.UNPARSED, code="no_grant", message="what?", at=NOW)
    )


def test_the_readable_part_of_an_unread_success_is_recorded():
    """The access token, which is good."""
    part = replace(GRANTED, refresh_token=None)
    got = decided(Unparsed(code="no_refresh_token", message="none", granted=part))
    assert got.failure.kind is FailureKind.UNPARSED
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


@pytest.mark.parametrize("answer", [REFUSED, WRONG])
@pytest.mark.parametrize(
    ("ago", "longest"),
    [
        (timedelta(0), 5 * MINUTE),
        (10 * MINUTE, 5 * MINUTE),
        (HOUR, HOUR / 2),
        (DAY / 4, 3 * HOUR),
        (DAY, 6 * HOUR),
    ],
)
def test_a_token_that_is_refused_is_asked_ever_more_rarely_after_its_end(answer, ago, longest):
    """Half the time since then, from five minutes up to six hours: a few requests a day instead of hundreds."""
    assert decided(answer, token=ended(ago)).due_at == NOW + longest
    assert decided(answer, token=ended(ago), chance=0.5).due_at == NOW + longest / 2


@pytest.mark.parametrize(
    ("ago", "longest"), [(HOUR, 5 * MINUTE), (DAY / 6, 15 * MINUTE), (DAY, 90 * MINUTE), (30 * DAY, 6 * HOUR)]
)
@pytest.mark.parametrize("answer", [OUTAGE, replace(LOST, retry_after=None)])
def test_an_outage_of_hours_is_asked_about_often_enough_to_see_its_end(answer, ago, longest):
    """A sixteenth of the time since the token's end, up to six hours."""
    token = ended(ago, doubt=Doubt(since=ASKED, tries=5))
    assert decided(answer, token=token).due_at == NOW + longest


@pytest.mark.parametrize("answer", [REFUSED, WRONG, OUTAGE])
def test_no_wait_grows_while_the_provider_says_the_same_to_everybody(answer):
    """Its end would be seen late: what was asked during the trouble is asked again within five minutes of it."""
    got = decided(answer, token=ended(DAY), doubted=True)
    assert got.due_at == NOW + BACKOFF_LAST
    assert got.failure.kind is not FailureKind.STUCK


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (REFUSED, FailureKind.STUCK),
        (WRONG, FailureKind.STUCK),
        (OUTAGE, FailureKind.UNAVAILABLE),
        (LOST, FailureKind.IN_DOUBT),
        (OURS, FailureKind.UNAVAILABLE),
    ],
)
def test_a_token_is_stuck_when_it_is_refused_two_hours_after_its_end(answer, kind):
    """An outage ends by itself, however long it is."""
    assert decided(answer, token=ended(STUCK_AFTER)).failure.kind is kind
    assert decided(answer, token=ended(STUCK_AFTER - SECOND)).failure.kind is not FailureKind.STUCK


def test_a_stuck_token_is_asked_every_few_hours():
    """And keeps its refresh token."""
    got = decided(REFUSED, token=ended(30 * DAY))
    assert isinstance(got, Postponed)
    assert got.due_at == NOW + BACKOFF_STUCK


@pytest.mark.parametrize(
    "answer",
    [REFUSED, WRONG, OUTAGE, replace(REFUSED, rest=2 * MINUTE), replace(OUTAGE, in_doubt=True)],
)
def test_a_backoff_never_passes_over_the_end_of_the_access_token(answer):
    """A provider may refuse to renew what has not ended yet: the next try is at the end itself at the latest."""
    token = replace(failed(FailureKind.UNAVAILABLE, 50), expires_at=NOW + 12 * SECOND)
    token = replace(token, doubt=Doubt(since=NOW - MINUTE, tries=1))
    assert decided(answer, token=token).due_at == NOW + 12 * SECOND


def test_a_rest_of_our_own_is_kept_unless_the_end_is_nearer():
    """Asking sooner can prolong a lock-out."""
    answer = replace(REFUSED, rest=2 * MINUTE)
    assert decided(answer).due_at == NOW + 2 * MINUTE
    assert decided(answer, token=ended(MINUTE)).due_at >= NOW + 2 * MINUTE


def test_our_own_trouble_is_no_failure_of_the_tokens():
    """Nothing was sent: the token is tried again within seconds, as healthy as before."""
    got = decided(OURS, token=replace(TOKEN, failures=0))
    assert got.failures == 0
    assert NOW <= got.due_at <= NOW + 5 * SECOND


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
    for client in (provider(confirm_after=HOUR), provider(confirm_after=HOUR, min_interval=MINUTE)):
        got = decided(answer, token=token, chance=chance, client=client)
        assert isinstance(got, Postponed)
        assert NOW <= got.due_at < NOW + left


@pytest.mark.parametrize("answer", [OUTAGE, WRONG])
def test_the_providers_rest_is_a_floor(answer):
    """Zoho locks out whoever comes ten times in ten minutes. A longer wait stays."""
    resting = provider(min_interval=MINUTE)
    assert decided(answer, client=resting).due_at == NOW + MINUTE
    assert (
        decided(answer, token=failed(FailureKind.UNAVAILABLE, 5), client=resting).due_at == NOW + 160 * SECOND
    )


def test_the_providers_rest_is_a_floor_for_renewals_too():
    """However short the new token lives; what is never due stays so."""
    resting = provider(min_interval=MINUTE)
    short = replace(GRANTED, expires_at=ASKED + 30 * SECOND)
    assert decided(short, client=resting).due_at == NOW + MINUTE
    assert decided(replace(GRANTED, expires_at=None), client=resting).due_at is None
    assert decided(GRANTED, client=resting, chance=0).due_at == ASKED + 55 * MINUTE


def test_only_the_first_retry_in_doubt_comes_before_the_rest():
    """It is what saves the successor; an outage that lasts is no reason to be locked out."""
    resting = provider(min_interval=MINUTE)
    first = decided(LOST, client=resting)
    assert first.due_at == NOW + IN_DOUBT_RETRY
    doubtful = replace(TOKEN, doubt=first.doubt, failures=1, last_failure=first.failure)
    assert decided(LOST, token=doubtful, client=resting).due_at == NOW + MINUTE
    assert decided(OUTAGE, token=doubtful, client=resting).due_at == NOW + MINUTE


@pytest.mark.parametrize("answer", [OUTAGE, LOST])
def test_no_wait_outlives_the_access_token_that_is_exchanged(answer):
    """It is what is presented, and good for nothing once it has ended; a refresh token's end means nothing there."""
    token = replace(TOKEN, expires_at=NOW + HOUR, refresh_expires_at=NOW + SECOND)
    wish = replace(answer, retry_after=DAY)
    assert (
        decided(wish, token=token, client=provider(grant=Grant.EXCHANGE)).due_at == NOW + HOUR - RETRY_MARGIN
    )
    issued = provider(grant=Grant.CLIENT_CREDENTIALS)
    assert decided(wish, token=token, client=issued).due_at == NOW + DAY


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


@pytest.mark.parametrize("before", [None, FailureKind.REJECTED])
@pytest.mark.parametrize("doubt", [None, Doubt(since=ASKED, tries=2)])
def test_no_rejection_is_final_while_the_provider_rejects_everybody(before, doubt):
    """However often it is repeated: asked again a minute later at the earliest, and final once that is over."""
    token = replace(TOKEN if before is None else failed(before, 3), doubt=doubt)
    got = decided(DEAD, token=token, chance=0, doubted=True)
    assert isinstance(got, Postponed)
    assert got.failure.kind is FailureKind.REJECTED
    assert got.due_at == NOW + DOUBTED_RETRY
    after = replace(token, failures=got.failures, last_failure=got.failure)
    assert isinstance(decided(DEAD, token=after, now=got.due_at), Retired)


MINDED = {"confirm_after": 10 * MINUTE}


@pytest.mark.parametrize("before", [None, FailureKind.UNAVAILABLE, FailureKind.MISCONFIGURED])
@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_a_rejection_must_be_repeated_once_that_much_later(before, chance):
    """Where outages say invalid_grant too. Failures of another kind are no rejections."""
    token = TOKEN if before is None else failed(before, 50)
    first = decided(DEAD, token=token, chance=chance, client=provider(**MINDED))
    assert first == Postponed(
        failure=Failure(kind=FailureKind.REJECTED, code="invalid_grant", message="dead", at=NOW),
        failures=token.failures + 1,
        due_at=NOW + 10 * MINUTE,
    )
    token = replace(token, failures=first.failures, last_failure=first.failure)
    second = decided(DEAD, token=token, chance=chance, now=first.due_at, client=provider(**MINDED))
    assert isinstance(second, Retired)
    assert second.failures == token.failures + 1


@pytest.mark.parametrize("over", [HOUR, DAY, 30 * DAY])
@pytest.mark.parametrize("answer", [DEAD, OUTAGE])
def test_a_long_past_end_does_not_delay_the_confirmation(over, answer):
    """The wait after a rejection is the provider's, and no backoff: an owner must hear of a dead grant. It stays short
    if an outage comes between the two.
    """
    token = replace(failed(FailureKind.MISCONFIGURED, 20), expires_at=NOW - over)
    got = decided(DEAD, token=token, chance=1, client=provider(confirm_after=MINUTE))
    if answer is OUTAGE:
        after = replace(token, failures=got.failures, last_failure=got.failure)
        got = decided(OUTAGE, token=after, chance=1, client=provider(confirm_after=MINUTE))
    assert got.due_at == NOW + BACKOFF_LAST
    assert decided(REFUSED, token=token, chance=1).due_at == NOW + min(over / 2, BACKOFF_STUCK)


def test_nobodys_wish_confirms_a_rejection_sooner():
    """An application that asks for a renewal after every 401 would; so would an operator in a hurry."""
    first = decided(DEAD, client=provider(**MINDED))
    token = replace(TOKEN, failures=1, last_failure=first.failure, due_at=NOW)
    for after in (SECOND, 5 * MINUTE, 10 * MINUTE - SECOND):
        assert look(token, now=NOW + after, **MINDED) == Scheduled(due_at=first.due_at)
    assert look(token, now=first.due_at, **MINDED) is None
    assert look(token, now=NOW + SECOND) is None


@given(st.timedeltas(SECOND, DAY), st.none() | st.timedeltas(SECOND, HOUR), chances)
def test_a_confirmation_is_asked_for_when_it_is_due(left, interval, chance):
    """Also where the refresh token's end brings it forward: what was decided, the first look agrees with."""
    known = MINDED | {"min_interval": interval}
    token = replace(TOKEN, refresh_expires_at=NOW + left)
    got = decided(DEAD, token=token, chance=chance, client=provider(**known))
    after = replace(token, failures=1, last_failure=got.failure, due_at=got.due_at)
    assert look(after, now=got.due_at, **known) is None


@pytest.mark.parametrize("known", [{}, MINDED, {"confirm_after": SECOND}, {"confirm_after": HOUR / 2}])
@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("hurry", [False, True])
def test_a_dead_grant_costs_at_most_two_requests_in_an_hour(known, lost, hurry):
    """In doubt or not, confirmed or not, and even where somebody sets it due all the time. Then it rests."""
    client, token, asked, now = provider(**known), replace(TOKEN, due_at=NOW), 0, NOW
    while now < NOW + HOUR:
        if token.due_at is None or (token.due_at > now and not hurry):
            now += SECOND
            continue
        planned = look(token, now=now, **known)
        if planned is not None:
            token = replace(token, due_at=planned.due_at)
            now += SECOND
            continue
        asked += 1
        got = decided(LOST if asked <= lost else DEAD, token=token, now=now, client=client)
        token = replace(token, failures=got.failures, last_failure=got.failure)
        if isinstance(got, Retired):
            token = replace(token, state=State.NEEDS_REAUTH, due_at=None)
        else:
            token = replace(token, doubt=got.doubt, due_at=got.due_at)
    assert token.state is State.NEEDS_REAUTH
    assert asked == max(1 + lost, 1 + bool(known))


@pytest.mark.parametrize("known", [{}, MINDED])
@pytest.mark.parametrize("before", [FailureKind.IN_DOUBT, FailureKind.REJECTED, FailureKind.UNAVAILABLE])
def test_after_a_doubt_a_rejection_is_final(known, before):
    """It was asked twice."""
    token = replace(failed(before, 1), doubt=Doubt(since=ASKED, tries=1))
    assert isinstance(decided(DEAD, token=token, client=provider(**known)), Retired)


@pytest.mark.parametrize("message", ["dead", "x" * 300])
def test_a_rejection_after_a_doubt_says_what_may_have_happened(message):
    """Honestly, and however much the provider had to say."""
    token = replace(TOKEN, doubt=Doubt(since=ASKED, tries=1))
    got = decided(replace(DEAD, message=message), token=token)
    assert got.failure.message.endswith(
        "(an earlier request got no response; the lost response may have contained the new refresh token)"
    )
    assert got.failure.message.startswith(message[:10].strip())
    assert len(got.failure.message) <= 300


def test_a_rejection_after_an_adoption_names_whose_journal_may_hold_the_successor():
    """The operator is told where to look, also when the adopter's own request had no answer either."""
    adopted = replace(TOKEN, doubt=Doubt(since=ASKED, tries=1, asker="gone-1"))
    got = decided(DEAD, token=adopted)
    assert (
        "(instance gone-1 sent an earlier request and is lost; its journal may contain the new refresh token)"
        in got.failure.message
    )
    assert decided(LOST, token=adopted).doubt == Doubt(since=ASKED, tries=2, asker="gone-1")


@pytest.mark.parametrize("answer", [OUTAGE, LOST, WRONG, Unparsed(code="a", message="b")])
@pytest.mark.parametrize("failures", [0, 100])
def test_nothing_but_a_rejection_retires_a_token(answer, failures):
    """A wrong client secret condemns no token, however often it fails."""
    token = replace(failed(FailureKind.MISCONFIGURED, failures), doubt=Doubt(since=ASKED, tries=3))
    assert not isinstance(decided(answer, token=token), Retired)
