"""The revocation request, the meaning of its reply, and what becomes of the token."""

import json
import re
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemon.domain.answer import Concern
from daemon.domain.change import Postponed, Retired, RevocationPostponed, Revoked
from daemon.domain.provider import BodyFormat, ClientAuth, Definition, ErrorPattern, Grant, Provider, Variable
from daemon.domain.reply import NoReply, Reply
from daemon.domain.revocation import (
    PresentedToken,
    Revocation,
    RevocationAuth,
    RevocationEnds,
    RevocationMethod,
)
from daemon.domain.revocation_outcome import (
    FAILED_AFTER,
    LONGEST_RETRY,
    RETRY_AFTER_FAILURE,
    SETTLED_WITHIN,
    TOMBSTONE_LIFETIME,
    UNKNOWN_ACCESS,
    Again,
    Cannot,
    Done,
    decided,
    is_ready,
    is_settled,
    of_revoking,
    outcome_of,
    proves_the_end,
)
from daemon.domain.revocation_request import Presented, presented, revocation_of, revocation_request
from daemon.domain.secret import Secret
from daemon.domain.token import Doubt, Failure, FailureKind, RevocationOrder, State, Token
from daemon.domain.token_url import NotSendable

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
URL = "https://acme.example/revoke"


def provider(revocation: Revocation | None = None, *, url: str | None = URL, **more: object) -> Provider:
    definition = Definition(
        name="acme",
        title="Acme",
        token_url="https://acme.example/token",
        revoke_url=url,
        revoke=revocation,
        **more,  # type: ignore[arg-type]
    )
    return Provider(definition=definition, client_id="me", client_secret=Secret("s/s"))


def token(**fields: object) -> Token:
    usual = Token(
        id="acme:1",
        provider="acme",
        account="1",
        state=State.REVOKING,
        refresh_token=Secret("r/1"),
        access_token=Secret("a-1"),
        revocation=RevocationOrder(since=NOON),
    )
    return replace(usual, **fields)  # type: ignore[arg-type]


REFRESH = Presented(secret=Secret("r/1"), kind=PresentedToken.REFRESH)
ACCESS = Presented(secret=Secret("a-1"), kind=PresentedToken.ACCESS)


def reply(body: object, *, status: int = 200, retry: str | None = None) -> Reply:
    return Reply(
        status=status,
        content_type="application/json",
        retry_after=retry,
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
        whole=True,
        asked_at=NOON,
    )


# ---------------------------------------------------------------- the request


def test_the_request_is_rfc_7009s_unless_the_definition_differs():
    """A form by POST, the client as at the token endpoint, and no hint."""
    request = revocation_request(provider(), REFRESH, {}, now=NOON)
    assert (request.method, request.url) == ("POST", URL)
    assert request.body == b"token=r%2F1&client_id=me&client_secret=s%2Fs"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert "Authorization" not in request.headers


def test_a_hint_names_the_kind_of_the_token():
    hinting = provider(Revocation(hint=True))
    assert b"token_type_hint=refresh_token" in revocation_request(hinting, REFRESH, {}, now=NOON).body
    assert b"token_type_hint=access_token" in revocation_request(hinting, ACCESS, {}, now=NOON).body


def test_bearer_presents_the_token_itself_and_no_client():
    """As at Dropbox: no parameter, and nothing of the client."""
    revocation = Revocation(auth=RevocationAuth.BEARER, parameter="", token=PresentedToken.ACCESS)
    request = revocation_request(provider(revocation), ACCESS, {}, now=NOON)
    assert request.headers["Authorization"] == "Bearer a-1"
    assert request.body == b""
    assert "Content-Type" not in request.headers


def test_without_authentication_only_the_token_is_sent():
    """As at Google, also if the client authenticates with Basic at the token endpoint."""
    basic = provider(Revocation(auth=RevocationAuth.NONE), client_auth=ClientAuth.BASIC)
    request = revocation_request(basic, REFRESH, {}, now=NOON)
    assert request.body == b"token=r%2F1"
    assert "Authorization" not in request.headers


