"""A rival: one asyncio loop with Authlib's client for HTTPX, and PyMongo's for asyncio.

One client for all tokens, so that connections are kept: a client for each token, as Authlib's examples have it for
calls of an API, opens a connection for each.
"""

import asyncio
import sys
from datetime import UTC, datetime
from typing import Any

from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuthError
from httpx2 import HTTPError, Limits
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from stored import (
    COLLECTION,
    DATABASE,
    DUE_INDEX,
    IN_FLIGHT,
    MONGODB,
    NEEDED,
    OAUTH,
    SWEEP_EVERY,
    TOKEN_URL,
    due,
    opened,
    renewal,
)

Tokens = AsyncCollection[dict[str, Any]]


async def main() -> None:
    limits = Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    async with (
        AsyncMongoClient[dict[str, Any]](**MONGODB) as mongo,
        AsyncOAuth2Client(**OAUTH, limits=limits) as oauth,
    ):
        tokens = mongo[DATABASE][COLLECTION]
        await tokens.create_index(DUE_INDEX)
        print("ready", flush=True)
        while True:
            await sweep(tokens, oauth)
            await asyncio.sleep(SWEEP_EVERY.total_seconds())


async def sweep(tokens: Tokens, oauth: AsyncOAuth2Client) -> None:
    """Refresh what is due now, so many at a time."""
    free = asyncio.Semaphore(IN_FLIGHT)
    async with asyncio.TaskGroup() as group:
        async for token in tokens.find(due(), NEEDED):
            await free.acquire()
            task = group.create_task(refresh(tokens, oauth, token))
            task.add_done_callback(lambda _: free.release())


async def refresh(tokens: Tokens, oauth: AsyncOAuth2Client, token: dict[str, Any]) -> None:
    asked_at = datetime.now(UTC)
    try:
        reply = await oauth.refresh_token(TOKEN_URL, refresh_token=opened(token))
    except (OAuthError, HTTPError) as error:
        print(f"{token['_id']}: {error!r}", file=sys.stderr)
        return
    await tokens.update_one({"_id": token["_id"]}, renewal(token["_id"], reply, asked_at=asked_at))


asyncio.run(main())
