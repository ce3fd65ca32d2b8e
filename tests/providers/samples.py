"""What is sent in the goldens: one client and one token, full of characters that a careless encoder gets wrong, and
for each definition with variables a place that is not its default.
"""

from typing import Any

from daemon.domain.provider import Provider
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from daemon.runtime.config.providers.definitions import shipped

CLIENT_ID = "app/7+a:b c"
CLIENT_SECRET = "s/e+c:r e%t&=?"
ACCESS_TOKEN = "a/c+c:e s%s=&?"
REFRESH_TOKEN = "1//r+t:o k%e=n&?"

VARIABLES = {
    "amazon-selling-partner": {"host": "api.amazon.co.jp"},
    "amazon-ads": {"host": "api.amazon.co.uk"},
    "auth0": {"subdomain": "acme.eu"},
    "bamboohr": {"subdomain": "acme"},
    "clover": {"host": "api.eu.clover.com"},
    "cognito": {"domain": "acme-login", "region": "eu-central-1"},
    "databricks": {"host": "dbc-a1b2345c-d6e7.cloud.databricks.com"},
    "docusign": {"host": "account-d"},
    "exact-online": {"site": "start.exactonline.co.uk"},
    "generic": {"endpoint": "https://sso.example.com/token"},
    "keycloak": {"base": "https://sso.example.com", "realm": "acme"},
    "mcp": {"token_endpoint": "https://sso.example.com/token", "resource": "https://mcp.example.com/mcp"},
    "mercadolibre": {"site": "mercadolivre.com.br"},
    "microsoft": {"tenant": "acme.onmicrosoft.com"},
    "netsuite": {"account": "1234567-sb1"},
    "okta": {"subdomain": "acme"},
    "ory": {"base": "https://sso.example.com"},
    "salesforce": {"host": "acme.my.salesforce.com"},
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
    )


def token(name: str, **fields: Any) -> Token:
    """A token there, with a refresh token and an access token unless `fields` say otherwise."""
    sample = {
        "refresh_token": Secret(REFRESH_TOKEN),
        "access_token": Secret(ACCESS_TOKEN),
        "vars": VARIABLES.get(name, {}),
        "revision": 1,
    }
    return Token(id=f"{name}:a", provider=name, account="a", state=State.ACTIVE, **(sample | fields))
