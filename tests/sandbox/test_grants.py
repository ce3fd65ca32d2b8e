"""The state machine behind the ledger: rotation, grace, reuse."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from daemon.sandbox import SandboxOptions, ledger
from daemon.sandbox.grants import Grants
from daemon.sandbox.ledger import fingerprint
from daemon.sandbox.terms import Terms

START = datetime(2026, 11, 1, tzinfo=UTC)
LIFETIME = timedelta(seconds=60)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def grants(*, grace: float = 0, revoke: bool = True, refresh_lifetime: float | None = None) -> Grants:
    return Grants(
        Terms(
            lifetime=LIFETIME,
            grace=timedelta(seconds=grace),
            reuse="revoke" if revoke else "refuse",
            refresh_lifetime=None if refresh_lifetime is None else timedelta(seconds=refresh_lifetime),
        )
    )


def consent(book: Grants) -> str:
    value = book.consent(now=START).refresh_token
    assert value is not None
    return value


def present(book: Grants, value: str, seconds: float) -> tuple[str | None, str]:
    """The successor, if any, and what the ledger calls it."""
    pair, presentation = book.present(value, now=after(seconds))
    return None if pair is None else pair.refresh_token, presentation.outcome if presentation else "unknown"


def spend(book: Grants, value: str, seconds: float) -> str:
    successor, outcome = present(book, value, seconds)
    assert successor is not None, outcome
    return successor


def test_each_refresh_lifts_the_generation_and_names_the_successor_as_current() -> None:
    """The ledger follows the line of tokens."""
    book = grants()
    value = consent(book)
    for generation in range(1, 6):
        value = spend(book, value, generation)
        [grant] = book
        assert (grant.generation, grant.current, grant.live) == (
            generation,
            fingerprint(value),
            [fingerprint(value)],
        )
    assert [presentation.outcome for presentation in grant.presented] == ["granted"] * 5


def test_reuse_without_grace_revokes_the_grant_for_good() -> None:
    """With strict rotation a second presenter costs the consent, and the ledger says who."""
    book = grants()
    first = consent(book)
    second = spend(book, first, 1)
    assert present(book, first, 1) == (None, "reused")
    assert present(book, second, 2) == (None, "refused")
    [grant] = book
    assert (grant.revoked_by, grant.live) == ("reuse", [])
    assert [(line.sha256, line.outcome) for line in grant.presented] == [
        (fingerprint(first), "granted"),
        (fingerprint(first), "reused"),
        (fingerprint(second), "refused"),
    ]


def test_a_clock_that_runs_backwards_opens_no_grace() -> None:
    """Grace 0 means none, whatever the clock does."""
    book = grants()
    first = consent(book)
    spend(book, first, 100)
    assert present(book, first, 1) == (None, "reused")


def test_reuse_may_be_merely_refused() -> None:
    """With reuse="refuse" the successor survives; the ledger still calls it reuse."""
    book = grants(revoke=False)
    first = consent(book)
    second = spend(book, first, 1)
    assert present(book, first, 2) == (None, "reused")
    assert spend(book, second, 3)


def test_a_retry_within_the_grace_gets_a_fresh_successor_and_both_stay_good() -> None:
    """Whichever of the two replies arrived, its refresh token works."""
    for arrived in (0, 1):
        book = grants(grace=30)
        first = consent(book)
        successors = [spend(book, first, 1)]
        second, outcome = present(book, first, 30.9)
        assert second is not None
        successors.append(second)
        [grant] = book
        assert (outcome, grant.generation, grant.current) == ("granted_again", 1, fingerprint(second))
        assert grant.live == [fingerprint(value) for value in successors]
        assert spend(book, successors[arrived], 40)


def test_the_grace_counts_from_the_first_spending() -> None:
    """Retries do not prolong it."""
    book = grants(grace=30)
    first = consent(book)
    spend(book, first, 1)
    spend(book, first, 29)
    assert present(book, first, 31) == (None, "reused")


def test_the_grace_ends_early_once_a_successor_was_used() -> None:
    """Who used the successor has had the reply: the old value comes from a second presenter."""
    book = grants(grace=1000)
    first = consent(book)
    spend(book, spend(book, first, 1), 2)
    assert present(book, first, 3) == (None, "reused")
    assert book.summary() == {
        "grants": 1,
        "revoked": 1,
        "refreshes": 2,
        "reused": 1,
        "refused": 0,
        "unknown": 0,
    }


def test_a_refresh_token_may_have_an_end_of_its_own() -> None:
    """Presented too late it is refused, which revokes nothing."""
    book = grants(refresh_lifetime=10)
    value = spend(book, consent(book), 9)
    assert present(book, value, 19) == (None, "refused")
    [grant] = book
    assert grant.revoked_by is None


def test_an_unknown_value_is_counted_and_belongs_to_no_grant() -> None:
    """There is no line in the ledger to write it on."""
    book = grants()
    consent(book)
    assert present(book, "never issued", 1) == (None, "unknown")
    assert book.summary()["unknown"] == 1
    assert book.note("never issued", outcome="fault:hang", now=START) is None


def test_a_withdrawn_consent_ends_its_tokens() -> None:
    """The owner's word beats everything, and a later reuse does not change who revoked it."""
    book = grants()
    pair = book.consent(now=START)
    assert book.accepts(pair.access_token, now=after(59))
    assert pair.grant is not None
    assert pair.refresh_token is not None
    book.withdraw(pair.grant)
    assert not book.accepts(pair.access_token, now=after(1))
    assert present(book, pair.refresh_token, 1) == (None, "refused")
    [grant] = book
    assert grant.revoked_by == "owner"
    assert book.withdraw("g99") is None


