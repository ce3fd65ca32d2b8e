"""What `refreshd add` reads: a provider's first token response, from whatever an application kept it in."""

import json
from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.consent import Consent, ConsentInvalid, read_consent
from daemon.domain.provider import Definition, ExpiryUnit, Grant, Shape
from daemon.domain.secret import Secret

RECEIVED = datetime(2026, 11, 1, 12, tzinfo=UTC)
NOW = RECEIVED + timedelta(minutes=10)
AT = RECEIVED + timedelta(hours=2)
EPOCH = int(AT.timestamp())
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PLAIN = Definition(name="acme", title="Acme", token_url="https://login.acme.test/token")
PAIR = {"access_token": "an-access", "refresh_token": "a-refresh"}


def read(body, *, received_at=RECEIVED, **known):
    return read_consent(replace(PLAIN, **known), body, received_at=received_at, now=NOW)


def refused(body, **known):
    with pytest.raises(ConsentInvalid) as caught:
        read(body, **known)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert ":" in sentence  # what is wrong: what to do
    return sentence


def jwt(claims):
    return "e30." + urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=") + ".c2ln"


def test_a_token_response_is_read_whole():
    """As RFC 6749 §5.1 has it; `expires_in` counts from when it came, not from now."""
    body = PAIR | {
        "token_type": "Bearer",
        "scope": "a b",
        "expires_in": 3600,
        "refresh_token_expires_in": 86400,
    }
    assert read(body | {"api_domain": "x"}, keep=("api_domain",)) == Consent(
        access_token=Secret("an-access"),
        refresh_token=Secret("a-refresh"),
        token_type="Bearer",
        scope="a b",
        issued_at=RECEIVED,
        expires_at=RECEIVED + HOUR,
        refresh_expires_at=RECEIVED + DAY,
        extra={"api_domain": "x"},
    )


def test_names_in_camel_case_mean_the_same():
    """As JavaScript applications keep them."""
    camel = {
        "accessToken": "an-access",
        "refreshToken": "a-refresh",
        "tokenType": "Bearer",
        "expiresIn": 3600,
        "refreshTokenExpiresIn": 86400,
    }
    snake = PAIR | {"token_type": "Bearer", "expires_in": 3600, "refresh_token_expires_in": 86400}
    assert read(camel) == read(snake)


def test_both_spellings_may_stand_side_by_side_where_they_agree():
    """Where they don't, which one is current can't be guessed."""
    assert read(PAIR | {"refreshToken": "a-refresh"}) == read(PAIR)
    assert read(PAIR | {"refreshToken": None}) == read(PAIR)
    assert "'refreshToken' differ" in refused(PAIR | {"refreshToken": "another"})


@pytest.mark.parametrize("name", ["expires_at", "expiresAt"])
@pytest.mark.parametrize(
    "value", [EPOCH, str(EPOCH), EPOCH * 1000, "2026-11-01T14:00:00.000Z", "2026-11-01T15:00:00+01:00"]
)
def test_an_absolute_end_is_a_date_or_counts_seconds_or_milliseconds(name, value):
    """Since 1970."""
    assert read(PAIR | {name: value}).expires_at == AT


def test_an_absolute_end_counts_before_a_relative_one():
    """A response that an application kept still holds the `expires_in` of its birth."""
    assert read(PAIR | {"expires_in": 3600, "expires_at": EPOCH}).expires_at == AT


def test_a_definition_that_counts_milliseconds_counts_them_here_too():
    """The same key meanings as in a reply."""
    assert (
        read(PAIR | {"expires_in": 3_600_000}, expires_in_unit=ExpiryUnit.MILLISECONDS).expires_at
        == RECEIVED + HOUR
    )


@pytest.mark.parametrize("untold", [{}, {"expires_in": 0}, {"expires_in": None}, {"expires_at": "never"}])
def test_an_end_that_is_not_told_is_assumed_where_the_token_can_be_renewed(untold):
    """The documented lifetime, else an hour."""
    assert read(PAIR | untold).expires_at == RECEIVED + HOUR
    assert read(PAIR | untold, access_lifetime=DAY).expires_at == RECEIVED + DAY


@pytest.mark.parametrize("untold", [{}, {"expires_in": 0}, {"expires_in": "0"}, {"expires_at": None}])
def test_an_end_that_is_not_told_is_never_where_nothing_can_be_renewed(untold):
    """It is watched, and stays."""
    consent = read({"access_token": "an-access"} | untold)
    assert consent.expires_at is None
    assert consent.refresh_token is None
    assert consent.refresh_expires_at is None


def test_a_jwt_tells_its_own_end():
    """With a refresh token or without."""
    token = jwt({"exp": EPOCH})
    assert read({"access_token": token}).expires_at == AT
    assert read(PAIR | {"access_token": token}).expires_at == AT
    assert read(PAIR | {"access_token": token, "expires_in": 60}).expires_at == RECEIVED + timedelta(
        minutes=1
    )


