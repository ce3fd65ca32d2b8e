"""The authorization request to the byte, and which callbacks have an effect."""

import contextlib
import re
from base64 import urlsafe_b64encode
from dataclasses import replace
from hashlib import sha256
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.authorization import (
    LONGEST_CALLBACK,
    SECRET_BYTES,
    Authorization,
    Code,
    Denied,
    NotThisConsent,
    authorization_url,
    code_challenge,
    new_authorization,
    query_of,
    read_callback,
    state_hash,
)
from daemon.domain.provider import ClientAuth, Definition, Pkce, Provider, Variable, VariableKind
from daemon.domain.secret import Secret
from daemon.domain.token_url import NotSendable

REDIRECT = "http://127.0.0.1:8917/callback"
ACME = Definition(
    name="acme",
    title="Acme",
    token_url="https://login.acme.test/token",
    authorize_url="https://login.acme.test/authorize",
    scopes=("read", "openid"),
)
PROVIDER = Provider(definition=ACME, client_id="cli ent")
RANDOM = bytes(range(3 * SECRET_BYTES))
STATE = urlsafe_b64encode(RANDOM[:32]).rstrip(b"=").decode()
OURS = Authorization(state=Secret(STATE), redirect_uri=REDIRECT)


def started(definition: Definition = ACME, scopes: tuple[str, ...] = ()) -> Authorization:
    return new_authorization(
        replace(PROVIDER, definition=definition), random=RANDOM, redirect_uri=REDIRECT, scopes=scopes
    )


def fields_of(definition: Definition, **variables: str) -> dict[str, str]:
    url = authorization_url(replace(PROVIDER, definition=definition), started(definition), variables)
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


def test_an_authorization_url_has_the_standards_fields() -> None:
    """RFC 6749 §4.1.1, RFC 7636 §4.3 and OpenID Connect's nonce."""
    url = authorization_url(PROVIDER, started(), {})
    verifier = urlsafe_b64encode(RANDOM[32:64]).rstrip(b"=")
    assert url.startswith("https://login.acme.test/authorize?response_type=code&client_id=cli+ent&")
    assert fields_of(ACME) == {
        "response_type": "code",
        "client_id": "cli ent",
        "redirect_uri": REDIRECT,
        "state": STATE,
        "scope": "read openid",
        "code_challenge": urlsafe_b64encode(sha256(verifier).digest()).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
        "nonce": urlsafe_b64encode(RANDOM[64:]).rstrip(b"=").decode(),
    }


def test_the_challenge_is_that_of_rfc_7636() -> None:
    """Appendix B has a vector."""
    verifier = Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert code_challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_a_provider_without_pkce_gets_neither_challenge_nor_verifier() -> None:
    """Some providers refuse unknown parameters."""
    plain = replace(ACME, pkce=Pkce.NONE)
    assert not {"code_challenge", "code_challenge_method"} & fields_of(plain).keys()
    assert started(plain).code_verifier is None
    assert "code_challenge" in fields_of(replace(ACME, pkce=Pkce.REQUIRED))


def test_a_nonce_is_sent_only_for_an_id_token() -> None:
    """Without the scope openid there is none."""
    assert "nonce" not in fields_of(replace(ACME, scopes=("read",)))


def test_a_definitions_parameters_are_added_and_replace_none_of_the_protocols() -> None:
    """A definition may have `access_type=offline`, but no other state."""
    more = {
        "access_type": "offline",
        "state": "x",
        "redirect_uri": "https://evil.test",
        "tenant": "${tenant}",
    }
    definition = replace(
        ACME,
        authorize_params=more,
        variables={"tenant": Variable(pattern=re.compile("[a-z]+"))},
    )
    found = fields_of(definition, tenant="blue")
    assert found["access_type"] == "offline"
    assert found["tenant"] == "blue"
    assert found["state"] == STATE
    assert found["redirect_uri"] == REDIRECT


def test_a_definitions_separator_and_names_are_used() -> None:
    """As TikTok's client_key, and scopes with commas."""
    odd = replace(ACME, scope_separator=",", names={"client_id": "client_key"})
    found = fields_of(odd)
    assert found["scope"] == "read,openid"
    assert found["client_key"] == "cli ent"
    assert "client_id" not in found


def test_a_query_in_the_authorization_url_stays() -> None:
    """A few providers have a fixed one."""
    url = "https://login.acme.test/authorize?v=2"
    assert authorization_url(
        replace(PROVIDER, definition=replace(ACME, authorize_url=url)), started(), {}
    ).startswith(f"{url}&response_type=code")


