"""Definitions: those we ship are what is known, and no definition may lead a secret astray."""

import re
import tomllib
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daemon.domain.provider import (
    BodyFormat,
    ClientAuth,
    ExpiryUnit,
    Grant,
    Method,
    Rate,
    ReplyFields,
    Rotation,
    VariableKind,
)
from daemon.runtime.config.fields import known_keys
from daemon.runtime.config.problems import SettingsInvalid
from daemon.runtime.config.providers.definition_table import DefinitionTable
from daemon.runtime.config.providers.definitions import SECTION_KEYS, read_definition, shipped
from daemon.runtime.config.providers.provider_settings import ProviderTable
from daemon.runtime.config.providers.shipped_tables import shipped_tables

PLAIN = 'token_url = "https://example.com/token"\nclient_auth = "post"\n'
HOST = 'token_url = "https://${shop}.example.com/token"\nclient_auth = "post"\n'
BASE = 'token_url = "${base}/token"\nclient_auth = "post"\nvariables.base = { kind = "base" }\n'


def read(text: str):
    return read_definition("trial", tomllib.loads(text))


def refused(text: str) -> dict[str, str]:
    with pytest.raises(SettingsInvalid) as raised:
        read(text)
    return {problem.where: f"{problem.what} {problem.do}" for problem in raised.value.problems}


def variable(pattern: str) -> re.Pattern[str]:
    text = f"{HOST}domains = ['example.com']\n[variables.shop]\npattern = '''{pattern}'''"
    return read(text).variables["shop"].pattern


def test_the_definitions_of_now_are_shipped():
    """Each file is found, read without a problem, and read once."""
    assert set(shipped()) >= {"google", "microsoft", "pipedrive", "sandbox", "xero"}
    assert shipped() is shipped()
    assert all(known.name == name for name, known in shipped().items())
    assert all(known.title and known.as_of and known.notes for known in shipped().values())


@pytest.mark.parametrize(
    ("more", "after"),
    [
        ("", timedelta(minutes=1)),
        ("grant = 'exchange'", timedelta(minutes=1)),
        ("verified = true", None),
        ("confirm_after = '0s'", None),
        ("confirm_after = '7m'", timedelta(minutes=7)),
        ("verified = true\nconfirm_after = '7m'", timedelta(minutes=7)),
        ("grant = 'none'", None),
        ("grant = 'client_credentials'", None),
    ],
)
def test_a_rejection_must_be_repeated_where_nobody_has_verified_how_one_looks(more, after):
    """Unless the definition says otherwise: a wrong guess would send owners to consent for nothing."""
    assert read(PLAIN + more).confirm_after == after


@pytest.mark.parametrize(
    ("grants", "problem"),
    [
        ("['refresh_token', 'client_credentials']", None),
        ("['refresh_token']", None),
        ("['client_credentials']", "own grant"),
        ("['refresh_token', 'exchange']", "can't be combined"),
        ("['password']", "not one of the possible values"),
        ("'client_credentials'", "must be a list"),
    ],
)
def test_the_client_s_own_grant_is_an_addition_that_is_spelt_out(grants, problem):
    """Beside the definition's own, which stays; by default no document may name another."""
    text = PLAIN + f"grants = {grants}"
    if problem is None:
        assert read(text).grants == ({Grant.CLIENT_CREDENTIALS} if "client" in grants else set())
    else:
        assert problem in "".join(refused(text).values())
    assert not read(PLAIN).allows("client_credentials")


def test_no_shipped_definition_lets_a_document_choose_its_grant():
    """That is for the operator to allow."""
    assert {known.grants for known in shipped().values()} == {frozenset()}


@pytest.mark.parametrize("name", sorted(shipped_tables()))
def test_each_shipped_definition_says_where_it_is_from(name: str):
    """A fact without a page is a rumour; the sandbox is our own, and any provider has keys."""
    assert shipped()[name].docs.startswith("https://") or name in ("api-key", "sandbox")


def test_pipedrive_stores_whatever_comes_and_keeps_the_api_host():
    """Whether it rotates is not known, so nothing is assumed."""
    known = shipped()["pipedrive"]
    assert (known.client_auth, known.rotation, known.grace) == (
        ClientAuth.BASIC,
        Rotation.SOMETIMES,
        timedelta(),
    )
    assert known.keep == ("api_domain",)
    assert known.refresh_idle == timedelta(days=60)


