"""The request that renews a token, to the byte. Where it goes is the target's test."""

import gc
import json
import re
import weakref
from base64 import b64decode, b64encode
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import parse_qs, parse_qsl, quote_plus, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daemon.domain.provider import (
    AssertionAudience,
    BodyFormat,
    ClientAuth,
    Definition,
    Grant,
    Method,
    Provider,
    Variable,
    VariableKind,
)
from daemon.domain.request import form_encoded, form_value
from daemon.domain.request import refresh_request as request_at
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from daemon.domain.token_url import NotSendable

NOW = datetime(2026, 11, 21, tzinfo=UTC)
URL = "https://login.acme.test/token"
PLAIN = Definition(name="acme", title="Acme", token_url=URL)
TOKEN = Token(
    id="acme:1",
    provider="acme",
    account="1",
    state=State.ACTIVE,
    refresh_token=Secret("r/e+f r=1&~"),
    access_token=Secret("a/c+c"),
)
SENT = "r%2Fe%2Bf+r%3D1%26~"
CLIENT = "&client_id=my+id&client_secret=s%3Ae%2Fc%25"


def signed(audience, now):
    """A fake assertion that shows what it was made of."""
    return Secret(f"signed-canary({audience} at {now.isoformat()})")


def signed_claims(claims):
    """The same of claims."""
    return Secret(f"signed-canary({sorted(claims)})")


def refresh_request(client, token):
    return request_at(client, token, now=NOW)


def provider(client_id="my id", client_secret="s:e/c%", assertion=signed, allowed=(), private=False, **known):
    return Provider(
        definition=replace(PLAIN, **known),
        client_id=client_id,
        client_secret=Secret(client_secret) if client_secret is not None else None,
        client_assertion=assertion,
        sign_claims=signed_claims,
        allowed_hosts=frozenset(allowed),
        allow_private=private,
    )


def form(request):
    return dict(parse_qsl(request.body.decode(), strict_parsing=True))


# ------------------------------------------------------------------------------------------------ the client


def test_basic_credentials_are_form_encoded_first():
    """RFC 6749 §2.3.1: a colon or a blank in them must not shift the border."""
    request = refresh_request(provider(client_auth=ClientAuth.BASIC), TOKEN)
    assert request.method == "POST"
    assert request.url == "https://login.acme.test/token"
    assert request.headers == {
        "Accept": "application/json",
        "Content-Type": "application/x-www-form-urlencoded",
        "Authorization": "Basic " + b64encode(b"my+id:s%3Ae%2Fc%25").decode(),
    }
    assert request.body == f"grant_type=refresh_token&refresh_token={SENT}".encode()


def test_the_basic_example_of_the_rfc():
    """RFC 6749 §2.3.1's own credentials give its own header."""
    client = provider("s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw", client_auth=ClientAuth.BASIC)
    sent = refresh_request(client, TOKEN).headers["Authorization"]
    assert sent == "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3"


def test_basic_without_a_secret_sends_an_empty_one():
    """Some providers know clients without a password."""
    sent = refresh_request(provider(client_secret=None, client_auth=ClientAuth.BASIC), TOKEN)
    assert b64decode(sent.headers["Authorization"].removeprefix("Basic ")) == b"my+id:"


def test_plain_basic_credentials_are_sent_as_they_are():
    """RFC 7617 §2: providers that don't decode them know a secret with signs only so."""
    sent = refresh_request(provider(client_auth=ClientAuth.BASIC_PLAIN), TOKEN)
    assert b64decode(sent.headers["Authorization"].removeprefix("Basic ")) == b"my id:s:e/c%"
    assert sent.body == f"grant_type=refresh_token&refresh_token={SENT}".encode()


@pytest.mark.parametrize(
    ("auth", "secret", "more"),
    [
        (ClientAuth.POST, "s:e/c%", "&client_id=my+id&client_secret=s%3Ae%2Fc%25"),
        (ClientAuth.POST, None, "&client_id=my+id"),
        (ClientAuth.NONE, "s:e/c%", "&client_id=my+id"),
    ],
)
def test_credentials_in_the_body(auth, secret, more):
    """Post sends both, a public client only who it is; neither a header."""
    request = refresh_request(provider(client_secret=secret, client_auth=auth), TOKEN)
    assert request.body == f"grant_type=refresh_token&refresh_token={SENT}{more}".encode()
    assert "Authorization" not in request.headers


