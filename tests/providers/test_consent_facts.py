"""The facts about consents twice: in each definition, and in the sandbox's fixture of that provider.

Two hands wrote them down from different pages. A difference is an error in one of them, unless a table here has the
reason for it.
"""

from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import pytest

from daemon.domain.authorization import authorization_url
from daemon.domain.provider import BodyFormat, ClientAuth, Definition, Pkce
from daemon.domain.revocation import (
    PresentedToken,
    Revocation,
    RevocationAuth,
    RevocationEnds,
    RevocationMethod,
)
from daemon.domain.revocation_request import to_present
from daemon.domain.secret import Secret
from daemon.domain.token_url import completed_url
from daemon.runtime.config.providers.definitions import shipped
from daemon.sandbox import recorded
from daemon.sandbox.accents import RevocationTerms
from daemon.sandbox.dialects import Dialect
from tests.providers import samples
from tests.providers.connecting import Connecting, is_among
from tests.providers.row import Row
from tests.providers.test_consents import NO_PAGE, OFFLINE, revocation_url

BOTH = sorted(set(shipped()) & set(recorded.names()))
PAGES = [name for name in BOTH if name not in NO_PAGE]

# A provider that takes no notice of a challenge is asked with one: it costs nothing, and may be read one day.
PKCE_IN_VAIN = {
    "amazon-ads", "bamboohr", "bitbucket", "close", "deel", "digitalocean", "ecobee", "exact-online", "fortnox", "freshbooks",
    "front", "gusto", "intercom", "lever", "mailchimp", "miro", "myob", "netatmo", "notion", "oura", "outreach",
    "pinterest", "procore", "reddit", "sage-accounting", "salesloft", "shopify", "smartsheet", "smartthings",
    "squarespace", "strava", "stripe", "tesla", "twitch", "whoop", "withings", "wrike",
}  # fmt: skip
OPERATORS_NAME_SCOPES = {
    "airtable",
    "canva",
    "etsy",
    "pinterest",
    "shopify",
    "webex",
    "zoho",
}  # these demand some, and no scope suits everybody
OFFLINE_ANYWAY = {  # scopes that the definition asks for although the provider sends a refresh token without them
    "keycloak": "without it, the refresh token ends with the owner's session",
    "sandbox": "it shows how the scope is asked for",
}
EXTRA = {"atlassian": {"prompt"}, "linear": {"prompt"}}  # parameters that only change what the owner sees
EXCHANGED = {"tesla": {"audience"}}  # parameters of the exchange without which a refresh token comes, too
OF_ACCESS_TOKENS_ONLY = {
    "coinbase",
    "digitalocean",
    "line",
    "oura",
    "slack",
    "twitch",
    "zoom",
}  # so the definition leaves the revocation out
DEVICE_LEFT_OUT = {
    "gitlab": "the reply that its page shows has no refresh token",
    "twitch": "the scopes have a parameter of their own",
}
ALSO_REFUSED = {"notion": {"refresh_token"}}  # presented too, because no page says what becomes of it


@dataclass(frozen=True, kw_only=True)
class Both:
    """One provider in its two descriptions."""

    name: str
    definition: Definition
    fixture: Dialect

    @property
    def revocation(self) -> Revocation:
        return self.definition.revoke or Revocation()

    @property
    def terms(self) -> RevocationTerms:
        assert self.fixture.revocation is not None
        return self.fixture.revocation

    def path(self, url: str) -> str:
        """The path of a URL of the definition, with sample variables."""
        places = {"${token}": "TOKEN", "${client_id}": "CLIENT"}
        for place, text in places.items():
            url = url.replace(place, text)
        provider = samples.provider(self.name)
        return urlsplit(completed_url(provider, url, samples.VARIABLES.get(self.name, {}), name="URL")).path


@pytest.fixture
def both(name: str) -> Both:
    return Both(name=name, definition=shipped()[name], fixture=recorded.dialect(name))


def test_every_definition_but_three_has_a_fixture() -> None:
    """`generic` is any server, `zoom-server` has no consent, and nobody issues `api-key`."""
    assert set(shipped()) - set(BOTH) == {"api-key", "generic", "zoom-server"}


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_the_same(both: Both) -> None:
    """So are the endpoint of a device and that of a revocation, if the definition has them."""
    known, fixture = both.definition, both.fixture
    assert known.authorize_url is not None
    assert is_among(both.path(known.authorize_url), fixture.consent.paths) is not None
    if known.device_url is not None:
        assert fixture.device is not None
        assert is_among(both.path(known.device_url), fixture.device.paths) is not None
    assert (fixture.device is not None) == (known.device_url is not None or both.name in DEVICE_LEFT_OUT)
    if (url := revocation_url(known)) is not None:
        assert is_among(both.path(url), both.terms.paths) is not None


@pytest.mark.parametrize("name", PAGES)
def test_the_parameters_of_the_page_are_the_same(both: Both) -> None:
    """All that the provider demands is sent, and nothing that it does not know."""
    client = Connecting(Row(definition=both.name, sandbox=both.name, every=1))
    url = authorization_url(client.provider, client.authorization(), client.variables)
    sent = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    terms = both.fixture.consent
    for name, value in terms.demands.items():
        assert sent.get(name) == (value or sent[name])
    known = {*terms.demands, *terms.offline, *terms.again, *EXTRA.get(both.name, ())}
    assert set(both.definition.authorize_params) <= known
    assert set(sent) - known <= {
        terms.client, "response_type", "redirect_uri", "state", "nonce", terms.scope,
        "code_challenge", "code_challenge_method",
    }  # fmt: skip
    assert ("scope" in terms.demands) <= bool(both.definition.scopes or both.name in OPERATORS_NAME_SCOPES)