def test_xero_always_rotates_and_forgives_for_thirty_minutes():
    """Its staff's word."""
    known = shipped()["xero"]
    assert (known.client_auth, known.rotation) == (ClientAuth.BASIC, Rotation.ALWAYS)
    assert (known.grace, known.access_lifetime) == (timedelta(minutes=30), timedelta(minutes=30))


def test_google_never_rotates():
    """A reply without a refresh token is the rule there."""
    known = shipped()["google"]
    assert (known.client_auth, known.rotation) == (ClientAuth.POST, Rotation.NEVER)


def test_microsoft_tells_a_loop_from_a_dead_grant():
    """AADSTS50196 comes as invalid_grant, and passes."""
    known = shipped()["microsoft"]
    (loop,) = known.unavailable
    assert loop.field == "error_description"
    assert loop.pattern
    assert loop.pattern.search("AADSTS50196: The server terminated an operation.\r\nTrace ID: x")
    assert not loop.pattern.search("AADSTS501960: something else")
    assert known.confirm_after == timedelta(minutes=1)


@pytest.mark.parametrize("tenant", ["common", "organizations", "consumers", "contoso.onmicrosoft.com",
                                    "72f988bf-86f1-41af-91ab-2d7cd011db47"])  # fmt: skip
def test_microsofts_tenants_are_words_domains_and_guids(tenant: str):
    """What its pages name."""
    assert shipped()["microsoft"].variables["tenant"].pattern.fullmatch(tenant)


@pytest.mark.parametrize("tenant", ["", ".", "..", "a", "contoso..com", "a/b.com", "common/x", "common\n", "a.com#",
                                    "x@evil.com", "evil.com:443", "é.com", "a%2eb.com", "-a.com", ".a.com"])  # fmt: skip
def test_no_other_text_is_a_tenant(tenant: str):
    """The value comes from a database, and the client secret goes where it leads."""
    assert not shipped()["microsoft"].variables["tenant"].pattern.fullmatch(tenant)


def test_the_sandbox_is_strict_and_local():
    """As harsh as the harshest provider."""
    known = shipped()["sandbox"]
    assert (known.token_url, known.client_auth) == ("http://127.0.0.1:9466/token", ClientAuth.BASIC)
    assert (known.rotation, known.grace, known.verified) == (Rotation.ALWAYS, timedelta(), True)


def test_every_key_of_a_file_becomes_the_domains_own_term():
    """A file that uses all keys loses none of them."""
    known = read(
        """
        title = "Trial"
        verified = true
        docs = "https://example.com/docs"
        as_of = 2026-11-21
        token_url = "https://${shop}.example.com/token"
        revoke_url = "https://example.com/revoke"
        domains = ["example.com", "example.org"]
        client_auth = "secret_as_user"
        grant = "exchange"
        method = "POST"
        body = "json"
        names = { client_id = "client_key" }
        params = { scope = "all", account = "a-${account}" }
        headers = { X-Version = "2026 01" }
        access_lifetime = "2h"
        expires_in_unit = "ms"
        refresh_idle = "7d"
        refresh_lifetime = "90d"
        rotation = "never"
        grace = "30s"
        reuse_refused = true
        window = "90s"
        earliest = "1h"
        min_interval = "1m"
        rate = "10/10m"
        confirm_after = "2m"
        keep = ["team.id"]
        notes = ["one"]
        [reply]
        access_token = "data.access_token"
        refresh_token = ["data.refresh_token", "refreshToken"]
        token_type = "data.type"
        scope = "data.scope"
        expires_in = "data.expires_in"
        expires_at = "expiresAt"
        refresh_expires_in = "data.refresh_expires_in"
        [variables.account]
        pattern = '[0-9]+'
        [variables.shop]
        pattern = '[a-z]+'
        default = "main"
        [[rejected]]
        field = "status"
        values = ["DEAD", "GONE"]
        status = [400, 401]
        [[misconfigured]]
        field = "error"
        pattern = '^bad_'
        [[unavailable]]
        field = "error"
        values = ["later"]
        wait = "10m"
        doubt = true
        """
    )
    assert (known.name, known.title, known.verified, known.as_of) == (
        "trial",
        "Trial",
        True,
        date(2026, 11, 21),
    )
    assert (known.body, known.client_auth, known.expires_in_unit) == (
        BodyFormat.JSON, ClientAuth.SECRET_AS_USER, ExpiryUnit.MILLISECONDS,
    )  # fmt: skip
    assert (known.grant, known.method, known.names) == (
        Grant.EXCHANGE,
        Method.POST,
        {"client_id": "client_key"},
    )
    assert known.domains == ("example.com", "example.org")
    assert known.params == {"scope": "all", "account": "a-${account}"}
    assert known.headers == {"X-Version": "2026 01"}
    assert known.reply == ReplyFields(
        access_token=("data.access_token",),
        refresh_token=("data.refresh_token", "refreshToken"),
        token_type=("data.type",),
        scope=("data.scope",),
        expires_in=("data.expires_in",),
        expires_at=("expiresAt",),
        refresh_expires_in=("data.refresh_expires_in",),
    )
    assert (known.access_lifetime, known.refresh_idle, known.refresh_lifetime) == (
        timedelta(hours=2), timedelta(days=7), timedelta(days=90),
    )  # fmt: skip
    assert (known.rotation, known.grace, known.reuse_refused) == (Rotation.NEVER, timedelta(seconds=30), True)
    assert (known.window, known.earliest, known.min_interval) == (
        timedelta(seconds=90), timedelta(hours=1), timedelta(minutes=1),
    )  # fmt: skip
    assert known.rates == (Rate(count=10, per=timedelta(minutes=10)),)
    assert (known.confirm_after, known.keep) == (timedelta(minutes=2), ("team.id",))
    assert known.rejected[0].values == {"DEAD", "GONE"}
    assert known.rejected[0].status == {400, 401}
    assert known.misconfigured[0].pattern == re.compile("^bad_")
    assert known.unavailable[0].values == {"later"}
    assert (known.unavailable[0].wait, known.unavailable[0].doubt) == (timedelta(minutes=10), True)
    assert known.variables["shop"].default == "main"
    assert known.revoke_url == "https://example.com/revoke"


