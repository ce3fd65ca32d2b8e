"""The record of consents as a state machine: the moments that a real clock would make tests wait for."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.sandbox.consents import Consents, Granted, Redemption, Wish, challenge_of
from daemon.sandbox.grants import Grants
from daemon.sandbox.terms import Terms
from daemon.sandbox.wording import Refusal

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
WISH = Wish(scopes=("read", "write"), redirect_uri="http://127.0.0.1/cb")
TEN = timedelta(minutes=10)
SECOND = timedelta(seconds=1)


class Stage:
    """A record, and one word for each thing that happens to it."""

    def __init__(self, *, most: int | None = None) -> None:
        self.grants = Grants(Terms())
        self.consents = Consents(self.grants, most=most)

    def approve(self, wish: Wish = WISH, account: str = "me") -> str:
        return self.consents.decide(wish, approved=True, account=account, scopes=wish.scopes, ends=NOW + TEN)

    def redeem(self, code: str, *, after: timedelta = timedelta()) -> Redemption:
        return self.consents.redeem(
            code, redirect_uri=WISH.redirect_uri, verifier=None, now=NOW + after, fault=None
        )

    def device(self, *, interval: timedelta = 5 * SECOND) -> tuple[str, str]:
        return self.consents.begin_device(WISH, ends=NOW + TEN, interval=interval)

    def poll(self, code: str, *, after: timedelta) -> str:
        """What a poll is told: a complaint, or "granted"."""
        said, _ = self.consents.poll(code, now=NOW + after, fault=None)
        return said.complaint if isinstance(said, Refusal) else "granted"


def granted(redemption: Redemption) -> Granted:
    assert isinstance(redemption[0], Granted)
    return redemption[0]


def test_the_challenge_is_that_of_the_standard() -> None:
    """RFC 7636, appendix B."""
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert challenge_of(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@pytest.mark.parametrize(("after", "good"), [(TEN - SECOND, True), (TEN, False)])
def test_a_code_lives_until_its_end(after: timedelta, good: bool) -> None:
    """The last second counts, the end does not."""
    stage = Stage()
    said, presentation = stage.redeem(stage.approve(), after=after)
    assert isinstance(said, Granted) == good
    assert presentation is not None
    assert presentation.outcome == ("granted" if good else "refused")
    assert len(list(stage.grants)) == good


def test_a_denied_request_has_no_code() -> None:
    """It is on record, with nothing granted."""
    stage = Stage()
    code = stage.consents.decide(WISH, approved=False, account="me", scopes=("read",), ends=NOW + TEN)
    [consent] = stage.consents
    assert (code, consent.state, consent.scopes, consent.code) == ("", "denied", (), "")
    assert isinstance(stage.redeem("")[0], Refusal)


def test_a_second_use_ends_the_grant_even_long_after() -> None:
    """Also when the code itself would have expired."""
    stage = Stage()
    code = stage.approve()
    pair = granted(stage.redeem(code)).pair
    assert isinstance(stage.redeem(code, after=9 * TEN)[0], Refusal)
    assert pair.grant is not None
    grant = stage.grants.find(pair.grant)
    assert grant is not None
    assert grant.revoked_by == "code_reuse"


def test_a_device_waits_is_approved_and_polls_once_more() -> None:
    """Pending, then the tokens; the code is spent by them."""
    stage = Stage()
    code, user_code = stage.device()
    assert stage.poll(code, after=timedelta()) == "authorization_pending"
    consent = stage.consents.waiting(user_code.lower().replace("-", " "), now=NOW)
    assert consent is not None
    consent.decide(approved=True, account="me", scopes=("write", "admin"))
    assert consent.scopes == ("write",)
    assert stage.consents.waiting(user_code, now=NOW) is None
    assert stage.poll(code, after=5 * SECOND) == "granted"
    assert stage.poll(code, after=60 * SECOND) == "invalid_code"
    assert [grant.revoked_by for grant in stage.grants] == ["code_reuse"]


def test_a_device_that_polls_too_fast_must_slow_down_for_good() -> None:
    """RFC 8628, section 3.5: each time five seconds more, and approved or not."""
    stage = Stage()
    code, user_code = stage.device()
    moments = [0, 4, 13, 23, 32, 47]
    told = [stage.poll(code, after=moment * SECOND) for moment in moments]
    slow = "slow_down"
    pending = "authorization_pending"
    assert told == [pending, slow, slow, slow, slow, slow]
    consent = stage.consents.waiting(user_code, now=NOW)
    assert consent is not None
    assert consent.interval == 30 * SECOND
    consent.decide(approved=True, account="me", scopes=())
    assert stage.poll(code, after=(47 + 29) * SECOND) == slow
    assert stage.poll(code, after=(47 + 29 + 35) * SECOND) == "granted"


def test_a_device_that_is_denied_or_too_late_is_told_so() -> None:
    """An end is an end, whatever the owner says afterwards."""
    stage = Stage()
    denied, user_code = stage.device()
    consent = stage.consents.waiting(user_code, now=NOW)
    assert consent is not None
    consent.decide(approved=False, account="me", scopes=())
    assert stage.poll(denied, after=SECOND) == "access_denied"
    late, user_code = stage.device()
    assert stage.consents.waiting(user_code, now=NOW + TEN) is None
    assert stage.poll(late, after=TEN) == "expired_token"
    assert list(stage.grants) == []


def test_codes_of_one_kind_are_unknown_to_the_other() -> None:
    """A device code is no authorization code, nor the other way round; and a stranger is neither."""
    stage = Stage()
    code, (device_code, _) = stage.approve(), stage.device()
    for wrong in (device_code, "4/unknown", ""):
        assert stage.redeem(wrong)[1] is None
    for wrong in (code, "4/unknown", ""):
        assert stage.poll(wrong, after=SECOND) == "invalid_code"
    assert stage.consents.note("4/unknown", "fault:hang", now=NOW, fault="hang") is None
    assert isinstance(stage.redeem(code)[0], Granted)


def test_one_account_may_have_so_many_grants_and_no_more() -> None:
    """The oldest end without a word; other accounts are left alone."""
    stage = Stage(most=2)
    for account in ("you", "me", "me", "me"):
        stage.redeem(stage.approve(account=account))
    assert [grant.revoked_by for grant in stage.grants] == [None, "crowded", None, None]


def test_a_second_consent_may_bring_no_refresh_token() -> None:
    """Google's way, unless the request asks for it; another account begins afresh."""
    stage = Stage()
    wishes = [Wish(scopes=(), again=again, redirect_uri=WISH.redirect_uri) for again in (False, False, True)]
    told = [granted(stage.redeem(stage.approve(wish))).pair.refresh_token for wish in wishes]
    assert [token is not None for token in told] == [True, False, True]
    assert granted(stage.redeem(stage.approve(wishes[0], account="you"))).pair.refresh_token is not None


def test_without_an_offline_wish_there_is_no_refresh_token() -> None:
    """An access token alone."""
    stage = Stage()
    pair = granted(
        stage.redeem(stage.approve(Wish(scopes=(), offline=False, redirect_uri=WISH.redirect_uri)))
    ).pair
    assert (bool(pair.access_token), pair.refresh_token, pair.refresh_expires_at) == (True, None, None)
