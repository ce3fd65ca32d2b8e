"""What a reply means: tables of replies as providers really send them, and the promise that any reply has a meaning."""

import json
import re
from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from daemon.domain.answer import (
    Answer,
    Cause,
    Concern,
    Granted,
    Misconfigured,
    Rejected,
    Unavailable,
    Unparsed,
)
from daemon.domain.dialect import read
from daemon.domain.provider import ErrorPattern, ExpiryUnit, Grant, Provider, ReplyFields, Rotation
from daemon.domain.reply import NoReply, by_the_senders_clock, retry_after
from daemon.domain.secret import MASK, Secret
from tests.domain.replies import ACCESS_ONLY, ASKED, GRANT, PLAIN, TOKEN, answer, reply


def jwt(claims):
    return "e30." + urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=") + ".c2ln"


# ------------------------------------------------------------------------------------------------ grants


def test_a_grant_is_read_whole():
    """Every field of RFC 6749 §5.1."""
    assert answer(GRANT | {"scope": "read write"}) == Granted(
        access_token=Secret("new-access"),
        refresh_token=Secret("new-refresh"),
        token_type="Bearer",
        scope="read write",
        expires_at=ASKED + timedelta(hours=1),
    )


@pytest.mark.parametrize("status", [200, 201, 400, 500])
@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "text/html", "text/plain", "", "\x00"]
)
def test_a_grant_is_one_whatever_stands_around_it(status, content_type):
    """The body decides, neither the status nor the content type; else the only copy would be thrown away."""
    granted = answer(GRANT, status, content_type=content_type)
    assert isinstance(granted, Granted)
    assert granted.refresh_token == Secret("new-refresh")


@pytest.mark.parametrize(
    "error", ["invalid_grant", "invalid_client", "whatever", 400, {"code": "invalid_grant"}]
)
def test_an_error_beside_an_access_token_does_not_discard_the_grant(error):
    """A wrong guess here would lose the successor; the other way round the next refresh tells."""
    assert isinstance(answer(GRANT | {"error": error}), Granted)


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf", b"  \r\n"])
def test_json_is_read_with_a_byte_order_mark_too(bom):
    """Some frameworks write one."""
    assert isinstance(answer(bom + json.dumps(GRANT).encode()), Granted)


def test_a_form_encoded_grant_is_read_where_the_reply_says_so():
    """An older habit of some providers; numbers are texts there."""
    granted = answer(
        urlencode(GRANT).encode(), content_type="application/x-www-form-urlencoded; charset=utf-8"
    )
    assert granted.access_token == Secret("new-access")
    assert granted.refresh_token == Secret("new-refresh")
    assert granted.expires_at == ASKED + timedelta(hours=1)


def test_a_form_encoded_grant_that_was_cut_short_is_not_believed():
    """Its last value would be half a token."""
    got = answer(
        b"access_token=a&refresh_token=hal", content_type="application/x-www-form-urlencoded", whole=False
    )
    assert got == Unavailable(code="cut_short", message="the reply ended before its end", in_doubt=True)


def test_a_complete_grant_in_a_body_that_ended_badly_is_one():
    """JSON that parses is whole, whatever became of the connection."""
    assert isinstance(answer(GRANT, whole=False), Granted)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    "junk", [b"junk", b'{"error": "invalid_grant"}', b"HTTP/1.1 408", b"\r\nZZ\r\n", b"\0"]
)
def test_a_grant_with_junk_behind_it_is_one(junk, whole):
    """Behind its announced end, or by a server that says two things."""
    body = b"\n" + json.dumps(GRANT).encode() + junk
    assert isinstance(answer(body, whole=whole), Granted)


@pytest.mark.parametrize("junk", [b"junk", b"HTTP/1.1 408", b"\r\nZZ\r\n", b"\0"])
def test_an_object_with_junk_behind_it_is_complete(junk):
    """An access token alone is a grant too, if nothing of its object is missing: only what follows it ended badly."""
    alone = {"access_token": "access-1", "expires_in": 3600}
    got = answer(json.dumps(alone).encode() + junk, whole=False)
    assert isinstance(got, Granted)
    assert got.access_token.reveal() == "access-1"


def test_without_a_refresh_token_the_old_one_stays():
    """RFC 6749 §6: the reply may leave it out."""
    assert answer(ACCESS_ONLY).refresh_token is None
    assert isinstance(answer(ACCESS_ONLY | {"refresh_token": None}), Granted)
    assert isinstance(answer(ACCESS_ONLY | {"refresh_token": ""}), Granted)


def test_a_missing_refresh_token_is_unread_where_one_always_comes():
    """The access token is kept; the spent value must not be presented again."""
    got = answer(ACCESS_ONLY, known={"rotation": Rotation.ALWAYS})
    assert isinstance(got, Unparsed)
    assert got.code == "no_refresh_token"
    assert got.granted.access_token == Secret("new-access")
    assert got.granted.refresh_token is None


@pytest.mark.parametrize(
    "body",
    [
        {"refreshToken": "x"},
        {"RefreshToken": "x"},
        {"refresh-token": "x"},
        {"new_refresh_token": "x"},
        {"data": {"refresh_token": "x"}},
        {"data": [{"a": {"refreshToken": "x"}}]},
        {"refresh_token": {"value": "x"}},
        {"refresh_token": ["x"]},
        {"refresh_token": 12345},
        {"refresh_token": "\ud800"},
    ],
)
@pytest.mark.parametrize("rotation", [Rotation.SOMETIMES, Rotation.ALWAYS])
def test_a_refresh_token_where_nobody_looks_is_unread(body, rotation):
    """Else it would be lost in silence; the operator mends the definition and the journal has the reply."""
    got = answer(ACCESS_ONLY | body, known={"rotation": rotation})
    assert isinstance(got, Unparsed)
    assert got.code == "refresh_token_elsewhere"
    assert got.granted.access_token == Secret("new-access")