@pytest.mark.parametrize("value", ["../..", "a.b/", "evil.test/x", "", "A" * 300, "a\n"])
def test_a_variable_does_not_lead_elsewhere(value: str) -> None:
    """It comes from a command line or an application."""
    shop = replace(
        ACME,
        authorize_url="https://${shop}.acme.test/authorize",
        variables={"shop": Variable(pattern=re.compile("[a-z]+"))},
        domains=("acme.test",),
    )
    with pytest.raises(NotSendable):
        authorization_url(replace(PROVIDER, definition=shop), started(shop), {"shop": value})


def test_a_definition_without_an_authorization_url_can_not_be_connected() -> None:
    """The text names the key."""
    with pytest.raises(NotSendable, match="authorize_url"):
        authorization_url(replace(PROVIDER, definition=replace(ACME, authorize_url=None)), started(), {})


@pytest.mark.parametrize("scope", ["two words", "", 'quo"te', "back\\slash", "ümlaut", "line\n"])
def test_a_scope_that_can_not_be_sent_is_refused(scope: str) -> None:
    """RFC 6749 §3.3."""
    with pytest.raises(NotSendable, match="scope"):
        started(scopes=(scope,))


def test_a_scope_that_is_named_twice_is_asked_for_once() -> None:
    """The command's option is repeatable."""
    assert started(scopes=("a", "b", "a")).scopes == ("a", "b")


def test_a_callback_with_the_state_and_a_code_is_a_consent() -> None:
    """Other fields are ignored, such as a session state."""
    query = urlencode({"state": STATE, "code": "4/0A+b c", "session_state": "x", "scope": "a"})
    answer = read_callback(query, OURS)
    assert isinstance(answer, Code)
    assert answer.code.reveal() == "4/0A+b c"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "code=1",
        "state=&code=1",
        f"state={STATE[:-1]}&code=1",
        f"state={STATE}x&code=1",
        f"state={'A' * 43}&code=1",
        f"state={STATE}&state={STATE}&code=1",
        f"state={STATE}&state={'A' * 43}&code=1",
        f"state={STATE}%00&code=1",
        f"state={STATE}&code=%ff%fe",
        f"state={STATE}&code=1&pad={'x' * LONGEST_CALLBACK}",
        f"state={STATE}&code=1" + "&a=1" * 60,
        f"error=access_denied&state={'A' * 43}",
    ],
)
def test_a_callback_without_this_consents_state_changes_nothing(query: str) -> None:
    """Anyone can send a browser here."""
    with pytest.raises(NotThisConsent):
        read_callback(query, OURS)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("error=access_denied&error_description=No", "access_denied"),
        ("error=access_denied&code=1", "access_denied"),
        ("code=1&code=2", "invalid_callback"),
        ("error=a&error=b", "invalid_callback"),
        ("code=", "invalid_callback"),
        ("", "invalid_callback"),
        ("code=%0a", "invalid_callback"),
        ("code=%C3%BC", "invalid_callback"),
        (f"code={'x' * 4097}", "invalid_callback"),
        ("error=%1b%5b2J", "[2J"),
    ],
)
def test_a_callback_with_the_state_but_no_usable_code_ends_the_consent(query: str, code: str) -> None:
    """The state is spent by an error too."""
    answer = read_callback(f"state={STATE}&{query}", OURS)
    assert isinstance(answer, Denied)
    assert answer.code == code


def test_a_providers_words_are_short_and_can_not_move_a_cursor() -> None:
    """They are printed on a terminal."""
    words = quote("\x1b]0;x\x07<b>Nö</b>" + "y" * 500)
    answer = read_callback(f"state={STATE}&error=access_denied&error_description={words}", OURS)
    assert isinstance(answer, Denied)
    assert len(answer.message) <= 200
    assert answer.message.isprintable()
    assert answer.message.isascii()


def test_a_callback_of_another_issuer_ends_the_consent() -> None:
    """RFC 9207 §2.4: a mix-up of two authorization servers."""
    ours = replace(OURS, issuer="https://login.acme.test")
    good = read_callback(f"state={STATE}&code=1&iss=https%3A%2F%2Flogin.acme.test", ours)
    bad = read_callback(f"state={STATE}&code=1&iss=https%3A%2F%2Fevil.test", ours)
    assert isinstance(good, Code)
    assert bad == Denied(code="other_issuer", message="the callback comes from another issuer")


