"""Where providers put an error's name and words, whose trouble it is, and what is no verdict although it looks like one."""

import json
import re
from base64 import b64encode
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.domain.answer import Cause, Concern, Misconfigured, Rejected, Unavailable
from daemon.domain.provider import ErrorPattern, ReplyFields, Variable
from daemon.domain.secret import MASK
from tests.domain.replies import TOKEN, answer

# ---------------------------------------------------------------- names and words


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"code": "E17", "msg": "no such app"}, "E17", "no such app"),
        (
            {"errorCode": "E0000011", "errorSummary": "Invalid token provided"},
            "E0000011",
            "Invalid token provided",
        ),
        ({"errcode": 40030, "errmsg": "invalid refresh_token"}, "40030", "invalid refresh_token"),
        ({"detail": "Token has expired"}, "http_400", "Token has expired"),
        ({"title": "Bad Request", "status": 400}, "http_400", "Bad Request"),
        ({"title": "Bad Request", "status": 400, "detail": "gone"}, "http_400", "gone"),
        ({"errors": [{"code": "gone", "message": "it is gone"}]}, "gone", "it is gone"),
        ({"errors": ["it is gone"]}, "http_400", "it is gone"),
        (
            [{"errorCode": "INVALID_SESSION_ID", "message": "Session expired"}],
            "INVALID_SESSION_ID",
            "Session expired",
        ),
        (
            {"fault": {"faultstring": "Invalid token", "detail": {"errorcode": "oauth.v2.Invalid"}}},
            "oauth.v2.Invalid",
            "Invalid token",
        ),
        ({"Error": {"Code": "Gone", "Message": "It is gone"}}, "Gone", "It is gone"),
        ({"Fault": {"Error": [{"Message": "Gone", "code": "3200"}]}}, "3200", "Gone"),
        ({"meta": {"msg": "gone", "code": 17}}, "17", "gone"),
        ({"error": {"errors": [{"reason": "authError"}], "message": "gone"}}, "authError", "gone"),
        ({"error": "account_suspended_by_administrator"}, *["account_suspended_by_administrator"] * 2),
        ({"error": "AccountSuspendedException"}, *["AccountSuspendedException"] * 2),
        ({"message": "gone"}, "http_400", "gone"),
        (b"<html><head><title>400 Bad Request</title></head>", "http_400", "400 Bad Request"),
        (b"unknown client", "http_400", "unknown client"),
    ],
)
def test_an_errors_name_and_words_are_found_where_providers_put_them(body, code, message):
    """So that an operator can read them; they mean nothing by themselves."""
    got = answer(body, 400)
    assert isinstance(got, Unavailable)
    assert (got.code, got.message) == (code, message)


def test_a_definition_says_where_an_errors_name_and_words_stand():
    """The name then means what the standard says."""
    shape = ReplyFields(error_code=("problem.kind",), error_message=("problem.explained", "note"))
    body = {"problem": {"kind": "invalid_grant", "explained": ""}, "note": "gone", "message": "see there"}
    got = answer(body, 400, known={"reply": shape})
    assert (type(got), got.code, got.message) == (Rejected, "invalid_grant", "gone")
    assert isinstance(answer({"error": "invalid_grant"}, 400, known={"reply": shape}), Unavailable)


@pytest.mark.parametrize("place", ["code", "reason", "status", "errorCode", "type"])
def test_the_standards_word_in_any_other_place_is_no_verdict(place):
    """Nor a wrong client: somebody has to say so in a definition."""
    for word in ("invalid_grant", "invalid_client"):
        assert isinstance(answer({place: word, "message": "x"}, 400), Unavailable)


def test_a_sign_names_the_refusal_that_it_knows():
    """Else an operator reads a status."""
    known = {
        "rejected": (
            ErrorPattern(field="state.word", values=frozenset({"a_word_that_is_too_long_for_others"})),
        )
    }
    got = answer({"state": {"word": "a_word_that_is_too_long_for_others"}}, 400, known=known)
    assert (type(got), got.code) == (Rejected, "a_word_that_is_too_long_for_others")