@pytest.mark.parametrize(
    "written", ["null", "None", "undefined", "(null)", "<nil>", "[object Object]", "NaN", " "]
)
def test_a_missing_value_that_came_as_a_word_replaces_no_refresh_token(written):
    """A server that turns null into text keeps the old refresh token. The word would replace its only copy."""
    got = answer(GRANT | {"refresh_token": written}, known={"rotation": Rotation.SOMETIMES})
    assert isinstance(got, Granted)
    assert got.refresh_token is None
    rotating = answer(GRANT | {"refresh_token": written}, known={"rotation": Rotation.ALWAYS})
    assert isinstance(rotating, Unparsed)
    assert rotating.code == "no_refresh_token"


@pytest.mark.parametrize(
    "written", ["********", "…", "[FILTERED]", "<redacted>", "new\r\nrefresh", "new\x00refresh"]
)
@pytest.mark.parametrize("rotation", [Rotation.SOMETIMES, Rotation.ALWAYS])
def test_a_refresh_token_that_is_hidden_or_broken_replaces_none(written, rotation):
    """There may be a successor, so a person must look; the word itself is none."""
    got = answer(GRANT | {"refresh_token": written}, known={"rotation": rotation})
    assert isinstance(got, Unparsed)
    assert got.granted.refresh_token is None


@pytest.mark.parametrize(
    "written", ["null", "undefined", "********", "[REDACTED]", " ", "new\r\nX-Header: access"]
)
def test_a_word_in_the_place_of_an_access_token_is_no_grant(written):
    """Applications would send it, or a header of the provider's choice, in the place of the token that still works."""
    assert isinstance(answer(GRANT | {"access_token": written}), Unparsed)  # a refresh token came
    got = answer(ACCESS_ONLY | {"access_token": written})
    assert isinstance(got, Unparsed | Unavailable)
    assert getattr(got, "granted", None) is None


@pytest.mark.parametrize(
    "token", ["nullable", "0000000000", "-" * 12, "a b", "Atzr|Iw*", "v^1.1#i^1", "(abc123)", "none-1"]
)
def test_a_strange_token_is_one(token):
    """Only words that programs write for nothing, masks and control characters are no tokens."""
    got = answer(GRANT | {"refresh_token": token, "access_token": token + "2"})
    assert isinstance(got, Granted)
    assert (got.access_token, got.refresh_token) == (Secret(token + "2"), Secret(token))


@pytest.mark.parametrize(
    "over", [timedelta(0), timedelta(seconds=1), timedelta(hours=5), timedelta(days=9000)]
)
def test_an_end_that_is_over_when_the_token_comes_is_not_believed(over):
    """A local time without its zone, or a clock that is slow. Each token would be renewed every ten seconds."""
    ends = ASKED - over
    body = {"access_token": "new-access", "refresh_token": "new-refresh"}
    exp = urlsafe_b64encode(json.dumps({"exp": ends.timestamp()}).encode()).decode().rstrip("=")
    for odd in (
        body | {"expires_at": ends.isoformat()},
        body | {"expires_at": ends.replace(tzinfo=None).isoformat(sep=" ")},
        body | {"expires_in": ends.timestamp()},
        body | {"access_token": f"e30.{exp}.x"},
    ):
        assert answer(odd).expires_at == ASKED + timedelta(hours=1)
        known = {"access_lifetime": timedelta(minutes=20)}
        assert answer(odd, known=known).expires_at == ASKED + timedelta(minutes=20)
    good = body | {"expires_in": 60, "expires_at": ends.isoformat()}
    assert answer(good).expires_at == ASKED + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("date", "wait"),
    [
        ("Sat, 31 Oct 2026 12:00:00 GMT", timedelta(seconds=90)),  # a day behind
        ("Mon, 02 Nov 2026 12:00:00 GMT", timedelta(seconds=90)),  # a day ahead
    ],
)
def test_a_date_to_come_back_counts_on_the_providers_clock(date, wait):
    """Its clock may be hours from ours. A wait of a day would let the tokens end."""
    until = format_datetime(parsedate_to_datetime(date) + wait, usegmt=True)
    assert retry_after(by_the_senders_clock(until, date), now=ASKED) == wait


@pytest.mark.parametrize("date", [None, "", "yesterday", "Sun, 99 Nov 2026 12:00:00 GMT"])
@pytest.mark.parametrize("header", [None, "7", "soon", "Sun, 01 Nov 2026 12:05:00 GMT"])
def test_without_a_readable_date_the_wait_is_as_it_came(header, date):
    """And seconds need no clock."""
    assert by_the_senders_clock(header, date) == header
    if header != "Sun, 01 Nov 2026 12:05:00 GMT":
        assert by_the_senders_clock(header, "Sun, 01 Nov 2026 12:00:00 GMT") == header


@pytest.mark.parametrize(
    "body",
    [
        {"refresh_token_expires_in": 5},
        {"refreshTokenExpiresAt": "x"},
        {"refreshToken": None},
        {"refreshToken": ""},
        {"has_refresh_token": True},
        {"data": {"refresh_token": None}},
    ],
)
def test_what_only_sounds_like_a_refresh_token_harms_nothing(body):
    """Ends, flags and empty places."""
    assert isinstance(answer(ACCESS_ONLY | body), Granted)