def test_another_client_auth_may_be_required():
    basic = provider(Revocation(auth=ClientAuth.BASIC))
    request = revocation_request(basic, REFRESH, {}, now=NOON)
    assert request.body == b"token=r%2F1"
    assert request.headers["Authorization"] == "Basic " + b64encode(b"me:s%2Fs").decode()


def test_the_token_and_the_client_may_stand_in_the_url():
    """As at HubSpot and GitHub: encoded, so that neither can leave its place in the path."""
    url = "https://acme.example/apps/${client_id}/tokens/${token}"
    request = revocation_request(
        provider(Revocation(method=RevocationMethod.DELETE, url=url, auth=RevocationAuth.NONE)),
        REFRESH,
        {},
        now=NOON,
    )
    assert (request.method, request.url) == ("DELETE", "https://acme.example/apps/me/tokens/r%2F1")
    assert request.body == b""


@pytest.mark.parametrize("usual", list(BodyFormat))
def test_a_get_has_its_parameters_in_the_query(usual: BodyFormat):
    revocation = Revocation(method=RevocationMethod.GET, auth=RevocationAuth.NONE)
    request = revocation_request(provider(revocation, body=usual), REFRESH, {}, now=NOON)
    assert (request.method, request.url, request.body) == ("GET", URL + "?token=r%2F1", b"")


def test_json_stays_json():
    request = revocation_request(provider(body=BodyFormat.JSON), REFRESH, {}, now=NOON)
    assert json.loads(request.body) == {"token": "r/1", "client_id": "me", "client_secret": "s/s"}


def of_a_tenant(**more: object) -> Provider:
    return provider(
        url="https://${tenant}.acme.example/revoke/${token}",
        variables={"tenant": Variable(pattern=re.compile(".*"))},
        domains=("acme.example",),
        **more,
    )


def test_a_variable_fills_the_host_under_the_rules_of_the_token_url():
    """Inside the provider's domains, and to public addresses only."""
    request = revocation_request(of_a_tenant(), REFRESH, {"tenant": "shop"}, now=NOON)
    assert request.url == "https://shop.acme.example/revoke/r%2F1"
    assert request.public_only


@pytest.mark.parametrize(
    "text", ["evil.example/", "evil.example#", "a\tb", "", "{token}", "x/{client_id}", "a b"]
)
def test_a_variable_can_not_lead_the_token_astray(text: str):
    with pytest.raises(NotSendable):
        revocation_request(of_a_tenant(), REFRESH, {"tenant": text}, now=NOON)


def test_a_missing_variable_prevents_the_request():
    with pytest.raises(NotSendable, match="tenant"):
        revocation_request(of_a_tenant(), REFRESH, {}, now=NOON)


# ---------------------------------------------------------------- what is presented


@pytest.mark.parametrize(
    ("revocation", "fields", "expected"),
    [
        (None, {}, ["r/1"]),
        (None, {"refresh_token": None}, ["a-1"]),
        (Revocation(token=PresentedToken.ACCESS), {}, ["a-1"]),
        (Revocation(token=PresentedToken.ACCESS), {"refresh_token": None}, ["a-1"]),
        (Revocation(ends=RevocationEnds.TOKEN), {}, ["r/1", "a-1"]),
        (Revocation(ends=RevocationEnds.TOKEN), {"access_token": None}, ["r/1"]),
        (Revocation(ends=RevocationEnds.TOKEN), {"refresh_token": None}, ["a-1"]),
        (Revocation(ends=RevocationEnds.TOKEN, auth=RevocationAuth.BEARER), {}, ["r/1"]),
        (Revocation(ends=RevocationEnds.TOKEN, token=PresentedToken.ACCESS), {}, ["a-1"]),
    ],
)
def test_the_refresh_token_is_presented_first(revocation, fields, expected):
    """Alone, where it ends the whole grant."""
    found = presented(provider(revocation), token(**fields))
    assert [one.secret.reveal() for one in found] == expected


