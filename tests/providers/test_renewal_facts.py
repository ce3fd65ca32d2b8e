"""What renewals of some providers do beside bringing a token, of which no reply tells: a third voice, as the expectations."""

import json
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs

import pytest

from daemon.domain.answer import Answer, Granted
from daemon.domain.dialect import read
from daemon.domain.provider import IdleFrom
from daemon.domain.reply import Reply
from daemon.domain.request import refresh_request
from daemon.runtime.config.providers.definitions import shipped
from tests.providers import samples
from tests.providers.row import told
from tests.providers.wire import CLOCK

DAY = timedelta(days=1)
BASECAMP_ACCOUNT = "urn:bc:account:1234"


def answer(name: str, status: int, /, **body: object) -> Answer:
    reply = Reply(
        status=status,
        content_type="application/json",
        retry_after=None,
        body=json.dumps(body).encode(),
        whole=True,
        asked_at=CLOCK.now(),
    )
    return read(samples.provider(name), samples.token(name), reply)


@pytest.mark.parametrize(
    "name", ["digitalocean", "ecobee", "netatmo", "ringcentral", "sentry", "wise", "zendesk"]
)
def test_a_renewal_ends_the_access_token_before_it(name: str) -> None:
    """Applications that keep a copy are refused from that moment, so each minute of the window is one of theirs."""
    assert shipped()[name].ends_previous


def test_only_a_replacement_extends_kakaos_refresh_token() -> None:
    """So a grant that is renewed all the time ends nevertheless, unless one renewal falls into its last month."""
    assert shipped()["kakao"].refresh_idle_from is IdleFrom.REPLACEMENT


@pytest.mark.parametrize(("name", "age"), [("square", 7 * DAY), ("yandex", 90 * DAY)])
def test_some_want_a_renewal_at_an_age(name: str, age: timedelta) -> None:
    """Square, of tokens for 30 days; Yandex, of those for a year."""
    assert shipped()[name].renew_every == age


def test_a_refused_request_spends_procores_refresh_token() -> None:
    """So a refused client must not be probed with customers' grants."""
    assert shipped()["procore"].spends_on_refusal


def test_a_lost_reply_costs_nothing_where_the_old_token_lives_until_the_new_one_is_used() -> None:
    """By the providers' own pages; public code alone is not enough (Squarespace), nor is a report (Exact Online)."""
    kind = {name: known.grace_until_used for name, known in shipped().items()}
    assert {name for name in ("gusto", "ringcentral", "squarespace", "exact-online") if kind[name]} == {
        "gusto",
        "ringcentral",
    }
    assert shipped()["ringcentral"].grace == timedelta(hours=1)


def test_basecamps_account_goes_back_with_each_refresh() -> None:
    """Without it, Basecamp 5 refuses a token for several accounts; a reply without it leaves it as it was."""
    token = samples.token("basecamp")
    granted = answer("basecamp", 200, access_token="a2", resource=BASECAMP_ACCOUNT)
    assert isinstance(granted, Granted)
    assert granted.extra == {"resource": BASECAMP_ACCOUNT}
    asked = refresh_request(
        samples.provider("basecamp"), replace(token, echoed=granted.extra), now=CLOCK.now()
    )
    assert parse_qs(asked.body.decode())["resource"] == [BASECAMP_ACCOUNT]
    plain = refresh_request(samples.provider("basecamp"), token, now=CLOCK.now())
    assert "resource" not in parse_qs(plain.body.decode())


def test_squarespaces_ends_are_texts_with_a_fraction() -> None:
    """Both, under names of their own; the sandbox has them as numbers."""
    now = CLOCK.now()
    access, refresh = now + timedelta(minutes=30), now + 5 * DAY  # another end than the definition's
    granted = answer(
        "squarespace", 200, access_token="a2", refresh_token="r2", token_type="bearer",
        access_token_expires_at=f"{access.timestamp():.3f}", refresh_token_expires_at=f"{refresh.timestamp():.3f}",
    )  # fmt: skip
    assert isinstance(granted, Granted)
    assert granted.refresh_expires_at is not None
    for seen, meant in ((granted.expires_at, access), (granted.refresh_expires_at, refresh)):
        assert abs(seen - meant) < timedelta(seconds=1)


@pytest.mark.parametrize(("name", "text", "lives"), [("exact-online", "600", 600), ("myob", "1200", 1200)])
def test_a_lifetime_may_be_a_text(name: str, text: str, lives: int) -> None:
    """Exact Online and MYOB send it so."""
    granted = answer(name, 200, access_token="a2", refresh_token="r2", token_type="bearer", expires_in=text)
    assert isinstance(granted, Granted)
    assert abs(granted.expires_at - CLOCK.now() - timedelta(seconds=lives)) < timedelta(seconds=30)


@pytest.mark.parametrize(
    ("name", "status", "body", "becomes"),
    [
        ("zendesk", 201, {"access_token": "a2", "refresh_token": "r2"}, "Granted"),
        ("bitbucket", 400, {"error": "invalid_request", "error_description": "other"}, "Unavailable invalid_request"),
        ("databricks", 400, {"error": "invalid_request", "error_description": "other"}, "Unavailable invalid_request"),
        ("exact-online", 401, {"error": "unauthorized_client"}, "Misconfigured unauthorized_client (provider)"),
        ("servicenow", 401, {"error": "server_error", "error_description": "access_denied"}, "Unavailable server_error"),
        ("canva", 401, {"code": "unauthorized_user", "message": "no"}, "Unavailable unauthorized_user"),
        ("canva", 400, {"code": "unauthorized_client"}, "Misconfigured unauthorized_client (provider)"),
        ("canva", 500, {"error": "server_error"}, "Unavailable server_error, in doubt"),
        ("miro", 401, {"code": "oauthError", "message": "Redirect URI mismatch."}, "Unavailable oauthError"),
        ("withings", 200, {"status": 503, "body": {}, "error": "Invalid Params: invalid code"}, "Unavailable 503"),
        ("oura", 400, {"error": "invalid_request"}, "Unavailable invalid_request"),
        ("square", 401, {"message": "Not authorized", "type": "service.not_authorized"}, "Unavailable http_401"),
        ("instagram", 400, {"error": {"code": 10, "message": "No permission"}}, "Unavailable 10"),
        ("sentry", 401, {"detail": "Authentication credentials were not provided."}, "Unavailable http_401"),
        ("tesla", 503, {"error": "login_required"}, "Unavailable login_required, in doubt"),
        ("kakao", 400, {"error": "invalid_request", "error_code": "KOE237"}, "Unavailable invalid_request"),
        ("basecamp", 401, {"error": "OAuth token expired (old age)."}, "Unavailable OAuth token expired (old age)."),
    ],
)  # fmt: skip
def test_what_resembles_a_dead_grant_is_read_as_what_it_is(
    name: str, status: int, body: dict[str, object], becomes: str
) -> None:
    """Other replies of these providers that were seen, or that differ from a sign by a word. None condemns a grant."""
    assert told(answer(name, status, **body)) == becomes
