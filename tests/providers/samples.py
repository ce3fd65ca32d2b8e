"""What is sent in the goldens: one client and one token, full of characters that a careless encoder gets wrong, and
for each definition with variables a place that is not its default.
"""

import json
import re
from typing import Any

from daemon.adapters.token_endpoint.claims_signer import JwtSigner
from daemon.adapters.token_endpoint.client_assertion import signing_key
from daemon.domain.assertion import Claims
from daemon.domain.provider import Provider
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from daemon.runtime.config.providers.definitions import shipped
from tests.providers.wire import CLOCK

CLIENT_ID = "app/7+a:b c"
CLIENT_SECRET = "s/e+c:r e%t&=?"
ACCESS_TOKEN = "a/c+c:e s%s=&?"
REFRESH_TOKEN = "1//r+t:o k%e=n&?"

VARIABLES = {
    "amazon-selling-partner": {"host": "api.amazon.co.jp"},
    "amazon-ads": {"host": "api.amazon.co.uk"},
    "auth0": {"subdomain": "acme.eu"},
    "bamboohr": {"subdomain": "acme"},
    "box-jwt": {"subject": "31415926", "subject_type": "enterprise"},
    "docusign": {"host": "account-d"},
    "docusign-jwt": {"host": "account-d", "subject": "3af994a5-0000-4abc-8def-adf23dce0cd3"},
    "clover": {"host": "api.eu.clover.com"},
    "cognito": {"domain": "acme-login", "region": "eu-central-1"},
    "databricks": {"host": "dbc-a1b2345c-d6e7.cloud.databricks.com"},
    "exact-online": {"site": "start.exactonline.co.uk"},
    "generic": {"endpoint": "https://sso.example.com/token"},
    "github-app": {"installation_id": "52718281"},
    "google-delegation": {"subject": "jane+books@acme.example"},
    "keycloak": {"base": "https://sso.example.com", "realm": "acme"},
    "mcp": {"token_endpoint": "https://sso.example.com/token", "resource": "https://mcp.example.com/mcp"},
    "mercadolibre": {"site": "mercadolivre.com.br"},
    "microsoft": {"tenant": "acme.onmicrosoft.com"},
    "netsuite": {"account": "1234567-sb1"},
    "okta": {"subdomain": "acme"},
    "ory": {"base": "https://sso.example.com"},
    "salesforce": {"host": "acme.my.salesforce.com"},
    "salesforce-jwt": {"host": "test", "subject": "jane@acme.example.sandbox"},
    "sentry": {"installation": "0f6b6a0e-2f0c-4b55-9c52-6d1c9a3f1b7e"},
    "servicenow": {"instance": "acme"},
    "shopify": {"shop": "acme"},
    "smart-on-fhir": {"token_endpoint": "https://sso.example.com/auth/token"},
    "smartsheet": {"host": "api.smartsheet.eu"},
    "snowflake": {"account": "myorg-acme"},
    "wix": {"instance_id": "55555555-1111-2222-3333-444444444444"},
    "zendesk": {"subdomain": "acme"},
    "zoho": {"accounts-server": "https://accounts.zoho.eu"},
    "zoom-server": {"account_id": "a1B2_c3-D4"},
}
ALLOWED_HOSTS = {
    **dict.fromkeys(["generic", "keycloak", "ory", "smart-on-fhir"], frozenset({"sso.example.com"})),
    "mcp": frozenset({"sso.example.com", "mcp.example.com"}),
}


def provider(name: str, *, client_id: str = CLIENT_ID, client_secret: str = CLIENT_SECRET) -> Provider:
    """A client of ours with the shipped definition `name`."""
    return Provider(
        definition=shipped()[name],
        client_id=client_id,
        client_secret=Secret(client_secret),
        allowed_hosts=ALLOWED_HOSTS.get(name, frozenset()),
        sign_claims=readable,
        subjects=(re.compile(".+"),),
    )


def readable(claims: Claims) -> Secret:
    """Sign nothing: the claims as they are, with times as seconds from now. A person can read them in a golden file."""
    now = CLOCK.now().timestamp()
    times = {name: round((int(claims[name]) - now) / 10) * 10 for name in ("iat", "exp")}
    return Secret(f"<signed {json.dumps({**claims, **times})}>")


def signer(key: dict[str, str]) -> JwtSigner:
    """A signer with a key as the sandbox hands it out."""
    return JwtSigner(key=signing_key(Secret(key["client_key"])), key_id=key["client_key_id"])


def token(name: str, **fields: Any) -> Token:
    """A token there, with a refresh token and an access token unless `fields` say otherwise."""
    sample = {
        "refresh_token": Secret(REFRESH_TOKEN),
        "access_token": Secret(ACCESS_TOKEN),
        "vars": VARIABLES.get(name, {}),
        "revision": 1,
    }
    return Token(id=f"{name}:a", provider=name, account="a", state=State.ACTIVE, **(sample | fields))