@pytest.mark.parametrize(
    ("scope", "read_as"),
    [
        ("a b", "a b"),
        (["a", "b"], "a b"),
        (["a", 1, None], "a"),
        ([], None),
        ("", None),
        (None, None),
        (7, None),
        ({"a": 1}, None),
        (["\ud800"], None),
    ],
)
def test_a_scope_is_a_text_or_a_list(scope, read_as):
    """Anything else is none."""
    assert answer(GRANT | {"scope": scope}).scope == read_as


@pytest.mark.parametrize(
    ("body", "lifetime"),
    [
        ({"expires_in": 3599}, timedelta(seconds=3599)),
        ({"expires_in": "3599"}, timedelta(seconds=3599)),
        ({"expires_in": 1793538000}, timedelta(hours=1)),
        ({"expires_at": "2026-11-01T13:00:00Z"}, timedelta(hours=1)),
        ({"expires_at": 1793538000000}, timedelta(hours=1)),
        ({"expires_in": 60, "expires_at": 1793538000}, timedelta(minutes=1)),
        ({"expires_in": None, "expires_at": 1793538000}, timedelta(hours=1)),
        ({"access_token": jwt({"exp": 1793538000})}, timedelta(hours=1)),
        ({"expires_in": 60, "access_token": jwt({"exp": 1793538000})}, timedelta(minutes=1)),
        ({}, timedelta(hours=1)),
        ({"expires_in": 0}, timedelta(hours=1)),
        ({"expires_in": -1}, timedelta(hours=1)),
        ({"expires_in": "soon"}, timedelta(hours=1)),
        ({"expires_in": 10**400}, timedelta(hours=1)),
        ({"expires_in": float("nan")}, timedelta(hours=1)),
    ],
)
def test_the_end_is_told_in_many_ways_and_assumed_where_it_is_not(body, lifetime):
    """`expires_in`, then an absolute key, then the token's own `exp`, then an hour."""
    assert answer({"access_token": "a", "refresh_token": "r"} | body).expires_at == ASKED + lifetime


def test_a_definition_knows_lifetimes_and_units():
    """The documented lifetime stands in for a missing one; `expires_in` may count milliseconds."""
    untold = {"access_token": "a"}
    assert answer(untold, known={"access_lifetime": timedelta(minutes=7)}).expires_at == ASKED + timedelta(
        minutes=7
    )
    milliseconds = answer(
        untold | {"expires_in": 1800000}, known={"expires_in_unit": ExpiryUnit.MILLISECONDS}
    )
    assert milliseconds.expires_at == ASKED + timedelta(minutes=30)


@pytest.mark.parametrize(
    ("body", "days"),
    [
        ({"refresh_token_expires_in": 86400}, 1),
        ({"x_refresh_token_expires_in": "86400"}, 1),
        ({"refresh_expires_in": 86400}, 1),
        ({"refresh_token_expires_at": "2026-11-02T12:00:00Z"}, 1),
    ],
)
def test_a_refresh_token_may_tell_its_own_end(body, days):
    """Under the names that providers use."""
    assert answer(GRANT | body).refresh_expires_at == ASKED + timedelta(days=days)


def test_a_refresh_token_that_tells_no_end_has_no_known_one():
    """Zero is how a session that never ends is told."""
    assert answer(GRANT).refresh_expires_at is None
    assert answer(GRANT | {"refresh_expires_in": 0}).refresh_expires_at is None


# ------------------------------------------------------------------------------------------------ shapes

NESTED = ReplyFields(
    access_token=("data.access_token",),
    refresh_token=("data.refresh_token",),
    token_type=("data.type",),
    scope=("data.scopes",),
    expires_in=("data.expires_in",),
    refresh_expires_in=("data.refresh_expires_in",),
)
CAMEL = ReplyFields(
    access_token=("token",), refresh_token=("refreshToken",), expires_in=(), expires_at=("expiresAt",)
)
OF_TWO = ReplyFields(
    access_token=("access_token", "authed_user.access_token"),
    refresh_token=("refresh_token", "authed_user.refresh_token"),
    token_type=("token_type", "authed_user.token_type"),
    expires_in=("expires_in", "authed_user.expires_in"),
)
USER = {"access_token": "new-access", "refresh_token": "new-refresh", "token_type": "user", "expires_in": 60}


def test_a_nested_grant_is_read_whole():
    """As TikTok and Shopline wrap it."""
    data = {
        "access_token": "new-access",
        "refresh_token": "new-refresh",
        "type": "Bearer",
        "expires_in": "60",
    }
    body = {"data": data | {"scopes": ["a", "b"], "refresh_expires_in": 86400}, "message": "success"}
    assert answer(body, known={"reply": NESTED}) == Granted(
        access_token=Secret("new-access"),
        refresh_token=Secret("new-refresh"),
        token_type="Bearer",
        scope="a b",
        expires_at=ASKED + timedelta(minutes=1),
        refresh_expires_at=ASKED + timedelta(days=1),
    )


def test_a_nested_grant_beside_an_error_is_one_too():
    """The error's word against a token that may be the only copy."""
    body = {"data": {"access_token": "a", "refresh_token": "b"}, "error": "invalid_grant"}
    assert isinstance(answer(body, known={"reply": NESTED}), Granted)
    assert isinstance(answer(body), Unparsed)


