"""The authorization endpoint without its wire: whatever is asked, a browser is sent to the client and nowhere else."""

from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit

from hypothesis import given
from hypothesis import strategies as st

from daemon.sandbox.accents import ConsentTerms
from daemon.sandbox.authorization import Asked, AuthorizationEndpoint, Decision, Redirect, Wrong, origin_of
from daemon.sandbox.consents import Consents
from daemon.sandbox.grants import Grants
from daemon.sandbox.terms import Terms

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ISSUER = "http://127.0.0.1:9466"
REGISTERED = "https://app.example/cb?tenant=1"
HOSTS = st.sampled_from(["127.0.0.1", "localhost", "[::1]", "evil.example", "127.0.0.1.evil.example", ""])
MARKS = st.sampled_from(
    ["", "@", "\\", "/", "\\@", ":80", ":x", "#", "?", "%", "\t", "\n", " ", ".", "é", "[", ";"]
)
SCHEMES = st.sampled_from(["http", "HTTP", "https", "javascript", "", "data", "//"])
URIS = st.one_of(
    st.builds("{}://{}{}{}{}".format, SCHEMES, HOSTS, MARKS, HOSTS, MARKS),
    st.builds("{}:{}{}".format, SCHEMES, MARKS, HOSTS),
    st.text(max_size=60),
)


def endpoint(*registered: str) -> AuthorizationEndpoint:
    return AuthorizationEndpoint(
        consents=Consents(Grants(Terms()), most=None),
        client_id="me",
        terms=ConsentTerms(),
        redirect_uris=registered,
    )


def request(uri: str, **more: str) -> str:
    return urlencode({"response_type": "code", "client_id": "me", "redirect_uri": uri, **more})


@given(uri=URIS, response_type=st.sampled_from(["code", "token"]))
def test_without_a_list_only_loopback_is_redirected_to(uri: str, response_type: str) -> None:
    """By an error and by a code; what a browser reads as another host is refused."""
    asked = endpoint().read(request(uri, response_type=response_type), issuer=ISSUER)
    if isinstance(asked, Wrong):
        return
    to = asked.to if isinstance(asked, Redirect) else asked.redirect_uri
    parts = urlsplit(to.replace("\\", "/"))
    assert to.startswith(uri)
    assert (parts.scheme, parts.username, parts.fragment) == ("http", None, "")
    assert parts.hostname in {"127.0.0.1", "localhost", "::1"}


@given(uri=URIS)
def test_with_a_list_nothing_else_is_redirected_to(uri: str) -> None:
    """Text for text."""
    asked = endpoint(REGISTERED).read(request(uri), issuer=ISSUER)
    assert isinstance(asked, Wrong) == (uri != REGISTERED)


@given(query=st.text())
def test_any_query_has_an_answer(query: str) -> None:
    """Nothing that a browser can send is an error of the sandbox."""
    assert isinstance(endpoint().read(query, issuer=ISSUER), Wrong)


@given(state=st.text(min_size=1), account=st.text(min_size=1), scope=st.text())
def test_the_redirect_carries_state_and_code_whatever_they_hold(state: str, account: str, scope: str) -> None:
    """The state comes back as it was, behind the client's own query."""
    one = endpoint(REGISTERED)
    asked = one.read(request(REGISTERED, state=state, scope=scope), issuer=ISSUER)
    assert isinstance(asked, Asked)
    decision = Decision(approved=True, account=account, scopes=None)
    to = one.decide(asked, decision, issuer=ISSUER, fault=None, now=NOW).to
    assert to.startswith(REGISTERED + "&code=")
    assert to.endswith("&" + urlencode({"state": state}))
    [consent] = one.consents
    assert consent.scopes == tuple(dict.fromkeys(scope.split()))


def test_the_pages_policy_names_the_clients_origin() -> None:
    """Where a policy has no words for it, the scheme."""
    assert origin_of("https://app.example:8443/cb?x=1") == "https://app.example:8443"
    assert origin_of("http://[::1]:8917/cb") == "http:"
    assert origin_of("com.example.app:/cb") == "com.example.app:"
