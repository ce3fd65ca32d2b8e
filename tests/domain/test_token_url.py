"""Where a request goes: never to where a database alone says."""

import re
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from daemon.domain.provider import Definition, Provider, Variable, VariableKind
from daemon.domain.token_url import NotSendable, fills_host, is_allowed, is_loopback, token_url

PLAIN = Definition(name="acme", title="Acme", token_url="https://login.acme.test/token")
LOOSE = Variable(pattern=re.compile(r"(?s).*"))  # whatever the pattern lets through, the host must hold
BASE = Variable(pattern=re.compile(""), kind=VariableKind.BASE)
LABEL = "https://${v}.acme.test/"
REALM = "${base}/realms/main/token"

NO_LABELS = [
    "evil.test/",
    "evil.test#",
    "evil.test?",
    "evil.test\\",
    "u@evil.test/",
    "u:p@x",
    "x:1/",
    "evil.test%2f",
    "evil.test%5c",
    "evil.test%00",
    "evil.test;",
    *(
        "",
        ".",
        "..",
        "a..b",
        "-\t",
        " ",
        "a\nb",
        "a\r\nHost: evil.test",
        "a\x00b",
        "é",
        "a\uff0fb",
        "[",
        "[::1]/",
    ),
    *("a,b", "a\u3002b", "a\u200bb", "a\u00adb", "\u212a"),
]
NO_HOSTS = [
    "evil.test",
    "acme.test.evil.test",
    "evilacme.test",
    "u@acme.test",
    "acme.test@evil.test",
    "127.0.0.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "localhost",
    "metadata",
    "xn--cme-fla.test",
    "test",
    *(
        "acme.test:8443",
        "acme.test:",
        "acme.test:443",
        "acme.test.",
        "\tacme.test",
        "acme.test/..",
        ".acme.test",
    ),
    *("acme.test\\@evil.test", "evil.test\\.acme.test", "evil.test/.acme.test", "evil.test#.acme.test"),
    *("evil.test%2f.acme.test", "evil.test?.acme.test", "//acme.test", "acme\uff0etest", "\u24d0cme.test"),
]
NO_PATHS = [
    "..",
    ".",
    "a/../b",
    "%2e%2E",
    ".%2e",
    "a\\..\\b",
    "a b",
    "\x7f",
    "ü",
    "a\r\nb",
    "a\u3002\u3002/b",
]
NO_ORIGINS = [
    *("https://evil.test", "http://acme.test", "//acme.test", "acme.test", "file:///etc", "ftp://acme.test"),
    *("javascript://acme.test", "", "/", "https:", "https:/acme.test", "https:///acme.test"),
    *("https://u@acme.test", "https://u:p@acme.test", "https://acme.test@evil.test", "https://@acme.test"),
    *("https://acme.test:8443", "https://acme.test:443", "https://acme.test:", "https://acme.test:0x1bb"),
    *("https://acme.test.", "https://acme.test..", "https://.acme.test", "https://a..acme.test"),
    *("https://acme.test.evil.test", "https://evilacme.test", "https://acme.testevil.test", "https://test"),
    *(
        "https://127.0.0.1",
        "https://2130706433",
        "https://0x7f.1",
        "https://0x7f000001",
        "https://017700000001",
    ),
    *("https://[::1]", "https://[::ffff:127.0.0.1]", "https://[::127.0.0.1]", "https://169.254.169.254"),
    *("https://acme.test\\", "https://acme.test\\@evil.test", "https://evil.test\\.acme.test"),
    *("https:\\\\acme.test", "https://acme.test/..", "https://acme.test/../x", "https://acme.test/."),
    *("https://acme.test/%2e%2e", "https://acme.test%2eevil.test", "https://acme.test%2f.evil.test"),
    *("https://acme.test ", " https://acme.test", "https://acme.test\n", "https://acme.test/\r\nX: y"),
    *("ht\ttps://acme.test", "https://acme.test\x00", "https://acme\u3002test", "https://\u24d0cme.test"),
    *("https://acme.te\u017ft", "https://\u0430cme.test", "https://acme.test/\u00fc", "https://$acme.test"),
]
# These stay at the host, but a base holds nothing but scheme, host, port and path.
NO_BASES = [
    *("HTTPS://acme.test", "https://acme.test?", "https://acme.test?x=1", "https://acme.test#"),
    *(
        "https://acme.test/#x",
        "https://acme.test//evil.test",
        "https://acme.test//",
        "https://acme.test/a%2fb",
    ),
    *("https://acme.test/a;b", "https://acme.test/${base}", "https://acme.test/a@b", "https://acme.test/:1"),
]


