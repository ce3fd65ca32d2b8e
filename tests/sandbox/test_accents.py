"""Every provider's consent and revocation: asked as that one wants, answered as that one answers.

As in `test_providers.py`, the tables hold the facts a second time, from the sources and not from the fixtures.
"""

from typing import Any
from urllib.parse import quote, quote_plus

import aiohttp
import pytest

from daemon.sandbox import recorded
from daemon.sandbox.endpoint import DEVICE_CODE
from tests.sandbox import facts_commerce, facts_devices, facts_platforms, facts_social
from tests.sandbox.facts import BARE, EMPTY, NO_OFFLINE, NONE, OFFLINE, Asked, Revoked, asked, revoked
from tests.sandbox.owner import CALLBACK, VERIFIER, Owner
from tests.sandbox.test_providers import AGENT, FACTS, REISSUED, Speaker
from tests.sandbox.test_signed_providers import SIGNED

ASKED: dict[str, Asked] = {
    "adobe": asked("/ims/authorize/v2", sent=OFFLINE, needs="response_type scope", online=NO_OFFLINE),
    "airtable": asked("/oauth2/v1/authorize", needs="response_type state scope code_challenge", pkce="required"),
    "amazon-selling-partner": asked(
        "/apps/authorize/consent", sent=BARE | {"client_id": None, "application_id": "sandbox-client"}, needs="state",
        code="spapi_oauth_code", returns="selling_partner_id", pkce="ignored",
    ),
    "asana": asked("/-/oauth_authorize", needs="response_type", account="data.gid"),
    "atlassian": asked(
        "/authorize", sent=OFFLINE | {"audience": "api.atlassian.com", "prompt": "consent"},
        needs="response_type audience", online=NO_OFFLINE,
    ),
    "auth0": asked("/authorize", sent=OFFLINE, needs="response_type", online=NO_OFFLINE),
    "auth0-rotating": asked("/authorize", sent=OFFLINE, needs="response_type", online=NO_OFFLINE),
    "bamboohr": asked(
        "/authorize.php", sent=OFFLINE | {"request": "authorize"}, needs="response_type request", online=NO_OFFLINE,
        pkce="ignored",
    ),
    "basecamp": asked("/authorization/new", needs="response_type"),
    "bigcommerce": asked(
        "/oauth2/authorize", needs="response_type", returns="context scope", pkce="ignored", account="context"
    ),
    "bitbucket": asked("/site/oauth2/authorize", needs="response_type", pkce="ignored"),
    "box": asked("/api/oauth2/authorize", needs="response_type"),
    "calendly": asked("/oauth/authorize", needs="response_type", account="owner"),
    "canva": asked("/api/oauth/authorize", needs="response_type scope code_challenge", pkce="required"),
    "close": asked("/oauth2/authorize/", needs="response_type", pkce="ignored", account="organization_id"),
    "constant-contact": asked(
        "/oauth2/default/v1/authorize", sent=OFFLINE, needs="response_type scope state", online=NO_OFFLINE
    ),
    "databricks": asked(
        "/oidc/v1/authorize", sent=OFFLINE, needs="response_type code_challenge", online=NO_OFFLINE, pkce="required"
    ),
    "deel": asked("/oauth2/authorize", needs="response_type", pkce="ignored"),
    "docusign": asked("/oauth/auth", needs="response_type"),
    "dropbox": asked(
        "/oauth2/authorize", sent={"token_access_type": "offline"}, needs="response_type",
        online={"token_access_type": None}, account="account_id",
    ),
    "ebay": asked("/oauth2/authorize", needs="response_type", pkce="ignored"),
    "exact-online": asked("/api/oauth2/auth", needs="response_type", pkce="ignored"),
    "facebook": asked("/v22.0/dialog/oauth", sent=BARE, fewer=True),
    "figma": asked("/oauth", needs="response_type"),
    "fortnox": asked(
        "/oauth-v1/auth", sent={"access_type": "offline"}, needs="response_type", online={"access_type": None},
        pkce="ignored",
    ),
    "freshbooks": asked("/oauth/authorize/", needs="response_type", pkce="ignored"),
    "front": asked("/oauth/authorize", needs="response_type", pkce="ignored"),
    "github-app-oauth": asked("/login/oauth/authorize", sent=BARE),
    "gitlab": asked("/oauth/authorize", needs="response_type"),
    "gong": asked(
        "/oauth2/authorize", sent={"access_type": "offline"}, needs="response_type", online={"access_type": None},
        pkce="ignored",
    ),
    "google": asked(
        "/o/oauth2/v2/auth", sent={"access_type": "offline", "prompt": "consent"}, needs="response_type scope",
        online={"access_type": None}, fewer=True, returns="scope authuser prompt",
    ),
    "gusto": asked("/oauth/authorize", needs="response_type", pkce="ignored"),
    "hubspot": asked("/oauth/authorize", sent=BARE, needs="scope", account="hub_id"),
    "intercom": asked("/oauth", sent=BARE, pkce="ignored"),
    "keycloak": asked("/realms/example/protocol/openid-connect/auth", needs="response_type", returns="iss session_state"),
    "klaviyo": asked("/oauth/authorize", needs="response_type code_challenge", pkce="required"),
    "lever": asked(
        "/authorize", sent=OFFLINE | {"audience": "https://api.lever.co/v1/"}, needs="response_type audience",
        online=NO_OFFLINE, pkce="ignored",
    ),
    "linear": asked("/oauth/authorize", needs="response_type"),
    "linkedin": asked("/oauth/v2/authorization", needs="response_type", pkce="ignored"),
    "mailchimp": asked("/oauth2/authorize", needs="response_type", pkce="ignored"),
    "microsoft": asked(
        "/common/oauth2/v2.0/authorize", sent=OFFLINE, needs="response_type scope", online=NO_OFFLINE
    ),
    "miro": asked("/oauth/authorize", needs="response_type", pkce="ignored", account="team_id"),
    "myob": asked(
        "/oauth2/account/authorize", sent={"prompt": "consent"}, needs="response_type prompt", pkce="ignored",
        account="user.uid", returns="businessId",
    ),
    "netsuite": asked("/app/login/oauth2/authorize.nl", needs="response_type scope state"),
    "notion": asked(
        "/v1/oauth/authorize", sent={"owner": "user"}, needs="response_type owner", pkce="ignored",
        account="workspace_id",
    ),
    "okta": asked("/oauth2/v1/authorize", sent=OFFLINE, needs="response_type state scope", online=NO_OFFLINE),
    "okta-rotating": asked("/oauth2/v1/authorize", sent=OFFLINE, needs="response_type state scope", online=NO_OFFLINE),
    "outreach": asked("/oauth/authorize", needs="response_type", pkce="ignored"),
    "pipedrive": asked("/oauth/authorize", sent=BARE, pkce="ignored"),
    "procore": asked("/oauth/authorize", needs="response_type", pkce="ignored"),
    "quickbooks": asked("/connect/oauth2", needs="response_type scope state", returns="realmId"),
    "reddit": asked(
        "/api/v1/authorize", sent={"duration": "permanent"}, needs="response_type state scope",
        online={"duration": "temporary"}, pkce="ignored",
    ),
    "ringcentral": asked("/restapi/oauth/authorize", needs="response_type", account="owner_id"),
    "sage-accounting": asked(
        "/oauth2/auth/central", sent={"filter": "apiv3.1"}, needs="response_type filter", pkce="ignored",
        account="requested_by_id",
    ),
    "sage-intacct": asked("/ia/api/v1/oauth2/authorize", sent=OFFLINE, needs="response_type", online=NO_OFFLINE),
    "salesforce": asked(
        "/services/oauth2/authorize", sent={"scope": "api refresh_token"}, needs="response_type",
        online={"scope": "api"}, account="id",
    ),
    "salesforce-rotating": asked(
        "/services/oauth2/authorize", sent={"scope": "api offline_access"}, needs="response_type",
        online={"scope": "api"}, account="id",
    ),
    "salesloft": asked("/oauth/authorize", needs="response_type", pkce="ignored"),
    "servicenow": asked("/oauth_auth.do", needs="response_type"),
    "shopify": asked(
        "/admin/oauth/authorize", sent=BARE, needs="scope", returns="shop", pkce="ignored", brings={"expiring": "1"}
    ),
    "slack": asked("/oauth/v2/authorize", sent=BARE, pkce="ignored", account="team.id"),
    "smartsheet": asked("/b/authorize", needs="response_type", pkce="ignored"),
    "snowflake": asked(
        "/oauth/authorize", sent={"scope": "session:role:ANALYST refresh_token"}, needs="response_type",
        online={"scope": "session:role:ANALYST"}, account="username",
    ),
    "snowflake-rotating": asked(
        "/oauth/authorize", sent={"scope": "session:role:ANALYST refresh_token"}, needs="response_type",
        online={"scope": "session:role:ANALYST"}, account="username",
    ),
    "spotify": asked("/authorize", needs="response_type"),
    "squarespace": asked(
        "/api/1/login/oauth/provider/authorize", sent={"access_type": "offline"}, needs="response_type",
        online={"access_type": None}, pkce="ignored",
    ),
    "strava": asked(
        "/oauth/authorize", needs="response_type scope", returns="scope", pkce="ignored", fewer=True,
        account="athlete.id",
    ),
    "stripe": asked("/oauth/authorize", needs="response_type", pkce="ignored", account="stripe_user_id"),
    "stripe-apps": asked("/oauth/v2/authorize", needs="response_type", pkce="ignored", account="stripe_user_id"),
    "twitch": asked("/oauth2/authorize", needs="response_type", pkce="ignored"),
    "twitter-v2": asked(
        "/i/oauth2/authorize", sent={"scope": "users.read offline.access"},
        needs="response_type state scope code_challenge", online={"scope": "users.read"}, pkce="required",
    ),
    "wrike": asked("/oauth2/authorize/v4", needs="response_type", pkce="ignored"),
    "xero": asked(
        "/identity/connect/authorize", sent=OFFLINE, needs="response_type scope", online=NO_OFFLINE,
        returns="scope session_state",
    ),
    "zendesk": asked("/oauth/authorizations/new", needs="response_type"),
    "zoho": asked(
        "/oauth/v2/auth", sent={"access_type": "offline", "prompt": "consent"}, needs="response_type scope",
        online={"access_type": None}, returns="location accounts-server",
    ),
    "zoom": asked("/oauth/authorize", needs="response_type"),
}  # fmt: skip