def test_other_names_and_an_absolute_end():
    """Sentry's reply, with status 201."""
    body = {"token": "new-access", "refreshToken": "new-refresh", "expiresAt": "2026-11-01T13:00:00Z"}
    got = answer(body, 201, known={"reply": CAMEL, "rotation": Rotation.ALWAYS})
    assert isinstance(got, Granted)
    assert (got.access_token, got.refresh_token) == (Secret("new-access"), Secret("new-refresh"))
    assert got.expires_at == ASKED + timedelta(hours=1)


@pytest.mark.parametrize(
    "above",
    [
        {},
        {"access_token": None},
        {"access_token": "", "refresh_token": ""},
        {"access_token": {}, "token_type": 1},
    ],
)
def test_the_first_place_that_holds_a_text_counts(above):
    """An empty place above hides no token below."""
    got = answer(above | {"authed_user": USER}, known={"reply": OF_TWO, "rotation": Rotation.ALWAYS})
    assert isinstance(got, Granted)
    assert (got.access_token, got.refresh_token) == (Secret("new-access"), Secret("new-refresh"))
    assert (got.token_type, got.expires_at) == ("user", ASKED + timedelta(minutes=1))


def test_of_two_places_the_first_wins():
    """In the definition's order, not the reply's."""
    got = answer({"authed_user": USER | {"access_token": "other"}} | GRANT, known={"reply": OF_TWO})
    assert got.access_token == Secret("new-access")
    assert got.token_type == "Bearer"


def test_a_place_may_lie_in_a_list():
    """A number steps into it; one that is too large leads nowhere."""
    shape = ReplyFields(access_token=("tokens.1.value", "tokens.0.value"))
    assert answer(
        {"tokens": [{"value": "a"}, {"value": "b"}]}, known={"reply": shape}
    ).access_token == Secret("b")
    assert answer({"tokens": [{"value": "a"}]}, known={"reply": shape}).access_token == Secret("a")


def test_a_form_encoded_reply_has_a_shape_too():
    """Old Facebook: `expires` in the place of expires_in."""
    got = answer(
        b"access_token=new-access&expires=5184000",
        content_type="application/x-www-form-urlencoded",
        known={"reply": ReplyFields(expires_in=("expires_in", "expires")), "grant": Grant.EXCHANGE},
    )
    assert (got.access_token, got.expires_at) == (Secret("new-access"), ASKED + timedelta(days=60))


@pytest.mark.parametrize(
    ("told", "unit", "lifetime"),
    [
        ({"expires_in": 1_800_000}, ExpiryUnit.MILLISECONDS, timedelta(minutes=30)),
        ({"expires_in": "1800000"}, ExpiryUnit.MILLISECONDS, timedelta(minutes=30)),
        ({"expires_in": 5_184_000_000}, ExpiryUnit.MILLISECONDS, timedelta(days=60)),
        ({"expires_at": 1793538000}, ExpiryUnit.MILLISECONDS, timedelta(hours=1)),
        ({"expires_at": 1793538000000}, ExpiryUnit.SECONDS, timedelta(hours=1)),
        ({"expires_in": None, "expires_at": "1793538000"}, ExpiryUnit.SECONDS, timedelta(hours=1)),
    ],
)
def test_an_end_may_count_milliseconds_or_be_absolute(told, unit, lifetime):
    """The unit is `expires_in`'s; a point in time is known by its size."""
    assert (
        answer({"access_token": "a"} | told, known={"expires_in_unit": unit}).expires_at == ASKED + lifetime
    )


# ------------------------------------------------------------------------------------------------ other grants

CLIENT = frozenset({Grant.CLIENT_CREDENTIALS})  # the operator allows it
UNROTATED = [
    (Grant.EXCHANGE, "refresh_token"),
    (Grant.CLIENT_CREDENTIALS, "refresh_token"),
    (Grant.REFRESH_TOKEN, "client_credentials"),
    (Grant.NONE, "client_credentials"),
]


@pytest.mark.parametrize(("grant", "stored"), UNROTATED)
@pytest.mark.parametrize(
    "more",
    [{}, {"refresh_token": "theirs"}, {"data": {"refreshToken": "theirs"}}, {"refresh_expires_in": 60}],
)
@pytest.mark.parametrize("rotation", Rotation)
def test_what_presents_no_refresh_token_never_looks_for_one(grant, stored, more, rotation):
    """Nothing is spent, so nothing is replaced: neither stored nor missed, nor its end believed."""
    got = answer(
        ACCESS_ONLY | more,
        known={"grant": grant, "grants": CLIENT, "rotation": rotation},
        token=replace(TOKEN, grant=stored, refresh_token=None),
    )
    assert got == Granted(access_token=Secret("new-access"), expires_at=ASKED + timedelta(hours=1))


@pytest.mark.parametrize(("grant", "stored"), UNROTATED)
def test_what_presents_no_refresh_token_is_refused_like_any_other(grant, stored):
    """Meta's code 190 and the standard's invalid_client."""
    signs = (ErrorPattern(field="error.code", values=frozenset({"190"})),)
    known = {"grant": grant, "grants": CLIENT, "rejected": signs}
    token = replace(TOKEN, grant=stored, refresh_token=None)
    assert isinstance(answer({"error": {"code": 190}}, 400, known=known, token=token), Rejected)
    assert isinstance(answer({"error": "invalid_client"}, 401, known=known, token=token), Misconfigured)
    assert answer(b"OK", known=known, token=token).code == "page"


# ------------------------------------------------------------------------------------------------ kept


