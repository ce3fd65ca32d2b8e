"""Every provider that the sandbox speaks: asked as that one wants, answered as that one answers.

The table holds each provider's facts a second time, written down from the same sources and not from the fixtures, so
that a slip in a fixture is seen here.
"""

import json
from datetime import timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, quote_plus

import aiohttp
import pytest

from daemon.sandbox import recorded
from tests.sandbox import facts_commerce, facts_devices, facts_platforms, facts_social
from tests.sandbox.facts import (
    ALWAYS,
    DAILY,
    EVERY,
    GONE,
    NONE,
    PAIR,
    PLAIN,
    RETOLD,
    RTE,
    SCOPED,
    THIRD,
    THIRD_UNTOLD,
    UNTOLD,
    Fact,
    fact,
)

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
AGENT = "linux:example.refresher:v1 (by /u/example)"

AUTH0_DEAD = (403, {"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."})
DENIED = (401, {"error": "access_denied"})

FACTS: dict[str, Fact] = {
    "adobe": fact("/ims/token/v3", "basic", "form", ALWAYS, PAIR, GONE),
    "airtable": fact("/oauth2/v1/token", "basic", "form", ALWAYS, f"{SCOPED} refresh_expires_in", GONE),
    "amazon-selling-partner": fact("/auth/o2/token", "post", "form", THIRD, PAIR, GONE),
    "asana": fact("/-/oauth_token", "post", "form", UNTOLD, f"{PLAIN} data", GONE),
    "atlassian": fact("/oauth/token", "post", "json form", ALWAYS, SCOPED, AUTH0_DEAD, client=DENIED),
    "auth0": fact("/oauth/token", "post basic", "form json", UNTOLD, f"{PLAIN} scope", AUTH0_DEAD, client=DENIED),
    "auth0-rotating": fact("/oauth/token", "post basic", "form json", ALWAYS, SCOPED, AUTH0_DEAD, client=DENIED),
    "bamboohr": fact("/token.php", "post", "json", RETOLD, f"{SCOPED} companyDomain", GONE),
    "basecamp": fact("/authorization/token", "post", "form query", UNTOLD, "access_token expires_in", GONE),
    "bigcommerce": fact("/oauth2/token", "post", "form", NONE, "access_token scope user context account_uuid", GONE),
    "bitbucket": fact(
        "/site/oauth2/access_token", "basic", "form", ALWAYS, f"{SCOPED} state",
        (400, {"error": "invalid_request", "error_description": "Invalid refresh_token"}),
    ),
    "box": fact(
        "/oauth2/token", "post", "form", ALWAYS, f"{PAIR} restricted_to",
        (400, {"error": "invalid_grant", "error_description": "Refresh token has expired"}),
        client=(400, {"error": "invalid_client"}),
    ),
    "calendly": fact("/oauth/token", "basic post", "form", ALWAYS, f"{SCOPED} created_at owner organization", GONE),
    "canva": fact(
        "/auth/v1/oauth/token", "basic post", "form", ALWAYS, SCOPED,
        (400, {"code": "invalid_grant", "message": "Invalid refresh token"}),
        client=(401, {"code": "invalid_client"}), throttle=(429, {"code": "too_many_requests"}),
    ),
    "close": fact("/oauth2/token/", "post", "form", ALWAYS, f"{SCOPED} organization_id user_id", GONE),
    "constant-contact": fact(
        "/oauth2/default/v1/token", "basic post", "form", ALWAYS, SCOPED,
        (400, {"error": "invalid_grant", "error_description": "The refresh token is invalid or expired."}),
    ),
    "databricks": fact(
        "/oidc/v1/token", "post", "form", RETOLD, SCOPED,
        (400, {"error": "invalid_request", "error_description": "Refresh token is invalid"}),
    ),
    "deel": fact("/oauth2/tokens", "basic", "form", ALWAYS, SCOPED, GONE),
    "docusign": fact("/oauth/token", "basic", "form", THIRD, PAIR, GONE),
    "dropbox": fact("/oauth2/token", "post", "form", UNTOLD, PLAIN, GONE),
    "ebay": fact("/identity/v1/oauth2/token", "basic", "form", UNTOLD, PLAIN, GONE),
    "exact-online": fact(
        "/api/oauth2/token", "post", "form", ALWAYS, PAIR,
        (401, {"error": "unauthorized_client", "error_description": "Old refresh token used."}),
        throttle=(400, {"error": "access_denied"}),
    ),
    "facebook": fact(
        "/v22.0/oauth/access_token", "post", "query", NONE, PLAIN,
        (400, {"error.code": 190, "error.type": "OAuthException"}),
        client=(400, {"error.type": "OAuthException"}), throttle=(400, {"error.code": 4}), method="GET",
        grant="fb_exchange_token", presents="fb_exchange_token", exchange=True,
    ),
    "figma": fact("/v1/oauth/refresh", "basic post", "form", UNTOLD, PLAIN, GONE),
    "fortnox": fact("/oauth-v1/token", "basic", "form", ALWAYS, SCOPED, GONE),
    "freshbooks": fact("/auth/oauth/token", "post", "form json", ALWAYS, f"{SCOPED} created_at", GONE),
    "front": fact("/oauth/token", "basic", "form", RETOLD, "access_token refresh_token token_type expires_at", GONE),
    "github-app-oauth": fact(
        "/login/oauth/access_token", "post", "form query", ALWAYS, f"{SCOPED} {RTE}",
        (200, {"error": "bad_refresh_token"}), client=(200, {"error": "incorrect_client_credentials"}),
    ),
    "gitlab": fact("/oauth/token", "post", "form", ALWAYS, f"{SCOPED} created_at", GONE),
    "gong": fact(
        "/oauth2/generate-customer-token", "basic", "query form", ALWAYS, f"{SCOPED} api_base_url_for_customer",
        (400, {"error": "invalid_grant", "error_description": "Refresh token code is invalid"}),
    ),
    "google": fact(
        "/token", "post", "form", UNTOLD, f"{PLAIN} scope",
        (400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}),
    ),
    "gusto": fact("/oauth/token", "post", "json", ALWAYS, f"{SCOPED} created_at", GONE),
    "hubspot": fact(
        "/oauth/v1/token", "post", "form", RETOLD, f"{PAIR} hub_id scopes", (400, {"status": "BAD_REFRESH_TOKEN"}),
        client=(400, {"status": "BAD_CLIENT_SECRET"}),
    ),
    "intercom": fact("/auth/eagle/token", "post", "form", NONE, "access_token token token_type", GONE),
    "keycloak": fact(
        "/realms/example/protocol/openid-connect/token", "post basic", "form", ALWAYS,
        f"{SCOPED} refresh_expires_in not-before-policy session_state",
        (400, {"error": "invalid_grant", "error_description": "Token is not active"}),
        client=(401, {"error": "unauthorized_client"}),
    ),
    "klaviyo": fact("/oauth/token", "basic", "form", RETOLD, SCOPED, (400, {"error": "invalid_grant_type"})),
    "lever": fact("/oauth/token", "post", "form", UNTOLD, f"{PLAIN} scope", AUTH0_DEAD),
    "linear": fact("/oauth/token", "post", "form", ALWAYS, SCOPED, GONE),
    "linkedin": fact(
        "/oauth/v2/accessToken", "post", "form", RETOLD, f"access_token expires_in refresh_token {RTE} scope", GONE
    ),
    "mailchimp": fact("/oauth2/token", "post", "form", NONE, "access_token expires_in scope", GONE),
    "microsoft": fact(
        "/common/oauth2/v2.0/token", "post", "form", ALWAYS, f"{SCOPED} ext_expires_in",
        (400, {"error": "invalid_grant", "error_codes": [700082]}), wait="60",
    ),
    "miro": fact("/v1/oauth/token", "post", "form query", ALWAYS, f"{SCOPED} team_id user_id", GONE),
    "myob": fact("/oauth2/v1/authorize", "post", "form", ALWAYS, f"{SCOPED} user", GONE),
    "netsuite": fact("/services/rest/auth/oauth2/v1/token", "basic", "form", UNTOLD, PLAIN, GONE),
    "notion": fact(
        "/v1/oauth/token", "basic", "json", ALWAYS,
        "access_token token_type refresh_token bot_id workspace_icon workspace_id workspace_name owner"
        " duplicated_template_id",
        GONE,
    ),
    "okta": fact("/oauth2/v1/token", "basic post", "form", RETOLD, SCOPED, GONE),
    "okta-rotating": fact("/oauth2/v1/token", "basic post", "form", ALWAYS, SCOPED, GONE),
    "outreach": fact("/oauth/token", "post", "form json", ALWAYS, f"{SCOPED} created_at", GONE),
    "pipedrive": fact("/oauth/token", "basic", "form", THIRD, f"{SCOPED} api_domain", GONE),
    "procore": fact("/oauth/token", "post", "form", ALWAYS, f"{PAIR} created_at", GONE),
    "quickbooks": fact(
        "/oauth2/v1/tokens/bearer", "basic", "form", DAILY, f"{PAIR} x_refresh_token_expires_in", GONE
    ),
    "reddit": fact(
        "/api/v1/access_token", "basic", "form", UNTOLD, f"{PLAIN} scope",
        (400, {"message": "Bad Request", "error": 400}), client=(401, {"error": 401}),
    ),
    "ringcentral": fact(
        "/restapi/oauth/token", "basic", "form", ALWAYS, f"{SCOPED} {RTE} owner_id endpoint_id",
        (400, {"error": "invalid_grant", "errors.0.errorCode": "OAU-210"}),
        client=(400, {"error": "invalid_client", "errors.0.errorCode": "OAU-153"}), wait="60",
    ),
    "sage-accounting": fact("/token", "post", "form", ALWAYS, f"{SCOPED} {RTE} requested_by_id", GONE),
    "sage-intacct": fact("/ia/api/v1/oauth2/token", "post basic", "form", ALWAYS, PAIR, GONE),
    "salesforce": fact(
        "/services/oauth2/token", "post", "form", UNTOLD,
        "access_token signature scope instance_url id token_type issued_at",
        (400, {"error": "invalid_grant", "error_description": "expired access/refresh token"}),
        client=(400, {"error": "invalid_client"}),
    ),
    "salesforce-rotating": fact(
        "/services/oauth2/token", "post", "form", ALWAYS,
        "access_token refresh_token signature scope instance_url id token_type issued_at", GONE,
        client=(400, {"error": "invalid_client"}),
    ),
    "salesloft": fact("/oauth/token", "post", "json form", ALWAYS, PAIR, GONE),
    "servicenow": fact("/oauth_token.do", "post", "form", RETOLD, SCOPED, GONE),
    "shopify": fact(
        "/admin/oauth/access_token", "post", "form json", ALWAYS,
        f"access_token expires_in refresh_token {RTE} scope", GONE,
    ),
    "slack": fact(
        "/api/oauth.v2.access", "basic post", "form", ALWAYS,
        f"{SCOPED} ok bot_user_id app_id team enterprise is_enterprise_install",
        (200, {"ok": False, "error": "invalid_refresh_token"}),
        client=(200, {"ok": False, "error": "bad_client_secret"}),
        throttle=(429, {"ok": False, "error": "ratelimited"}), broken=200, wait="30",
    ),
    "smartsheet": fact(
        "/2.0/token", "post", "form query", ALWAYS, PAIR, GONE, client=(400, {"error": "invalid_client"})
    ),
    "snowflake": fact(
        "/oauth/token-request", "basic post", "form", UNTOLD, f"{PLAIN} scope",
        (400, {"error": "invalid_grant", "success": False}), client=(400, {"error": "invalid_client"}),
    ),
    "snowflake-rotating": fact(
        "/oauth/token-request", "basic post", "form", ALWAYS, SCOPED,
        (400, {"error": "invalid_grant", "success": False}), client=(400, {"error": "invalid_client"}),
    ),
    "spotify": fact(
        "/api/token", "basic", "form", THIRD_UNTOLD, f"{PLAIN} scope", GONE, client=(400, {"error": "invalid_client"})
    ),
    "squarespace": fact(
        "/api/1/login/oauth/provider/tokens", "basic", "json form", ALWAYS,
        "access_token access_token_expires_at refresh_token token_type", GONE,
    ),
    "strava": fact(
        "/api/v3/oauth/token", "post", "form", ALWAYS, f"{PAIR} expires_at",
        (400, {"errors.0.resource": "RefreshToken", "errors.0.code": "invalid"}),
        client=(400, {"errors.0.resource": "Application"}),
    ),
    "stripe": fact(
        "/oauth/token", "post", "form", RETOLD,
        "access_token livemode refresh_token token_type stripe_publishable_key stripe_user_id scope", GONE,
    ),
    "stripe-apps": fact(
        "/v1/oauth/token", "secret_as_user", "form", ALWAYS,
        "access_token livemode refresh_token token_type stripe_publishable_key stripe_user_id scope", GONE,
    ),
    "twitch": fact(
        "/oauth2/token", "post", "form", THIRD, SCOPED, (400, {"message": "Invalid refresh token"}),
        client=(403, {"message": "invalid client secret"}),
    ),
    "twitter-v2": fact(
        "/2/oauth2/token", "basic", "form", ALWAYS, SCOPED,
        (400, {"error": "invalid_request", "error_description": "Value passed for the token was invalid."}),
        client=(401, {"error": "unauthorized_client"}),
    ),
    "wrike": fact("/oauth2/token", "post", "form", ALWAYS, f"{PAIR} host", GONE),
    "xero": fact(
        "/connect/token", "basic", "form", ALWAYS, SCOPED, GONE, client=(400, {"error": "invalid_client"})
    ),
    "zendesk": fact("/oauth/tokens", "post", "form json", ALWAYS, f"{SCOPED} {RTE}", GONE),
    "zoho": fact(
        "/oauth/v2/token", "post", "form query", UNTOLD, f"{PLAIN} scope api_domain",
        (200, {"error": "invalid_code"}), client=(200, {"error": "invalid_client"}),
        throttle=(400, {"error": "Access Denied"}),
    ),
    "zoom": fact(
        "/oauth/token", "basic", "form query", ALWAYS, f"{SCOPED} api_url",
        (401, {"reason": "Invalid Token!", "error": "invalid_request"}),
    ),
}  # fmt: skip
FACTS |= facts_commerce.FACTS | facts_social.FACTS | facts_devices.FACTS | facts_platforms.FACTS
RENEWED = [name for name, known in FACTS.items() if known.turn != NONE or known.exchange]
WATCHED = sorted(set(FACTS) - set(RENEWED))
SPENDING = {"procore"}  # a refused client's request spends the refresh token, too
REISSUED = {"wix"}  # the client alone is enough, so there is no consent to speak of


