"""The signs of a definition: two conditions, a status alone, whom a refusal concerns, and what a grant must say."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.answer import Cause, Concern, Granted, Misconfigured, Rejected, Unavailable, Unparsed
from daemon.domain.provider import Condition, ErrorPattern, Reach, ReplyFields
from tests.domain.replies import GRANT, answer

BOTH = ErrorPattern(
    field="error",
    values=frozenset({"server_error"}),
    also=Condition(field="error_description", pattern=re.compile(r"access_denied")),
)
STATUS = ErrorPattern(status=frozenset({400}))
CODE = Condition(field="code", values=frozenset({"0"}))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": "server_error", "error_description": "access_denied"}, Rejected),
        ({"error": "server_error", "error_description": "out of memory"}, Unavailable),
        ({"error": "server_error"}, Unavailable),
        ({"error": "other", "error_description": "access_denied"}, Unavailable),
    ],
)
def test_both_conditions_of_a_sign_must_hold(body, kind):
    """ServiceNow words several errors by the same code; only the pair names a dead grant."""
    assert isinstance(answer(body, 401, known={"rejected": (BOTH,)}), kind)


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"message": "no such grant"}, 400, Rejected),
        ({"message": "no such grant"}, 401, Unavailable),
        ({"error": "invalid_client"}, 400, Misconfigured),
        ({"error": "temporarily_unavailable"}, 400, Unavailable),
        ({"message": "rate limit exceeded"}, 400, Unavailable),
        (b"<html><title>Bad Request</title></html>", 400, Unavailable),
        (b"", 400, Unavailable),
        (GRANT, 400, Granted),
    ],
)
def test_a_status_alone_is_a_sign_unless_the_reply_says_something_else(body, status, kind):
    """Outreach and Salesloft answer a dead grant with some 400. Tokens, pages and other names weigh more than that."""
    assert isinstance(answer(body, status, known={"rejected": (STATUS,)}), kind)


def test_a_status_alone_can_be_a_temporary_error_too():
    """It then means what the definition says of it."""
    sign = ErrorPattern(status=frozenset({460}), doubt=True)
    got = answer({}, 460, known={"unavailable": (sign,)})
    assert isinstance(got, Unavailable)
    assert got.in_doubt


@pytest.mark.parametrize(
    ("reach", "concern"),
    [
        (None, Concern.CLIENT),
        (Reach.TOKEN, Concern.TOKEN),
        (Reach.TENANT, Concern.TOKEN),
        (Reach.PROVIDER, Concern.PROVIDER),
    ],
)
def test_a_sign_says_whom_a_refused_client_concerns(reach, concern):
    """One server's invalid_client must not stop the tokens of all the others (MCP)."""
    sign = ErrorPattern(field="error", values=frozenset({"invalid_client"}), reach=reach)
    got = answer({"error": "invalid_client"}, 401, known={"misconfigured": (sign,)})
    assert isinstance(got, Misconfigured)
    assert got.concerns is concern


# ---------------------------------------------------------------- success


@pytest.mark.parametrize("code", [0, "0"])
def test_a_reply_with_the_value_of_success_is_a_grant(code):
    """As a number or as a text."""
    assert isinstance(answer(GRANT | {"code": code}, known={"success": CODE}), Granted)


def test_a_reply_without_the_field_of_success_is_read_as_any_other():
    """WeChat's grants have no errcode. A reply that contradicts nothing may hold the only copy of a token."""
    assert isinstance(answer(GRANT, known={"success": CODE}), Granted)


@pytest.mark.parametrize("code", [36009003, "1", -1, True, [0], {"a": 0}])
def test_another_value_is_an_error_whatever_else_the_reply_holds(code):
    """TikTok Shop: every error has HTTP 200. Its code and words reach the operator."""
    shape = ReplyFields(access_token=("data.access_token",), refresh_token=("data.refresh_token",))
    body = {"code": code, "message": "no", "data": {"access_token": ""}}
    got = answer(body, known={"success": CODE, "reply": shape})
    assert isinstance(got, Unavailable)
    assert got.code == (code if isinstance(code, str) else json.dumps(code))
    assert got.message.startswith("no")


def test_an_error_with_a_token_of_the_old_kind_beside_it_is_no_grant():
    """The access token of an error is not stored."""
    body = {"code": 7, "access_token": "new-access"}
    assert isinstance(answer(body, known={"success": CODE}), Unavailable)