ASKED |= facts_commerce.ASKED | facts_social.ASKED | facts_devices.ASKED | facts_platforms.ASKED

REVOKED: dict[str, Revoked] = {
    "adobe": revoked("POST /ims/revoke", "form basic access", "grant", EMPTY),
    "asana": revoked("POST /-/oauth_revoke", "form post refresh", "grant", (200, "{}")),
    "auth0": revoked("POST /oauth/revoke", "form post refresh", "account", EMPTY),
    "auth0-rotating": revoked("POST /oauth/revoke", "json post refresh", "account", EMPTY),
    "box": revoked("POST /oauth2/revoke", "form post access", "grant", EMPTY),
    "calendly": revoked("POST /oauth/revoke", "form post refresh", "grant", (200, "{}")),
    "canva": revoked("POST /auth/v1/oauth/revoke", "form basic refresh", "grant", (200, "{}")),
    "dropbox": revoked(
        "POST /2/auth/token/revoke", "bearer none access", "grant", (200, "null"), (401, "invalid_access_token")
    ),
    "facebook": revoked(
        "DELETE /v22.0/me/permissions", "query none access", "account", (200, "success"), (400, "190"),
        parameter="access_token",
    ),
    "fortnox": revoked("POST /oauth-v1/revoke", "form basic refresh", "grant", (200, '"revoked":true')),
    "github-app-oauth": revoked(
        "DELETE /applications/sandbox-client/grant", "json basic access", "account", (204, ""), (422, "Validation"),
        parameter="access_token",
    ),
    "gitlab": revoked("POST /oauth/revoke", "form post refresh", "grant", (200, "{}")),
    "google": revoked("POST /revoke", "form none refresh", "account", (200, "{}"), (400, "invalid_token")),
    "hubspot": revoked(
        "DELETE /oauth/v1/refresh-tokens/{token}", "path none refresh", "grant", (204, ""), (404, "not found")
    ),
    "keycloak": revoked("POST /realms/example/protocol/openid-connect/revoke", "form post refresh", "grant", EMPTY),
    "klaviyo": revoked("POST /oauth/revoke", "form basic refresh", "grant", EMPTY),
    "linear": revoked(
        "POST /oauth/revoke", "form none refresh", "grant", EMPTY, (400, ""), parameter="refresh_token"
    ),
    "notion": revoked("POST /v1/oauth/revoke", "json basic access", "grant", (200, "request_id")),
    "okta": revoked("POST /oauth2/v1/revoke", "form basic refresh", "grant", EMPTY),
    "okta-rotating": revoked("POST /oauth2/v1/revoke", "form post access", "grant", EMPTY),
    "pipedrive": revoked("POST /oauth/revoke", "form basic refresh", "account", EMPTY),
    "procore": revoked("POST /oauth/revoke", "form post access", "grant", (200, "{}")),
    "quickbooks": revoked("POST /v2/oauth2/tokens/revoke", "json basic refresh", "grant", EMPTY, (400, "")),
    "reddit": revoked("POST /api/v1/revoke_token", "form basic refresh", "grant", (204, "")),
    "ringcentral": revoked("POST /restapi/oauth/revoke", "form basic refresh", "grant", EMPTY),
    "salesforce": revoked("POST /services/oauth2/revoke", "form none refresh", "grant", EMPTY, (400, "invalid_token")),
    "salesforce-rotating": revoked(
        "POST /services/oauth2/revoke", "query none access", "token", EMPTY, (400, "invalid_token")
    ),
    "servicenow": revoked("GET /oauth_revoke_token.do", "query none refresh", "grant", EMPTY),
    "slack": revoked(
        "POST /api/auth.revoke", "bearer none access", "grant", (200, '"revoked":true'), (200, "token_revoked")
    ),
    "strava": revoked(
        "POST /oauth/deauthorize", "form none access", "account", (200, "access_token"), (401, "Authorization Error"),
        parameter="access_token",
    ),
    "twitch": revoked("POST /oauth2/revoke", "form id access", "grant", EMPTY, (400, "Invalid token")),
    "twitter-v2": revoked("POST /2/oauth2/revoke", "form basic refresh", "grant", (200, '"revoked":true')),
    "xero": revoked("POST /connect/revocation", "form basic refresh", "account", EMPTY),
    "zoho": revoked("POST /oauth/v2/token/revoke", "query none refresh", "grant", (200, "success"), (400, "")),
    "zoom": revoked("POST /oauth/revoke", "form basic access", "grant", (200, "success"), (400, "Invalid Token!")),
}  # fmt: skip