@pytest.mark.parametrize(
    ("secret", "pair"), [("sk_live 1:", b"sk_live+1%3A:"), ("sk_1", b"sk_1:"), (None, b":")]
)
def test_the_secret_as_the_user(secret, pair):
    """Basic, with no password; the client's name is not sent at all."""
    client = provider(client_secret=secret, client_auth=ClientAuth.SECRET_AS_USER)
    request = refresh_request(client, TOKEN)
    assert b64decode(request.headers["Authorization"].removeprefix("Basic ")) == pair
    assert request.body == f"grant_type=refresh_token&refresh_token={SENT}".encode()


def test_a_signed_assertion_stands_in_for_the_secret():
    """RFC 7523 §2.2: for this endpoint, made now, and the secret stays at home."""
    request = refresh_request(provider(client_auth=ClientAuth.PRIVATE_KEY_JWT), TOKEN)
    assert form(request) == {
        "grant_type": "refresh_token",
        "refresh_token": "r/e+f r=1&~",
        "client_id": "my id",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": f"signed-canary({URL} at 2026-11-21T00:00:00+00:00)",
    }
    assert "Authorization" not in request.headers


def test_an_assertion_is_for_the_issuer_where_the_provider_says_so():
    """FAPI 2 and AT Protocol; the issuer may differ from token to token, under the rules of the token URL."""
    client = provider(
        client_auth=ClientAuth.PRIVATE_KEY_JWT,
        assertion_audience=AssertionAudience.ISSUER,
        issuer="https://${region}.acme.test",
        domains=("acme.test",),
        variables={"region": Variable(pattern=re.compile("[a-z]+"))},
    )
    sent = refresh_request(client, replace(TOKEN, vars={"region": "eu"}))
    assert form(sent)["client_assertion"] == f"signed-canary(https://eu.acme.test at {NOW.isoformat()})"
    with pytest.raises(NotSendable, match="region"):
        refresh_request(client, TOKEN)


def test_the_audience_is_the_completed_url_without_the_query():
    """The endpoint's name, however the parameters travel."""
    client = provider(
        client_auth=ClientAuth.PRIVATE_KEY_JWT,
        token_url="https://${v}.acme.test/token",
        domains=("acme.test",),
        variables={"v": Variable(pattern=re.compile("[a-z]+"))},
        body=BodyFormat.QUERY,
    )
    sent = dict(parse_qsl(urlsplit(refresh_request(client, replace(TOKEN, vars={"v": "eu"})).url).query))
    assert sent["client_assertion"].startswith("signed-canary(https://eu.acme.test/token at ")


def test_without_a_key_nothing_is_sent():
    """The client couldn't prove itself."""
    with pytest.raises(NotSendable, match="no private key"):
        refresh_request(provider(client_auth=ClientAuth.PRIVATE_KEY_JWT, assertion=None), TOKEN)


# ------------------------------------------------------------------------------------------------ the grant


@pytest.mark.parametrize(
    ("grant", "stored", "fields"),
    [
        (Grant.REFRESH_TOKEN, "refresh_token", f"grant_type=refresh_token&refresh_token={SENT}"),
        (Grant.EXCHANGE, "refresh_token", "grant_type=refresh_token&access_token=a%2Fc%2Bc"),
        (Grant.CLIENT_CREDENTIALS, "refresh_token", "grant_type=client_credentials"),
        (Grant.REFRESH_TOKEN, "client_credentials", "grant_type=client_credentials"),
        (Grant.EXCHANGE, "client_credentials", "grant_type=client_credentials"),
        (Grant.NONE, "client_credentials", "grant_type=client_credentials"),
    ],
)
def test_each_grant_presents_its_own(grant, stored, fields):
    """And nothing else: a token that is not needed stays at home."""
    client = frozenset({Grant.CLIENT_CREDENTIALS})
    request = refresh_request(provider(grant=grant, grants=client), replace(TOKEN, grant=stored))
    assert request.body == (fields + CLIENT).encode()


@pytest.mark.parametrize(
    "stored", ["client_credentials", "exchange", "none", "password", "CLIENT_CREDENTIALS"]
)
def test_a_grant_that_the_operator_does_not_allow_is_never_presented(stored):
    """A document's author can't choose the client's own authority; the definition's grant is all there is."""
    known = provider(grant=Grant.REFRESH_TOKEN)
    assert not known.definition.allows(stored)
    own = f"grant_type=refresh_token&refresh_token={SENT}"
    assert refresh_request(known, replace(TOKEN, grant=stored)).body == (own + CLIENT).encode()
    with pytest.raises(NotSendable, match="no refresh token"):
        refresh_request(known, replace(TOKEN, grant=stored, refresh_token=None))


@pytest.mark.parametrize(
    ("grant", "token", "why"),
    [
        (Grant.REFRESH_TOKEN, replace(TOKEN, refresh_token=None), "no refresh token"),
        (Grant.EXCHANGE, replace(TOKEN, access_token=None), "no access token"),
        (Grant.NONE, TOKEN, "no grant that renews"),
    ],
)
def test_nothing_to_present_is_not_sendable(grant, token, why):
    """And what nothing renews is never sent, whatever is stored with it."""
    with pytest.raises(NotSendable, match=why):
        refresh_request(provider(grant=grant), token)


