"""What `refreshd add` reads: a provider's first token response, from whatever an application kept it in."""

import json
from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.consent import Consent, ConsentInvalid, read_consent
from daemon.domain.provider import Definition, ExpiryUnit, Grant, ReplyFields
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


@pytest.mark.parametrize("secret", ["the-access-1", "the-refresh-1"])
@pytest.mark.parametrize("value", ["{}", "read {} write", "Bearer {}"])
def test_no_field_that_holds_a_token_is_stored(secret, value):
    """It would be stored unencrypted, as for a renewal."""
    echo = value.format(secret)
    body = {
        "access_token": "the-access-1",
        "refresh_token": "the-refresh-1",
        "scope": echo,
        "token_type": echo,
    }
    consent = read(body | {"region": echo, "site": "eu"}, keep=("region", "site"))
    assert consent.refresh_token == Secret("the-refresh-1")
    assert (consent.scope, consent.token_type, consent.extra) == (None, None, {"site": "eu"})


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


CAMEL = ReplyFields(
    access_token=("token",),
    refresh_token=("refreshToken",),
    token_type=("tokenType",),
    expires_at=("expiresAt",),
    refresh_expires_in=("refreshTokenExpiresIn",),
)
NESTED = ReplyFields(
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
    assert "'access_token' and 'refresh_token' are both missing" in refused(body)


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
        (" ", "space"),
        ("canary ", "space"),
        ("ca nary", "space"),
        ("canary\n", "space"),
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
def test_an_end_that_is_not_understood_is_named(name, value):
    """Nothing is guessed from it: the token is renewed immediately, and the operator learns why."""
    consent = read(PAIR | {name: value})
    assert consent.unclear == (name,)
    assert consent.expires_at == RECEIVED + HOUR


@pytest.mark.parametrize("value", ["soon", True, {"$date": 1}])
def test_an_end_that_is_not_understood_is_refused_if_nothing_renews_the_token(value):
    """No request would correct the end, and a person is there who can."""
    sentence = refused({"access_token": "a", "expires_at": value})
    assert "'expires_at' is in an unknown format" in sentence


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
    st.sampled_from([ReplyFields(), CAMEL, NESTED]),
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


# ------------------------------------------------------------------------------------------------ what libraries keep

ENDS = {
    "Go and rclone": {"expiry": "2026-11-01T14:00:00Z"},
    "Go, with a zone": {"expiry": "2026-11-01T15:00:00.123456789+01:00"},
    "Google for Node": {"expiry_date": EPOCH * 1000},
    "Google for Python": {"expiry": "2026-11-01T14:00:00.000000Z"},
    "Google for Java": {"expirationTimeMilliseconds": EPOCH * 1000},
    "Azure and MSAL": {"expires_on": str(EPOCH), "expires_in": 3600, "ext_expires_in": 9999},
    "Airbyte": {"token_expiry_date": "2026-11-01T14:00:00+00:00"},
    "ASP.NET": {
        "expires_in": 3600,
        ".issued": "Sun, 01 Nov 2026 13:00:00 GMT",
        ".expires": "Sun, 01 Nov 2026 14:00:00 GMT",
    },
    "league/oauth2-client": {"expires": EPOCH},
    "old Facebook": {"expires": 7200},
    "a cookie's": {"expires": "Sun, 01-Nov-2026 14:00:00 GMT"},
    "ISO with a blank": {"expires_at": "2026-11-01 14:00:00"},
    "an empty one before": {"expires_at": None, "expiry": "2026-11-01T14:00:00Z"},
    "none before": {"expires_at": 0, "expiration": EPOCH},
    "LimitedServer": {"created_at": EPOCH - 8000, "expires_in": 8000},
    "Intuit": {"createdAt": (EPOCH - 7300) * 1000, "expires_in": 7300},
    "Salesforce": {"issued_at": str((EPOCH - 7300) * 1000), "expires_in": 7300},
    "Twurple": {"obtainmentTimestamp": (EPOCH - 7300) * 1000, "expiresIn": 7300},
}


@pytest.mark.parametrize("kept", ENDS)
def test_an_end_is_read_as_libraries_keep_it(kept):
    """So that a token that has ended is not taken for one that lives another hour."""
    consent = read(PAIR | ENDS[kept])
    assert abs(consent.expires_at - AT) < timedelta(seconds=1)
    assert consent.end_is_known


def test_a_birth_that_lies_later_than_the_response_is_not_believed():
    """An application's own clock, or a field that means something else."""
    for born in (EPOCH + 99_999_999, 60, "soon", None, True):
        consent = read(PAIR | {"created_at": born, "expires_in": 3600})
        assert (consent.issued_at, consent.expires_at) == (RECEIVED, RECEIVED + HOUR)


@pytest.mark.parametrize(
    ("body", "known", "is_known"),
    [
        (PAIR, {}, False),
        (PAIR | {"expires_in": 0}, {}, False),
        (PAIR | {"expiry": "0001-01-01T00:00:00Z"}, {}, False),
        (PAIR, {"access_lifetime": DAY}, False),
        (PAIR | {"ext_expires_in": 9999}, {}, False),
        (PAIR | {"expires_in": 60}, {}, True),
        ({"access_token": "a"}, {}, True),
        ({"refresh_token": "r"}, {}, True),
        ({"access_token": "a"}, {"grant": Grant.EXCHANGE}, False),
        ({"access_token": jwt({"exp": EPOCH}), "refresh_token": "r"}, {}, True),
    ],
)
def test_an_end_that_is_only_assumed_is_known_to_be(body, known, is_known):
    """What can be renewed is then renewed now: nobody can tell how old the response is."""
    assert read(body, **known).end_is_known is is_known


@pytest.mark.parametrize(
    ("told", "known", "ends"),
    [
        ({"authorization_expires_in": 86400}, {}, RECEIVED + DAY),
        ({"authorization_expires_in": 86400}, {"refresh_lifetime": 365 * DAY}, RECEIVED + DAY),
        ({"authorization_expires_at": EPOCH}, {}, AT),
        ({"authorization_expires_in": 0}, {"refresh_lifetime": 365 * DAY}, RECEIVED + 365 * DAY),
        ({"refresh_token_timeout": 86400}, {}, None),
    ],
)
def test_the_consents_end_is_as_told(told, known, ends):
    """draft-ietf-oauth-refresh-token-expiration."""
    assert read(PAIR | told, **known).consent_ends_at == ends


def test_a_refresh_tokens_timeout_is_its_end():
    """The same draft."""
    assert read(PAIR | {"refresh_token_timeout": 86400}).refresh_expires_at == RECEIVED + DAY


@pytest.mark.parametrize(
    "bound",
    [
        PAIR | {"token_type": "DPoP"},
        {"accessToken": "a", "tokenType": "dpop"},
        PAIR | {"token_type": "mac"},
        PAIR | {"access_token": jwt({"cnf": {"jkt": "x"}})},
        PAIR | {"access_token": jwt({"cnf": {"x5t#S256": "x"}}), "token_type": "Bearer"},
    ],
)
def test_tokens_that_are_bound_to_a_key_are_refused(bound):
    """Presented without a proof, they may be revoked."""
    assert "bound to a key" in refused(bound)
    assert read(PAIR | {"token_type": "Bearer"}).token_type == "Bearer"


@pytest.mark.parametrize(
    "kept",
    [
        {"ExpiresAt": EPOCH},
        {"expires-at": EPOCH},
        {"token_expiration_date": "2026-11-01T14:00:00Z"},
        {"accessTokenExpirationTimestamp": EPOCH * 1000},
        {"validUntil": "2026-11-01T14:00:00Z"},
        {"exp": EPOCH},
        {"expires_in_ms": 7_200_000},
        {"expires_in_seconds": "7200"},
        {"ttl": 7200},
        {"expires_at": EPOCH, "expires": EPOCH + 999},
        {"expires_in": 99_999, "access_token": jwt({"exp": EPOCH})},
    ],
)
def test_a_name_is_read_by_its_parts_and_the_earliest_end_counts(kept):
    """Libraries that nobody has listed write these, too."""
    consent = read(PAIR | kept)
    assert (consent.expires_at, consent.end_is_known, consent.unclear) == (AT, True, ())


@pytest.mark.parametrize("name", ["expires_in_minutes", "tokenExpirationTicks", "session_lifetime"])
def test_a_field_that_sounds_like_an_end_is_named_if_no_other_says_one(name):
    """Its unit or its meaning is unknown; beside a known end it is somebody else's."""
    assert read(PAIR | {name: 60}).unclear == (name,)
    assert read(PAIR | {name: 60, "expires_in": 60}).unclear == ()


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("refreshTokenExpiry", "refresh_expires_at"),
        ("refresh_token_expires_on", "refresh_expires_at"),
        ("rt_expires_at", "refresh_expires_at"),
        ("refresh_token_ttl", "refresh_expires_at"),
        ("consentExpiresAt", "consent_ends_at"),
        ("authorization_expires_on", "consent_ends_at"),
    ],
)
def test_the_other_ends_are_read_by_their_parts_too(name, field):
    """Of the refresh token and of the consent, and never as the access token's."""
    value = 7200 if name.endswith("ttl") else EPOCH
    consent = read(PAIR | {name: value})
    assert getattr(consent, field) == AT
    assert not consent.end_is_known