def test_an_access_token_lives_as_long_as_promised_and_is_then_forgotten() -> None:
    """What expired is dropped, so a long demonstration does not grow."""
    book = grants()
    old = book.client_credentials(now=START).access_token
    assert book.accepts(old, now=after(59.9))
    assert not book.accepts(old, now=after(60))
    book.client_credentials(now=after(60))
    assert len(book._access) == 1


def test_a_grant_remembers_a_bounded_number_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten: presented again they are unknown, not reuse."""
    monkeypatch.setattr(ledger, "REMEMBERED", 3)
    book = grants()
    first = value = consent(book)
    for second in range(1, 6):
        value = spend(book, value, second)
    [grant] = book
    assert (len(grant.values), len(grant.presented), len(book._issued)) == (3, 3, 3)
    assert grant.live == [fingerprint(value)]
    assert present(book, first, 9) == (None, "unknown")


def of(name: str, **lifetimes: timedelta) -> Grants:
    """The grants of a provider's sandbox."""
    return Grants(SandboxOptions(name=name, **lifetimes).terms())


def test_strava_hands_out_the_same_pair_while_an_hour_is_left() -> None:
    """Too early a refresh changes nothing; its end stays where it was."""
    book = of("strava", lifetime=timedelta(hours=6))
    first = book.consent(now=START)
    assert first.refresh_token is not None
    early, _ = book.present(first.refresh_token, now=after(4.9 * 3600))
    assert early == first
    late, _ = book.present(first.refresh_token, now=after(5.1 * 3600))
    assert late is not None
    assert (late.access_token, late.refresh_token) != (first.access_token, first.refresh_token)
    assert late.expires_at == after(11.1 * 3600)
    [grant] = book
    assert [line.outcome for line in grant.presented] == ["granted", "granted"]
    assert grant.generation == 1


@pytest.mark.parametrize(("name", "days", "slides"), [("linkedin", 365, False), ("hubspot", 30, True)])
def test_a_refresh_token_that_stays_counts_down_or_slides(name: str, days: int, slides: bool) -> None:
    """LinkedIn's year runs from the consent; elsewhere each refresh puts the end off."""
    book = of(name, refresh_lifetime=timedelta(days=days))
    value = consent(book)
    halfway = days * 86400 / 2
    pair, _ = book.present(value, now=after(halfway))
    assert pair is not None
    assert pair.refresh_token == value
    assert pair.refresh_expires_at == after(halfway * (3 if slides else 2))
    assert present(book, value, halfway * 2) == ((value, "granted") if slides else (None, "refused"))


def test_an_absolute_end_holds_for_successors_too() -> None:
    """DocuSign's 30 days: a new value does not live longer than the consent."""
    book = of("docusign")
    value = consent(book)
    for day in (10, 20, 29):
        value = spend(book, value, day * 86400)
    assert present(book, value, 30 * 86400) == (None, "refused")


def test_an_access_token_is_exchanged_only_while_it_lives() -> None:
    """Afterwards a person has to come; older ones count until their own end."""
    book = of("facebook")
    first = book.consent(now=START).access_token
    second, _ = book.present(first, now=after(30))
    assert second is not None
    assert book.present(first, now=after(59))[0] is not None
    assert present(book, first, 60) == (None, "refused")
    assert book.present(second.access_token, now=after(89))[0] is not None
    [grant] = book
    outcomes = [line.outcome for line in grant.presented]
    assert outcomes == ["granted", "granted_again", "refused", "granted"]


def test_an_access_token_without_end_stays_good_until_it_is_withdrawn() -> None:
    """Mailchimp's."""
    book = of("mailchimp")
    pair = book.consent(now=START)
    assert (pair.expires_at, pair.refresh_token) == (None, None)
    assert book.accepts(pair.access_token, now=after(1e9))
    assert pair.grant is not None
    book.withdraw(pair.grant)
    assert not book.accepts(pair.access_token, now=after(1))