def test_only_what_the_definition_names_is_kept():
    """At dotted paths, plain values that can be stored, and nothing that looks like a secret."""
    body = GRANT | {
        "api_domain": "https://acme.test",
        "team": {"id": 7, "names": ["one"]},
        "big": 2**63,
        "nan": float("nan"),
        "infinite": float("inf"),
        "odd": "\ud800",
        "long": "x" * 2049,
        "id_token": "secret",
        "refresh_token_expires_in": 8726400,
        "tokenExpiresAt": "2027-01-01",
        "other": 1,
    }
    keep = (
        "api_domain",
        "team.id",
        "team.names.0",
        "team.names.9",
        "team",
        "big",
        "nan",
        "infinite",
        "odd",
        "long",
        "id_token",
        "refresh_token_expires_in",
        "tokenExpiresAt",
        "none",
    )
    assert answer(body, known={"keep": keep}).extra == {
        "api_domain": "https://acme.test",
        "team_id": 7,
        "team_names_0": "one",
        "refresh_token_expires_in": 8726400,
        "tokenExpiresAt": "2027-01-01",
    }


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("status", [200, 400, 401, 403, 500])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("invalid_client", Misconfigured),
        ("unauthorized_client", Misconfigured),
        ("unsupported_grant_type", Misconfigured),
        ("invalid_scope", Misconfigured),
        ("invalid_request", Unavailable),
        ("temporarily_unavailable", Unavailable),
        ("slow_down", Unavailable),
        ("never_heard_of", Unavailable),
    ],
)
def test_the_standard_codes_mean_what_they_say_with_any_status(status, code, kind):
    """RFC 6749 §5.2; what nobody knows condemns nothing."""
    got = answer({"error": code, "error_description": "said so"}, status)
    assert isinstance(got, kind)
    assert (got.code, got.message) == (code, "said so")


@pytest.mark.parametrize(
    ("code", "concern"),
    [
        ("invalid_client", Concern.CLIENT),
        ("unauthorized_client", Concern.PROVIDER),
        ("unsupported_grant_type", Concern.PROVIDER),
        ("invalid_scope", Concern.TOKEN),
    ],
)
def test_a_misconfiguration_says_how_far_it_reaches(code, concern):
    """A scope is one token's, a client that nobody knows is everybody's, and the rest must be seen more than once."""
    assert answer({"error": code}, 400).concerns is concern


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"error": {"code": 190, "message": "expired"}}, "190", "expired"),
        ({"error": {"type": "OAuth", "message": "no"}}, "OAuth", "no"),
        ({"error": 400}, "400", "400"),
        ({"error": "odd"}, "odd", "odd"),
        ({"error": "odd", "message": "told"}, "odd", "told"),
        ({"error": "odd", "error_description": ["in a list"]}, "odd", "in a list"),
        ({"error": "odd", "error_description": 7}, "odd", "odd"),
        ({"error": True}, "http_400", "HTTP 400"),
        ({"error": {}}, "http_400", "HTTP 400"),
        ({"message": "only this"}, "http_400", "only this"),
        ([], "http_400", "HTTP 400"),
        (b"", "http_400", "HTTP 400"),
        (b"no such thing", "http_400", "no such thing"),
        (b'{"error":"inva', "http_400", "HTTP 400"),
    ],
)
def test_an_unknown_refusal_is_unavailable_and_says_what_is_known(body, code, message):
    """A 400 with an empty body above all: nobody's consent is thrown away for it."""
    assert answer(body, 400) == Unavailable(code=code, message=message, cause=Cause.REFUSAL)


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_a_form_encoded_refusal_is_read_too(content_type):
    """Whatever the content type says."""
    got = answer(b"error=invalid_grant&error_description=gone", 400, content_type=content_type)
    assert (type(got), got.message) == (Rejected, "gone")


@pytest.mark.parametrize("error", ["odd", 5, {"message": "no code"}, ["odd"], True])
def test_an_unknown_error_with_http_200_is_unavailable(error):
    """It is no success that nobody can read: it says that it is an error."""
    got = answer({"error": error}, 200)
    assert isinstance(got, Unavailable)
    assert not got.in_doubt


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 599])
@pytest.mark.parametrize("body", [b"", b"<html>", {"error": "server_error"}, {"message": "oops"}])
def test_a_server_error_leaves_doubt(status, body):
    """The request may have been processed all the same."""
    got = answer(body, status)
    assert isinstance(got, Unavailable)
    assert got.in_doubt


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 429])
def test_a_refused_request_leaves_none(status):
    """It was turned away before anything was spent."""
    got = answer(b"", status)
    assert isinstance(got, Unavailable)
    assert not got.in_doubt