@pytest.mark.parametrize(
    "body", [{"refresh_token": "a-refresh"}, {"refreshToken": "a-refresh", "expires_in": 3600}]
)
def test_a_refresh_token_alone_is_enough(body):
    """There is nothing to read until it is renewed, so it counts as expired."""
    consent = read(body)
    assert consent.access_token is None
    assert consent.refresh_token == Secret("a-refresh")
    assert consent.expires_at == NOW


@pytest.mark.parametrize(
    ("told", "known", "end"),
    [
        ({}, {}, None),
        ({}, {"refresh_idle": 60 * DAY}, RECEIVED + 60 * DAY),
        ({}, {"refresh_lifetime": 365 * DAY}, RECEIVED + 365 * DAY),
        ({}, {"refresh_idle": 60 * DAY, "refresh_lifetime": 365 * DAY}, RECEIVED + 60 * DAY),
        ({}, {"refresh_idle": 60 * DAY, "refresh_lifetime": 30 * DAY}, RECEIVED + 30 * DAY),
        ({"refresh_expires_in": 86400}, {"refresh_lifetime": 365 * DAY}, RECEIVED + DAY),
        ({"x_refresh_token_expires_in": "86400"}, {}, RECEIVED + DAY),
        ({"refreshTokenExpiresAt": "2026-11-02T12:00:00Z"}, {}, RECEIVED + DAY),
        ({"refresh_expires_in": 0}, {"refresh_idle": DAY}, RECEIVED + DAY),
    ],
)
def test_the_refresh_tokens_own_end_is_as_told_or_as_documented(told, known, end):
    """Idleness or the consent, whichever ends it first."""
    assert read(PAIR | told, **known).refresh_expires_at == end


@pytest.mark.parametrize("told", [{}, {"refresh_expires_in": 86400}])
def test_the_consents_end_is_kept_beside_the_refresh_tokens(told):
    """Every use moves the one, and nothing the other."""
    consent = read(PAIR | told, refresh_idle=90 * DAY, refresh_lifetime=365 * DAY)
    assert consent.consent_ends_at == RECEIVED + 365 * DAY
    assert read(PAIR | told, refresh_idle=90 * DAY).consent_ends_at is None
    assert read({"access_token": "a"} | told, refresh_lifetime=365 * DAY).consent_ends_at is None


@pytest.mark.parametrize("told", [{}, {"expires_in": 0}, {"expires_at": "never"}])
@pytest.mark.parametrize(
    ("grant", "body", "ends"),
    [
        (Grant.EXCHANGE, {"access_token": "a"}, True),
        (Grant.CLIENT_CREDENTIALS, {"access_token": "a"}, True),
        (Grant.REFRESH_TOKEN, {"access_token": "a"}, False),
        (Grant.NONE, {"access_token": "a"}, False),
        (Grant.NONE, PAIR, False),
        (Grant.REFRESH_TOKEN, PAIR, True),
    ],
)
def test_what_can_be_renewed_is_taken_to_end(told, grant, body, ends):
    """Also where the access token itself or the client alone renews it; else it would die unseen."""
    consent = read(body | told, grant=grant, access_lifetime=60 * DAY)
    assert consent.expires_at == (RECEIVED + 60 * DAY if ends else None)


CAMEL = Shape(
    access_token=("token",),
    refresh_token=("refreshToken",),
    token_type=("tokenType",),
    expires_at=("expiresAt",),
    refresh_expires_in=("refreshTokenExpiresIn",),
)
NESTED = Shape(
    access_token=("data.accessToken",), refresh_token=("data.refreshToken",), expires_in=("data.expiresIn",)
)


def test_a_response_is_read_by_the_definitions_shape():
    """Other names and nested ones, as the provider's replies have them."""
    camel = {"token": "an-access", "refreshToken": "a-refresh", "tokenType": "B", "expiresAt": EPOCH}
    consent = read(camel | {"refreshTokenExpiresIn": 86400}, reply=CAMEL)
    assert (consent.access_token, consent.refresh_token) == (Secret("an-access"), Secret("a-refresh"))
    assert (consent.token_type, consent.expires_at) == ("B", AT)
    assert consent.refresh_expires_at == RECEIVED + DAY
    data = {"accessToken": "an-access", "refreshToken": "a-refresh", "expiresIn": 3600}
    consent = read({"data": data}, reply=NESTED)
    assert (consent.access_token, consent.refresh_token) == (Secret("an-access"), Secret("a-refresh"))
    assert consent.expires_at == RECEIVED + HOUR


@pytest.mark.parametrize("shape", [CAMEL, NESTED])
def test_the_standards_own_names_will_always_do(shape):
    """An application may have kept the tokens its own way."""
    consent = read(PAIR | {"expires_at": EPOCH}, reply=shape)
    assert (consent.access_token, consent.refresh_token) == (Secret("an-access"), Secret("a-refresh"))
    assert consent.expires_at == AT


