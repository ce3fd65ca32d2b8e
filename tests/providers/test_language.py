"""Requests that only some providers want, each as a definition of ours and as it leaves the machine.

The definitions here are drafts of real providers. A shipped one has its golden file; these stand until it is shipped,
and they show each key alone.
"""

import tomllib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from textwrap import dedent

import pytest

from daemon.adapters.token_endpoint.endpoint import TokenEndpoint
from daemon.domain.dialect import read
from daemon.domain.due import Moment, Timing
from daemon.domain.policy import decide
from daemon.domain.provider import Provider
from daemon.domain.request import code_request, refresh_request
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from daemon.domain.token_url import NotSendable
from daemon.runtime.config.providers.definitions import read_definition
from tests.adapters.mongo.mongo_bench import NOON, Bench, bench, database
from tests.providers.golden import rendered
from tests.providers.wire import CLOCK, endpoint, heard
from tests.refreshing.fakes import answered

WECHAT = """
    token_url = "https://api.weixin.qq.com/sns/oauth2/refresh_token"
    client_auth = "none"
    method = "GET"
    body = "query"
    repeatable = true
    names.client_id = "appid"
"""
CLOVER = """
    token_url = "https://api.clover.com/oauth/v2/refresh"
    exchange_url = "https://api.clover.com/oauth/v2/token"
    authorize_url = "https://www.clover.com/oauth/v2/authorize"
    client_auth = "none"
    exchange_auth = "post"
    body = "json"
    omit = ["grant_type"]
"""
INSTAGRAM = """
    token_url = "https://graph.instagram.com/refresh_access_token"
    client_auth = "omitted"
    grant = "exchange"
    method = "GET"
    body = "query"
    params.grant_type = "ig_refresh_token"
"""
DIGITALOCEAN = """
    token_url = "https://cloud.digitalocean.com/v1/oauth/refresh"
    exchange_url = "https://cloud.digitalocean.com/v1/oauth/token"
    authorize_url = "https://cloud.digitalocean.com/v1/oauth/authorize"
    client_auth = "omitted"
"""
SQUARE = """
    token_url = "https://connect.squareup.com/oauth2/token"
    client_auth = "post"
    body = "json"
    params.short_lived = true
    params.scopes = ["PAYMENTS_READ", "ORDERS_READ"]
    params.lifetime = 300
"""
FORTNOX = """
    token_url = "https://apps.fortnox.se/oauth-v1/token"
    client_auth = "basic"
    grant = "client_credentials"
    headers.TenantId = "${tenant}"
    params.username = "${user}"
    variables.tenant.pattern = "[0-9]+"
    variables.user = { kind = "value", pattern = '[^@]+@[^@]+' }
"""
BASECAMP = """
    token_url = "https://launchpad.37signals.com/authorization/token"
    client_auth = "post"
    echo = ["resource"]
"""
REFRESHES = {
    "wechat": (
        WECHAT,
        """
        GET https://api.weixin.qq.com/sns/oauth2/refresh_token
            ? grant_type = refresh_token
            ? refresh_token = r/t+1
            ? appid = app
        """,
    ),
    "clover": (
        CLOVER,
        """
        POST https://api.clover.com/oauth/v2/refresh
        {
          "refresh_token": "r/t+1",
          "client_id": "app"
        }
        """,
    ),
    "instagram": (
        INSTAGRAM,
        """
        GET https://graph.instagram.com/refresh_access_token
            ? grant_type = ig_refresh_token
            ? access_token = a/t+1
        """,
    ),
    "digitalocean": (
        DIGITALOCEAN,
        """
        POST https://cloud.digitalocean.com/v1/oauth/refresh
        grant_type = refresh_token
        refresh_token = r/t+1
        """,
    ),
    "square": (
        SQUARE,
        """
        POST https://connect.squareup.com/oauth2/token
        {
          "grant_type": "refresh_token",
          "refresh_token": "r/t+1",
          "client_id": "app",
          "client_secret": "s3cret",
          "short_lived": true,
          "scopes": [
            "PAYMENTS_READ",
            "ORDERS_READ"
          ],
          "lifetime": 300
        }
        """,
    ),
    "basecamp": (
        BASECAMP,
        """
        POST https://launchpad.37signals.com/authorization/token
        grant_type = refresh_token
        refresh_token = r/t+1
        resource = https://a.example/1:2
        client_id = app
        client_secret = s3cret
        """,
    ),
    "fortnox": (
        FORTNOX,
        """
        POST https://apps.fortnox.se/oauth-v1/token
        TenantId: 4711
        grant_type = client_credentials
        username = ann@acme.example
        """,
    ),
}
__all__ = ["bench", "database"]  # fixtures
USUAL = ("Host:", "User-Agent:", "Accept", "Content-", "Authorization:", "    (")


