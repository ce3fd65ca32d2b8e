"""A definition's keys about consents: how one is asked for, and how it is withdrawn."""

import tomllib
from typing import Any

import pytest

from daemon.domain.provider import BodyFormat, ClientAuth, Definition, ErrorPattern, Pkce
from daemon.domain.revocation import (
    PresentedToken,
    Revocation,
    RevocationAuth,
    RevocationEnds,
    RevocationMethod,
)
from daemon.runtime.config.problems import SettingsInvalid
from daemon.runtime.config.providers.definitions import read_definition

FILE = "providers/trial.toml"
PLAIN = 'token_url = "https://example.com/token"\nclient_auth = "post"\n'
HOST = 'token_url = "https://${shop}.example.com/token"\nclient_auth = "post"\nvariables.shop.pattern = "[a-z]+"\n'
BASE = 'token_url = "${base}/token"\nclient_auth = "post"\nvariables.base = { kind = "base" }\n'
REVOKED = 'revoke_url = "https://example.com/revoke"\n'


def read(text: str) -> Definition:
    return read_definition("trial", tomllib.loads(text))


def refused(text: str) -> dict[str, str]:
    with pytest.raises(SettingsInvalid) as raised:
        read(text)
    problems = raised.value.problems
    found = {problem.where: f"{problem.what} {problem.do}" for problem in problems}
    assert len(found) == len(problems), "a problem is reported twice"
    return found


def test_every_key_becomes_the_domains_own_term() -> None:
    """A file that uses all keys loses none of them."""
    known = read(
        PLAIN
        + """
        authorize_url = "https://example.com/authorize?filter=3.1"
        par_url = "https://example.com/par"
        device_url = "https://example.com/device"
        scopes = ["read", "offline_access"]
        scope_separator = ","
        authorize_params = { prompt = "consent" }
        exchange_params = { expiring = "1" }
        exchange_auth = "basic"
        pkce = "required"
        account_from = "id_token.sub"
        consent_hint = "Ask for offline_access."
        manage_url = "https://example.com/account#apps"
        revoke_url = "https://example.com/revoke"
        [revoke]
        method = "DELETE"
        url = "https://api.example.com/${client_id}/grant"
        parameter = "access_token"
        body = "json"
        hint = true
        auth = "basic"
        token = "access"
        success = [{ field = "error", values = ["gone"], status = [404] }]
        """
    )
    assert known.par_url == "https://example.com/par"
    assert (known.authorize_url, known.device_url) == (
        "https://example.com/authorize?filter=3.1",
        "https://example.com/device",
    )
    assert (known.scopes, known.scope_separator) == (("read", "offline_access"), ",")
    assert (known.authorize_params, known.exchange_params) == ({"prompt": "consent"}, {"expiring": "1"})
    assert known.exchange_auth is ClientAuth.BASIC
    assert (known.pkce, known.account_from) == (Pkce.REQUIRED, "id_token.sub")
    assert (known.consent_hint, known.manage_url) == (
        "Ask for offline_access.",
        "https://example.com/account#apps",
    )
    assert known.revoke == Revocation(
        method=RevocationMethod.DELETE,
        url="https://api.example.com/${client_id}/grant",
        parameter="access_token",
        body=BodyFormat.JSON,
        hint=True,
        auth=ClientAuth.BASIC,
        token=PresentedToken.ACCESS,
        success=(ErrorPattern(field="error", values=frozenset({"gone"}), status=frozenset({404})),),
    )


@pytest.mark.parametrize(
    "keys",
    ["revoke = { ends = 'token' }", "grant = 'exchange'\nrevoke = { token = 'access', ends = 'token' }"],
)
def test_a_revocation_may_end_the_tokens_of_one_consent(keys: str) -> None:
    """By the refresh token, or by an access token that no refresh token stands behind."""
    revoke = read(PLAIN + REVOKED + keys).revoke
    assert revoke is not None
    assert revoke.ends is RevocationEnds.TOKEN


