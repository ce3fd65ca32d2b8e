"""The request that renews a token: to the byte, and to nowhere else."""

import json
import re
from base64 import b64decode, b64encode
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote_plus, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daemon.domain.provider import BodyFormat, ClientAuth, Definition, Provider, Variable
from daemon.domain.request import (
    form_encoded,
    form_value,
)
from daemon.domain.request import (
    refresh_request as request_at,
)
from daemon.domain.secret import Secret
from daemon.domain.target import NotSendable, is_loopback, token_url
from daemon.domain.token import State, Token

NOW = datetime(2026, 11, 21, tzinfo=UTC)
PLAIN = Definition(name="acme", title="Acme", token_url="https://login.acme.test/token")
TOKEN = Token(
    id="acme:1", provider="acme", account="1", state=State.ACTIVE, refresh_token=Secret("r/e+f r=1&~")
)
SENT = "r%2Fe%2Bf+r%3D1%26~"
LOOSE = Variable(pattern=re.compile(r"(?s).*"))  # whatever the pattern lets through, the host must hold


LABEL = "https://${v}.acme.test/"
NO_LABELS = [
    "evil.test/",
    "evil.test#",
    "evil.test?",
    "evil.test\\",
    "u@evil.test/",
    "u:p@x",
    "x:1/",
    "evil.test%2f",
]
NO_LABELS += ["", ".", "..", "a..b", "-\t", " ", "a\nb", "é", "a\uff0fb", "[", "[::1]/", "a,b"]
NO_HOSTS = [
    "evil.test",
    "acme.test.evil.test",
    "evilacme.test",
    "u@acme.test",
    "acme.test@evil.test",
    "127.0.0.1",
]
NO_HOSTS += ["acme.test:8443", "acme.test:", "acme.test.", "\tacme.test", "acme.test/..", ".acme.test"]
NO_BASES = ["https://evil.test", "http://acme.test", "//acme.test", "acme.test", "file:///etc", ""]
NO_PATHS = ["..", ".", "a/../b", "%2e%2E", "a\\..\\b", "a b", "\x7f", "ü"]


def refresh_request(client, token):
    return request_at(client, token, now=NOW)


def provider(client_id="my id", client_secret="s:e/c%", **known):
    secret = Secret(client_secret) if client_secret is not None else None
    return Provider(definition=replace(PLAIN, **known), client_id=client_id, client_secret=secret)


def templated(url, *, domains=("acme.test",), **variables):
    return provider(token_url=url, domains=domains, variables=variables or {"v": LOOSE})


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


def test_nothing_to_present_is_not_sendable():
    """A token without a refresh token."""
    with pytest.raises(NotSendable, match="no refresh token"):
        refresh_request(provider(), replace(TOKEN, refresh_token=None))


@pytest.mark.parametrize("auth", ClientAuth)
@pytest.mark.parametrize("body", BodyFormat)
def test_a_printed_request_shows_no_secret(auth, body):
    """Neither its body nor its headers."""
    client = provider(client_secret="client-canary", client_auth=auth, body=body)
    request = refresh_request(client, replace(TOKEN, refresh_token=Secret("refresh-canary")))
    shown = repr((request, client, TOKEN))
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


@pytest.mark.parametrize(
    ("url", "values", "filled"),
    [
        ("https://${v}.acme.test/token", {"v": "eu-1"}, "https://eu-1.acme.test/token"),
        ("https://${v}/token", {"v": "acme.test"}, "https://acme.test/token"),
        ("https://${v}/token", {"v": "A.Acme.test"}, "https://A.Acme.test/token"),
        ("https://login.other.test/${v}/token", {"v": "common"}, "https://login.other.test/common/token"),
        ("https://login.acme.test/token", {"v": "ignored"}, "https://login.acme.test/token"),
        ("https://${v}.acme.test/${v}", {"v": "a"}, "https://a.acme.test/a"),
    ],
)
def test_variables_fill_the_url(url, values, filled):
    """In the host, in the path, more than once; the operator's own URL stays."""
    assert token_url(templated(url), values) == filled


def test_a_default_stands_in_for_a_missing_variable():
    """And is replaced by what the token says."""
    client = templated("https://${v}.acme.test/", v=Variable(pattern=re.compile("[a-z]+"), default="com"))
    assert token_url(client, {}) == "https://com.acme.test/"
    assert token_url(client, {"v": "eu"}) == "https://eu.acme.test/"


@pytest.mark.parametrize(
    ("url", "values", "why"),
    [
        ("https://${v}.acme.test/", {}, "no variable 'v'"),
        ("https://${unknown}.acme.test/", {"unknown": "x"}, "no variable 'unknown'"),
        ("https://${strict}.acme.test/", {"strict": "EVIL"}, "definition demands"),
        ("https://${strict}.acme.test/", {"strict": "evil\n"}, "definition demands"),
        ("https://${strict}.acme.test/", {"strict": ""}, "definition demands"),
        *((LABEL, {"v": value}, None) for value in NO_LABELS),
        *(("https://${v}/token", {"v": value}, None) for value in NO_HOSTS),
        *(("${v}/token", {"v": value}, None) for value in NO_BASES),
        *(("https://login.acme.test/${v}/token", {"v": value}, None) for value in NO_PATHS),
    ],
)
def test_a_variable_that_leads_astray_is_refused(url, values, why):
    """And the sentence does not repeat the value, which may be anything."""
    client = templated(url, v=LOOSE, strict=Variable(pattern=re.compile("[a-z]+")))
    with pytest.raises(NotSendable, match=why) as refused:
        token_url(client, values)
    assert "evil" not in str(refused.value)


def test_a_variable_may_fill_no_host_without_a_domain():
    """A definition that names none allows none."""
    with pytest.raises(NotSendable):
        token_url(templated("https://${v}/token", domains=()), {"v": "acme.test"})


@given(
    st.sampled_from(
        [
            "https://${v}.acme.test/t",
            "https://${v}/t",
            "${v}",
            "https://a.acme.test/${v}/t",
            "https://a.acme.test${v}",
        ]
    ),
    st.one_of(
        st.text(), st.text("ace.mts/:@#?\\%[]\t\n "), st.sampled_from(["acme.test", "a.acme.test/x", "@b.c/"])
    ),
)
def test_any_value_stays_inside_the_domain_or_is_refused(url, value):
    """Even with a pattern that allows everything."""
    try:
        filled = token_url(templated(url), {"v": value})
    except NotSendable:
        return
    parts = urlsplit(filled)
    assert parts.scheme == "https"
    assert parts.netloc.lower() == parts.hostname
    assert parts.hostname == "acme.test" or parts.hostname.endswith(".acme.test")
    assert re.fullmatch(r"[\x21-\x7e]+", filled)


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8080/token", True),
        ("http://127.9.9.9/token", True),
        ("http://localhost/token", True),
        ("http://LOCALHOST/token", True),
        ("http://[::1]:1/token", True),
        ("http://localhost.evil.test/", False),
        ("http://127.0.0.1.evil.test/", False),
        ("http://127.0.0.1@evil.test/", False),
        ("http://0.0.0.0/", False),
        ("http://10.0.0.1/", False),
        ("https://acme.test/", False),
        ("nonsense", False),
    ],
)
def test_loopback_is_this_machine_and_nothing_else(url, here):
    """The only place that plain HTTP may go to."""
    assert is_loopback(url) is here