SIGNS = {
    "rejected": (
        ErrorPattern(field="status", values=frozenset({"BAD_REFRESH_TOKEN"})),
        ErrorPattern(field="errors.0.resource", pattern=re.compile("^RefreshToken$")),
        ErrorPattern(field="error", values=frozenset({"400"}), status=frozenset({400})),
        ErrorPattern(field="ok", values=frozenset({"false"})),
    ),
    "misconfigured": (ErrorPattern(field="error", values=frozenset({"incorrect_client_credentials"})),),
    "unavailable": (ErrorPattern(field="error_description", pattern=re.compile(r"AADSTS50196\b")),),
}


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"status": "BAD_REFRESH_TOKEN"}, 400, Rejected),
        ({"status": "BAD_REFRESH_TOKEN"}, 200, Rejected),
        ({"errors": [{"resource": "RefreshToken"}]}, 400, Rejected),
        ({"errors": [{"resource": "RefreshTokens"}]}, 400, Unavailable),
        ({"errors": []}, 400, Unavailable),
        ({"error": 400}, 400, Rejected),
        ({"error": 400}, 200, Unavailable),
        ({"ok": False, "error": "anything"}, 200, Rejected),
        ({"ok": False, "access_token": "a", "error": "anything"}, 200, Rejected),
        ({"error": "incorrect_client_credentials"}, 200, Misconfigured),
        ({"error": "invalid_grant", "error_description": "AADSTS50196: loop"}, 400, Unavailable),
        ({"error": "invalid_grant", "error_description": "AADSTS501961: dead"}, 400, Rejected),
        ({"error": "invalid_client", "status": "BAD_REFRESH_TOKEN"}, 400, Rejected),
    ],
)
def test_the_definitions_own_signs_are_read_first(body, status, kind):
    """They know what the standard's codes don't."""
    assert isinstance(answer(body, status, known=SIGNS), kind)


def test_a_refused_client_by_a_sign_keeps_its_name():
    """A known code is no secret, however long it is, and concerns the whole provider."""
    got = answer({"error": "incorrect_client_credentials"}, known=SIGNS)
    assert (got.code, got.message) == ("incorrect_client_credentials",) * 2
    assert got.concerns is Concern.CLIENT


def test_a_server_error_by_a_sign_leaves_doubt_as_well():
    """What the definition calls an outage was still sent."""
    got = answer({"error_description": "AADSTS50196"}, 503, known=SIGNS, retry_after="7")
    assert (got.in_doubt, got.retry_after) == (True, timedelta(seconds=7))


STRAVA = {
    "rejected": (ErrorPattern(field="errors.0.resource", values=frozenset({"RefreshToken"})),),
    "misconfigured": (ErrorPattern(field="errors.0.resource", values=frozenset({"Application"})),),
}
SLACK = {
    "rejected": (ErrorPattern(field="error", values=frozenset({"invalid_refresh_token"})),),
    "unavailable": (
        ErrorPattern(field="error", values=frozenset({"internal_error", "fatal_error"}), doubt=True),
    ),
}
ZOHO = {
    "rejected": (ErrorPattern(field="error", values=frozenset({"invalid_code"})),),
    "unavailable": (
        ErrorPattern(field="error", values=frozenset({"Access Denied"}), wait=timedelta(minutes=10)),
    ),
}
REDDIT = {"rejected": (ErrorPattern(field="error", values=frozenset({"400"}), status=frozenset({400})),)}
COROS = {"unavailable": (ErrorPattern(field="result", pattern=re.compile("^(?!0000$)")),)}


@pytest.mark.parametrize(
    ("known", "body", "status", "kind"),
    [
        (
            STRAVA,
            {"message": "Bad Request", "errors": [{"resource": "RefreshToken", "code": "invalid"}]},
            400,
            Rejected,
        ),
        (STRAVA, {"message": "Bad Request", "errors": [{"resource": "Application"}]}, 400, Misconfigured),
        (STRAVA, {"message": "Bad Request", "errors": [{"resource": "Athlete"}]}, 400, Unavailable),
        (STRAVA, {"errors": [{"a": 1}, {"resource": "RefreshToken"}]}, 400, Unavailable),
        (STRAVA, {"errors": {"0": {"resource": "RefreshToken"}}}, 400, Rejected),
        (SLACK, {"ok": False, "error": "invalid_refresh_token"}, 200, Rejected),
        (SLACK, {"ok": False, "error": "ratelimited"}, 200, Unavailable),
        (ZOHO, {"error": "invalid_code"}, 200, Rejected),
        (ZOHO, {"error": "invalid_code"}, 400, Rejected),
        (REDDIT, {"message": "Bad Request", "error": 400}, 400, Rejected),
        (REDDIT, {"message": "Bad Request", "error": "400"}, 400, Rejected),
        (REDDIT, {"message": "Too many", "error": 429}, 429, Unavailable),
        (REDDIT, {"error": 400.0}, 400, Unavailable),
        (COROS, {"result": "5001", "message": "busy"}, 200, Unavailable),
        (COROS, {"result": "0000", "access_token": "a"}, 200, Granted),
    ],
)
def test_refusals_as_providers_spell_them(known, body, status, kind):
    """Numbers, lists, codes that only one provider has, and success that is none."""
    assert isinstance(answer(body, status, known=known), kind)


@pytest.mark.parametrize(
    ("error", "doubt"), [("internal_error", True), ("fatal_error", True), ("ratelimited", False)]
)
def test_a_success_that_says_it_may_have_happened_leaves_doubt(error, doubt):
    """Slack's HTTP 200: the refresh token may be spent."""
    got = answer({"ok": False, "error": error}, 200, known=SLACK)
    assert (got.code, got.in_doubt, got.retry_after) == (error, doubt, None)


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    ("header", "wait"),
    [
        (None, timedelta(minutes=10)),
        ("5", timedelta(minutes=10)),
        ("1200", timedelta(minutes=20)),
        ("x", timedelta(minutes=10)),
    ],
)
def test_a_throttle_waits_as_long_as_the_definition_says(status, header, wait):
    """Zoho's, with either status: whoever asks again is locked out for longer. The provider may ask for more."""
    body = {"error": "Access Denied", "error_description": "You have made too many requests continuously."}
    got = answer(body, status, known=ZOHO, retry_after=header)
    assert isinstance(got, Unavailable)
    assert (got.code, got.in_doubt, got.retry_after) == ("Access Denied", False, wait)


