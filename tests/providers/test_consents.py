"""The facts about consents of each shipped definition: complete, or left out for a reason; each from a page or from code."""

import re
from importlib import resources
from urllib.parse import urlsplit

import pytest

from daemon.domain.provider import Definition, Grant, Pkce
from daemon.domain.revocation import PresentedToken, Revocation, RevocationAuth, RevocationEnds
from daemon.runtime.config.providers.definitions import shipped

ALL = sorted(shipped())

NO_PAGE = {
    "amazon-selling-partner": "the page and its callback have parameters of their own",
    "bigcommerce": "the store starts it, and the exchange repeats parameters of the callback",
    "ebay": "a RuName stands in the place of the redirect address",
    "generic": "each server has its own",
    "instagram": "a second request makes the first token long-lived",
    "mcp": "each server has its own, and the resource stands in the request",
    "sentry": "an installation brings the code, by webhook or redirect",
    "smart-on-fhir": "each hospital has its own, and its FHIR base stands in the request",
    "threads": "a second request makes the first token long-lived",
    "tiktok-business": "the exchange of a code has names of its own",
    "tiktok-shop": "the page and the exchange have names of their own",
    "wechat": "the page has a name of its own for the client, and a fragment",
    "wix": "the installation of the app stands for it",
    "zoom-server": "nobody consents to the client's own grant",
}
NO_ACCOUNT = {
    "adobe": "only with the scope openid, which an application may lack",
    "airtable": "the reply names none",
    "amazon-ads": "the reply names none",
    "amazon-selling-partner": "the callback names the seller",
    "atlassian": "the reply names none",
    "bamboohr": "the variable subdomain is the account",
    "basecamp": "the authorization document names the accounts",
    "bigcommerce": "no consent by refreshd",
    "bitbucket": "the reply names none",
    "box": "the reply names none",
    "canva": "the reply names none",
    "clover": "the callback names the merchant",
    "coinbase": "the reply names none",
    "constant-contact": "the reply names none",
    "databricks": "the variable host is the workspace, and the reply names no user",
    "deel": "the reply names none",
    "discord": "the reply names none",
    "docusign": "userinfo names it",
    "ebay": "the reply names none",
    "ecobee": "the reply names none",
    "etsy": "the access token begins with it",
    "exact-online": "the reply names none",
    "facebook": "the reply names none",
    "figma": "not confirmed: the first reply may",
    "fortnox": "the reply names none",
    "freshbooks": "the reply names none",
    "front": "the reply names none",
    "garmin": "the reply names none",
    "generic": "each server has its own",
    "github-app-oauth": "the reply names none",
    "gitlab": "only with the scope openid, which an application may lack",
    "gong": "the reply names the customer's host only",
    "gusto": "only those of a partner's companies do",
    "instagram": "no consent by refreshd",
    "intercom": "the reply names none",
    "kakao": "the reply names none",
    "klaviyo": "the reply names none",
    "lever": "the reply names none",
    "linear": "the reply names none",
    "linkedin": "only with the scope openid, which an application may lack",
    "mailchimp": "the metadata endpoint names it",
    "mcp": "each server has its own",
    "netatmo": "the reply names none",
    "netsuite": "the variable account is the account",
    "oura": "the reply names none",
    "outreach": "the reply names none",
    "pagerduty": "the reply names none",
    "paypal": "the reply names none",
    "pinterest": "the reply names none",
    "pipedrive": "the reply names the company's host only",
    "procore": "the reply names none",
    "quickbooks": "the callback names the company",
    "reddit": "the reply names none",
    "sage-intacct": "only the access token names the user and the company",
    "salesloft": "the reply names none",
    "sentry": "the variable installation is the account",
    "servicenow": "the variable instance is the account",
    "shopify": "the variable shop is the account",
    "smart-on-fhir": "each server has its own",
    "smartsheet": "the reply names none",
    "smartthings": "the reply names none",
    "snapchat": "the reply names none",
    "spotify": "the reply names none",
    "squarespace": "not confirmed: some replies may",
    "supabase": "the reply names none",
    "tesla": "no page says what the ID token names",
    "threads": "no consent by refreshd",
    "tiktok-business": "no consent by refreshd",
    "tiktok-shop": "no consent by refreshd",
    "twitch": "only with the scope openid, which an application may lack",
    "twitter-v2": "the reply names none",
    "webex": "the reply names none",
    "wechat": "no consent by refreshd",
    "whoop": "the reply names none",
    "wise": "the reply names none",
    "wix": "nobody consents to the client's own grant",
    "wrike": "the reply names the account's host only",
    "yandex": "the reply names none",
    "zendesk": "the variable subdomain is the account",
    "zoho": "the reply names none",
    "zoom": "the reply names none",
    "zoom-server": "nobody consents to the client's own grant",
}
NO_REVOCATION = {
    "airtable": "no page names one",
    "amazon-ads": "no page names one",
    "amazon-selling-partner": "the seller disables the app",
    "atlassian": "no page names one",
    "bamboohr": "no page names one",
    "basecamp": "no page names one",
    "bigcommerce": "the store uninstalls the app",
    "bitbucket": "no page names one",
    "close": "no page names one",
    "clover": "the merchant uninstalls the app",
    "coinbase": "it is for access tokens, and the fate of the refresh token is not known",
    "constant-contact": "no page names one",
    "databricks": "no page names one",
    "deel": "no page names one",
    "digitalocean": "it is for access tokens, and the fate of the refresh token is not known",
    "docusign": "no page names one",
    "ebay": "no page names one",
    "ecobee": "the owner removes the app",
    "etsy": "no page names one",
    "exact-online": "no page names one",
    "figma": "no page names one",
    "freshbooks": "no page names one",
    "front": "there is none",
    "generic": "each server has its own",
    "gong": "no page names one",
    "gusto": "no page names one",
    "instagram": "no page names one",
    "intercom": "the workspace uninstalls the app",
    "kakao": "no page that was read says what unlinking leaves",
    "lever": "no page names one",
    "line": "it is for access tokens, and the fate of the refresh token is not known",
    "linkedin": "no page names one",
    "mailchimp": "no page names one",
    "mcp": "each server has its own",
    "mercadolibre": "no page names one",
    "microsoft": "there is none",
    "miro": "the client has other names there",
    "myob": "no page names one",
    "netatmo": "no page names one",
    "netsuite": "no page names one",
    "oura": "it is for access tokens, and the fate of the refresh token is not known",
    "outreach": "no page names one",
    "pagerduty": "no page names one",
    "paypal": "no page names one",
    "pinterest": "no page names one",
    "sage-accounting": "no page names one",
    "sage-intacct": "no page names one",
    "salesloft": "no page names one",
    "sentry": "the integration is uninstalled",
    "shopify": "the shop uninstalls the app",
    "slack": "it is for access tokens, and the fate of the refresh token is not known",
    "smart-on-fhir": "each server has its own",
    "smartsheet": "it is for access tokens, and the fate of the refresh token is not known",
    "smartthings": "no page names one",
    "snapchat": "no page names one",
    "snowflake": "an SQL command withdraws it",
    "spotify": "no page names one",
    "square": "it needs the secret in a header of its own",
    "squarespace": "no page names one",
    "stripe": "it needs stripe_user_id",
    "stripe-apps": "no page names one",
    "supabase": "no page names one",
    "tesla": "the owner removes the app",
    "threads": "no page names one",
    "tiktok-business": "how it is asked for was not read",
    "tiktok-shop": "the seller removes the app",
    "twitch": "it is for access tokens, and the fate of the refresh token is not known",
    "webex": "no page names one",
    "wechat": "no page names one",
    "wise": "no page names one",
    "withings": "no page names one",
    "wix": "nobody consents to the client's own grant",
    "wrike": "no page names one",
    "yandex": "no page names one",
    "zendesk": "the address is not confirmed",
    "zoom": "it is for access tokens, and the fate of the refresh token is not known",
    "zoom-server": "nobody consents to the client's own grant",
}
SIGNED = (
    "box-jwt", "docusign-jwt", "github-app", "google-delegation", "google-service-account", "salesforce-jwt",
)  # fmt: skip
NOBODY_CONSENTS = dict.fromkeys(SIGNED, "the client signs for itself") | {"api-key": "people copy it"}
for _reasons in (NO_PAGE, NO_ACCOUNT, NO_REVOCATION):
    _reasons.update(NOBODY_CONSENTS)
