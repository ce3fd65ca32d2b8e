"""What may hold a token is withheld, and nothing else is: a page would take every token off the schedule."""

import os

import pytest

from daemon.domain.answer import Cause, Rejected, Unavailable, Unparsed
from daemon.domain.provider import ErrorPattern, Grant, Rotation
from tests.domain.replies import answer

LONG = "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl"

PAGES = {
    "maintenance": b"<!DOCTYPE html><html><head><title>Scheduled maintenance</title></head><body>Back soon.</body></html>",
    "csrf token": f'<html><head><meta name="csrf-token" content="{LONG}"></head></html>'.encode(),
    "form token": f'<html><body><input type="hidden" name="authenticity_token" value="{LONG}"></body></html>'.encode(),
    "token in a script": f'<!doctype html><script nonce="{LONG}">var cfg={{"token":"{LONG}"}}</script>'.encode(),
    "access token in a script": f"<html><script>mapbox.accessToken = '{LONG}'</script></html>".encode(),
    "image": f'<html><img src="data:image/png;base64,{LONG * 9}"></html>'.encode(),
    "JWT in a script": f'<html><script>window.session="{JWT}"</script></html>'.encode(),
    "a program about tokens": b"<html><script>this.refreshToken = response.refreshToken; refreshToken=getCookie('x')</script></html>",
    "documentation": b"<html><body>POST grant_type=refresh_token&refresh_token=YOUR_REFRESH_TOKEN</body></html>",
    "echo": b"<html><body>refused: refresh_token=short-refresh&client_id=me</body></html>",
    "xhtml": b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "x"><html xmlns="http://www.w3.org/1999/xhtml"></html>',
    "empty": b"",
    "blank": b"\r\n \r\n",
    "text": b"OK",
    "sentence": b"The service is down for maintenance. Request 4f3e2d1c9b8a.",
    "a cloud's error": f"<Error><Code>SlowDown</Code><HostId>{LONG}</HostId></Error>".encode(),
    "null": b"null",
    "list": b"[]",
    "number": b"7",
    "object without anything": b"{}",
    "few bytes": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("status", [200, 201, 204])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_instead_of_a_grant_is_an_outage_in_doubt(page, status):
    """Of a balancer, a portal, a proxy: the request may have passed through to the provider, or not."""
    got = answer(PAGES[page], status, known={"rotation": Rotation.ALWAYS})
    assert isinstance(got, Unavailable)
    assert (got.code, got.cause, got.in_doubt) == ("page", Cause.PAGE, True)
    assert got.message.startswith(f"HTTP {status} with ")
    assert "short-refresh" not in got.message


def test_a_picture_is_a_page():
    """Bytes that are no text, and say that they are none."""
    assert answer(os.urandom(500), content_type="image/png").code == "page"


def test_a_page_says_its_title():
    """That is mostly what an operator needs."""
    assert (
        answer(PAGES["maintenance"]).message
        == "HTTP 200 with a page instead of tokens: Scheduled maintenance"
    )


MAY_HOLD = {
    "another name": {"accessToken": "x", "refreshToken": "y"},
    "a wrapper": {"code": 0, "data": {"access_token": "x", "refresh_token": "y"}},
    "an object for a token": {"refresh_token": {"value": "y"}},
    "a list of tokens": {"tokens": ["x", "y"]},
    "a short name": {"token": "x", "expires": 60},
    "JSON in a text": {"statusCode": 200, "body": '{"access_token":"x","refresh_token":"y"}'},
    "a number for a token": {"access_token": 123456789012},
    "a JWT under no name": {"response": JWT},
    "an access token of another kind": {"user_token": "x"},
    "XML": b"<r><access_token>x</access_token><refresh_token>y</refresh_token></r>",
    "XML with types": b'<r xmlns="u"><RefreshToken type="s">y</RefreshToken></r>',
    "XML with names": b'<plist><string name="refresh_token">y</string></plist>',
    "YAML": b"access_token: x\nrefresh_token: y\n",
    "lines": b"access_token=x\nrefresh_token=y\n",
    "a program's notation": b"{'access_token': 'x', 'refresh_token': 'y'}",
    "PHP's notation": b"Array\n(\n    [access_token] => x\n)",
    "JSON with a comment inside": b'{"access_token": "x", /* soon */ "refresh_token": "y"}',
    "JSON that ends too soon": b'{"access_token":"x","refresh_tok',
    "a page with a refresh token": f'<html><pre>{{"refresh_token":"{LONG}"}}</pre></html>'.encode(),
    "the same, escaped": f"<html><pre>{{&quot;refresh_token&quot;:&quot;{LONG}&quot;}}</pre></html>".encode(),
    "a page's input field": f'<html><input name="refresh_token" value="{LONG}"></html>'.encode(),
    "a JWT alone": JWT.encode(),
    "a JWT in a text": f"token {JWT}".encode(),
    "a long text alone": LONG.encode(),
    "a long JSON text": f'"{LONG}"'.encode(),
    "binary data": bytes(range(256)) * 2,
}


@pytest.mark.parametrize("known", [{}, {"rotation": Rotation.ALWAYS}])
@pytest.mark.parametrize("what", MAY_HOLD)
def test_what_may_hold_a_token_is_withheld(what, known):
    """It may be the only copy: the journal keeps it until somebody has looked."""
    got = answer(MAY_HOLD[what], known=known)
    assert isinstance(got, Unparsed)
    assert (got.code, got.granted) == ("no_grant", None)


ERRORS = {
    "tiktok": {
        "code": 40105,
        "message": "Access token is incorrect or has been revoked.",
        "data": {},
        "request_id": "x",
    },
    "lark": {"code": 20026, "msg": "refresh token is invalid"},
    "wechat": {"errcode": -1, "errmsg": "bad request"},
    "success": {"success": False, "message": "Refresh token expired"},
    "errors": {"errors": [{"code": "EXPIRED", "title": "The refresh token has expired"}]},
    "status": {"status": "error"},
    "a validator's": {"refresh_token": ["This field is required."]},
    "a validator's code": {"errors": {"refresh_token": "invalid", "access_token": "token_expired"}},
    "an empty place": {"access_token": "", "refresh_token": None},
    "an echo": {"code": 7, "refresh_token": "short-refresh"},
    "an encoded echo": {"code": 7, "request": {"refreshToken": "SHORT-REFRESH", "token": "short-access"}},
    "a masked echo": {"code": 7, "refresh_token": "short-***", "accessToken": "shor...cess"},
    "ids": {"code": 7, "trace_id": LONG, "request_token_id": 5},
    "other tokens": {"code": 7, "csrf_token": LONG, "next_page_token": LONG, "token_type": "Bearer"},
    "ends": {"access_token_expires_in": 5, "refresh_token_expires_at": "2026-01-01"},
}


@pytest.mark.parametrize("what", ERRORS)
def test_an_error_in_other_words_is_asked_about_again(what):
    """Minutes apart, and it is the token's own until others fail alike."""
    got = answer(ERRORS[what])
    assert isinstance(got, Unavailable)
    assert (got.cause, got.in_doubt, got.rest.total_seconds()) == (Cause.REFUSAL, False, 120)
    assert next(iter(ERRORS[what])) in got.message


# ---------------------------------------------------------------- errors that bring a token

NEW = "rt-new-0123456789abcdef"
BRINGS = [
    {"error": "access_denied", "refresh_token": NEW},
    {"error": "server_busy", "refreshToken": NEW},
    {"error": "server_error", "data": {"refresh_token": NEW}},
    {"error": "invalid_grant", "refresh_token": NEW},
    {"error": "invalid_client", "new_refresh_token": NEW},
    {"message": "slow down", "refresh_token": NEW},
    f"<r><error>busy</error><refresh_token>{NEW}</refresh_token></r>".encode(),
    f"error=busy&refresh_token={NEW}".encode(),
]


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 503, 302])
@pytest.mark.parametrize("body", BRINGS)
def test_an_error_that_brings_a_new_refresh_token_is_withheld(body, status):
    """The old one is spent then, whatever else is said."""
    got = answer(
        body, status, known={"rejected": (ErrorPattern(field="message", values=frozenset({"slow down"})),)}
    )
    assert isinstance(got, Unparsed)
    assert (got.code, got.granted) == ("error_with_token", None)
    assert NEW not in got.message