def test_nothing_to_present_is_said():
    with pytest.raises(NotSendable, match="nothing to revoke"):
        presented(provider(), token(refresh_token=None, access_token=None))


def test_a_refresh_token_does_not_stand_in_for_an_access_token():
    """The provider would call it unknown, and the grant would live on as a revoked one."""
    with pytest.raises(NotSendable, match="by access tokens only"):
        presented(provider(Revocation(token=PresentedToken.ACCESS)), token(access_token=None))


def test_a_provider_without_a_revocation_is_said():
    with pytest.raises(NotSendable, match="has no revocation"):
        presented(provider(url=None), token())
    assert revocation_of(provider(url=None).definition) is None
    assert revocation_of(provider(Revocation(url=URL), url=None).definition) is not None


# ---------------------------------------------------------------- the reply

TRUE = ErrorPattern(field="success", values=frozenset({"true"}))
DEAD = ErrorPattern(field="error", values=frozenset({"gone"}), status=frozenset({403}))


@pytest.mark.parametrize(
    ("revocation", "answer"),
    [
        (None, reply(b"")),
        (None, reply({})),
        (None, reply(b"", status=204)),
        (None, reply(b"OK")),
        (None, reply({"revoked": True})),
        (None, reply({"error": "invalid_token"}, status=400)),
        (None, reply({"error": "invalid_grant"}, status=401)),
        (None, reply({"error": "token_revoked"})),
        (Revocation(success=(TRUE,)), reply({"success": True})),
        (Revocation(success=(DEAD,)), reply({"error": "gone"}, status=403)),
        (Revocation(success=(DEAD,)), reply({})),
        (Revocation(unknown=(DEAD,)), reply({"error": "gone"}, status=403)),
        (Revocation(unknown=(DEAD,)), reply({})),
        (Revocation(url="https://acme.example/tokens/${token}"), reply(b"no such token", status=404)),
    ],
)
def test_these_replies_say_that_the_grant_has_ended(revocation, answer):
    """A success, or a token that the provider does not know."""
    assert outcome_of(provider(revocation), token(), answer) == Done()


def test_an_unknown_access_token_alone_proves_nothing():
    """An expired one may have the same words, and its refresh token lives."""
    revocation = Revocation(unknown=(DEAD,), token=PresentedToken.ACCESS)
    outcome = outcome_of(provider(revocation), token(), reply({"error": "gone"}, status=403), proof=False)
    assert isinstance(outcome, Again)
    assert outcome.code == "access_token_unknown"


@pytest.mark.parametrize(
    ("revocation", "answer"),
    [
        (None, reply({"error": "server_error"}, status=503)),
        (None, reply({"error": "invalid_token"}, status=500)),
        (None, reply({"error": "invalid_token"}, status=429)),
        (None, reply({"error": "invalid_token"}, status=400, retry="30")),
        (None, reply(b"<html>not found</html>", status=404)),
        (None, reply({"error": "something"})),
        (None, reply(b"<!doctype html><html><body>We are back soon</body></html>")),
        (None, reply({"error": "invalid_request"}, status=400)),
        (Revocation(success=(TRUE,)), reply({"success": False})),
        (Revocation(unknown=(DEAD,)), reply({"error": "gone"}, status=401)),
        (Revocation(unknown=(DEAD,)), reply({"error": "gone"}, status=403, retry="30")),
        (Revocation(success=(TRUE,)), reply(b"<html>maintenance</html>")),
        (None, NoReply(code="timeout", message="no response", sent=True, asked_at=NOON)),
        (None, NoReply(code="refused", message="connection refused", sent=False, asked_at=NOON)),
    ],
)
def test_these_replies_leave_it_open(revocation, answer):
    assert isinstance(outcome_of(provider(revocation), token(), answer), Again)