@pytest.mark.parametrize(
    "secret",
    [
        "short-secret",
        "SHORT-REFRESH",
        b64encode(b"me:short-secret").decode(),
        b64encode(b"short-secret:").decode(),
        "qZ8xW2rT9yU4iO7pLmNb",
    ],
)
@pytest.mark.parametrize(
    "shape",
    [
        lambda text: {"msg": f"bad {text}!"},
        lambda text: {"errors": [{"detail": f"bad {text}!"}]},
        lambda text: {"code": 7, "errmsg": f"bad {text}!"},
        lambda text: f"bad {text}!".encode(),
        lambda text: f"<html><title>bad {text}!</title>".encode(),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 503])
def test_words_from_any_place_are_masked(secret, shape, status):
    """What was sent, in every spelling, and what looks like a token."""
    got = answer(shape(secret), status)
    assert secret not in got.code + got.message
    assert MASK in got.message


def test_a_field_name_that_looks_like_a_token_is_masked():
    """Names are shown where nothing else says what came."""
    got = answer({"qZ8xW2rT9yU4iO7pLmNb": 1, "short-refresh-and-more" * 3: 2, "a": 1})
    assert "qZ8xW2rT9yU4iO7pLmNb" not in got.message
    assert "short-refresh" not in got.message
    assert got.message.isprintable()


# ---------------------------------------------------------------- whose trouble it is


@pytest.mark.parametrize(
    ("body", "status", "cause"),
    [
        ({"error": "account_suspended"}, 400, Cause.REFUSAL),
        ({"error": "account_suspended"}, 403, Cause.REFUSAL),
        ({"error": "account_suspended"}, 200, Cause.REFUSAL),
        ({"message": "no such tenant"}, 404, Cause.REFUSAL),
        (b"", 400, Cause.REFUSAL),
        (b"", 401, Cause.REFUSAL),
        (b"go away", 422, Cause.REFUSAL),
        (b"", 403, Cause.OUTAGE),
        (b"", 404, Cause.OUTAGE),
        (b"<html><title>403 Forbidden</title></html>", 403, Cause.OUTAGE),
        (b"<html><title>400 The plain HTTP request was sent</title></html>", 400, Cause.OUTAGE),
        ({"error": "odd"}, 408, Cause.OUTAGE),
        ({"error": "odd"}, 425, Cause.OUTAGE),
        ({"error": "odd"}, 429, Cause.OUTAGE),
        ({"error": "odd"}, 500, Cause.OUTAGE),
        ({"error": "temporarily_unavailable"}, 400, Cause.OUTAGE),
        ({"error": "server_error"}, 400, Cause.OUTAGE),
        ({"error": "slow_down"}, 400, Cause.OUTAGE),
        ({"error": "rate_limit_exceeded"}, 400, Cause.OUTAGE),
        ({"error": "ratelimited"}, 200, Cause.OUTAGE),
        ({"error": "ThrottlingException"}, 400, Cause.OUTAGE),
        ({"error": "odd", "error_description": "Too many requests"}, 400, Cause.OUTAGE),
        ({"error": "odd", "error_description": "system busy, try again later"}, 400, Cause.OUTAGE),
        (b"", 999, Cause.OUTAGE),
    ],
)
def test_a_refusal_is_the_tokens_own_and_an_outage_is_not(body, status, cause):
    """What names an error, or refuses what was sent, against what passes by itself or comes from something in between."""
    got = answer(body, status)
    assert isinstance(got, Unavailable)
    assert got.cause is cause


@pytest.mark.parametrize(
    ("body", "status", "throttled"),
    [
        ({"error": "rate_limit_exceeded"}, 400, True),
        ({"error": "slow_down"}, 400, True),
        ({"message": "Too many requests"}, 403, True),
        ({"error": "temporarily_unavailable"}, 400, False),
        ({"error": "odd"}, 400, False),
    ],
)
def test_words_about_a_rate_are_a_throttle_with_any_status(body, status, throttled):
    """Some providers keep 429 for their API."""
    assert answer(body, status).throttled is throttled


def test_an_error_in_other_words_waits_for_as_long_as_the_provider_wants():
    """And for two minutes of our own, unless the access token ends sooner."""
    found = answer({"code": 7}, retry_after="600")
    assert (found.retry_after, found.rest) == (timedelta(minutes=10), timedelta(minutes=2))