def test_what_a_file_leaves_out_is_the_standard():
    """RFC 6749's grant, names and places."""
    known = read(PLAIN)
    assert (known.grant, known.method, known.body) == (Grant.REFRESH_TOKEN, Method.POST, BodyFormat.FORM)
    assert (known.reply, known.names, known.rates) == (ReplyFields(), {}, ())
    assert read(f"{PLAIN}reply.access_token = ['token']\n").reply == ReplyFields(access_token=("token",))


@pytest.mark.parametrize("grant", Grant)
@pytest.mark.parametrize("auth", ClientAuth)
@pytest.mark.parametrize("body", BodyFormat)
def test_every_grant_auth_and_body_can_be_written(grant: Grant, auth: ClientAuth, body: BodyFormat):
    """And they go with one another."""
    known = read(PLAIN.replace('"post"', f'"{auth}"') + f"grant = '{grant}'\nbody = '{body}'\n")
    assert (known.grant, known.client_auth, known.body) == (grant, auth, body)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/10m", Rate(count=10, per=timedelta(minutes=10))),
        ("5/s", Rate(count=5, per=timedelta(seconds=1))),
        ("1/500ms", Rate(count=1, per=timedelta(milliseconds=500))),
        ("50000/1d", Rate(count=50_000, per=timedelta(days=1))),
        ("200/15m", Rate(count=200, per=timedelta(minutes=15))),
    ],
)
def test_a_rate_is_requests_in_a_time(text: str, rate: Rate):
    """A unit alone means one of it."""
    assert read(f"{PLAIN}rate = '{text}'\n").rates == (rate,)


@pytest.mark.parametrize(
    "text", ["10", "10/", "/m", "0/m", "5/0s", "-1/m", "1.5/m", "5 / m", "5/w", "a/b", "5/m/s", "5/m\\n"]
)
def test_no_other_text_is_a_rate(text: str):
    """It would hold everything up, or nothing."""
    assert "not a rate" in refused(f'{PLAIN}rate = "{text}"\n')[f"{FILE}: rate"]
    assert "not a rate" in refused(f"{PLAIN}rate = 10\n")[f"{FILE}: rate"]


@pytest.mark.parametrize("url", ["${base}", "${base}/", "${base}/realms/${realm}/token"])
def test_a_base_begins_a_url(url: str):
    """Scheme, host and perhaps a path come from the token; its host is checked when it is filled in."""
    more = "variables.realm.pattern = '[a-z]+'\n" if "realm" in url else ""
    known = read(BASE.replace("${base}/token", url) + more)
    assert known.variables["base"].kind is VariableKind.BASE
    assert known.token_url == url


