"""JWTs, read: everything unusual is refused before a signature is looked at."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.domain.jwt import LONGEST, Fault, NotAccepted, check_times, from_base64url, parse_jwt
from tests.support.jwts import SigningKey, claims, encoded

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
KEY = SigningKey("a", "EdDSA")


def fault(text: str) -> Fault:
    with pytest.raises(NotAccepted) as caught:
        parse_jwt(text)
    return caught.value.fault


def of(**changed: object) -> str:
    return KEY.jwt(claims(NOON, **changed))


def test_the_usual_jwt_is_read():
    jwt = parse_jwt(of(aud=["other", "https://tokens.example"]))
    assert (jwt.algorithm, jwt.key_id, jwt.issuer, jwt.id) == ("EdDSA", "a", "https://issuer.example", "1")
    assert jwt.audiences == {"other", "https://tokens.example"}
    assert jwt.subject == "repo:acme/app:ref:refs/heads/main"
    assert jwt.signature == KEY.sign(jwt.signed)


def test_what_may_be_missing():
    jwt = parse_jwt(KEY.jwt(claims(NOON, sub=None, jti=None, iat=None, nbf=None), header={"typ": "at+JWT"}))
    assert (jwt.subject, jwt.id, jwt.issued_at, jwt.not_before) == (None, None, None, None)
    no_header = parse_jwt(KEY.jwt(claims(NOON), header=b'{"alg":"Ed25519"}'))
    assert (no_header.algorithm, no_header.key_id) == ("EdDSA", None)


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": None},
        {"iss": ""},
        {"iss": 7},
        {"iss": "x" * 513},
        {"iss": "a\x00b"},
        {"iss": "a\ud800"},
        {"aud": None},
        {"aud": []},
        {"aud": [""]},
        {"aud": ["a", 7]},
        {"aud": {"a": 1}},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": -1},
        {"exp": 1e300},
        {"iat": "now"},
        {"nbf": [1]},
        {"sub": ""},
        {"sub": {}},
        {"sub": "x" * 513},
        {"sub": "a\nb"},
        {"jti": "x" * 257},
        {"jti": 7},
    ],
)
def test_a_claim_of_the_wrong_kind_is_refused(changed: dict[str, object]):
    given = {**claims(NOON), **changed}
    assert fault(KEY.jwt({name: value for name, value in given.items() if value is not None})) == "malformed"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"iss":"a","iss":"https://issuer.example","aud":"a","exp":1}',
        b'{"iss":"a","aud":"a","exp":1,"x":{"y":1,"y":2}}',
        b'{"iss":"a","aud":"a","exp":NaN}',
        b'{"iss":"a","aud":"a","exp":Infinity}',
        b'{"iss":"a","aud":"a","exp":1e999}',
        b'{"iss":"a","aud":"a","exp":1' + b"0" * 5000 + b"}",
        b'[{"iss":"a"}]',
        b'"text"',
        b"",
        b"\xff\xfe",
        b'{"iss":"a","aud":"a","exp":1} ,',
        b"[" * 5000,
        b'{"a":' * 2000,
    ],
)
def test_claims_that_two_readers_may_read_differently_are_refused(raw: bytes):
    assert fault(KEY.jwt(raw)) == "malformed"


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"alg": "none"}, "algorithm"),
        ({"alg": "None"}, "algorithm"),
        ({"alg": "HS256"}, "algorithm"),
        ({"alg": "hs512"}, "algorithm"),
        ({"alg": "ES256K"}, "algorithm"),
        ({"alg": None}, "algorithm"),
        ({"alg": ["EdDSA"]}, "algorithm"),
        ({"alg": "RSA-OAEP"}, "algorithm"),
        ({"jwk": {}}, "header"),
        ({"jku": "https://forger.example/jwks"}, "header"),
        ({"x5u": "https://forger.example/x"}, "header"),
        ({"x5c": ["MIIB"]}, "header"),
        ({"crit": ["exp"]}, "header"),
        ({"b64": False}, "header"),
        ({"zip": "DEF"}, "header"),
        ({"enc": "A256GCM"}, "header"),
        ({"cty": "JWT"}, "header"),
        ({"typ": "dpop+jwt"}, "header"),
        ({"typ": "logout+jwt"}, "header"),
        ({"typ": 1}, "malformed"),
        ({"kid": 1}, "malformed"),
        ({"kid": ""}, "malformed"),
        ({"kid": "x" * 257}, "malformed"),
    ],
)
def test_a_header_that_would_decide_how_it_is_checked_is_refused(header: dict[str, object], why: str):
    assert fault(KEY.jwt(claims(NOON), header=header)) == why


def test_a_header_that_gives_a_name_twice_is_refused():
    assert fault(KEY.jwt(claims(NOON), header=b'{"alg":"none","alg":"EdDSA","kid":"a"}')) == "malformed"


@pytest.mark.parametrize("text", ["", ".", "..", "a.b", "a.b.c.d", "a.b.c.d.e", "rfk_x", " . . ", "é.é.é"])
def test_what_has_no_three_parts_is_refused(text: str):
    assert fault(text) == "malformed"


def test_no_signature_is_refused():
    assert fault(of().rpartition(".")[0] + ".") == "malformed"


def test_over_16_kb_is_refused_before_it_is_read():
    assert fault("x" * (LONGEST + 1)) == "too_large"
    assert fault(of(note="x" * LONGEST)) == "too_large"
    assert parse_jwt(of(note="x" * 11_000)).issuer


@pytest.mark.parametrize("text", ["AA==", "AB", "A", "A+/A", "AA\n", "A A", ""])
def test_base64url_has_one_spelling(text: str):
    with pytest.raises(NotAccepted):
        from_base64url(text)
    assert from_base64url("AA") == b"\x00"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"exp": -60}, "expired"),
        ({"exp": -3600, "iat": -7200, "nbf": -7200}, "expired"),
        ({"exp": -59}, None),
        ({"nbf": 61}, "early"),
        ({"iat": 61}, "early"),
        ({"nbf": 60, "iat": 60}, None),
        ({"exp": 3600}, None),
        ({"exp": 3601}, "too_long"),
        ({"exp": 1800, "iat": -1801}, "too_long"),
        ({"exp": 3600, "nbf": -300}, None),  # an issuer that allows for slow clocks
        ({"exp": 3601, "iat": None, "nbf": None}, "too_long"),
        ({"exp": 3600, "iat": None, "nbf": None}, None),
        ({"exp": 3600, "iat": None, "nbf": -1}, "too_long"),
    ],
)
def test_times(changed: dict[str, int | None], why: str | None):
    at = {
        name: None if offset is None else int((NOON + timedelta(seconds=offset)).timestamp())
        for name, offset in changed.items()
    }
    jwt = parse_jwt(of(**at))
    if why is None:
        check_times(jwt, NOON)
        return
    with pytest.raises(NotAccepted) as caught:
        check_times(jwt, NOON)
    assert caught.value.fault == why


def test_a_fault_shows_nothing_of_the_jwt():
    with pytest.raises(NotAccepted) as caught:
        parse_jwt(encoded(b'{"secret":1}') + ".x.y")
    assert str(caught.value) == "malformed"