# ------------------------------------------------------------------------------------------------ the parameters


def test_parameters_may_have_other_names():
    """TikTok's client_key, and `type` in the place of grant_type."""
    names = {
        "client_id": "client_key",
        "grant_type": "type",
        "refresh_token": "token",
        "client_secret": "key",
    }
    assert form(refresh_request(provider(names=names), TOKEN)) == {
        "type": "refresh_token",
        "token": "r/e+f r=1&~",
        "client_key": "my id",
        "key": "s:e/c%",
    }


def test_a_renamed_parameter_keeps_its_place_and_may_have_another_value():
    """As Meta's exchange wants it: the definition's own parameters go by the names that are sent."""
    client = provider(
        grant=Grant.EXCHANGE,
        method=Method.GET,
        body=BodyFormat.QUERY,
        names={"access_token": "fb_exchange_token"},
        params={"grant_type": "fb_exchange_token"},
    )
    request = refresh_request(client, TOKEN)
    assert request.method == "GET"
    assert request.url == f"{URL}?grant_type=fb_exchange_token&fb_exchange_token=a%2Fc%2Bc{CLIENT}"
    assert request.body == b""
    renamed = provider(names={"grant_type": "type"}, params={"type": "refresh"})
    assert form(refresh_request(renamed, TOKEN))["type"] == "refresh"
    assert "grant_type" not in form(refresh_request(renamed, TOKEN))


@pytest.mark.parametrize("name", ["client_id", "client_secret", "client_assertion", "client_assertion_type"])
@pytest.mark.parametrize("auth", ClientAuth)
def test_no_parameter_replaces_the_clients_credentials(name, auth):
    """A definition knows how a client proves itself, not which one."""
    client = provider(client_auth=auth, params={name: "theirs"})
    assert "theirs" not in form(refresh_request(client, TOKEN)).values()


ACCOUNT = {"account_id": Variable(pattern=re.compile("[!-~]+"))}


@pytest.mark.parametrize("body", BodyFormat)
def test_a_parameter_may_hold_variables_which_cannot_leave_it(body):
    """What the database says is encoded: it can't add a parameter of its own."""
    client = provider(body=body, params={"account": "a-${account_id}/b", "resource": "x"}, variables=ACCOUNT)
    value = "1&client_id=evil#?=%26+\"'"
    request = refresh_request(client, replace(TOKEN, vars={"account_id": value}))
    if body is BodyFormat.JSON:
        sent = json.loads(request.body)
    else:
        sent = dict(parse_qsl(urlsplit(request.url).query or request.body.decode(), strict_parsing=True))
    assert sent == {
        "grant_type": "refresh_token",
        "refresh_token": "r/e+f r=1&~",
        "client_id": "my id",
        "client_secret": "s:e/c%",
        "account": f"a-{value}/b",
        "resource": "x",
    }


@given(st.text("!#%&+=?/\\\"'{}[];,aZ", min_size=1), st.sampled_from(BodyFormat))
def test_any_variable_stays_inside_its_parameter(value, body):
    """Whatever its pattern lets through."""
    client = provider(body=body, params={"account": "${account_id}"}, variables=ACCOUNT)
    request = refresh_request(client, replace(TOKEN, vars={"account_id": value}))
    if body is BodyFormat.JSON:
        sent = json.loads(request.body)
    else:
        sent = dict(parse_qsl(urlsplit(request.url).query or request.body.decode(), strict_parsing=True))
    assert sent["account"] == value
    assert sent.keys() == {"grant_type", "refresh_token", "client_id", "client_secret", "account"}


@pytest.mark.parametrize(
    ("stored", "why"),
    [({}, "no variable 'account_id'"), ({"account_id": "a b"}, "does not match the pattern")],
)
def test_a_parameter_whose_variable_is_missing_or_wrong_is_not_sendable(stored, why):
    """The token says so, and no request is made."""
    client = provider(params={"account": "${account_id}"}, variables=ACCOUNT)
    with pytest.raises(NotSendable, match=why):
        refresh_request(client, replace(TOKEN, vars=stored))


# ------------------------------------------------------------------------------------------------ how it travels


def test_a_json_body():
    """The same fields as JSON, and the header says so."""
    request = refresh_request(provider(body=BodyFormat.JSON), TOKEN)
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.body) == {
        "grant_type": "refresh_token",
        "refresh_token": "r/e+f r=1&~",
        "client_id": "my id",
        "client_secret": "s:e/c%",
    }