@pytest.mark.parametrize("default", ["https://accounts.example.com", "http://127.0.0.1:8080/auth/"])
def test_a_bases_default_is_a_base(default: str):
    """Where most tokens go; whether it may, is for the domains and the operator."""
    known = read(BASE.replace('"base" }', f'"base", default = "{default}" }}'))
    assert known.variables["base"].default == default


FILE = "providers/trial.toml"
REFUSALS: dict[str, tuple[str, str, str]] = {
    "no URL": ("client_auth = 'post'", "token_url", "required"),
    "no auth": ("token_url = 'https://x.com'", "client_auth", "required"),
    "an unknown key": (PLAIN + "rotatio = 'never'", "rotatio", "rotation"),
    "an unknown key in a variable": (
        HOST + "domains=['example.com']\nvariables.shop = { pattern = 'a', patern = 'b' }", "variables.shop.patern", "unknown",
    ),
    "an unknown word": (PLAIN + "rotation = 'daily'", "rotation", "always"),
    "a text for a list": (PLAIN + "keep = 'api_domain'", "keep", "list"),
    "a list in quotes": (PLAIN + """keep = '["api_domain"]'""", "keep", "list"),
    "a text for a flag": (PLAIN + "repeatable = 'true'", "repeatable", "without quotes"),
    "a text for a number": (PLAIN + "live_tokens = '5'", "live_tokens", "without quotes"),
    "a text for a status": (
        PLAIN + "rejected = [{ field = 'e', values = ['x'], status = ['400'] }]", "rejected.0.status.0", "without quotes",
    ),
    "a text for a table": (PLAIN + "params = 'x'", "params", "table"),
    "a text for a date": (PLAIN + "as_of = 'soon'", "as_of", "date"),
    "a bad status": (PLAIN + "rejected = [{ field = 'e', values = ['x'], status = [99] }]", "rejected.0.status.0", "100"),
    "a sign without field": (PLAIN + "rejected = [{ values = ['x'] }]", "rejected", "no field"),
    "a sign that shows nothing": (PLAIN + "unavailable = [{ field = 'error' }]", "unavailable", "neither"),
    "a sign that is no pattern": (PLAIN + "rejected = [{ field = 'e', pattern = '(' }]", "rejected.0.pattern", "regular"),
    "a number of rejections": (PLAIN + "confirm_after = 1", "confirm_after", "duration"),
    "an unknown grant": (PLAIN + "grant = 'password'", "grant", "exchange"),
    "an unknown auth": (PLAIN.replace("post", "digest"), "client_auth", "secret_as_user"),
    "an unknown body": (PLAIN + "body = 'xml'", "body", "query"),
    "an unknown place in a reply": (PLAIN + "reply.acess_token = 'x'", "reply.acess_token", "unknown"),
    "a place that is none": (PLAIN + "reply.access_token = []", "reply.access_token", "string"),
    "an empty place": (PLAIN + "reply.access_token = ['']", "reply.access_token", "string"),
    "a wait for the dead": (
        PLAIN + "rejected = [{ field = 'e', values = ['x'], wait = '5m' }]", "rejected", "unavailable",
    ),
    "a doubt about the client": (
        PLAIN + "misconfigured = [{ field = 'e', values = ['x'], doubt = true }]", "misconfigured", "unavailable",
    ),
    "a refresh token by GET": (PLAIN + "method = 'GET'\nbody = 'query'", "method", "repeat"),
    "a body by GET": (PLAIN + "method = 'GET'\ngrant = 'exchange'", "method", "query"),
    "a name for nothing of ours": (PLAIN + "names.scope = 'scopes'", "names.scope", "client_id"),
    "a parameter that replaces what is presented": (
        PLAIN + "names.refresh_token = 'token'\nparams.token = 'x'", "params.token", "itself",
    ),
    "an assertion among the parameters": (
        PLAIN + "params.client_assertion = 'x'", "params.client_assertion", "itself",
    ),
    "an undeclared variable in a parameter": (PLAIN + "params.a = '${b}'", "variables.b", "not declared"),
    "the scopes in a parameter": (PLAIN + "params.scope = '${scopes}'", "variables.scopes", "Only the claims"),
    "JSONPath in a reply": (PLAIN + "reply.access_token = '$.data.token'", "reply.access_token", "is not a path"),
    "brackets in one of several paths": (
        PLAIN + "reply.error_code = ['error', 'errors[0].code']", "reply.error_code", "is not a path",
    ),
    "an empty step of a path": (PLAIN + "reply.scope = 'data..scope'", "reply.scope", "is not a path"),
    "JSONPath in a sign": (
        PLAIN + "rejected = [{ field = '$.error', values = ['gone'] }]", "rejected.0.field", "is not a path",
    ),
    "a client's id": (PLAIN + "client_id = 'me'", "client_id", "section [providers."),
    "a secret to keep": (PLAIN + "keep = ['team.id', 'authed_user.access_token']", "keep", "in plain text"),
    "a base that goes on with a host": (
        BASE.replace("/token", ".example.com/token"), "token_url", "continue with",
    ),
    "a base that goes on with a port": (BASE.replace("/token", ":8443/token"), "token_url", "continue with"),
    "a base that goes on with a user": (BASE.replace("/token", "@evil.com/token"), "token_url", "continue with"),
    "a base as a path": (BASE.replace("${base}", "https://example.com/${base}"), "token_url", "Begin"),
    "a base as a host": (BASE.replace("${base}", "https://${base}"), "token_url", "Begin"),
    "a base twice": (BASE.replace("/token", "/${base}"), "token_url", "Begin"),
    "a base with a pattern": (BASE.replace('"base" }', '"base", pattern = "a" }'), "variables.base.pattern", "name"),
    "a name without a pattern": (
        PLAIN.replace("/token", "/${a}") + "variables.a.default = 'b'", "variables.a.pattern", "requires it",
    ),
    "a base's default that is none": (
        BASE.replace('"base" }', '"base", default = "accounts.example.com" }'), "variables.base.default", "match",
    ),
    "plain HTTP": (PLAIN.replace("https", "http"), "token_url", "https://"),
    "another scheme": (PLAIN.replace("https", "ftp"), "token_url", "https://"),
    "no scheme": (PLAIN.replace("https://", ""), "token_url", "plain URL"),
    "no host": (PLAIN.replace("example.com", ""), "token_url", "plain URL"),
    "a bad port": (PLAIN.replace(".com", ".com:x"), "token_url", "plain URL"),
    "a user": (PLAIN.replace("example", "user@example"), "token_url", "plain URL"),
    "a blank": (PLAIN.replace("/token", "/to ken"), "token_url", "plain URL"),
    "a backslash": (PLAIN.replace("//example", "//evil.com\\\\@example"), "token_url", "plain URL"),
    "a fragment": (PLAIN.replace("/token", "/token#x"), "token_url", "plain URL"),
    "a plain HTTP revocation": (PLAIN + "revoke_url = 'http://example.com'", "revoke_url", "https://"),
    "a host without domain": (HOST + "variables.shop.pattern = 'a'", "domains", "required"),
    "a host outside of the domain": (
        HOST + "domains = ['example.org']\nvariables.shop.pattern = 'a'", "token_url", "outside",
    ),
    "a host that only looks inside": (
        HOST.replace("${shop}.e", "${shop}.bade") + "domains = ['example.com']\nvariables.shop.pattern = 'a'", "token_url", "outside",
    ),
    "a variable loopback": (
        HOST.replace("https", "http").replace("example.com", "localhost") + "domains = ['a.localhost']\nvariables.shop.pattern = 'a'",
        "token_url", "https://",
    ),
    "a port beside a variable host": (
        HOST.replace(".com", ".com:8443") + "domains = ['example.com']\nvariables.shop.pattern = 'a'", "token_url", "without a port",
    ),
    "a domain that is a whole country": (HOST + "domains = ['com']\nvariables.shop.pattern = 'a'", "domains", "not a domain"),
    "a variable in the query": (
        PLAIN.replace("/token", "/token?x=${a}") + "variables.a.pattern = 'a'", "token_url", "query",
    ),
    "an undeclared variable": (PLAIN.replace("/token", "/${a}"), "variables.a", "not declared"),
    "an unused variable": (PLAIN + "variables.a.pattern = 'a'", "variables.a", "not used"),
    "a default that does not match": (
        PLAIN.replace("/token", "/${a}") + "variables.a = { pattern = 'a', default = 'b' }", "variables.a.default", "match",
    ),
    "a secret among the parameters": (PLAIN + "params.client_secret = 'x'", "params.client_secret", "itself"),
    "an Authorization header": (PLAIN + "headers.AUTHORIZATION = 'x'", "headers.AUTHORIZATION", "can't be set"),
    "a header about how the body is sent": (
        PLAIN + "headers.Transfer-Encoding = 'chunked'",
        "headers.Transfer-Encoding",
        "can't be set",
    ),
    "a header with a line break": (PLAIN + 'headers.X-A = "a\\r\\nB: c"', "headers.X-A", "header"),
    "a header's odd name": (PLAIN + "headers.'X A' = 'x'", "headers.X A", "can't be set"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_each_mistake_is_refused_by_its_key(case: tuple[str, str, str]):
    """One mistake is one problem, named by file and key."""
    text, key, hint = case
    problems = refused(text)
    assert hint in problems[f"{FILE}: {key}"]
    assert len(problems) == 1


def test_a_form_s_name_in_brackets_is_a_path():
    """Some servers write forms like that, and the whole name is one step."""
    assert read(PLAIN + "reply.error_code = 'error[code]'").reply.error_code == ("error[code]",)


def test_each_key_of_the_client_is_sent_to_the_section():
    """A guess at a similar key of a definition would mislead: client_secret is no client_auth."""
    assert set(known_keys(ProviderTable)) - set(known_keys(DefinitionTable)) == SECTION_KEYS


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:99"])
def test_plain_http_is_for_loopback(host: str):
    """The sandbox needs no certificate."""
    assert read(f"token_url = 'http://{host}/token'\nclient_auth = 'post'")


@pytest.mark.parametrize(
    "pattern",
    [".+", ".*", "[^/]+", r"\S+", "[a-z.]+", "[a-z/]+", r"[\w.@-]+", "[a-z:0-9]+", r"\w+\s?", "a.b", "[a-z]+(?:%[0-9]+)?|%a",
     "(?i)[a-z]+", "a)|(b", "("],
)  # fmt: skip
def test_sloppy_patterns_are_refused(pattern: str):
    """The mistake that would send a client secret to somebody else's server."""
    where = f"{FILE}: variables.shop.pattern"
    text = f"{HOST}domains = ['example.com']\n[variables.shop]\npattern = '''{pattern}'''"
    assert where in refused(text)


HARMFUL = "/\\@:?#%& \t\n\r\x00\u3002\uff0f\uff20"


# Seven characters and more are longer than any probe.
SLOPPY = [
    variable(r"[a-z9-]+|bb+(?:.|\n){6,}"),
    variable("[a-z0-9-]+"),
    shipped()["microsoft"].variables["tenant"].pattern,
]


@given(value=st.text(alphabet="ab.-_~9" + HARMFUL, min_size=1, max_size=12))
@example("a/b").via("a path")
@example("evil.com/").via("a host")
@example("..").via("a parent")
@example("bb/evil.com").via("what the probes miss")
def test_no_variable_ever_takes_a_harmful_value(value: str):
    """Even a pattern that the probes let pass is guarded: nothing that steers a URL comes through."""
    for pattern in SLOPPY:
        if pattern.fullmatch(value):
            assert not set(value) & set(HARMFUL)
            assert not value.startswith(".")


HONEST = variable("[a-z0-9-]+")


@given(name=st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True))
def test_honest_values_pass(name: str):
    """The guard refuses nothing that a host name needs."""
    assert HONEST.fullmatch(name)


def test_a_definition_with_many_mistakes_tells_them_all():
    """As the configuration does."""
    problems = refused(PLAIN + "rotation = 'x'\nconfirm_after = 'y'\nnope = 1\n")
    assert set(problems) == {f"{FILE}: rotation", f"{FILE}: confirm_after", f"{FILE}: nope"}


@pytest.mark.parametrize(
    "table", [{}, {"token_url": 5, "client_auth": []}, {"token_url": "", "client_auth": None}]
)
def test_nonsense_is_refused_with_sentences(table: dict[str, Any]):
    """Whatever the types."""
    with pytest.raises(SettingsInvalid) as raised:
        read_definition("trial", table)
    assert [problem.where for problem in raised.value.problems] == [
        f"{FILE}: token_url",
        f"{FILE}: client_auth",
    ]