@pytest.mark.parametrize(
    ("known", "body", "status", "throttled"),
    [
        ({}, b"", 429, True),
        ({}, {"error": "slow_down"}, 429, True),
        ({}, b"", 503, False),
        ({}, {"error": "server_error"}, 500, False),
        (ZOHO, {"error": "Access Denied"}, 400, True),
        (SIGNS, {"error_description": "AADSTS50196"}, 400, False),
    ],
)
def test_a_throttle_is_told_from_an_outage(known, body, status, throttled):
    """By the status that says so, or by a definition's sign that says how long not to ask."""
    got = answer(body, status, known=known)
    assert isinstance(got, Unavailable)
    assert got.throttled == throttled


def test_a_sign_with_a_status_counts_with_that_status_alone():
    """The same words mean something else elsewhere."""
    sign = ErrorPattern(field="error", values=frozenset({"odd"}), status=frozenset({400, 401}))
    known = {"rejected": (sign,)}
    kinds = {status: type(answer({"error": "odd"}, status, known=known)) for status in (200, 400, 401, 403)}
    assert kinds == {200: Unavailable, 400: Rejected, 401: Rejected, 403: Unavailable}


def test_any_of_several_signs_will_do_and_the_mildest_is_read_first():
    """An outage that also looks dead is an outage; a wrong client condemns no token."""
    odd = (ErrorPattern(field="error", values=frozenset({"odd"})),)
    other = (ErrorPattern(field="error", values=frozenset({"never"})), *odd)
    assert isinstance(answer({"error": "odd"}, known={"rejected": other}), Rejected)
    assert isinstance(answer({"error": "odd"}, known={"rejected": odd, "misconfigured": odd}), Misconfigured)
    three = {"rejected": odd, "misconfigured": odd, "unavailable": odd}
    assert isinstance(answer({"error": "odd"}, known=three), Unavailable)