def templated(url, *, domains=("acme.test",), allowed=(), **variables):
    known = replace(PLAIN, token_url=url, domains=domains, variables=variables or {"v": LOOSE, "base": BASE})
    return Provider(definition=known, client_id="me", allowed_hosts=frozenset(allowed))


# ------------------------------------------------------------------------------------------------ what is filled


@pytest.mark.parametrize(
    ("url", "values", "filled"),
    [
        ("https://${v}.acme.test/token", {"v": "eu-1"}, "https://eu-1.acme.test/token"),
        ("https://${v}/token", {"v": "acme.test"}, "https://acme.test/token"),
        ("https://${v}/token", {"v": "A.Acme.test"}, "https://A.Acme.test/token"),
        ("https://login.other.test/${v}/token", {"v": "common"}, "https://login.other.test/common/token"),
        ("https://login.acme.test/token", {"v": "ignored"}, "https://login.acme.test/token"),
        ("https://${v}.acme.test/${v}", {"v": "a"}, "https://a.acme.test/a"),
        (REALM, {"base": "https://acme.test"}, "https://acme.test/realms/main/token"),
        (REALM, {"base": "https://sso.acme.test/"}, "https://sso.acme.test/realms/main/token"),
        (
            REALM,
            {"base": "https://SSO.Acme.test/auth/v1/"},
            "https://SSO.Acme.test/auth/v1/realms/main/token",
        ),
        ("${base}", {"base": "https://acme.test/oauth/token"}, "https://acme.test/oauth/token"),
        ("${base}/${v}", {"base": "https://acme.test", "v": "a"}, "https://acme.test/a"),
    ],
)
def test_variables_fill_the_url(url, values, filled):
    """In the host, in the path, as its beginning, more than once; the operator's own URL stays."""
    assert token_url(templated(url), values) == filled


def test_a_default_stands_in_for_a_missing_variable():
    """And is replaced by what the token says."""
    client = templated("https://${v}.acme.test/", v=Variable(pattern=re.compile("[a-z]+"), default="com"))
    assert token_url(client, {}) == "https://com.acme.test/"
    assert token_url(client, {"v": "eu"}) == "https://eu.acme.test/"
    based = templated("${base}/t", base=replace(BASE, default="https://accounts.acme.test"))
    assert token_url(based, {}) == "https://accounts.acme.test/t"


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("url", "values", "why"),
    [
        ("https://${v}.acme.test/", {}, "no variable 'v'"),
        ("https://${unknown}.acme.test/", {"unknown": "x"}, "no variable 'unknown'"),
        ("https://${strict}.acme.test/", {"strict": "EVIL"}, "in acme's definition"),
        ("https://${strict}.acme.test/", {"strict": "evil\n"}, "in acme's definition"),
        ("https://${strict}.acme.test/", {"strict": ""}, "in acme's definition"),
        (REALM, {}, "no variable 'base'"),
        *((LABEL, {"v": value}, None) for value in NO_LABELS),
        *(("https://${v}/token", {"v": value}, None) for value in NO_HOSTS),
        *(("${v}/token", {"v": value}, None) for value in NO_ORIGINS),
        *((REALM, {"base": value}, None) for value in NO_ORIGINS + NO_BASES),
        *(("https://login.acme.test/${v}/token", {"v": value}, None) for value in NO_PATHS),
    ],
)
def test_a_variable_that_leads_astray_is_refused(url, values, why):
    """And the sentence does not repeat the value, which may be anything."""
    client = templated(url, v=LOOSE, base=BASE, strict=Variable(pattern=re.compile("[a-z]+")))
    with pytest.raises(NotSendable, match=why) as refused:
        token_url(client, values)
    assert "evil" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "values"),
    [("https://${v}/token", {"v": "acme.test"}), (REALM, {"base": "https://acme.test"})],
)
def test_a_variable_may_fill_no_host_without_a_domain(url, values):
    """A definition that names none allows none, until the operator does."""
    with pytest.raises(NotSendable):
        token_url(templated(url, domains=()), values)
    assert token_url(templated(url, domains=(), allowed=["acme.test"]), values)