@pytest.mark.parametrize(
    "answer",
    [
        reply({"error": "invalid_client"}, status=401),
        reply({"error": "unauthorized_client"}, status=400),
        reply({"error": "unsupported_token_type"}, status=400),
        reply(b"", status=302),
        NoReply(code="not_https", message="-", sent=False, concerns=Concern.PROVIDER, asked_at=NOON),
    ],
)
def test_these_replies_are_the_operators(answer):
    assert isinstance(outcome_of(provider(), token(), answer), Cannot)


def test_the_message_quotes_no_token():
    """Neither the presented one nor the client's secret."""
    answer = reply({"error": "server_error", "error_description": "r/1 a-1 s/s of acme"}, status=500)
    outcome = outcome_of(provider(), token(), answer)
    assert isinstance(outcome, Again)
    assert not re.search("r/1|a-1|s/s", outcome.message)


# ---------------------------------------------------------------- access tokens that are revoked

BY_ACCESS = Revocation(token=PresentedToken.ACCESS)
LATER = NOON + timedelta(hours=1)


def failed(kind: FailureKind, code: str = "x") -> Failure:
    return Failure(kind=kind, code=code, message="-", at=NOON)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"expires_at": LATER}, True),
        ({"expires_at": None}, True),
        ({"expires_at": NOON}, False),
        ({"expires_at": NOON + timedelta(seconds=59)}, False),
        ({"access_token": None, "expires_at": LATER}, False),
        ({"expires_at": LATER, "last_failure": failed(FailureKind.UNAVAILABLE, UNKNOWN_ACCESS)}, False),
        ({"expires_at": LATER, "last_failure": failed(FailureKind.UNAVAILABLE)}, True),
        ({"expires_at": NOON, "last_failure": failed(FailureKind.REJECTED)}, True),
        ({"expires_at": NOON, "last_failure": failed(FailureKind.UNPARSED)}, True),
        ({"expires_at": NOON, "refresh_token": None}, True),
        ({"expires_at": NOON, "doubt": Doubt(since=NOON, tries=6)}, True),
        ({"expires_at": LATER, "doubt": Doubt(since=NOON, tries=1)}, False),
        ({"expires_at": NOON, "revocation": RevocationOrder(since=NOON, not_before=LATER)}, True),
    ],
)
def test_a_provider_that_revokes_by_access_tokens_gets_a_living_one(fields, expected):
    """A refresh comes first if the stored one is over, unless it would bring nothing."""
    assert is_ready(provider(BY_ACCESS), token(**fields), now=NOON) is expected


def test_elsewhere_the_access_token_does_not_matter():
    assert is_ready(provider(), token(access_token=None), now=NOON)
    assert is_ready(provider(BY_ACCESS, grant=Grant.EXCHANGE), token(expires_at=NOON), now=NOON)


@pytest.mark.parametrize(
    ("revocation", "fields", "expected"),
    [
        (None, {}, True),
        (BY_ACCESS, {}, False),
        (BY_ACCESS, {"refresh_token": None}, True),
        (BY_ACCESS, {"last_failure": failed(FailureKind.REJECTED)}, True),
        (BY_ACCESS, {"last_failure": failed(FailureKind.UNAVAILABLE)}, False),
    ],
)
def test_an_unknown_access_token_proves_nothing_about_its_refresh_token(revocation, fields, expected):
    assert proves_the_end(provider(revocation), token(**fields)) is expected
    unknown = reply({"error": "invalid_token"}, status=401)
    outcome = outcome_of(provider(revocation), token(**fields), unknown, proof=expected)
    assert isinstance(outcome, Done if expected else Again)