@pytest.mark.parametrize("name", PAGES)
def test_scopes_are_separated_alike(both: Both) -> None:
    """Two scopes are two at the provider."""
    client = Connecting(Row(definition=both.name, sandbox=both.name, every=1))
    terms, authorization = both.fixture.consent, client.authorization("first", "second")
    assert both.definition.scope_separator == terms.separator
    url = authorization_url(client.provider, authorization, client.variables)
    assert parse_qs(urlsplit(url).query)[terms.scope] == [f"first{terms.separator}second"]
    assert client.asked(authorization).wish.scopes == ("first", "second")


@pytest.mark.parametrize("name", PAGES)
def test_pkce_is_the_same(both: Both) -> None:
    """Left out only at a provider that takes no notice of it, and required by both or by neither."""
    pkce, terms = both.definition.pkce, both.fixture.consent
    assert (pkce is Pkce.REQUIRED) == (terms.pkce == "required")
    ignored = terms.pkce == "ignored"
    assert ignored == (pkce is Pkce.NONE or both.name in PKCE_IN_VAIN)


@pytest.mark.parametrize("name", PAGES)
def test_what_brings_a_refresh_token_is_the_same(both: Both) -> None:
    """By parameters of the page or of the exchange, or by a scope."""
    known, terms = both.definition, both.fixture.consent
    wanted = {**terms.offline, **terms.again}
    assert wanted.items() <= known.authorize_params.items()
    assert known.exchange_params.keys() - terms.expiring.keys() == EXCHANGED.get(both.name, set())
    assert terms.expiring.items() <= known.exchange_params.items()
    assert not terms.offline_scopes or set(terms.offline_scopes) & set(known.scopes)
    demanded = bool(wanted or terms.expiring or terms.offline_scopes)
    assert demanded == (both.name in OFFLINE and both.name not in OFFLINE_ANYWAY)


@pytest.mark.parametrize("name", PAGES)
def test_the_account_stands_in_the_same_place(both: Both) -> None:
    """In the reply, or in the ID token that a scope brings. The sandbox's own dialect has it under its own name."""
    path = both.definition.account_from or ""
    in_reply = "" if path.startswith("id_token.") or both.name == "sandbox" else path
    assert both.fixture.consent.account == in_reply


@pytest.mark.parametrize("name", BOTH)
def test_a_revocation_is_there_in_both_or_in_none(both: Both) -> None:
    """Or the definition leaves it out, because it does not end the grant."""
    expected = revocation_url(both.definition) is not None
    assert (both.fixture.revocation is not None) == (expected or both.name in OF_ACCESS_TOKENS_ONLY)
    if both.name in OF_ACCESS_TOKENS_ONLY:
        assert both.terms.takes == ("access_token",)


REVOCABLE = [name for name in BOTH if revocation_url(shipped()[name]) is not None]


@pytest.mark.parametrize("name", REVOCABLE)
def test_a_revocation_is_asked_for_alike(both: Both) -> None:
    """Its method, the place and the name of the token, and the client's authentication."""
    revoke, terms, known = both.revocation, both.terms, both.definition
    assert revoke.method.value == terms.method
    place = _place(revoke, revocation_url(known) or "", known.body)
    assert place in terms.place
    if place not in ("path", "bearer"):
        assert revoke.parameter == terms.parameter
    auth = revoke.auth or known.client_auth
    ways = {
        RevocationAuth.NONE: "none",
        RevocationAuth.BEARER: "none",
        ClientAuth.BASIC: "basic",
        ClientAuth.POST: "post",
    }
    assert ways[auth] in terms.client


@pytest.mark.parametrize("name", REVOCABLE)
def test_a_revocation_presents_what_is_taken(both: Both) -> None:
    """A token of another kind would be answered as an unknown one, which may look like a success."""
    found = to_present(both.revocation, refresh=Secret("r"), access=Secret("a"))
    kinds = {f"{one.kind.value}_token" for one in found}
    assert kinds - ALSO_REFUSED.get(both.name, set()) <= set(both.terms.takes)


@pytest.mark.parametrize("name", REVOCABLE)
def test_a_revocation_ends_the_same(both: Both) -> None:
    """The presented token with those that were issued for it, or more."""
    both_presented = both.name in ALSO_REFUSED
    if both.revocation.ends is RevocationEnds.TOKEN:
        assert both.terms.ends == "family" or both_presented
    else:
        assert both.terms.ends in ("grant", "account")
        if both.revocation.token is PresentedToken.ACCESS:
            assert "access_token" in both.terms.takes


def _place(revoke: Revocation, url: str, body: BodyFormat) -> str:
    if "${token}" in url:
        return "path"
    if revoke.auth is RevocationAuth.BEARER:
        return "bearer"
    return "query" if revoke.method is RevocationMethod.GET else (revoke.body or body).value