def test_an_error_with_another_refresh_token_is_kept_for_operators():
    """The promise comes first: what may be the only copy is never discarded."""
    got = answer(GRANT | {"code": 7}, known={"success": CODE})
    assert isinstance(got, Unparsed)
    assert got.granted is None


def test_a_sign_tells_what_the_other_value_means():
    """Signs are tested as always; a dead grant is one only by them."""
    dead = ErrorPattern(field="code", values=frozenset({"36004004"}))
    got = answer({"code": 36004004, "message": "gone"}, known={"success": CODE, "rejected": (dead,)})
    assert isinstance(got, Rejected)
    assert (got.code, got.message) == (
        "36004004",
        "gone (HTTP 200 without a token; its fields: code, message)",
    )


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ({"errcode": -1, "errmsg": "system error"}, Cause.REFUSAL),
        ({"code": 36009003, "message": "Too many requests"}, Cause.OUTAGE),
        ({"status": 601, "error": "Too Many Requests", "body": {}}, Cause.OUTAGE),
        (
            {"code": 1, "message": "token expired", "data": None, "request_id": "20220307074900010189081"},
            Cause.REFUSAL,
        ),
    ],
)
@pytest.mark.parametrize("known", [{}, {"success": CODE}])
def test_an_error_with_status_200_withholds_nothing_if_it_holds_no_token(body, cause, known):
    """It may be a mere throttle, so the token is tried again (WeChat, TikTok, Withings)."""
    got = answer(body, known=known)
    assert isinstance(got, Unavailable)
    assert (got.in_doubt, got.cause) == (False, cause)


# ---------------------------------------------------------------- where an error's code and words stand


@pytest.mark.parametrize(
    ("body", "shape", "code", "message"),
    [
        ({"detail": "Invalid token"}, {"error_message": ("detail",)}, "http_401", "Invalid token"),
        ({"code": "invalid_grant", "message": "m"}, {"error_code": ("code",)}, "invalid_grant", "m"),
        ({"errcode": 40030, "errmsg": "m"}, {"error_code": ("errcode",)}, "40030", "m"),
        (
            {"errors": [{"category": "AUTHENTICATION_ERROR", "code": "UNAUTHORIZED", "detail": "d"}]},
            {"error_code": ("errors.0.code",), "error_message": ("errors.0.detail",)},
            "UNAUTHORIZED",
            "d",
        ),
        ({"note": ["", "first", "second"]}, {"error_message": ("note",)}, "http_401", "first"),
    ],
)
def test_an_errors_code_and_words_are_read_at_the_paths_of_the_definition(body, shape, code, message):
    """Sentry, Canva, WeChat and Square; a list's first text counts. Logs and `refreshd show` name them."""
    got = answer(body, 401, known={"reply": ReplyFields(**shape)})
    assert (got.code, got.message) == (code, message)


def test_a_name_at_the_definitions_path_has_the_standards_meaning():
    """Canva's `code` is read as RFC 6749's `error`, so it needs no sign."""
    known = {"reply": ReplyFields(error_code=("code",))}
    assert isinstance(answer({"code": "invalid_grant"}, 400, known=known), Rejected)


# ---------------------------------------------------------------- any reply

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["0", "7", "gone"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["code", "why", "a"]), inner, max_size=3)
    ),
    max_leaves=8,
)
ALL = {
    "success": CODE,
    "rejected": (BOTH, STATUS, ErrorPattern(field="why", pattern=re.compile("gone"))),
    "misconfigured": (ErrorPattern(field="code.a", values=frozenset({"7"}), reach=Reach.TOKEN),),
    "unavailable": (ErrorPattern(status=frozenset({460, 503})),),
}


@given(
    body=st.dictionaries(st.sampled_from(["code", "why", "a"]), VALUES, max_size=3),
    status=st.sampled_from([200, 400, 401, 410, 460, 503]),
)
def test_no_reply_that_brings_another_refresh_token_is_thrown_away(body, status):
    """Whatever the definition makes of the rest: it is stored, or kept for operators."""
    assert isinstance(answer(GRANT | body, status, known=ALL), Granted | Unparsed)
    assert isinstance(answer(body, status, known=ALL), Rejected | Misconfigured | Unavailable | Unparsed)