def test_what_a_file_leaves_out_is_the_standard_or_unknown() -> None:
    """RFC 7636 and RFC 7009; no page, no scope and no account that anybody has confirmed."""
    known = read(PLAIN)
    assert (known.authorize_url, known.device_url, known.manage_url) == (None, None, None)
    assert (known.par_url, known.callback_variables) == (None, ())
    assert (known.scopes, known.scope_separator, known.authorize_params) == ((), " ", {})
    assert (known.pkce, known.account_from, known.revoke) == (Pkce.S256, None, None)
    assert read(PLAIN + REVOKED + "revoke = {}").revoke == Revocation()
    assert (Revocation().parameter, Revocation().token, Revocation().ends) == ("token", "refresh", "grant")


@pytest.mark.parametrize("auth", [*ClientAuth, *RevocationAuth])
def test_a_revocation_authenticates_like_a_client_or_by_its_own_token(auth: str) -> None:
    """All names of `client_auth`, and bearer. "none" means that nothing names the client."""
    revoke = read(PLAIN + REVOKED + f'revoke.auth = "{auth}"').revoke
    assert revoke is not None
    assert revoke.auth == auth
    assert isinstance(revoke.auth, RevocationAuth) is (auth in {"bearer", "none"})


@pytest.mark.parametrize(
    "keys", ['auth = "bearer"', 'url = "https://example.com/${token}"', 'parameter = "access_token"', ""]
)
def test_the_token_is_in_one_part_of_the_request_only(keys: str) -> None:
    """A parameter beside the header or the URL would show it to one log more."""
    revoke = read(PLAIN + REVOKED + f"revoke = {{ {keys} }}").revoke
    assert revoke is not None
    wanted = {'parameter = "access_token"': "access_token", "": "token"}
    assert revoke.parameter == wanted.get(keys, "")


@pytest.mark.parametrize(
    "text",
    [
        HOST + 'domains = ["example.com"]\nauthorize_url = "https://${shop}.example.com/authorize"\n',
        HOST + 'domains = ["example.com"]\ndevice_url = "https://${shop}.example.com/device"\n',
        HOST + 'domains = ["example.com"]\nrevoke.url = "https://${shop}.example.com/r/${token}"\n',
        PLAIN + 'authorize_url = "https://example.com/${part}"\nvariables.part.pattern = "[a-z]+"\n',
        PLAIN + 'revoke.url = "https://example.com/${part}"\nvariables.part.pattern = "[a-z]+"\n',
        PLAIN + 'authorize_url = "http://127.0.0.1:9466/authorize"\n',
        BASE + 'authorize_url = "${base}/authorize"\nrevoke.url = "${base}/revoke/${token}"\n',
    ],
)
def test_the_urls_of_a_consent_have_variables_as_the_token_url_has(text: str) -> None:
    """They belong to the same server, and differ by connection as it does."""
    assert read(text)