# ---------------------------------------------------------------- verdicts

DEAD = {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
OWN = {"rejected": (ErrorPattern(field="error", values=frozenset({"gone"})),)}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected),
        (401, Rejected),
        (200, Unavailable),
        (403, Unavailable),
        (404, Unavailable),
        (409, Unavailable),
    ]
    + [(status, Unavailable) for status in (408, 425, 429, 500, 502, 503)],
)
def test_the_standards_verdict_needs_the_standards_status(status, kind):
    """RFC 6749 §5.2 has 400, and many send 401. Anything in between may answer with another."""
    assert isinstance(answer(DEAD, status), kind)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, Rejected),
        (400, Rejected),
        (403, Rejected),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_a_definitions_verdict_needs_no_status_but_fails_with_an_outages(status, kind):
    """Slack, GitHub and Zoho say it with 200."""
    assert isinstance(answer({"error": "gone"}, status, known=OWN), kind)


def test_a_definition_may_name_an_outages_status():
    """Then that is meant."""
    known = {"rejected": (ErrorPattern(field="error", values=frozenset({"gone"}), status=frozenset({503})),)}
    assert isinstance(answer({"error": "gone"}, 503, known=known), Rejected)


@pytest.mark.parametrize(
    "known", [{}, {"rejected": (ErrorPattern(field="error", values=frozenset({"invalid_grant"})),)}]
)
def test_a_verdict_with_a_time_to_come_back_is_none(known):
    """The dead don't come back."""
    got = answer(DEAD, 400, retry_after="30", known=known)
    assert isinstance(got, Unavailable)
    assert got.retry_after == timedelta(seconds=30)


@pytest.mark.parametrize("other", ["temporarily_unavailable", "server_error", "invalid_client", "odd"])
@pytest.mark.parametrize("turned", [False, True])
def test_two_errors_in_one_reply_are_no_verdict(other, turned):
    """Which one counts is unknown, and no grant is declared dead on a guess."""
    both = [{"error": "invalid_grant"}, {"error": other}]
    assert not isinstance(answer(json.dumps(both[::-1] if turned else both).encode(), 400), Rejected)


def test_one_verdict_said_twice_is_a_verdict():
    """Some servers wrap an error and repeat it."""
    assert isinstance(
        answer(json.dumps([{"error": "invalid_grant"}, {"error": "invalid_grant"}]).encode(), 400), Rejected
    )
    assert isinstance(answer(json.dumps([{"error": "invalid_grant"}, {"id": 7}]).encode(), 400), Rejected)


@pytest.mark.parametrize(
    "words",
    [
        "access_token not expired",
        "The token has not yet expired",
        "Refreshed too early",
        "requested too soon",
        "outside of permitted login hours",
        "user login-hours restriction",
        "ip restricted",
        "IP address is not allowed",
        "Rate limit exceeded",
        "too many refreshes",
        "temporarily locked",
        "Please try again later",
        "service unavailable",
        "down for maintenance",
        "AADSTS90033: A transient error has occurred.",
        "A database error occurred",
        "backend error",
        "upstream connect error",
        "Deadlock found",
        "The server is in read-only mode",
        "The request timed out",
        "gateway timeout",
        "lock wait timeout exceeded",
        "connection refused",
        "Another refresh request is in progress",
        "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.",
        "The assertion is not yet valid",
        "the assertion was issued in the future",
        "clock skew too large",
        "Der Dienst ist vorübergehend nicht verfügbar",
        "Service temporairement indisponible, réessayez plus tard",
        "Servicio no disponible, inténtelo más tarde",
        "Servizio temporaneamente non raggiungibile",
        "服务暂时不可用 请稍后再试",
        "しばらくしてから再度お試しください",
        "Сервис временно недоступен",
    ],
)
@pytest.mark.parametrize("known", [{}, OWN])
def test_words_to_the_contrary_are_no_verdict(words, known):
    """They speak of waiting, or of where the request came from."""
    for error in ("invalid_grant", "gone"):
        assert not isinstance(
            answer({"error": error, "error_description": words}, 400, known=known), Rejected
        )