@pytest.fixture
async def through() -> AsyncIterator[TokenEndpoint]:
    async with endpoint() as opened:
        yield opened


def provider(text: str) -> Provider:
    definition = read_definition("acme", tomllib.loads(text))
    return Provider(definition=definition, client_id="app", client_secret=Secret("s3cret"))


TOKEN = Token(
    id="acme:1",
    provider="acme",
    account="1",
    state=State.ACTIVE,
    refresh_token=Secret("r/t+1"),
    access_token=Secret("a/t+1"),
    vars={"tenant": "4711", "user": "ann@acme.example"},
    echoed={"resource": "https://a.example/1:2", "other": "x"},
)


async def sent(through: TokenEndpoint, request) -> list[str]:
    """The request as it came in, without the headers that every request has."""
    lines = rendered(request, await heard(through, request)).splitlines()
    return [line for line in lines if line and not line.startswith(USUAL)]


@pytest.mark.parametrize(("text", "golden"), REFRESHES.values(), ids=REFRESHES)
async def test_a_refresh_leaves_as_the_provider_wants_it(through: TokenEndpoint, text: str, golden: str):
    """Byte by byte over a real socket."""
    request = refresh_request(provider(text), TOKEN, now=CLOCK.now())
    assert await sent(through, request) == dedent(golden).strip().splitlines()


@pytest.mark.parametrize(
    ("text", "first", "client"),
    [
        (DIGITALOCEAN, "POST https://cloud.digitalocean.com/v1/oauth/token", "client_secret = s3cret"),
        (CLOVER, "POST https://api.clover.com/oauth/v2/token", '  "client_secret": "s3cret"'),
    ],
)
async def test_a_code_is_exchanged_at_its_own_address_and_names_the_client(
    through: TokenEndpoint, text: str, first: str, client: str
):
    """Even if a refresh names none: without its client a code is worth nothing."""
    request = code_request(
        provider(text),
        code=Secret("c0de"),
        code_verifier=None,
        redirect_uri="http://127.0.0.1/callback",
        variables={},
        now=CLOCK.now(),
    )
    lines = await sent(through, request)
    assert lines[0] == first
    assert client in lines
    assert any("authorization_code" in line for line in lines)


def test_a_code_that_needs_a_secret_is_not_presented_without_it():
    """The provider would refuse the client, and the code would be spent."""
    without = replace(provider(CLOVER), client_secret=None)
    with pytest.raises(NotSendable, match="no client_secret"):
        code_request(
            without,
            code=Secret("c0de"),
            code_verifier=None,
            redirect_uri="http://127.0.0.1/callback",
            variables={},
            now=CLOCK.now(),
        )
    assert b"client_secret" not in refresh_request(without, TOKEN, now=CLOCK.now()).body


async def test_a_reply_field_goes_back_with_each_refresh_even_if_a_reply_omits_it(
    through: TokenEndpoint, bench: Bench
):
    """Basecamp 5: stored beside the grant, by MongoDB too, and unchanged by a reply without it."""
    client = provider(BASECAMP)
    token, store = "acme:1", bench.store()
    bench.insert("1")
    sent_back = []
    for answer in ({"resource": "urn:1:2"}, {}, {"resource": "urn:3"}, {}):
        [claim] = (await store.claim(client, limit=1, busy=[])).items
        lines = await sent(through, refresh_request(client, claim.token, now=CLOCK.now()))
        sent_back += [line.removeprefix("resource = ") for line in lines if line.startswith("resource")] or [
            ""
        ]
        granted = read(client, claim.token, answered({"access_token": "a", "expires_in": 60} | answer))
        change = decide(client, claim.token, granted, asked_at=NOON, moment=Moment(NOON, 0.5, Timing()))
        await store.record(claim, change)
        bench.set(token, due_at=NOON - timedelta(minutes=1))
    assert sent_back == ["", "urn:1:2", "urn:1:2", "urn:3"]
    assert bench.document(token)["extra"] == {"resource": "urn:3"}