REVOKED |= facts_commerce.REVOKED | facts_social.REVOKED | facts_devices.REVOKED | facts_platforms.REVOKED

DEVICES = {  # the endpoint, the owner's page, and the status and the word of a poll that comes too early
    "auth0": ("/oauth/device/code", "/activate", 403, "authorization_pending"),
    "github-app-oauth": ("/login/device/code", "/login/device", 200, "authorization_pending"),
    "gitlab": ("/oauth/authorize_device", "/oauth/device", 400, "authorization_pending"),
    "google": ("/device/code", "/device", 428, "authorization_pending"),
    "keycloak": (
        "/realms/example/protocol/openid-connect/auth/device",
        "/device",
        400,
        "authorization_pending",
    ),
    "microsoft": ("/common/oauth2/v2.0/devicecode", "/devicelogin", 400, "authorization_pending"),
    "okta": ("/oauth2/v1/device/authorize", "/activate", 400, "authorization_pending"),
    "twitch": ("/oauth2/device", "/activate", 400, "authorization_pending"),
}


VARIANTS = {"auth0-rotating", "cognito-rotating", "okta-rotating"}  # of another fixture, in other settings


class Accented(Owner):
    """One provider's owner and client, who ask as the tables say."""

    def __init__(self, peer: Any, name: str) -> None:
        super().__init__(peer)
        self.name, self.known, self.speaker = name, ASKED[name], Speaker(peer, name)

    def request(self, **changed: str | None) -> dict[str, str | None]:
        return {**self.known.sent, **changed}

    async def bring(self, answer: dict[str, str], **changed: str) -> tuple[int, Any, Any]:
        """Exchange the redirect's code, in the way in which this provider is asked for a refresh."""
        verifier = {} if self.known.pkce == "ignored" else {"code_verifier": VERIFIER}
        sent = {
            "code": answer[self.known.code],
            "redirect_uri": CALLBACK,
            **verifier,
            **self.known.brings,
            **changed,
        }
        auth = self.known.auth or ("post" if self.speaker.known.auth == "nobody" else None)
        return await self.speaker.ask("", auth=auth, **{"grant_type": "authorization_code", **sent})

    async def tokens(self, form: Any = None, **changed: str | None) -> Any:
        status, tokens, _ = await self.bring(await self.answer(form, **self.request(**changed)))
        assert status == self.speaker.known.status, tokens
        return tokens

    async def revoke(self, token: str) -> tuple[int, str]:
        """Send `token` as the table says."""
        known = REVOKED[self.name]
        headers = {"Notion-Version": "2025-09-03", "User-Agent": AGENT}
        fields = {} if known.place in ("path", "bearer") else {known.parameter: token}
        sandbox = self.sandbox
        match known.client:
            case "post":
                fields |= {known.client_id: sandbox.client_id, "client_secret": sandbox.client_secret}
            case "id":
                fields |= {"client_id": sandbox.client_id}
            case "basic":
                pair = quote_plus(sandbox.client_id), quote_plus(sandbox.client_secret)
                headers["Authorization"] = aiohttp.encode_basic_auth(*pair)
        if known.place == "bearer":
            headers["Authorization"] = f"Bearer {token}"
        url = sandbox.url + known.path.replace("{token}", quote(token, safe=""))
        way = {"form": "data", "json": "json", "query": "params"}.get(known.place)
        wishes = {} if way is None else {way: fields}
        async with self.peer.session.request(known.method, url, headers=headers, **wishes) as reply:
            return reply.status, await reply.text()