class GrantMachine(RuleBasedStateMachine):
    """One grant under any order of presentations, beside a model that thinks in parents, not in generations."""

    @initialize(grace=st.sampled_from([0, 1, 10]), revoke=st.booleans())
    def open(self, grace: int, revoke: bool) -> None:
        self.book = grants(grace=grace, revoke=revoke)
        self.grace, self.revoke, self.now, self.dead = grace, revoke, 0.0, False
        self.parent: dict[str, str | None] = {consent(self.book): None}
        self.spent: dict[str | None, float] = {}  # first spending of any child of this parent

    @rule(seconds=st.sampled_from([0.5, 1, 3, 10]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(data=st.data(), newest=st.booleans())
    def present(self, data: st.DataObject, newest: bool) -> None:
        values = list(self.parent)
        value = values[-1] if newest else data.draw(st.sampled_from(values))
        expected = self.expect(value)
        successor, outcome = present(self.book, value, self.now)
        assert outcome == expected
        assert (successor is not None) == expected.startswith("granted")
        if successor is not None:
            # A retry's successor is a sibling of the first one: their common parent is the generation itself.
            family = self.parent[value] or "root"
            self.spent.setdefault(family, self.now)
            self.parent[successor] = f"{family}'"
        self.dead = self.dead or (outcome == "reused" and self.revoke)

    def expect(self, value: str) -> str:
        family = self.parent[value] or "root"
        if self.dead:
            return "refused"
        if family not in self.spent:
            return "granted"
        successor_used = f"{family}'" in self.spent
        in_grace = self.now - self.spent[family] < self.grace
        return "granted_again" if in_grace and not successor_used else "reused"

    @precondition(lambda self: hasattr(self, "book"))
    @invariant()
    def only_values_of_one_generation_are_live(self) -> None:
        [grant] = self.book
        alive = [] if self.dead else [v for v, p in self.parent.items() if (p or "root") not in self.spent]
        assert sorted(grant.live) == sorted(map(fingerprint, alive))
        assert self.dead or grant.current in grant.live
        assert self.grace or len(grant.live) <= 1


TestAnyOrderOfPresentations = GrantMachine.TestCase


# ---------------------------------------------------------------- terms that only some providers have


def book_of(**terms: object) -> tuple[Grants, str, str]:
    """A book with such terms, and the first refresh and access token of one grant."""
    book = Grants(Terms(lifetime=LIFETIME, **terms))  # type: ignore[arg-type]
    pair = book.consent(now=START)
    assert pair.refresh_token is not None
    return book, pair.refresh_token, pair.access_token


@pytest.mark.parametrize("ends", [True, False])
def test_a_refresh_ends_the_previous_access_token_where_the_terms_say_so(ends: bool) -> None:
    """Its holder gets a 401 before the end that it knows."""
    book, value, access = book_of(ends_previous=ends)
    assert book.accepts(access, now=START)
    spend(book, value, 1)
    assert book.accepts(access, now=after(2)) is not ends


def test_a_spent_value_works_until_an_access_token_of_the_next_generation_is_used() -> None:
    """However long that takes; then it is reuse."""
    book, value, access = book_of(until_used=True)
    spend(book, value, 1)
    pair, _ = book.present(value, now=after(50))
    assert book.accepts(access, now=after(51))  # of the generation before: it says nothing
    assert present(book, value, 52)[1] == "granted_again"
    assert pair is not None
    assert book.accepts(pair.access_token, now=after(53))
    assert present(book, value, 54)[1] == "reused"


@pytest.mark.parametrize(("seconds", "outcome"), [(9, "granted_again"), (11, "reused")])
def test_a_longest_time_limits_that(seconds: float, outcome: str) -> None:
    """RingCentral: an hour, or the first use."""
    book, value, _ = book_of(until_used=True, grace=timedelta(seconds=10))
    spend(book, value, 0)
    assert present(book, value, seconds)[1] == outcome


def test_a_refresh_token_is_replaced_in_the_last_part_of_its_life_only() -> None:
    """And nothing else extends it (Kakao)."""
    book, value, _ = book_of(changes_within=timedelta(seconds=20), refresh_lifetime=timedelta(seconds=60))
    for seconds in (5, 20, 39):
        pair, _ = book.present(value, now=after(seconds))
        assert pair is not None
        assert (pair.refresh_token, pair.refresh_expires_at) == (value, after(60))
    pair, _ = book.present(value, now=after(41))
    assert pair is not None
    assert pair.refresh_token != value
    assert pair.refresh_expires_at == after(101)


@pytest.mark.parametrize(("spends", "outcome"), [(True, "reused"), (False, "granted")])
def test_a_refused_client_spends_the_value_where_the_terms_say_so(spends: bool, outcome: str) -> None:
    """Procore: the next call with it is the end of the grant."""
    book, value, _ = book_of(spends_on_refusal=spends)
    book.refuse_client(value, now=after(1))
    assert present(book, value, 2)[1] == outcome
    book.refuse_client("unknown", now=after(3))