@pytest.mark.parametrize(
    ("url", "sent"), [(URL, f"{URL}?grant_type="), (f"{URL}?v=1", f"{URL}?v=1&grant_type=")]
)
@pytest.mark.parametrize("method", Method)
def test_parameters_in_the_query(url, sent, method):
    """Behind what the URL has already; the body is empty and has no type."""
    request = refresh_request(provider(token_url=url, body=BodyFormat.QUERY, method=method), TOKEN)
    assert request.method == method
    assert request.url == f"{sent}refresh_token&refresh_token={SENT}{CLIENT}"
    assert request.body == b""
    assert request.headers == {"Accept": "application/json"}


def test_what_a_definition_adds():
    """Constant parameters and headers; they may replace the standard's, but never the client's credentials."""
    client = provider(
        params={"scope": "a b", "grant_type": "refresh", "client_id": "not mine"},
        headers={"Accept": "application/vnd.acme", "X-Version": "3"},
    )
    request = refresh_request(client, TOKEN)
    fields = parse_qs(request.body.decode())
    assert fields["scope"] == ["a b"]
    assert fields["grant_type"] == ["refresh"]
    assert fields["client_id"] == ["my id"]
    assert request.headers["Accept"] == "application/vnd.acme"
    assert request.headers["X-Version"] == "3"


@pytest.mark.parametrize("name", ["Accept", "accept", "ACCEPT"])
def test_a_definitions_accept_replaces_ours_however_it_is_spelt(name):
    """Two would contradict each other."""
    headers = refresh_request(provider(headers={name: "application/x-www-form-urlencoded"}), TOKEN).headers
    assert [(key, value) for key, value in headers.items() if key.lower() == "accept"] == [
        (name, "application/x-www-form-urlencoded")
    ]


BASE = {"v": Variable(pattern=re.compile(""), kind=VariableKind.BASE)}


@pytest.mark.parametrize(
    ("known", "public_only"),
    [
        ({}, False),
        ({"token_url": "http://127.0.0.1:1/token"}, False),
        (
            {
                "token_url": "https://login.acme.test/${v}",
                "variables": {"v": Variable(pattern=re.compile(".*"))},
            },
            False,
        ),
        ({"token_url": "${v}/token", "variables": BASE, "domains": ("acme.test",)}, True),
        ({"token_url": "${v}/token", "variables": BASE, "allowed": ["eu.acme.test"]}, False),
        ({"token_url": "${v}/token", "variables": BASE, "domains": ("acme.test",), "private": True}, False),
        (
            {
                "token_url": "${v}/token",
                "variables": BASE,
                "domains": ("acme.test",),
                "allowed": ["eu.acme.test", "other.test"],
            },
            False,
        ),
    ],
)
def test_only_a_host_that_a_database_chose_must_be_public(known, public_only):
    """Unless the operator named it, or allows private addresses."""
    value = "common" if "login" in known.get("token_url", "") else "https://eu.acme.test"
    client = provider(**known)
    assert refresh_request(client, replace(TOKEN, vars={"v": value})).public_only is public_only


@pytest.mark.parametrize("auth", ClientAuth)
@pytest.mark.parametrize("body", BodyFormat)
def test_a_printed_request_shows_no_secret(auth, body):
    """Neither its body nor its headers, nor its URL."""
    client = provider(client_secret="client-canary", client_auth=auth, body=body)
    token = replace(TOKEN, refresh_token=Secret("refresh-canary"), access_token=Secret("access-canary"))
    request = refresh_request(client, token)
    shown = repr((request, client, token))
    assert "canary" not in shown
    assert b64encode(b"my+id:client-canary").decode() not in shown


@given(st.text())
@example("".join(map(chr, range(128))))
def test_a_form_value_is_what_urllib_makes_of_it(text):
    """The fast way is the standard's way, for any text."""
    assert form_value(text) == quote_plus(text)


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_form_fields_come_out_as_they_went_in(fields):
    """Names and values, whatever they hold."""
    encoded = form_encoded(fields)
    read = parse_qs(encoded, keep_blank_values=True, max_num_fields=1000) if encoded else {}
    assert read == {name: [value] for name, value in fields.items()}


class Traced(Secret):
    """A secret that shows whether it is still in memory."""

    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("auth", list(ClientAuth))
def test_no_request_keeps_the_secret_of_its_client(auth: ClientAuth):
    """A rotated secret leaves the memory with the configuration that had it."""
    client = replace(provider(client_auth=auth), client_secret=Traced("rotated"))
    kept = weakref.ref(client.client_secret)
    refresh_request(client, TOKEN)
    assert kept() is not None
    del client
    gc.collect()
    assert kept() is None