@pytest.fixture
async def start(start_sandbox: Any) -> Any:
    async def start_as(name: str, **options: Any) -> Accented:
        return Accented(await start_sandbox(name=name, **options), name)

    return start_as


def at(body: Any, path: str) -> Any:
    for step in path.split("."):
        body = body[step]
    return body


def test_every_fixture_has_its_facts_here() -> None:
    """And the other way round: a provider without a row must have nothing of the kind."""
    assert {*ASKED, *REISSUED, *SIGNED, "sandbox"} == set(recorded.names())
    for table, part in ((REVOKED, "revocation"), (DEVICES, "device")):
        having = {name for name in recorded.names() if getattr(recorded.dialect(name), part) is not None}
        assert having - {"sandbox"} - VARIANTS == set(table) - VARIANTS


@pytest.mark.parametrize("name", ASKED)
async def test_a_right_request_brings_tokens(start: Any, name: str) -> None:
    """From the provider's own address to a renewed token; the redirect has what it has there."""
    owner = await start(name)
    known = owner.known
    assert owner.sandbox.describe()["authorize_url"] == owner.sandbox.url + known.path
    answer = await owner.answer(**owner.request())
    assert set(answer) == {known.code, "state", *known.returns.split()}
    status, tokens, _ = await owner.bring(answer)
    tokens = FACTS[name].tokens(tokens)
    assert (status, "access_token" in tokens) == (FACTS[name].status, True)
    renews = FACTS[name].turn != NONE
    assert ("refresh_token" in tokens) == renews
    if renews:
        assert await owner.speaker.is_granted(tokens["refresh_token"])
    refused = await owner.bring(answer)
    assert "access_token" not in FACTS[name].tokens(refused[1])


