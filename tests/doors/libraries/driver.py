"""A program with an OAuth library that is not changed: it refreshes tokens by their handles, and uses each at the provider.

    LIBRARY URL KEY RESOURCE COUNT, and the handles as JSON on standard input

It prints, as JSON, how many access tokens it got and how many of them the provider took. A token that was renewed in the
moment between the answer and its use is refreshed again, as an application does after a 401.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import requests

library, url, key, resource, count = sys.argv[1:]
handles: list[str] = json.load(sys.stdin)
key_id = key[4:24]
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = (
    "1"  # http, on this machine
)
web = requests.Session()
TRIES, PAUSE = 20, 0.1


def works(access_token: str) -> bool:
    return (
        web.get(resource, headers={"Authorization": f"Bearer {access_token}"}, timeout=20).status_code == 200
    )


def authlib(handle: str) -> str:
    from authlib.integrations.requests_client import OAuth2Session

    session = OAuth2Session(key_id, key, token_endpoint_auth_method="client_secret_basic")
    return str(session.refresh_token(url, refresh_token=handle)["access_token"])


def requests_oauthlib(handle: str) -> str:
    from requests.auth import HTTPBasicAuth
    from requests_oauthlib import OAuth2Session

    session = OAuth2Session(key_id)
    return str(
        session.refresh_token(url, refresh_token=handle, auth=HTTPBasicAuth(key_id, key))["access_token"]
    )


def mcp(handle: str) -> str:
    """The SDK refreshes by itself before a request, because its token has expired."""
    import httpx2
    from mcp.client.auth import OAuthClientProvider
    from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthMetadata, OAuthToken

    class Storage:
        tokens: Any = OAuthToken(access_token="expired", refresh_token=handle)

        async def get_tokens(self) -> Any:
            return self.tokens

        async def set_tokens(self, tokens: Any) -> None:
            self.tokens = tokens

        async def get_client_info(self) -> Any:
            return OAuthClientInformationFull(
                client_id=key_id,
                client_secret=key,
                token_endpoint_auth_method="client_secret_post",
                redirect_uris=["http://127.0.0.1/callback"],
            )

        async def set_client_info(self, _info: Any) -> None: ...

    storage = Storage()
    server, _, issuer_path = url.partition("/v1/")
    metadata = web.get(
        f"{server}/.well-known/oauth-authorization-server/v1/{issuer_path.removesuffix('/token')}", timeout=20
    ).json()
    metadata["authorization_endpoint"] = metadata["token_endpoint"]  # the SDK's own model requires one

    async def refreshed() -> str:
        auth = OAuthClientProvider(
            server_url=resource,
            client_metadata=OAuthClientMetadata(redirect_uris=["http://127.0.0.1/callback"]),
            storage=storage,
        )
        auth.context.oauth_metadata = OAuthMetadata.model_validate(metadata)
        auth.context.token_expiry_time = 1.0  # long past
        async with httpx2.AsyncClient(auth=auth, timeout=20) as client:
            await client.get(resource)
        return str(storage.tokens.access_token)

    return asyncio.run(refreshed())


refresh: Callable[[str], str] = {"authlib": authlib, "requests-oauthlib": requests_oauthlib, "mcp": mcp}[
    library
]
got = taken = 0
for _ in range(int(count)):
    handle = random.choice(handles)
    for _ in range(TRIES):
        token = refresh(handle)
        got += 1
        if works(token):
            taken += 1
            break
        time.sleep(PAUSE)
print(json.dumps({"got": got, "taken": taken}))
