"""The keys about the form of a request: what they bring, and what is refused by which name."""

import pytest

from daemon.domain.provider import Method, Provider, VariableKind
from daemon.domain.request import refresh_request
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from daemon.domain.token_url import NotSendable
from tests.runtime.config.providers.test_definitions import PLAIN, read, refused

GET = "method = 'GET'\nbody = 'query'\n"
USER = "params.user = '${user}'\nvariables.user = { kind = 'value', pattern = '[a-z]+@.+' }\n"


def test_get_carries_a_refresh_token_at_the_providers_word_only():
    """A proxy that repeats it would otherwise spend the successor."""
    assert read(PLAIN + GET + "repeatable = true").method is Method.GET


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (GET, "method", "repeatable = true"),
        ("method = 'GET'\nrepeatable = true", "method", 'body = "query"'),
        ("omit = ['client_id']", "omit", "grant_type"),
        ("omit = ['grant_type']\nparams.grant_type = 'x'", "omit", "one of the two"),
        ("params.a = true", "params.a", 'body = "json"'),
        ("params.a = ['x']\nbody = 'query'", "params.a", 'body = "json"'),
        ("params.a = ['${b}']\nbody = 'json'\nvariables.b.pattern = 'x'", "params.a", "in a list"),
        ("params.a = []\nbody = 'json'", "params.a", "list of texts"),
        ("params.a = nan\nbody = 'json'", "params.a", "a number"),
        ("params.a = { b = 1 }\nbody = 'json'", "params.a", "a number"),
        ("exchange_params.a = 1", "exchange_params.a", 'body = "json"'),
        ("exchange_url = 'https://example.com/code'", "exchange_url", "authorize_url"),
        ("exchange_auth = 'omitted'", "exchange_auth", 'Use "post"'),
        ("exchange_auth = 'private_key_jwt'", "exchange_auth", 'Use "post"'),
        ("echo = ['data.resource']", "echo", "top of the reply"),
        ("echo = ['resource']\nparams.resource = 'x'", "echo", "sent anyway"),
        ("echo = ['grant_type']", "echo", "sent anyway"),
        ("echo = ['session_token']", "echo", "plain text"),
        ("spends_on_refusal = true\ngrant = 'exchange'", "spends_on_refusal", "no refresh token"),
        ("assertion_audience = 'issuer'", "assertion_audience", "Add issuer"),
        ("assertion_audience = 'me'", "assertion_audience", "token_url, issuer"),
        ("assertion_algorithms = ['HS256']", "assertion_algorithms.0", "RS256"),
        ("issuer = 'http://example.com'", "issuer", "https://"),
        ("issuer = 'https://${b}.example.com'\nvariables.b.pattern = 'x'", "domains", "required"),
        ("headers.X-A = '${b}'", "variables.b", "not declared"),
        ("params.a = '${b}'\nvariables.b.kind = 'value'", "variables.b.pattern", "requires it"),
        (
            "params.a = '${b}'\nvariables.b = { kind = 'value', pattern = '(a+)+b' }",
            "variables.b.pattern",
            "too long",
        ),
        ("params.a = '${b}'\nvariables.b.pattern = '.+@.+'", "variables.b.pattern", "unsafe"),
    ],
)
def test_nonsense_is_refused_by_its_key(text, key, words):
    """With the key to change, and to what."""
    assert words in refused(PLAIN + text)[f"providers/trial.toml: {key}"]


def test_a_value_never_stands_in_a_url():
    """Its pattern may match what would lead a secret elsewhere."""
    text = PLAIN.replace("/token", "/${user}") + USER
    assert 'Write kind = "name"' in refused(text)["providers/trial.toml: variables.user.kind"]


@pytest.mark.parametrize("value", ["a b@c", "a@b\r\nX: c", "a@\u00e9", "A@b", "", "a@" + "b" * 260])
def test_a_value_is_visible_ascii_that_matches_its_pattern(value):
    """It may stand in a header, so that no line end gets there from a database."""
    known = read(PLAIN + USER + "headers.X-User = '${user}'")
    assert known.variables["user"].kind is VariableKind.VALUE
    provider = Provider(definition=known, client_id="me", client_secret=Secret("s"))
    token = Token(
        id="trial:1",
        provider="trial",
        account="1",
        state=State.ACTIVE,
        refresh_token=Secret("r"),
        vars={"user": value},
    )
    with pytest.raises(NotSendable, match="user"):
        refresh_request(provider, token, now=None)


@pytest.mark.parametrize("value", ["a b@c", "a@b\r\nX: c", "a@\u00e9", "a@b\n"])
def test_the_pattern_of_a_value_alone_matches_nothing_but_visible_ascii(value):
    """A careless `.+` in a definition is not the last guard."""
    assert read(PLAIN + USER).variables["user"].pattern.fullmatch(value) is None