class Speaker:
    """One provider's sandbox, and a client that asks as the table says, or otherwise where a test wants that."""

    def __init__(self, peer: Any, name: str) -> None:
        self.peer, self.known = peer, FACTS[name]

    async def consent(self) -> Any:
        [answer] = await self.peer.call("POST", "/grants")
        tokens = self.known.tokens(answer)
        return answer, tokens["access_token" if self.known.exchange else "refresh_token"]

    async def ask(
        self, token: str, *, auth: str | None = None, body: str | None = None, method: str | None = None,
        url: str | None = None, headers: dict[str, str] | None = None, client: str | None = None, secret: str | None = None,
        **more: str,
    ) -> tuple[int, Any, Any]:  # fmt: skip
        """The status, the body (JSON where it is) and the headers of one reply."""
        sandbox, known = self.peer.sandbox, self.known
        client, secret = client or sandbox.client_id, secret or sandbox.client_secret
        word = {"grant_type": known.grant} if known.grant else {}
        fields = {**word, known.presents: token, **known.sent, **more}
        sent = {"Accept": JSON, "Notion-Version": "2025-09-03", "User-Agent": AGENT} | (headers or {})
        match auth or self.known.auth.split()[0]:
            case "post":
                fields |= {"client_id": client, "client_secret": secret}
            case "id":
                fields |= {"client_id": client}
            case "basic":
                pair = (quote_plus(client), quote_plus(secret))
                sent["Authorization"] = aiohttp.encode_basic_auth(*pair)
            case "secret_as_user":
                sent["Authorization"] = aiohttp.encode_basic_auth(quote_plus(secret), "")
        way = {"form": "data", "json": "json", "query": "params"}[body or self.known.body.split()[0]]
        fields = {known.called.get(name, name): value for name, value in fields.items()}
        async with self.peer.session.request(
            method or known.method, url or sandbox.token_url, headers=sent, **{way: fields}
        ) as reply:
            text = await reply.text()
            return reply.status, json.loads(text) if reply.content_type == JSON else text, reply.headers

    async def is_granted(self, token: str, **wishes: Any) -> bool:
        status, body, _ = await self.ask(token, **wishes)
        return status == self.known.status and "access_token" in self.known.tokens(body)


