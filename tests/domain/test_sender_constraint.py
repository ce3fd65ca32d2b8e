"""Tokens that are bound to a key are known by their type, or by the key that a JWT names."""

import json
from base64 import urlsafe_b64encode

import pytest

from daemon.domain.answer import Granted, Unparsed
from daemon.domain.secret import Secret
from daemon.domain.sender_constraint import is_sender_constrained, names_a_key
from tests.domain.replies import GRANT, answer


def jwt(claims):
    return "e30." + urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=") + ".c2ln"


@pytest.mark.parametrize("kind", ["DPoP", "dpop", " DPOP ", "PoP", "mac", "MAC"])
def test_a_reply_with_tokens_that_are_bound_to_a_key_is_withheld(kind):
    """What came is kept whole, since it may be the only copy, and is not presented without a proof."""
    assert is_sender_constrained(kind)
    got = answer(GRANT | {"token_type": kind})
    assert isinstance(got, Unparsed)
    assert got.code == "sender_constrained"
    assert (got.granted.access_token, got.granted.refresh_token) == (
        Secret("new-access"),
        Secret("new-refresh"),
    )


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "user", "bot", "N_A", "", None, "macaroon"])
def test_any_other_type_is_a_bearers(kind):
    """Providers have words of their own."""
    assert not is_sender_constrained(kind)
    assert isinstance(answer(GRANT | {"token_type": kind}), Granted)


@pytest.mark.parametrize("key", [{"jkt": "x"}, {"x5t#S256": "x"}, {"jwk": {"kty": "EC"}}])
def test_a_jwt_may_name_its_key(key):
    """RFC 7800."""
    assert names_a_key(jwt({"sub": "me", "cnf": key}))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b",
        "a.b.c",
        "a.e30.c",
        jwt({"cnf": {}}),
        jwt({"cnf": "x"}),
        jwt([]),
        jwt({"sub": "me"}),
        "é.é.é",
    ],
)
def test_what_names_none_is_a_bearers(token):
    """Also what only looks like a JWT."""
    assert not names_a_key(token)