@pytest.mark.parametrize(
    "body", [{"ok": False, "refresh_token": NEW}, {"ok": False, "access_token": "a", "refresh_token": NEW}]
)
@pytest.mark.parametrize("status", [200, 400])
def test_a_definitions_own_sign_discards_no_refresh_token(body, status):
    """With an access token beside it, too: the sign says that this is no grant."""
    known = {"rejected": (ErrorPattern(field="ok", values=frozenset({"false"})),)}
    assert isinstance(answer(body, status, known=known), Unparsed)


@pytest.mark.parametrize(
    "echo",
    [
        "short-refresh",
        "SHORT-REFRESH",
        "short-access",
        "short-*******",
        "sh…sh",
        "[REDACTED]",
        "<refresh_token>",
        "expired",
        "invalid_refresh_token",
        "not found",
        "",
        None,
        True,
        7,
    ],
)
def test_an_echo_is_no_new_refresh_token(echo):
    """Nor is what says that the old one is dead."""
    assert isinstance(answer({"error": "invalid_grant", "refresh_token": echo}, 400), Rejected)


@pytest.mark.parametrize("grant", [Grant.EXCHANGE, Grant.CLIENT_CREDENTIALS])
def test_what_presents_no_refresh_token_misses_none(grant):
    """Nothing was spent, so nothing can be lost."""
    got = answer({"error": "odd", "refresh_token": NEW}, 400, known={"grant": grant})
    assert isinstance(got, Unavailable)