@pytest.fixture
async def speak(start_sandbox: Any) -> Any:
    async def start(name: str, **options: Any) -> Speaker:
        return Speaker(await start_sandbox(name=name, **options), name)

    return start


def digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def at(body: Any, path: str) -> Any:
    for step in path.split("."):
        body = body[int(step)] if isinstance(body, list) else body[step]
    return body


def says(reply: tuple[int, Any, Any], expected: tuple[int, dict[str, Any]]) -> None:
    status, body, _ = reply
    assert (status, {path: at(body, path) for path in expected[1]}) == expected


def test_every_fixture_has_its_facts_here() -> None:
    """And the other way round; only the standard's own dialect has tests of its own."""
    assert {*FACTS, *REISSUED, "sandbox"} == set(recorded.names())


@pytest.mark.parametrize("name", RENEWED)
async def test_a_right_request_is_granted_in_the_providers_shape(speak: Any, name: str) -> None:
    """At the provider's own path and at the plain one, by every way that it accepts."""
    speaker = await speak(name)
    known, sandbox = speaker.known, speaker.peer.sandbox
    assert sandbox.describe()["token_url"] == sandbox.url + known.path
    for url in (None, sandbox.url + "/token"):
        for auth in known.auth.split():
            for body in known.body.split():
                answer, token = await speaker.consent()
                status, reply, headers = await speaker.ask(token, url=url, auth=auth, body=body)
                tokens = known.tokens(reply)
                assert (status, set(tokens)) == (known.status, set(known.keys.split()))
                assert headers["Cache-Control"] == "no-store"
                bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
                await speaker.peer.call("GET", "/resource", headers=bearer)
                assert tokens["access_token"] != known.tokens(answer)["access_token"]
                assert tokens.get("expires_in", 60) in (60, "60")