@given(st.text(max_size=400))
def test_any_query_has_an_end(query: str) -> None:
    """No text leads to another exception."""
    for text in (query, f"state={STATE}&{query}"):
        with contextlib.suppress(NotThisConsent):
            read_callback(text, OURS)


def test_the_pasted_address_has_to_be_the_redirect_uri() -> None:
    """A code of another place is not sent to this provider."""
    assert query_of(f"  {REDIRECT}?code=1&state=2#_=_\n", REDIRECT) == "code=1&state=2"
    assert query_of(f"{REDIRECT}/?code=1", REDIRECT) == "code=1"
    for wrong in (
        "",
        "code=1",
        REDIRECT,
        "http://127.0.0.1:8917/other?code=1",
        f"https://evil.test/{REDIRECT}?code=1",
    ):
        with pytest.raises(NotThisConsent):
            query_of(wrong, REDIRECT)


def test_a_state_is_stored_as_its_digest() -> None:
    """Whoever reads the database can't answer for the owner."""
    assert STATE not in state_hash(STATE)
    assert len(state_hash(STATE)) == 43


def test_the_secrets_are_not_printed() -> None:
    """Neither by repr nor in an error."""
    assert STATE not in repr(started())
    assert "4711" not in repr(read_callback(f"state={STATE}&code=4711", OURS))


PARTED = replace(
    ACME,
    token_url="${server}/token",
    domains=("acme.test", "acme.example"),
    variables={
        "server": Variable(pattern=re.compile(""), kind=VariableKind.BASE, default="https://eu.acme.test")
    },
    callback_variables=("server",),
)


def test_a_callback_brings_the_variables_that_the_definition_names() -> None:
    """And no others. They are not checked here."""
    begun = started(PARTED)
    answer = read_callback(f"state={STATE}&code=c&server=https%3A%2F%2Fin.acme.test&shop=x", begun)
    assert isinstance(answer, Code)
    assert answer.variables == {"server": "https://in.acme.test"}
    for query in (f"state={STATE}&code=c", f"state={STATE}&code=c&server="):
        plain = read_callback(query, begun)
        assert isinstance(plain, Code)
        assert plain.variables == {}
    other = read_callback(f"state={STATE}&code=c&server=https://in.acme.test", started(ACME))
    assert isinstance(other, Code)
    assert other.variables == {}


def test_a_variable_that_comes_twice_makes_no_callback() -> None:
    """Another reader may take the other one."""
    answer = read_callback(f"state={STATE}&code=c&server=a&server=b", started(PARTED))
    assert isinstance(answer, Denied)
    assert "server" in answer.message


def test_a_pushed_request_is_referred_to() -> None:
    """RFC 9126 §4: the client and the reference alone. Without a reference nothing is sent to such a provider."""
    pushing = replace(PROVIDER, definition=replace(ACME, par_url="https://login.acme.test/par"))
    begun = started(pushing.definition)
    url = authorization_url(pushing, begun, {}, request_uri="urn:x:1 2")
    assert url == "https://login.acme.test/authorize?client_id=cli+ent&request_uri=urn%3Ax%3A1+2"
    with pytest.raises(NotSendable, match="pushed"):
        authorization_url(pushing, begun, {})


@pytest.mark.parametrize(
    ("issuer", "expected"),
    [
        (None, None),
        ("https://login.acme.test", "https://login.acme.test"),
        ("https://${region}.acme.test", None),
    ],
)
def test_the_issuer_of_the_definition_is_expected_in_callbacks(
    issuer: str | None, expected: str | None
) -> None:
    """RFC 9207: another server's code is never presented to this one. One that differs between tokens isn't known yet."""
    begun = started(replace(ACME, issuer=issuer))
    assert begun.issuer == expected
    query = urlencode({"state": STATE, "code": "c", "iss": "https://evil.test"})
    assert isinstance(read_callback(query, begun), Code if expected is None else Denied)


@pytest.mark.parametrize("client", ["", "me"])
def test_a_consent_needs_a_client_even_where_a_refresh_names_none(client: str) -> None:
    """The operator learns it before an owner's browser opens."""
    provider = Provider(definition=replace(ACME, client_auth=ClientAuth.OMITTED), client_id=client)
    if client:
        assert "client_id=me" in authorization_url(provider, OURS, {})
    else:
        with pytest.raises(NotSendable, match="no client_id"):
            authorization_url(provider, OURS, {})
