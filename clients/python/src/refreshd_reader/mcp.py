"""A TokenStorage for the MCP Python SDK (package `mcp`), which keeps its tokens in refreshd.

The SDK reads its storage once, when a connection begins. For a connection that outlives one token, give its HTTP
client `auth=tokens.auth(provider, account)` instead of the SDK's OAuthClientProvider.
"""

import time
from typing import Any

from refreshd_reader.aio import AsyncTokens
from refreshd_reader.errors import NeedsReauth, NotConnected


class RefreshdTokenStorage:
    """Fits `mcp.client.auth.TokenStorage` by shape.

    A connection that the SDK makes is stored through `refreshd serve`, and refreshd renews it. `client_info`: the
    client that is registered at the server, as an `OAuthClientInformationFull`; refreshd's configuration has to
    have the same client.
    """

    def __init__(
        self, tokens: AsyncTokens, provider: str, account: str, *, client_info: Any | None = None
    ) -> None:
        self._tokens, self._provider, self._account = tokens, provider, account
        self._client_info = client_info

    async def get_tokens(self) -> Any | None:
        """Return an `OAuthToken` without a refresh token, or None if the customer has to connect."""
        from mcp.shared.auth import OAuthToken  # noqa: PLC0415 - only programs with this SDK have it

        try:
            token = await self._tokens.get(self._provider, self._account)
        except (NotConnected, NeedsReauth):
            return None
        left = None if token.expires_at is None else max(0, int(token.expires_at.timestamp() - time.time()))
        return OAuthToken(access_token=token.access_token, expires_in=left, scope=token.scope)

    async def set_tokens(self, tokens: Any) -> None:
        """Store the token response of a consent."""
        await self._tokens.store(self._provider, self._account, tokens.model_dump(exclude_none=True))

    async def get_client_info(self) -> Any | None:
        """Return the client, if one was given or registered."""
        return self._client_info

    async def set_client_info(self, client_info: Any) -> None:
        """Keep the client for as long as this program runs."""
        self._client_info = client_info