@pytest.mark.parametrize("name", [name for name in RENEWED if name not in SPENDING])
async def test_a_request_that_it_does_not_want_is_refused_and_spends_nothing(speak: Any, name: str) -> None:
    """Another client authentication, another place for the parameters, another method."""
    speaker = await speak(name)
    known = speaker.known
    answer, token = await speaker.consent()
    for auth in {"basic", "post", "secret_as_user", "id", "nobody"} - set(known.auth.split()):
        says(await speaker.ask(token, auth=auth), known.named or known.client)
    for body in {"form", "json", "query"} - set(known.body.split()):
        if not (known.method == "GET" and body != "query"):
            assert not await speaker.is_granted(token, body=body)
    for method in ("GET", "POST", "PUT"):
        if method != known.method:
            assert (await speaker.ask(token, method=method))[0] == 405
    if known.has_secret:
        says(await speaker.ask(token, secret="wrong"), known.client)
    elif known.auth == "id":
        says(await speaker.ask(token, client="of-another-app"), known.client)
    truth = await speaker.peer.ledger(answer["grant"])
    assert truth["live"] == [digest(token)]
    assert not any(line["outcome"].startswith("granted") for line in truth["presented"])
    assert await speaker.is_granted(token)


@pytest.mark.parametrize("name", RENEWED)
async def test_a_dead_grant_is_told_in_the_providers_words(speak: Any, name: str) -> None:
    """Withdrawn by its owner, or never issued; the ledger knows which."""
    speaker = await speak(name)
    answer, token = await speaker.consent()
    await speaker.peer.call("DELETE", f"/grants/{answer['grant']}")
    says(await speaker.ask(token), speaker.known.dead)
    says(await speaker.ask("never issued"), speaker.known.dead)
    truth = await speaker.peer.ledger(answer["grant"])
    assert [line["outcome"] for line in truth["presented"]] == ["refused"]
    assert truth["revoked_by"] == "owner"