@pytest.mark.parametrize("host", ["accounts.zoho.test", "accounts.zoho.test.au", "eu.accounts.zoho.test"])
def test_any_of_several_domains_will_do(host):
    """A data centre each."""
    client = templated("${base}/token", domains=("accounts.zoho.test", "accounts.zoho.test.au"))
    assert token_url(client, {"base": f"https://{host}"}) == f"https://{host}/token"


@pytest.mark.parametrize(
    "host", ["zoho.test", "mail.zoho.test", "accounts.zoho.test.cn", "xaccounts.zoho.test"]
)
def test_none_of_several_domains_is_refused(host):
    """Neither the parent of one nor its neighbour."""
    client = templated("${base}/token", domains=("accounts.zoho.test", "accounts.zoho.test.au"))
    with pytest.raises(NotSendable, match=r"'accounts\.zoho\.test' or 'accounts\.zoho\.test\.au'"):
        token_url(client, {"base": f"https://{host}"})


# ------------------------------------------------------------------------------------------------ allowed hosts


@pytest.mark.parametrize(
    ("allowed", "base", "goes"),
    [
        ("sso.corp.test", "https://sso.corp.test", True),
        ("sso.corp.test", "https://SSO.corp.test", True),
        ("sso.corp.test", "https://sso.corp.test/auth", True),
        ("sso.corp.test", "https://sso.corp.test:8443", False),
        ("sso.corp.test", "https://sso.corp.test:443", False),
        ("sso.corp.test", "https://x.sso.corp.test", False),
        ("sso.corp.test", "https://sso.corp.test.", False),
        ("sso.corp.test", "http://sso.corp.test", False),
        ("sso.corp.test:8443", "https://sso.corp.test:8443", True),
        ("sso.corp.test:8443", "https://sso.corp.test", False),
        ("sso.corp.test:8443", "https://sso.corp.test:18443", False),
        ("sso.corp.test:8443", "http://sso.corp.test:8443", False),
        ("10.0.0.7", "https://10.0.0.7", True),
        ("10.0.0.7", "https://10.0.0.70", False),
        ("10.0.0.7", "https://167772167", False),
        ("10.0.0.7", "http://10.0.0.7", False),
        ("127.0.0.1:8080", "http://127.0.0.1:8080", True),
        ("127.0.0.1:8080", "https://127.0.0.1:8080", True),
        ("127.0.0.1:8080", "http://127.0.0.1:8081", False),
        ("127.0.0.1:8080", "http://localhost:8080", False),
        ("127.0.0.1:8080", "http://127.1:8080", False),
        ("127.0.0.1:8080", "http://2130706433:8080", False),
        ("localhost:8080", "http://localhost:8080/auth", True),
        ("localhost:8080", "http://localhost.:8080", False),
        ("localhost", "ftp://localhost", False),
    ],
)
def test_an_allowed_host_is_that_very_host_and_port(allowed, base, goes):
    """Plain HTTP only to this machine, and only where that is allowed too."""
    client = templated(REALM, domains=(), allowed=[allowed])
    if goes:
        assert token_url(client, {"base": base}) == f"{base}/realms/main/token"
    else:
        with pytest.raises(NotSendable):
            token_url(client, {"base": base})


@pytest.mark.parametrize("scheme", ["ftp", "file", "ws", "gopher"])
def test_no_other_scheme_goes_anywhere(scheme):
    """Not even to an allowed loopback, through a pattern that lets everything pass."""
    client = templated("${v}/token", domains=(), allowed=["localhost"])
    assert not is_allowed(client, f"{scheme}://localhost/token")
    with pytest.raises(NotSendable):
        token_url(client, {"v": f"{scheme}://localhost"})


def test_a_url_without_variables_is_the_operators_word():
    """Wherever it leads; nothing from the database changes it."""
    for url in ("https://10.0.0.1:8443/token", "http://127.0.0.1:1/token", "https://sso.intern/a/../token"):
        assert token_url(templated(url), {"v": "x", "base": "https://evil.test"}) == url