OTHER_HOSTS = {  # whose pages have another domain than their token endpoint
    "amazon-ads": "amazon.com",
    "clover": "clover.com",
    "dropbox": "dropbox.com",
    "google": "google.com",
    "hubspot": "hubspot.com",
    "intercom": "intercom.com",
    "mercadolibre": "auth.${site}",
    "sage-accounting": "sageone.com",
    "smartsheet": "smartsheet.com",
    "tiktok": "tiktok.com",
    "withings": "withings.com",
}
OFFLINE = {  # what makes these providers send a refresh token
    "adobe": "offline_access",
    "atlassian": "offline_access",
    "auth0": "offline_access",
    "bamboohr": "offline_access",
    "coinbase": "offline_access",
    "constant-contact": "offline_access",
    "databricks": "offline_access",
    "dropbox": "token_access_type=offline",
    "fortnox": "access_type=offline",
    "gong": "access_type=offline",
    "google": "access_type=offline prompt=consent",
    "keycloak": "offline_access",
    "lever": "offline_access",
    "mercadolibre": "offline_access",
    "microsoft": "offline_access",
    "okta": "offline_access",
    "ory": "offline_access",
    "pinterest": "continuous_refresh=true",
    "reddit": "duration=permanent",
    "sage-intacct": "offline_access",
    "salesforce": "refresh_token",
    "sandbox": "offline_access",
    "shopify": "expiring=1",
    "snowflake": "refresh_token",
    "squarespace": "access_type=offline",
    "tesla": "offline_access",
    "twitter-v2": "offline.access",
    "whoop": "offline",
    "xero": "offline_access",
    "zoho": "access_type=offline prompt=consent",
}