@pytest.mark.parametrize("name", FACTS)
async def test_faults_speak_in_the_providers_words(speak: Any, name: str) -> None:
    """Each of them in every wording that was recorded; the first is the one of the table."""
    speaker = await speak(name)
    words = recorded.dialect(name).refusals
    expected = {
        "dead_grant": (speaker.known.dead, words["invalid_grant"]),
        "wrong_client": (speaker.known.client, words["invalid_client"]),
        "throttle": (speaker.known.throttle, words["throttled"]),
        "outage": ((503, {}), words["down"]),
        "error": ((speaker.known.broken, {}), words["broken"]),
    }
    for kind, (first, wordings) in expected.items():
        for number, wording in enumerate(wordings):
            await speaker.peer.fault(kind=kind, count=1, wording=number)
            reply = await speaker.ask("x")
            assert reply[0] == wording.status
            if number == 0:
                says(reply, first)
        answer = await speaker.peer.call(
            "PUT", "/faults", status=400, json={"kind": kind, "wording": len(wordings)}
        )
        assert "wording must be below" in answer["error"]


@pytest.mark.parametrize("name", FACTS)
async def test_a_throttle_carries_the_retry_after_that_was_asked_for(speak: Any, name: str) -> None:
    """Instead of the provider's own, where it has one."""
    speaker = await speak(name)
    await speaker.peer.fault(kind="throttle", count=1)
    _, _, headers = await speaker.ask("x")
    assert headers.get("Retry-After") == speaker.known.wait
    await speaker.peer.fault(kind="throttle", count=1, retry_after=7)
    _, _, headers = await speaker.ask("x")
    assert headers["Retry-After"] == "7"