# ------------------------------------------------------------------------------------------------ waits


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("120", timedelta(minutes=2)),
        (" 120 ", timedelta(minutes=2)),
        ("0", timedelta(seconds=1)),
        ("86400", timedelta(days=1)),
        ("86401", timedelta(days=1)),
        ("9" * 5000, timedelta(days=1)),
        ("Sun, 01 Nov 2026 12:05:00 GMT", timedelta(minutes=5)),
        ("Sunday, 01-Nov-26 12:05:00 GMT", timedelta(minutes=5)),
        ("Sun Nov  1 12:05:00 2026", timedelta(minutes=5)),
        ("Sun, 01 Nov 2026 13:05:00 +0100", timedelta(minutes=5)),
        ("Sun, 01 Nov 2026 11:00:00 GMT", timedelta(seconds=1)),
        ("Fri, 01 Nov 2126 12:00:00 GMT", timedelta(days=1)),
        (None, None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("Sun, 99 Nov 2026 12:05:00 GMT", None),
        ("Sun, 01 Nov 2026 12:05:00 +9999", None),
        ("Sun, 01 Nov 99999999999 12:05:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_within_reason(header, wait):
    """One second to one day; what can't be read is as if it weren't there."""
    assert retry_after(header, now=ASKED) == wait
    assert answer(b"", 429, retry_after=header).retry_after == wait


@given(st.integers(1, 86_400))
def test_a_date_and_the_seconds_until_it_mean_the_same(seconds):
    """RFC 9110 §10.2.3."""
    date = format_datetime(ASKED + timedelta(seconds=seconds), usegmt=True)
    assert retry_after(date, now=ASKED) == retry_after(str(seconds), now=ASKED)


# ------------------------------------------------------------------------------------------------ no answer


@pytest.mark.parametrize(
    "body",
    [b"", b'{"access_token":"new', b'{"access_token":"a","refresh_token":"b', b"<ht", b'{"refresh_token":'],
)
def test_a_success_that_was_cut_short_leaves_doubt(body):
    """Half a grant is none; the same value is presented once more."""
    assert answer(body, whole=False) == Unavailable(
        code="cut_short", message="the reply ended before its end", in_doubt=True
    )


@pytest.mark.parametrize("whole", [True, False])
def test_a_refusal_that_was_cut_short_is_one_all_the_same(whole):
    """Its status is known."""
    got = answer(b'{"error":"invalid_grant","error_description":"inva', 400, whole=whole)
    assert got == Unavailable(code="http_400", message="HTTP 400", cause=Cause.REFUSAL)


@pytest.mark.parametrize(
    ("sent", "concerns", "means"),
    [
        (True, None, Unavailable(code="timeout", message="none", in_doubt=True)),
        (False, None, Unavailable(code="timeout", message="none", in_doubt=False)),
        (False, Concern.PROVIDER, Misconfigured(code="timeout", message="none", concerns=Concern.PROVIDER)),
    ],
)
def test_no_reply_is_in_doubt_only_where_something_was_sent(sent, concerns, means):
    """And a certificate that isn't trusted is the operator's affair."""
    nothing = NoReply(code="timeout", message="none", sent=sent, concerns=concerns, asked_at=ASKED)
    assert read(Provider(definition=PLAIN, client_id="me"), TOKEN, nothing) == means


# ------------------------------------------------------------------------------------------------ secrets


@pytest.mark.parametrize(
    "secret", ["short-refresh", "short-access", "short-secret", "x" * 20, "eyJ0eXAiOi.eyJzdWI.c2ln"]
)
@pytest.mark.parametrize("place", ["error", "error_description", "message"])
@pytest.mark.parametrize("status", [200, 400, 500])
def test_an_echoed_secret_is_masked(secret, place, status):
    """Known ones of any length, and any run of twenty token characters."""
    got = answer({"error": "odd"} | {place: f"bad token {secret}!"}, status)
    assert secret not in got.code + got.message
    assert MASK in got.code + got.message


def test_a_message_is_short_printable_and_encodable():
    """It is stored and logged."""
    got = answer({"error": "a\ud800b\n", "error_description": "no \x1b[31m " * 100}, 400)
    assert got.code == "a b"
    assert len(got.message) == 300
    assert got.message.isprintable()


def test_a_printed_reply_or_answer_shows_no_token():
    """Neither the bytes nor the tokens."""
    shown = repr((reply(GRANT), answer(GRANT), answer(ACCESS_ONLY, known={"rotation": Rotation.ALWAYS})))
    assert "new-access" not in shown
    assert "new-refresh" not in shown


# ------------------------------------------------------------------------------------------------ anything

NAMES = st.sampled_from(
    [
        "access_token",
        "refresh_token",
        "expires_in",
        "expires_at",
        "scope",
        "error",
        "error_description",
        "message",
        "status",
        "errors",
        "ok",
        "code",
        "type",
        "refreshToken",
        "refresh_expires_in",
        "token_type",
        "resource",
    ]
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.just(10**400),
        st.floats(),
        st.text(st.characters(exclude_categories=())),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)
BODIES = st.one_of(
    st.binary(),
    st.dictionaries(NAMES, VALUES).map(lambda body: json.dumps(body).encode()),
    st.dictionaries(NAMES, st.text()).map(lambda body: urlencode(body).encode()),
    st.builds(
        lambda body, end: json.dumps(body).encode()[:end], st.dictionaries(NAMES, VALUES), st.integers(0, 99)
    ),
)


PATHS = st.lists(
    st.one_of(NAMES, st.sampled_from(["0", "1", "99", "", "٣", "²", "-1"])), min_size=1, max_size=3
).map(".".join)
SIGN = st.builds(
    ErrorPattern,
    field=PATHS,
    values=st.frozensets(st.one_of(st.text(), st.sampled_from(["400", "false", "[]", "odd"])), max_size=3),
    pattern=st.none() | st.sampled_from([re.compile(p) for p in ("", "^x", r"\d+", "(?s).*", r"\Z")]),
    status=st.frozensets(st.integers(100, 599), max_size=2),
    wait=st.none() | st.timedeltas(timedelta(seconds=1), timedelta(days=36_500)),
    doubt=st.booleans(),
)
PLACES = st.lists(PATHS, max_size=3).map(tuple)
DEFINITION = st.fixed_dictionaries(
    {
        "rotation": st.sampled_from(Rotation),
        "grant": st.sampled_from(Grant),
        "expires_in_unit": st.sampled_from(ExpiryUnit),
        "keep": PLACES,
    },
    optional={
        **dict.fromkeys(("rejected", "misconfigured", "unavailable"), st.lists(SIGN, max_size=2).map(tuple)),
        "reply": st.builds(ReplyFields, **dict.fromkeys(ReplyFields.__slots__, PLACES)),
        "access_lifetime": st.timedeltas(timedelta(seconds=1), timedelta(days=36_500)),
    },
)
USUAL = SIGNS | {"keep": ("status", "errors.0", "code")}


@settings(suppress_health_check=[HealthCheck.too_slow])  # a whole definition is drawn each time
@given(
    body=BODIES,
    status=st.integers(0, 999),
    content_type=st.one_of(
        st.text(), st.sampled_from(["application/json", "application/x-www-form-urlencoded"])
    ),
    header=st.one_of(st.none(), st.text(), st.sampled_from(["5", "Sun, 01 Nov 2026 12:05:00 GMT"])),
    whole=st.booleans(),
    known=st.one_of(st.just(USUAL), DEFINITION),
    stored=st.sampled_from(["refresh_token", "client_credentials", "odd"]),
)
@example(b"[" * 100_000, 200, "", None, True, USUAL, "refresh_token")
@example(b'{"error":' * 5000, 400, "", "Sun, 01 Nov", True, USUAL, "refresh_token")
@example(b"&" * 1000, 200, "application/x-www-form-urlencoded", "(", True, USUAL, "refresh_token")
def test_any_reply_has_an_answer(body, status, content_type, header, whole, known, stored):
    """Any bytes, any status, any headers, any definition: never an exception, and whatever is told can be stored."""
    got = answer(
        body,
        status,
        known=known,
        token=replace(TOKEN, grant=stored),
        content_type=content_type,
        retry_after=header,
        whole=whole,
    )
    assert isinstance(got, Answer)
    if isinstance(got, Unparsed) and got.granted is not None:
        got = got.granted
    if isinstance(got, Granted):
        assert got.access_token.reveal().encode()
        assert got.refresh_token is None or got.refresh_token.reveal().encode()
        assert got.expires_at.tzinfo is not None
    else:
        (got.code + got.message).encode()
        assert got.code
        assert got.message
        assert len(got.message) <= 300


def test_a_body_nested_almost_too_deep_has_an_answer():
    """What the parser still reads, the signs must not choke on: at some depth, only just."""
    for depth in range(700, 1001):
        deep = b'{"ok":' + b"[" * depth + b"]" * depth + b"}"
        assert isinstance(answer(deep, 400, known=SIGNS), Unavailable)