@pytest.mark.parametrize(
    ("url", "fills"),
    [
        ("https://acme.test/${v}", False),
        ("https://acme.test/a?b=${v}", False),
        ("https://acme.test/token", False),
        ("https://${v}.acme.test/", True),
        ("https://acme.${v}/", True),
        ("https://acme.test${v}", True),
        ("https://acme.test?${v}", True),
        ("https://acme.test\\${v}", True),
        ("${base}/token", True),
    ],
)
def test_a_variable_fills_the_host_unless_the_host_is_complete_before_it(url, fills):
    """Else a value could go on with it: ".evil.test", "@evil.test"."""
    assert fills_host(url) is fills


# ------------------------------------------------------------------------------------------------ any value

URLS = [
    "https://${v}.acme.test/t",
    "https://${v}/t",
    "https://login.acme.${v}/t",
    "${v}",
    "${base}",
    "${base}/t",
    "${base}/${v}",
    "https://a.acme.test/${v}/t",
    "https://a.acme.test${v}",
]
ALLOWED = ("sso.corp.test", "sso.corp.test:8443", "127.0.0.1:8080", "10.0.0.7", "localhost")
HOSTS = st.sampled_from(
    ["acme.test", "a.acme.test", "evil.test", "127.0.0.1", "[::1]", "2130706433", *ALLOWED]
)
TRICKS = st.sampled_from(
    [
        "",
        "@",
        "\\",
        "/",
        "//",
        "%2f",
        "%2e",
        ".",
        "..",
        "#",
        "?",
        ":",
        ":443",
        ":8443",
        "\r\n",
        "\t",
        "\u3002",
        "\uff0f",
    ]
)
CRAFTED = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["https://", "http://", "HTTPS://", "//", "https:/", "", "u:p@", "ftp://"]),
        *(part for _ in range(2) for part in (TRICKS, HOSTS, TRICKS)),
        st.sampled_from(["", "/", "/auth", "/../x"]),
    ),
)
VALUES = st.one_of(st.text(), st.text("ace.mts/:@#?\\%[]\t\n 0127x"), CRAFTED)


@given(st.sampled_from(URLS), VALUES, VALUES)
@example("${v}", "https://acme.test\\@evil.test", "")
@example("${base}", "", "https://acme.test@evil.test")
def test_any_value_stays_where_it_may_go_or_is_refused(url, value, base):
    """Even with a pattern that allows everything; and what sends the request reads the host as it was checked."""
    try:
        filled = token_url(templated(url, allowed=ALLOWED), {"v": value, "base": base})
    except NotSendable:
        return
    parts = urlsplit(filled)
    assert re.fullmatch(r"[\x21-\x7e]+", filled)
    assert "@" not in parts.netloc
    if parts.netloc.lower() in ALLOWED:
        assert parts.scheme == "https" or (parts.scheme == "http" and is_loopback(filled))
    else:
        assert parts.scheme == "https"
        assert parts.netloc.lower() == parts.hostname
        assert parts.hostname == "acme.test" or parts.hostname.endswith(".acme.test")
    sent = URL(filled)
    assert (sent.scheme, sent.host) == (parts.scheme, parts.hostname)
    assert sent.explicit_port == parts.port
    assert sent.user is None
    assert ".." not in sent.parts


# ------------------------------------------------------------------------------------------------ loopback


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8080/token", True),
        ("http://127.9.9.9/token", True),
        ("http://localhost/token", True),
        ("http://LOCALHOST/token", True),
        ("http://[::1]:1/token", True),
        ("http://localhost.evil.test/", False),
        ("http://localhost./", False),
        ("http://127.0.0.1.evil.test/", False),
        ("http://127.0.0.1@evil.test/", False),
        ("http://127.1/", False),
        ("http://2130706433/", False),
        ("http://0x7f.0.0.1/", False),
        ("http://[::ffff:10.0.0.1]/", False),
        ("http://0.0.0.0/", False),
        ("http://[::]/", False),
        ("http://10.0.0.1/", False),
        ("https://acme.test/", False),
        ("nonsense", False),
    ],
)
def test_loopback_is_this_machine_and_nothing_else(url, here):
    """The only place that plain HTTP may go to."""
    assert is_loopback(url) is here