REFUSALS: dict[str, tuple[str, str, str]] = {
    "a plain HTTP page": (PLAIN + "authorize_url = 'http://example.com/a'", "authorize_url", "https://"),
    "a page with a user": (PLAIN + "authorize_url = 'https://u@example.com/a'", "authorize_url", "plain URL"),
    "a page with a fragment": (PLAIN + "authorize_url = 'https://example.com/#a'", "authorize_url", "plain URL"),
    "a page that is a number": (PLAIN + "authorize_url = 5", "authorize_url", "string"),
    "an empty page": (PLAIN + "authorize_url = ''", "authorize_url", "string"),
    "a page with its own state": (
        PLAIN + "authorize_url = 'https://example.com/a?state=x'", "authorize_url", "state",
    ),
    "a page with another client's redirect": (
        PLAIN + "authorize_url = 'https://example.com/a?redirect_uri=https://evil.example'",
        "authorize_url", "redirect_uri",
    ),
    "a page with an empty parameter of ours": (
        PLAIN + "authorize_url = 'https://example.com/a?scope='", "authorize_url", "scope",
    ),
    "a page with a secret": (
        PLAIN + "authorize_url = 'https://example.com/a?client_secret=x'", "authorize_url", "client_secret",
    ),
    "a page with a variable in its query": (
        PLAIN + "authorize_url = 'https://example.com/a?x=${b}'\nvariables.b.pattern = 'b'", "authorize_url", "query",
    ),
    "a page with an undeclared variable": (
        PLAIN + "authorize_url = 'https://example.com/${b}'", "variables.b", "not declared",
    ),
    "a page on a variable host without domains": (
        PLAIN + "authorize_url = 'https://${b}.example.com/a'\nvariables.b.pattern = 'b'", "domains", "required",
    ),
    "a page outside of the domains": (
        PLAIN + "authorize_url = 'https://${b}.example.org/a'\nvariables.b.pattern = 'b'\ndomains = ['example.com']",
        "authorize_url", "outside",
    ),
    "a plain HTTP address for pushed requests": (
        PLAIN + "authorize_url = 'https://example.com/a'\npar_url = 'http://example.com/p'", "par_url", "https://"
    ),
    "pushed requests without a page": (PLAIN + "par_url = 'https://example.com/p'", "par_url", "authorize_url"),
    "callback variables without a page": (
        HOST + "domains = ['example.com']\ncallback_variables = ['shop']", "callback_variables", "authorize_url"
    ),
    "a callback variable that is none": (
        PLAIN + "authorize_url = 'https://example.com/a'\ncallback_variables = ['shop']",
        "callback_variables", "not declared",
    ),
    "a callback variable that every callback has": (
        PLAIN + "authorize_url = 'https://example.com/a'\ncallback_variables = ['code']",
        "callback_variables", "every callback",
    ),
    "a plain HTTP device address": (PLAIN + "device_url = 'http://example.com/d'", "device_url", "https://"),
    "a device address outside of the domains": (
        PLAIN + "device_url = 'https://${b}.example.org/a'\nvariables.b.pattern = 'b'\ndomains = ['example.com']",
        "device_url", "outside",
    ),
    "scopes in one text": (PLAIN + "scopes = ['read write']", "scopes.0", "one scope"),
    "a text for scopes": (PLAIN + "scopes = 'read'", "scopes", "list"),
    "an empty scope": (PLAIN + "scopes = ['']", "scopes.0", "string"),
    "a scope with a quote": (PLAIN + "scopes = ['a\"b']", "scopes.0", "one scope"),
    "a scope with a line break": (PLAIN + 'scopes = ["a\\nb"]', "scopes.0", "one scope"),
    "a scope twice": (PLAIN + "scopes = ['a', 'a']", "scopes", "twice"),
    "a scope with the separator": (
        PLAIN + "scopes = ['a,b']\nscope_separator = ','", "scopes", "separator",
    ),
    "an empty separator": (PLAIN + "scope_separator = ''", "scope_separator", "separator"),
    "a long separator": (PLAIN + "scope_separator = ', '", "scope_separator", "separator"),
    "a letter as separator": (PLAIN + "scope_separator = 'a'", "scope_separator", "separator"),
    "a line break as separator": (PLAIN + 'scope_separator = "\\n"', "scope_separator", "separator"),
    "a parameter of ours": (PLAIN + "authorize_params.state = 'x'", "authorize_params.state", "itself"),
    "a request object itself": (PLAIN + "authorize_params.request = 'e30.e30.'", "authorize_params.request", "itself"),
    "a request object": (PLAIN + "authorize_params.request_uri = 'x'", "authorize_params.request_uri", "itself"),
    "a secret in the browser": (
        PLAIN + "authorize_params.client_secret = 'x'", "authorize_params.client_secret", "browser",
    ),
    "an answer in the fragment": (
        PLAIN + "authorize_params.response_mode = 'fragment'", "authorize_params.response_mode", "query",
    ),
    "a variable in a parameter": (PLAIN + "authorize_params.a = '${b}'", "authorize_params.a", "variable"),
    "a number as parameter": (PLAIN + "authorize_params.a = 1", "authorize_params.a", "string"),
    "a text for parameters": (PLAIN + "authorize_params = 'a=b'", "authorize_params", "table"),
    "a code of its own": (PLAIN + "exchange_params.code = 'x'", "exchange_params.code", "itself"),
    "a verifier of its own": (
        PLAIN + "exchange_params.code_verifier = 'x'", "exchange_params.code_verifier", "itself",
    ),
    "a variable beside the code": (PLAIN + "exchange_params.a = '${b}'", "exchange_params.a", "variable"),
    "the weak challenge": (PLAIN + "pkce = 'plain'", "pkce", "S256"),
    "an account that is no path": (PLAIN + "account_from = 'id token'", "account_from", "path"),
    "an account with a hole": (PLAIN + "account_from = 'a..b'", "account_from", "path"),
    "a secret as account": (PLAIN + "account_from = 'data.access_token'", "account_from", "secret"),
    "a whole ID token as account": (PLAIN + "account_from = 'id_token'", "account_from", "secret"),
    "a token in the ID token as account": (PLAIN + "account_from = 'id_token.token'", "account_from", "secret"),
    "an empty hint": (PLAIN + "consent_hint = ' '", "consent_hint", "string"),
    "a page of owners by plain HTTP": (PLAIN + "manage_url = 'http://example.com'", "manage_url", "https://"),
    "a page of owners with a variable": (
        PLAIN + "manage_url = 'https://${b}.example.com'", "manage_url", "variable",
    ),
    "a page of owners that is a script": (PLAIN + "manage_url = 'javascript:x'", "manage_url", "plain URL"),
    "a consent to the client's own grant": (
        PLAIN + "grant = 'client_credentials'\nauthorize_url = 'https://example.com/a'", "authorize_url", "own grant",
    ),
    "a device for the client's own grant": (
        PLAIN + "grant = 'client_credentials'\ndevice_url = 'https://example.com/a'", "device_url", "own grant",
    ),
    "an account of the client's own grant": (
        PLAIN + "grant = 'client_credentials'\naccount_from = 'a'", "account_from", "own grant",
    ),
    "a text for a revocation": (PLAIN + REVOKED + "revoke = 'x'", "revoke", "table"),
    "an unknown key of a revocation": (PLAIN + REVOKED + "revoke.tokn = 'access'", "revoke.tokn", "unknown"),
    "a revocation without a URL": (PLAIN + "revoke.token = 'access'", "revoke", "no URL"),
    "a revocation by plain HTTP": (PLAIN + "revoke.url = 'http://example.com/r'", "revoke.url", "https://"),
    "a revocation outside of the domains": (
        PLAIN + "revoke.url = 'https://${b}.example.org/a'\nvariables.b.pattern = 'b'\ndomains = ['example.com']",
        "revoke.url", "outside",
    ),
    "a revocation whose token names the host": (
        PLAIN + "revoke.url = 'https://${token}.example.com/a'\ndomains = ['example.com']", "revoke.url", "before its path",
    ),
    "a revocation whose client names the host": (
        PLAIN + "revoke.url = 'https://${client_id}/a'\ndomains = ['example.com']", "revoke.url", "before its path",
    ),
    "a revocation with an undeclared variable": (
        PLAIN + "revoke.url = 'https://example.com/${b}'", "variables.b", "not declared",
    ),
    "a revocation by another method": (PLAIN + REVOKED + "revoke.method = 'PUT'", "revoke.method", "DELETE"),
    "a revocation with an unknown auth": (PLAIN + REVOKED + "revoke.auth = 'digest'", "revoke.auth", "bearer"),
    "a revocation of another token": (PLAIN + REVOKED + "revoke.token = 'id'", "revoke.token", "access"),
    "a revocation that ends something else": (PLAIN + REVOKED + "revoke.ends = 'all'", "revoke.ends", "grant"),
    "a refresh token that would live on": (
        PLAIN + REVOKED + "revoke = { token = 'access', ends = 'token' }", "revoke.ends", "live on",
    ),
    "a refresh token that would live on behind a bearer": (
        PLAIN + REVOKED + "revoke = { token = 'access', ends = 'token', auth = 'bearer' }", "revoke.ends", "live on",
    ),
    "a parameter that is none": (PLAIN + REVOKED + "revoke.parameter = 'a b'", "revoke.parameter", "name"),
    "a refresh token that is not there": (
        PLAIN + REVOKED + "grant = 'none'\nrevoke.hint = false", "revoke.token", "no refresh token",
    ),
    "a refresh token of an exchange": (
        PLAIN + REVOKED + "grant = 'exchange'\nrevoke.hint = false", "revoke.token", "no refresh token",
    ),
    "a token in the header and in the URL": (
        PLAIN + "revoke = { url = 'https://example.com/${token}', auth = 'bearer' }", "revoke.auth", "both",
    ),
    "a parameter beside the header": (
        PLAIN + REVOKED + "revoke = { auth = 'bearer', parameter = 'token' }", "revoke.parameter", "auth",
    ),
    "a parameter beside the URL": (
        PLAIN + "revoke = { url = 'https://example.com/${token}', parameter = 'token' }", "revoke.parameter", "url",
    ),
    "a hint without a parameter": (
        PLAIN + REVOKED + "revoke = { auth = 'bearer', hint = true }", "revoke.hint", "auth",
    ),
    "a body by GET": (PLAIN + REVOKED + "revoke = { method = 'GET', body = 'form' }", "revoke.body", "query"),
    "a body beside the header": (
        PLAIN + REVOKED + "revoke = { auth = 'bearer', body = 'json' }", "revoke.body", "auth",
    ),
    "a sign that shows nothing": (
        PLAIN + REVOKED + "revoke.success = [{ field = 'error' }]", "revoke.success", "neither",
    ),
    "a sign with a wait": (
        PLAIN + REVOKED + "revoke.success = [{ field = 'e', values = ['x'], wait = '1m' }]", "revoke.success", "wait",
    ),
    "a sign of an unknown token that shows nothing": (
        PLAIN + REVOKED + "revoke.unknown = [{ field = 'error' }]", "revoke.unknown", "neither",
    ),
    "a sign of an unknown token with a wait": (
        PLAIN + REVOKED + "revoke.unknown = [{ field = 'e', values = ['x'], wait = '1m' }]", "revoke.unknown", "wait",
    ),
    "a sign with a slow pattern": (
        PLAIN + REVOKED + "revoke.success = [{ field = 'e', pattern = '(a+)+b' }]", "revoke.success.0.pattern", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_each_mistake_is_refused_by_its_key(case: tuple[str, str, str]) -> None:
    """One mistake is one problem, named by file and key."""
    text, key, hint = case
    problems = refused(text)
    assert list(problems) == [f"{FILE}: {key}"]
    assert hint in problems[f"{FILE}: {key}"]


def test_domains_that_several_urls_lack_are_one_problem() -> None:
    """One line in the file corrects it."""
    text = (
        HOST
        + 'authorize_url = "https://${shop}.example.com/a"\nrevoke_url = "https://${shop}.example.com/r"\n'
    )
    assert list(refused(text)) == [f"{FILE}: domains"]


@pytest.mark.parametrize("value", [5, [5], [[]], {"a": {"b": {}}}, True])
@pytest.mark.parametrize(
    "key",
    ["authorize_url", "scopes", "scope_separator", "authorize_params", "pkce", "account_from", "revoke"],
)
def test_nonsense_is_refused_with_sentences(key: str, value: Any) -> None:
    """Whatever the types, the problems are those of this key."""
    with pytest.raises(SettingsInvalid) as raised:
        read_definition("trial", {**tomllib.loads(PLAIN), key: value})
    assert {problem.where.split(".toml: ")[1].split(".")[0] for problem in raised.value.problems} == {key}


def test_a_word_is_no_request_object() -> None:
    """BambooHR's page has a parameter of this name for something else."""
    assert read(PLAIN + "authorize_params.request = 'authorize'").authorize_params == {"request": "authorize"}