@pytest.mark.parametrize("name", sorted(name for name in RENEWED if not FACTS[name].exchange))
async def test_the_refresh_token_changes_as_stated_and_the_ledger_agrees(speak: Any, name: str) -> None:
    """Always, never or now and then; told again or left out where it stays."""
    speaker = await speak(name)
    known, (answer, token) = speaker.known, await speaker.consent()
    turn = known.turn
    every, changes = EVERY[turn], 0
    for number in range(1, 25):
        reply = known.tokens((await speaker.ask(token))[1])
        changed = bool(every) and number % every == 0
        changes += changed
        if not changed and turn in (UNTOLD, THIRD_UNTOLD):
            assert "refresh_token" not in reply
        else:
            assert (reply["refresh_token"] != token) == changed
            token = reply["refresh_token"]
    truth = await speaker.peer.ledger(answer["grant"])
    assert (truth["generation"], truth["current"]) == (changes, digest(token))
    assert [line["outcome"] for line in truth["presented"]] == ["granted"] * 24


KEPT = {"microsoft", "keycloak"}  # a spent one is as good as ever
IN_GRACE = {
    "atlassian", "exact-online", "gusto", "okta-rotating", "ringcentral", "shopify", "squarespace", "xero",
} | {n for n, f in FACTS.items() if f.in_grace}  # fmt: skip


@pytest.mark.parametrize("name", sorted(name for name in RENEWED if FACTS[name].turn == ALWAYS))
async def test_a_spent_token_works_only_where_that_is_documented(speak: Any, name: str) -> None:
    """At once (a lost reply's retry) and after the successor was used; the strict ones revoke all."""
    speaker = await speak(name)
    answer, first = await speaker.consent()
    _, reply, _ = await speaker.ask(first)
    assert await speaker.is_granted(first) == (name in KEPT | IN_GRACE)
    if name in KEPT | IN_GRACE:
        assert await speaker.is_granted(speaker.known.tokens(reply)["refresh_token"])
        assert await speaker.is_granted(first) == (name in KEPT)
    truth = await speaker.peer.ledger(answer["grant"])
    assert truth["revoked_by"] == (None if name in KEPT else "reuse")


@pytest.mark.parametrize("name", WATCHED)
async def test_where_nothing_renews_a_token_it_has_no_end(speak: Any, name: str) -> None:
    """The consent gives one access token; the endpoint knows no refresh."""
    speaker = await speak(name)
    [answer] = await speaker.peer.call("POST", "/grants")
    assert set(answer) == {*speaker.known.keys.split(), "grant"}
    await speaker.peer.call("GET", "/resource", headers={"Authorization": f"Bearer {answer['access_token']}"})
    says(await speaker.ask(answer["access_token"]), (400, {"error": "unsupported_grant_type"}))
    assert (answer.get("expires_in", 0), answer.get("refresh_token")) == (0, None)
    truth = await speaker.peer.ledger(answer["grant"])
    assert (truth["current"], truth["presented"]) == ("", [])


async def test_mailchimp_says_never_and_nothing(speak: Any) -> None:
    """`expires_in` 0 and `scope` null, literally."""
    [answer] = await (await speak("mailchimp")).peer.call("POST", "/grants")
    assert (answer["expires_in"], answer["scope"]) == (0, None)


async def test_github_answers_with_a_form_unless_json_is_asked_for(speak: Any) -> None:
    """Grant and refusal alike."""
    speaker = await speak("github-app-oauth")
    _, token = await speaker.consent()
    _, text, headers = await speaker.ask(token, headers={"Accept": "*/*"})
    assert headers["Content-Type"].startswith(FORM)
    token = parse_qs(text)["refresh_token"][0]
    assert "bad_refresh_token" in (await speaker.ask("x", headers={"Accept": "*/*"}))[1]
    assert await speaker.is_granted(token)