@pytest.mark.parametrize(
    ("name", "needed"), [(name, needed) for name in ASKED for needed in ASKED[name].needs.split()]
)
async def test_what_is_demanded_of_a_request_is_demanded(start: Any, name: str, needed: str) -> None:
    """An error for the client, and no code."""
    owner = await start(name)
    answer = await owner.answer(**owner.request(**{needed: None}))
    assert answer["error"] == "invalid_request"
    assert await owner.consents() == []


@pytest.mark.parametrize("name", [name for name in ASKED if ASKED[name].online is not None])
async def test_without_the_offline_wish_there_is_no_refresh_token(start: Any, name: str) -> None:
    """The most usual slip of a first integration."""
    owner = await start(name)
    tokens = FACTS[name].tokens(await owner.tokens(**owner.known.online))
    assert ("access_token" in tokens, "refresh_token" in tokens) == (True, False)


@pytest.mark.parametrize("name", ["google", "zoho"])
async def test_a_second_consent_without_the_prompt_has_no_refresh_token(start: Any, name: str) -> None:
    """The second most usual one; another account is not concerned."""
    owner = await start(name)
    told = ["refresh_token" in await owner.tokens(prompt=prompt) for prompt in (None, None, "consent")]
    assert told == [True, False, True]
    assert "refresh_token" in await owner.tokens({"decision": "approve", "account": "you"}, prompt=None)