def test_a_refresh_that_brings_nothing_for_seven_days_is_a_failed_revocation():
    """Before that it is only postponed, as any refresh."""
    postponed = Postponed(failure=failed(FailureKind.UNAVAILABLE), failures=3, due_at=NOON)
    assert of_revoking(token(), postponed, now=NOON + FAILED_AFTER - timedelta(seconds=1)) is postponed
    late = of_revoking(token(), postponed, now=NOON + FAILED_AFTER)
    assert isinstance(late, RevocationPostponed)
    assert (late.failed, late.due_at) == (True, NOON + FAILED_AFTER + RETRY_AFTER_FAILURE)


# ---------------------------------------------------------------- the effect


def test_a_success_leaves_a_tombstone_for_thirty_days():
    assert decided(token(), Done(), now=NOON, chance=0.5) == Revoked(
        revoked_at=NOON, forget_at=NOON + TOMBSTONE_LIFETIME
    )


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_the_wait_grows_to_six_hours(chance: float):
    """With each try twice as long, spread by chance, and never without end."""
    waits = []
    for tries in (0, 1, 2, 20, 2_000_000_000):
        order = RevocationOrder(since=NOON, tries=tries)
        change = decided(token(revocation=order), Again(code="x", message="x"), now=NOON, chance=chance)
        assert isinstance(change, RevocationPostponed)
        assert change.tries == tries + 1
        assert not change.failed
        waits.append(change.due_at - NOON)
    assert waits == sorted(waits)
    assert waits[0] >= timedelta(seconds=20)
    assert waits[-1] <= LONGEST_RETRY * 1.25


def test_the_provider_may_ask_for_more():
    change = decided(token(), Again(code="x", message="x", wait=timedelta(hours=9)), now=NOON, chance=0.5)
    assert change.due_at == NOON + timedelta(hours=9)


@pytest.mark.parametrize(
    ("after", "failed"), [(FAILED_AFTER - timedelta(seconds=1), False), (FAILED_AFTER, True)]
)
def test_after_seven_days_it_has_failed_and_goes_on_once_a_day(after: timedelta, failed: bool):
    change = decided(token(), Again(code="x", message="x"), now=NOON + after, chance=0.5)
    assert isinstance(change, RevocationPostponed)
    assert change.failed is failed
    assert change.failure.kind is FailureKind.UNAVAILABLE
    if failed:
        assert change.due_at - NOON - after == RETRY_AFTER_FAILURE


def test_what_the_provider_does_not_allow_has_failed_from_the_first_try():
    change = decided(token(), Cannot(code="x", message="x"), now=NOON, chance=0.5)
    assert isinstance(change, RevocationPostponed)
    assert (change.failed, change.failure.kind) == (True, FailureKind.MISCONFIGURED)


# ---------------------------------------------------------------- a doubt


@pytest.mark.parametrize(
    ("fields", "at", "settled"),
    [
        ({}, NOON, True),
        ({"doubt": Doubt(since=NOON, tries=1)}, NOON, False),
        ({"doubt": Doubt(since=NOON, tries=5)}, NOON, False),
        ({"doubt": Doubt(since=NOON, tries=6)}, NOON, True),
        ({"doubt": Doubt(since=NOON, tries=1)}, NOON + SETTLED_WITHIN, True),
        ({"doubt": Doubt(since=NOON, tries=1), "refresh_token": None}, NOON, True),
    ],
)
def test_a_doubt_is_settled_by_a_few_more_refreshes(fields, at, settled):
    assert is_settled(token(**fields), now=at) is settled


def test_a_rejection_while_a_doubt_is_settled_does_not_end_the_revocation():
    """The successor of the rejected token may be alive, so the revocation goes on."""
    failure = Failure(kind=FailureKind.REJECTED, code="invalid_grant", message="-", at=NOON)
    dead = Retired(failure=failure, failures=1)
    assert of_revoking(token(), dead, now=NOON) == RevocationPostponed(failure=failure, tries=0, due_at=NOON)
    assert of_revoking(token(revocation=None), dead, now=NOON) is dead
    later = Postponed(failure=failure, failures=1, due_at=NOON)
    assert of_revoking(token(), later, now=NOON) is later