async def test_a_header_that_is_demanded_is_demanded(speak: Any) -> None:
    """Notion's version; Reddit throttles whoever has no name of his own."""
    notion, reddit = await speak("notion"), await speak("reddit")
    _, token = await notion.consent()
    assert (await notion.ask(token, headers={"Notion-Version": "latest"}))[0] == 400
    assert await notion.is_granted(token)
    answer, token = await reddit.consent()
    for agent in ("", "Python/3.11 aiohttp/3.14", "curl/8.5"):
        assert (await reddit.ask(token, headers={"User-Agent": agent}))[0] == 429
    assert await reddit.is_granted(token)
    truth = await reddit.peer.ledger(answer["grant"])
    assert [line["outcome"] for line in truth["presented"]] == ["throttled"] * 3 + ["granted"]


async def test_zooms_servers_are_issued_a_new_token_for_an_account(speak: Any) -> None:
    """No refresh token, and not without the account."""
    zoom = await speak("zoom")
    status, reply, _ = await zoom.ask("", grant_type="account_credentials", account_id="a1")
    assert (status, "refresh_token" in reply, reply["expires_in"]) == (200, False, 60)
    assert (await zoom.ask("", grant_type="account_credentials"))[0] == 400
    assert (await zoom.ask("", grant_type="client_credentials"))[0] == 400


async def test_an_installation_of_a_wix_app_is_issued_a_new_token(start_sandbox: Any) -> None:
    """From JSON, no refresh token, and not without the installation."""
    peer = await start_sandbox(name="wix")
    client = {"client_id": peer.sandbox.client_id, "client_secret": peer.sandbox.client_secret}
    fields = {
        "grant_type": "client_credentials",
        "instance_id": "55555555-1111-2222-3333-444444444444",
    } | client
    wanted = peer.sandbox.url + "/oauth2/token"
    assert peer.sandbox.token_url == wanted

    async def ask(**way: Any) -> tuple[int, Any]:
        async with peer.session.post(wanted, **way) as reply:
            return reply.status, await reply.json()

    status, reply = await ask(json=fields)
    assert (status, set(reply)) == (200, {"access_token", "token_type", "expires_in"})
    assert (await ask(data=fields))[0] == 400
    assert (await ask(json=fields | {"instance_id": ""}))[0] == 400
    assert (await ask(json=fields | {"client_secret": "wrong"}))[0] == 401


async def test_any_call_ends_procores_refresh_token(speak: Any) -> None:
    """A wrong secret, too: the next call with the right one is refused."""
    speaker = await speak("procore")
    _, token = await speaker.consent()
    says(await speaker.ask(token, secret="wrong"), speaker.known.client)
    says(await speaker.ask(token), speaker.known.dead)


async def test_facebook_exchanges_a_live_access_token(speak: Any) -> None:
    """The ledger follows the access tokens; an older one works until its own end."""
    speaker = await speak("facebook")
    answer, first = await speaker.consent()
    assert "refresh_token" not in answer
    _, reply, _ = await speaker.ask(first)
    truth = await speaker.peer.ledger(answer["grant"])
    assert (truth["generation"], truth["current"]) == (1, digest(reply["access_token"]))
    assert [line["outcome"] for line in truth["presented"]] == ["granted"]
    assert await speaker.is_granted(first)
    assert await speaker.is_granted(reply["access_token"])


async def test_a_consent_tells_what_only_a_consent_tells(speak: Any) -> None:
    """The first reply of those that later leave the refresh token out."""
    for name, told in [
        ("dropbox", "account_id"),
        ("ebay", "refresh_token_expires_in"),
        ("strava", "athlete"),
    ]:
        answer, _ = await (await speak(name)).consent()
        assert {told, "refresh_token"} <= answer.keys()


async def test_the_command_lines_grace_and_reuse_override_the_providers(speak: Any) -> None:
    """Strictness on demand, and leniency."""
    strict = await speak("xero", grace=timedelta())
    _, token = await strict.consent()
    assert [await strict.is_granted(token) for _ in range(2)] == [True, False]
    lenient = await speak("box", reuse="refuse")
    _, token = await lenient.consent()
    _, reply, _ = await lenient.ask(token)
    assert not await lenient.is_granted(token)
    assert await lenient.is_granted(reply["refresh_token"])