@pytest.mark.parametrize("body", [{}, {"access_token": None}, {"token": "x"}, {"expires_in": 3600}])
def test_no_token_at_all_is_refused(body):
    """Something else was pasted."""
    assert "neither 'access_token' nor 'refresh_token'" in refused(body)


@pytest.mark.parametrize("error", ["invalid_grant", 400, {"code": 190}, True])
@pytest.mark.parametrize("beside", [{}, PAIR])
def test_a_refusal_is_refused(error, beside):
    """The operator pasted what the provider said to a failed consent."""
    assert "'error'" in refused(beside | {"error": error, "error_description": "canary"})


def test_an_empty_error_is_none():
    """Some providers send the key always."""
    assert read(PAIR | {"error": None}) == read(PAIR | {"error": ""}) == read(PAIR)


@pytest.mark.parametrize("name", ["access_token", "refresh_token", "accessToken", "refreshToken"])
@pytest.mark.parametrize(
    ("value", "why"),
    [
        (12345678, "not a text"),
        (True, "not a text"),
        (["canary"], "not a text"),
        ({"value": "canary"}, "not a text"),
        ("", "empty"),
        (" ", "blank"),
        ("canary ", "blank"),
        ("ca nary", "blank"),
        ("canary\n", "blank"),
        ("ca\x00nary", "control"),
        ("ca\x7fnary", "control"),
        ("canary\u200b", "non-ASCII"),
        ("canäry", "non-ASCII"),
        ("canary\ud800", "non-ASCII"),
    ],
)
def test_a_malformed_token_is_refused_by_name_and_never_repeated(name, value, why):
    """The sentence may end up in a log or on somebody's screen."""
    snake = {"accessToken": "access_token", "refreshToken": "refresh_token"}.get(name, name)
    other = {"access_token": "refresh_token", "refresh_token": "access_token"}[snake]
    sentence = refused({name: value, other: "fine"})
    assert f"'{snake}'" in sentence
    assert why in sentence
    assert "nary" not in sentence
    assert "12345678" not in sentence


def test_any_visible_ascii_is_a_token():
    """RFC 6749 appendix A."""
    every = "".join(map(chr, range(0x21, 0x7F)))
    assert read({"access_token": every, "refresh_token": every}).refresh_token == Secret(every)


@pytest.mark.parametrize(
    "body", [{"data": {"refresh_token": "x"}}, {"refresh-token": "x"}, {"RefreshToken": "x"}]
)
def test_a_refresh_token_in_another_place_is_not_dropped_in_silence(body):
    """Else the token would quietly die with its access token."""
    assert "'refresh_token' at the top" in refused({"access_token": "an-access"} | body)


@pytest.mark.parametrize(
    "name",
    ["expires_in", "expiresIn", "expires_at", "expiresAt", "refresh_expires_in", "refreshTokenExpiresAt"],
)
@pytest.mark.parametrize(
    "value", [-1, "soon", "canary", "", True, False, [], {}, float("nan"), 10**400, "1.1.2027"]
)
def test_an_end_that_is_not_understood_is_refused(name, value):
    """Here a person can mend it; nothing is assumed."""
    sentence = refused(PAIR | {name: value})
    assert "is not understood" in sentence
    assert "canary" not in sentence


def test_a_response_from_the_future_is_refused():
    """A mistyped time would let the token expire unseen."""
    with pytest.raises(ConsentInvalid, match="future"):
        read(PAIR, received_at=NOW + timedelta(seconds=1))
    assert read(PAIR, received_at=NOW).issued_at == NOW


def test_a_printed_consent_shows_no_token():
    """Its tokens are Secrets."""
    shown = repr(read(PAIR))
    assert "an-access" not in shown
    assert "a-refresh" not in shown


ANYTHING = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(exclude_categories=()))
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=6,
)
KEYS = [
    "access_token",
    "refresh_token",
    "refreshToken",
    "expires_in",
    "expiresAt",
    "scope",
    "error",
    "token_type",
]


@given(
    st.dictionaries(st.sampled_from(KEYS) | st.text(), ANYTHING),
    st.sampled_from([{}, PAIR, {"refresh_token": "r"}]),
    st.sampled_from([Shape(), CAMEL, NESTED]),
)
def test_any_object_is_a_consent_or_refused_with_one_sentence(body, sound, shape):
    """Nothing else comes out of it, and no token that was given is lost."""
    try:
        consent = read(body | sound, reply=shape)
    except ConsentInvalid as why:
        refusal = str(why)
    else:
        refusal = None
    if refusal is not None:
        assert refusal.isprintable()
        return
    assert consent.access_token or consent.refresh_token
    assert consent.refresh_token or not body.get("refreshToken")
    assert consent.expires_at or not consent.refresh_token