@pytest.mark.parametrize(
    "words",
    [
        "Token has been expired or revoked.",
        "Unknown or invalid refresh token.",
        "Refresh token has expired",
        "expired access/refresh token",
        "authentication failure",
        "Session not active",
        "Token is not active",
        "Offline session not active",
        "AADSTS70008: The provided authorization code or refresh token has expired due to inactivity. Send a new one.",
        "AADSTS50173: The provided grant has expired due to it being revoked. Timestamp: 2026-11-21 10:00:00Z",
        "Old refresh token used.",
        "Session timed out, please sign in and try again",
        "The refresh token was revoked because of concurrent use",
        "Session timeout",
        "Invalid JWT Signature.",
        "The subscription blocked this application",
        "Membership denied by its owner",
        "Le jeton a expiré ou a été révoqué",
        "El usuario ha revocado el acceso",
        "トークンが無効です",
        "",
    ],
)
def test_the_usual_words_of_a_dead_grant_are_a_verdict(words):
    """As the providers' pages have them."""
    assert isinstance(answer({"error": "invalid_grant", "error_description": words}, 400), Rejected)


def test_two_different_errors_in_one_object_are_no_verdict():
    """Which one the provider means can't be known, and no grant is declared dead on a guess."""
    for first, second in (("temporarily_unavailable", "invalid_grant"), ("invalid_grant", "server_error")):
        got = answer(f'{{"error": "{first}", "error": "{second}"}}'.encode(), 400)
        assert isinstance(got, Unavailable), got
    assert isinstance(answer(b'{"error": "invalid_grant", "error": "invalid_grant"}', 400), Rejected)


# ---------------------------------------------------------------- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "place", "known"),
    [
        ("/o/token/", "login.acme.test/o/token/", True),
        ("https://login.acme.test/o/token/?code=abc#x", "login.acme.test/o/token/", True),
        ("token/", "login.acme.test/token/", True),
        ("//elsewhere.test/token", "elsewhere.test/token", False),
        (
            "https://user:pass@elsewhere.test:8443/token?refresh_token=short-refresh",
            "elsewhere.test:8443/token",
            False,
        ),
        ("http://10.0.0.1/portal?token=abc", "10.0.0.1/portal", False),
        ("https://login.acme.test.evil.test/token", "login.acme.test.evil.test/token", False),
    ],
)
def test_a_redirect_says_where_the_endpoint_is_and_is_not_followed(status, location, place, known):
    """Host and path, and whether the host is the provider's; never the query."""
    got = answer(b"", status, location=location)
    assert isinstance(got, Misconfigured)
    assert (got.code, got.concerns) == ("moved", Concern.PROVIDER)
    assert f"moved to {place}" in got.message
    assert ("not a host of this provider" in got.message) is not known
    assert got.message.endswith("set token_url")
    assert not any(word in got.message for word in ("abc", "pass", "short-refresh"))


def test_a_host_in_the_definitions_domains_is_the_providers():
    """Where a variable fills the host."""
    known = {
        "token_url": "https://${sub}.acme.test/token",
        "domains": ("acme.test",),
        "variables": {"sub": Variable(pattern=re.compile("[a-z]+"))},
    }
    token = replace(TOKEN, vars={"sub": "eu"})
    assert (
        "not a host"
        not in answer(b"", 301, location="https://us.acme.test/x", known=known, token=token).message
    )
    assert (
        "not a host"
        in answer(b"", 301, location="https://acme.test.evil/x", known=known, token=token).message
    )


@pytest.mark.parametrize(
    "location", [None, "", "https://", "http://[", "mailto:x", "\x00", "https://\ud800/"]
)
def test_a_redirect_to_nowhere_says_so(location):
    """Any text may stand there."""
    got = answer(b"", 302, location=location)
    assert (type(got), got.code) == (Misconfigured, "moved")
    assert got.message.isprintable()
    got.message.encode()


def test_a_path_that_holds_what_was_sent_is_masked():
    """It ends up in a log."""
    assert "short-refresh" not in answer(b"", 302, location="/x/short-refresh/y").message