def revocation_url(known: Definition) -> str | None:
    return (known.revoke.url if known.revoke else None) or known.revoke_url


def domain(url: str) -> str:
    """The last two labels of the host, as the definition writes them."""
    return ".".join(urlsplit(url).netloc.split(".")[-2:])


def test_each_definition_has_a_page_or_a_reason_for_none() -> None:
    """And no reason outlives the fact that it stands for."""
    assert {name for name in ALL if shipped()[name].authorize_url is None} == set(NO_PAGE)


def test_each_definition_identifies_the_account_or_has_a_reason() -> None:
    """Without it, refreshd can't see that another account has consented."""
    assert {name for name in ALL if shipped()[name].account_from is None} == set(NO_ACCOUNT)


def test_each_definition_can_be_revoked_or_has_a_reason() -> None:
    """A guess would report a grant as ended that is alive."""
    assert {name for name in ALL if revocation_url(shipped()[name]) is None} == set(NO_REVOCATION)


@pytest.mark.parametrize("name", sorted(set(ALL) - set(NO_PAGE)))
def test_a_page_is_the_providers_own(name: str) -> None:
    """Or of a domain that is known to be the provider's."""
    known = shipped()[name]
    assert known.authorize_url
    assert domain(known.authorize_url) == OTHER_HOSTS.get(name, domain(known.token_url))
    assert name == "sandbox" or known.authorize_url.startswith(("https://", "${"))


@pytest.mark.parametrize("name", ALL)
def test_the_identifier_in_an_id_token_comes_with_the_scope_for_one(name: str) -> None:
    """Without openid there is no ID token (OpenID Connect Core §3.1.2.1)."""
    known = shipped()[name]
    if (known.account_from or "").startswith("id_token."):
        assert "openid" in known.scopes


@pytest.mark.parametrize("name", OFFLINE)
def test_a_consent_asks_for_a_refresh_token(name: str) -> None:
    """By scope or by parameter, and the hint repeats it for operators who have replaced it."""
    known = shipped()[name]
    params = [f"{key}={value}" for key, value in (known.authorize_params | known.exchange_params).items()]
    assert set(OFFLINE[name].split()) <= {*known.scopes, *params}
    assert known.consent_hint


@pytest.mark.parametrize("name", ALL)
def test_a_revocation_ends_what_a_renewal_would_present(name: str) -> None:
    """Those that take an access token end its refresh token, too: each is known for it."""
    known = shipped()[name]
    revoke = known.revoke or Revocation()
    if revocation_url(known) and known.grant is Grant.REFRESH_TOKEN and revoke.token is PresentedToken.ACCESS:
        assert name in {"dropbox", "garmin", "github-app-oauth", "procore", "strava", "whoop"}
        assert revoke.ends is RevocationEnds.GRANT


def test_secrets_of_the_client_go_to_the_token_endpoints_domain_only() -> None:
    """A revocation at another domain has the token, and nothing of the client."""
    elsewhere = {
        name
        for name in ALL
        if (url := revocation_url(known := shipped()[name]))
        and domain(url) != domain(known.token_url)
        and not isinstance((known.revoke or Revocation()).auth, RevocationAuth)
    }
    assert elsewhere == set()


def test_pkce_is_left_out_only_where_it_is_known_to_be() -> None:
    """Elsewhere public clients send it, and some refuse a consent without it."""
    assert {name for name in ALL if shipped()[name].pkce is Pkce.NONE} == {
        "gong", "linkedin", "pipedrive", "slack", "snapchat", "square", "stripe-apps", "tiktok",
    }  # fmt: skip
    assert {name for name in ALL if shipped()[name].pkce is Pkce.REQUIRED} == {
        "airtable", "canva", "databricks", "etsy", "garmin", "klaviyo", "pagerduty", "twitter-v2",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(ALL) - set(NO_PAGE) - {"sandbox"}))
def test_the_facts_have_a_source_and_a_date(name: str) -> None:
    """The comment above them names a page or a repository, and when it said so."""
    text = (resources.files("daemon.providers") / f"{name}.toml").read_text("utf-8")
    comment = re.search(r"((?:^#.*\n)+)^authorize_url = ", text, flags=re.MULTILINE)
    assert comment
    assert re.search(r"https://|[\w-]+/[\w-]+@[0-9a-f]{7}", comment[1])
    assert re.search(r"\b20\d\d-\d\d-\d\d\b", comment[1])