@pytest.mark.parametrize("name", ASKED)
async def test_pkce_is_checked_where_the_provider_checks_it(start: Any, name: str) -> None:
    """Elsewhere neither challenge nor verifier is read."""
    owner = await start(name)
    answer = await owner.answer(**owner.request())
    _, tokens, _ = await owner.bring(answer, code_verifier="w" * 43)
    assert ("access_token" in FACTS[name].tokens(tokens)) == (owner.known.pkce == "ignored")


@pytest.mark.parametrize("name", ASKED)
async def test_fewer_scopes_are_the_owners_choice_only_at_some(start: Any, name: str) -> None:
    """The ledger has what was granted."""
    owner = await start(name)
    scopes = (owner.known.sent.get("scope") or "read write").replace(",", " ")
    form = [("decision", "approve"), ("listed", "1"), ("scope", scopes.split()[0])]
    await owner.tokens(form)
    [grant] = await owner.grants()
    assert grant["scopes"] == (scopes.split()[:1] if owner.known.fewer else scopes.split())


@pytest.mark.parametrize("name", ["facebook", "github-app-oauth", "intercom", "shopify", "slack"])
async def test_some_take_a_code_without_a_grant_type(start: Any, name: str) -> None:
    """The others refuse it."""
    owner = await start(name)
    _, tokens, _ = await owner.bring(await owner.answer(**owner.request()), grant_type="")
    assert "access_token" in tokens
    box = await start("box")
    status, refusal, _ = await box.bring(await box.answer(), grant_type="")
    assert (status, refusal["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("name", [name for name in ASKED if ASKED[name].account])
async def test_the_response_names_the_account_as_the_provider_does(start: Any, name: str) -> None:
    """Two accounts are told apart, and the recorded form is kept."""
    owner = await start(name)
    path = owner.known.account
    recorded_one = at(owner.sandbox.consent()[0], path)
    told = [at(await owner.tokens({"decision": "approve", "account": one}), path) for one in ("12", "13")]
    assert told[0] != told[1]
    assert [type(one) for one in told] == [type(recorded_one)] * 2
    assert all(str(one).endswith(end) for one, end in zip(told, ("12", "13"), strict=True))


@pytest.mark.parametrize(
    ("name", "scope"), [("slack", "chat:write,users:read"), ("zoho", "A.x,B.y"), ("google", "a b")]
)
async def test_scopes_are_separated_as_the_provider_does(start: Any, name: str, scope: str) -> None:
    """In the request; the response has them in its own recorded way."""
    owner = await start(name)
    tokens = await owner.tokens(scope=scope)
    [grant] = await owner.grants()
    assert grant["scopes"] == scope.replace(",", " ").split()
    if name == "slack":
        assert tokens["scope"] == scope


@pytest.mark.parametrize("name", ASKED)
async def test_a_denied_request_is_worded_as_there(start: Any, name: str) -> None:
    """LinkedIn has an error of its own."""
    owner = await start(name)
    answer = await owner.answer({"decision": "deny"}, **owner.request())
    assert answer["error"] == ("user_cancelled_authorize" if name == "linkedin" else "access_denied")
    assert answer["state"] == "s+t/a=te"
    assert await owner.grants() == []


async def test_github_names_the_interval_that_holds_from_now_on(start: Any) -> None:
    """Five seconds more each time; the usual error has only the word."""
    owner = await start("github-app-oauth")
    form, headers = {"client_id": owner.sandbox.client_id}, {"Accept": "application/json"}
    async with owner.peer.session.post(owner.sandbox.device_url, data=form, headers=headers) as reply:
        code = (await reply.json())["device_code"]
    told = [(await owner.speaker.ask("", grant_type=DEVICE_CODE, device_code=code))[1] for _ in range(3)]
    assert [answer["error"] for answer in told] == ["authorization_pending", "slow_down", "slow_down"]
    assert [answer.get("interval") for answer in told] == [None, 10, 15]


async def test_shopifys_token_has_an_end_only_if_that_is_asked_for(start: Any) -> None:
    """Without the parameter it is one of the older kind."""
    owner = await start("shopify")
    _, tokens, _ = await owner.bring(await owner.answer(**owner.request()), expiring="0")
    assert set(tokens) == {"access_token", "scope"}


async def test_zohos_redirect_names_the_place_of_the_account(start: Any) -> None:
    """The client has to go on there."""
    owner = await start("zoho")
    assert (await owner.answer(**owner.request()))["accounts-server"] == owner.sandbox.url


async def test_stravas_redirect_alone_says_what_was_granted(start: Any) -> None:
    """The token response has no scope."""
    owner = await start("strava")
    form = [("decision", "approve"), ("listed", "1"), ("scope", "read")]
    answer = await owner.answer(form, scope="read,activity:read")
    assert answer["scope"] == "read"
    assert "scope" not in (await owner.bring(answer))[1]


@pytest.mark.parametrize(
    ("name", "status", "word"),
    [
        ("slack", 200, "invalid_code"),
        ("github-app-oauth", 200, "bad_verification_code"),
        ("hubspot", 400, "BAD_AUTH_CODE"),
        ("microsoft", 400, "AADSTS54005"),
        ("auth0", 403, "Invalid authorization code"),
        ("twitch", 400, "Invalid authorization code"),
        ("google", 400, "invalid_grant"),
    ],
)
async def test_a_wrong_code_is_told_in_the_providers_words(
    start: Any, name: str, status: int, word: str
) -> None:
    """They differ from those for a dead refresh token."""
    owner = await start(name)
    said = await owner.bring({owner.known.code: "4/unknown"})
    assert (said[0], word in str(said[1])) == (status, True)


@pytest.mark.parametrize("name", REVOKED)
async def test_a_token_is_revoked_in_the_providers_own_way(start: Any, name: str) -> None:
    """What ends is in the ledger; asked again, it is unknown."""
    owner = await start(name)
    known = REVOKED[name]
    assert owner.sandbox.describe()["revoke_url"] == owner.sandbox.url + known.path
    first = FACTS[name].tokens((await owner.peer.call("POST", "/grants?n=2&account=me"))[0])
    status, text = await owner.revoke(first[known.token])
    assert (status, known.done[1] in text) == (known.done[0], True)
    ended = [grant["revoked_by"] for grant in await owner.grants()]
    by = "client"
    assert ended == {"account": [by, by], "grant": [by, None], "token": [None, None]}[known.ends]
    bearer = {"Authorization": f"Bearer {first['access_token']}"}
    await owner.peer.call("GET", "/resource", headers=bearer, status=401)
    for token in (first[known.token], "never-issued"):
        status, text = await owner.revoke(token)
        assert (status, known.unknown[1] in text) == (known.unknown[0], True)
    if known.ends == "token":
        assert await owner.speaker.is_granted(first["refresh_token"])


@pytest.mark.parametrize(
    "name", [name for name in REVOKED if REVOKED[name].client in ("basic", "post", "id")]
)
async def test_a_revocation_without_its_client_is_refused(start: Any, name: str) -> None:
    """Nothing ends."""
    owner = await start(name)
    known = REVOKED[name]
    [grant] = await owner.peer.call("POST", "/grants")
    body = {
        "json" if known.place == "json" else "data": {known.parameter: FACTS[name].tokens(grant)[known.token]}
    }
    headers = {"Notion-Version": "2025-09-03", "User-Agent": AGENT}
    async with owner.peer.session.request(
        known.method, owner.sandbox.url + known.path, headers=headers, **body
    ) as reply:
        status, _ = FACTS[name].client
        assert reply.status == status
    assert (await owner.peer.ledger(grant["grant"]))["revoked_by"] is None


@pytest.mark.parametrize("name", sorted(set(ASKED) - set(REVOKED)))
async def test_where_nothing_can_be_revoked_there_is_no_address(start: Any, name: str) -> None:
    """The printed line says so."""
    owner = await start(name)
    assert owner.sandbox.describe()["revoke_url"] is None
    async with owner.peer.session.post(owner.sandbox.url + "/revoke") as reply:
        assert reply.status == 404


@pytest.mark.parametrize(("name", "most"), [("zoom", 1), ("notion", 1), ("salesforce", 5)])
async def test_one_consent_too_many_ends_the_oldest(start: Any, name: str, most: int) -> None:
    """Without a word to the client."""
    owner = await start(name)
    for _ in range(most + 1):
        await owner.tokens()
    assert [grant["revoked_by"] for grant in await owner.grants()] == ["crowded"] + [None] * most


@pytest.mark.parametrize("name", DEVICES)
async def test_a_device_is_connected_in_the_providers_way(start: Any, name: str) -> None:
    """The endpoint, the page, the words while the owner thinks, and the tokens."""
    owner = await start(name)
    endpoint, page, status, word = DEVICES[name]
    sandbox = owner.sandbox
    assert sandbox.describe()["device_url"] == sandbox.url + endpoint
    form = {
        "client_id": sandbox.client_id,
        ("scopes" if name == "twitch" else "scope"): "read offline_access",
    }
    if name == "keycloak":
        form["client_secret"] = sandbox.client_secret
    headers = {"Accept": "application/json"}
    async with owner.peer.session.post(sandbox.url + endpoint, data=form, headers=headers) as reply:
        told = await reply.json()
    place = told.get("verification_uri") or told["verification_url"]
    assert place.split("?")[0] == sandbox.url + page
    assert ("verification_uri_complete" in told) == (
        name not in ("github-app-oauth", "google", "microsoft", "twitch")
    )

    async def poll() -> Any:
        said = await owner.speaker.ask("", grant_type=DEVICE_CODE, device_code=told["device_code"])
        return said[0], said[1]

    said = await poll()
    assert (said[0], word in str(said[1])) == (status, True)
    assert (await owner.press(f"{sandbox.url}{page}?user_code={told['user_code']}"))[0] == 200
    consent = next(iter(sandbox._consents))
    consent.polled_at = None
    assert "access_token" in (await poll())[1]
    [grant] = await owner.grants()
    assert grant["scopes"] == ["read", "offline_access"]