def test_a_birth_that_is_not_understood_is_named():
    """`expires_in` counts from it, so the end is not known either."""
    assert read(PAIR | {"created_at": "last week", "expires_in": 3600}).unclear == ("created_at",)


def test_the_consents_end_counts_from_the_consent():
    """Which lies before the response that a later renewal brought; an impossible date after it counts for nothing."""
    definition = Definition(
        name="kept",
        title="Kept",
        token_url="https://kept.test/token",
        refresh_lifetime=timedelta(days=90),
        refresh_idle=timedelta(days=30),
    )
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)

    def ends(consented_at):
        body = {"access_token": "a", "refresh_token": "r", "expires_in": 3600}
        consent = read_consent(definition, body, received_at=now, now=now, consented_at=consented_at)
        return (consent.consent_ends_at - now).days, (consent.refresh_expires_at - now).days

    assert ends(None) == (90, 30)
    assert ends(now - timedelta(days=20)) == (70, 30)
    assert ends(now - timedelta(days=80)) == (10, 10)
    assert ends(now + timedelta(days=5)) == (90, 30)


@pytest.mark.parametrize("word", ["null", "undefined", "NaN", "(null)", "********", "[FILTERED]"])
@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
def test_a_word_for_a_missing_token_is_refused(name, word):
    """Stored, it would be presented in the place of a token."""
    body = {"access_token": "access", "refresh_token": "refresh", "expires_in": 60} | {name: word}
    assert f"'{name}' is the text of a missing or hidden value" in refused(body)
