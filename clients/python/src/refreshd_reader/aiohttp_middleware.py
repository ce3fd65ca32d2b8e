"""The client middleware for aiohttp 3.12 and later."""

from collections.abc import Awaitable, Callable
from typing import Any

from refreshd_reader.aio import AsyncTokens
from refreshd_reader.auth import replacement

Handler = Callable[[Any], Awaitable[Any]]
Middleware = Callable[[Any, Handler], Awaitable[Any]]


def middleware_for(tokens: AsyncTokens, provider: str, account: str, origins: tuple[str, ...]) -> Middleware:
    """Return the middleware for this token. It runs for redirects too, so it minds where a request goes."""
    allowed = {origin.rstrip("/") for origin in origins}

    async def middleware(request: Any, handler: Handler) -> Any:
        origin = str(request.url.origin())
        if not allowed:
            allowed.add(origin)
        if origin not in allowed:
            return await handler(request)
        token = await tokens.get(provider, account)
        request.headers["Authorization"] = token.authorization
        response = await handler(request)
        if response.status != 401 or not _is_whole(request.body):
            return response
        newer = await replacement(tokens, token)
        if newer is None:
            return response
        response.release()
        request.headers["Authorization"] = newer.authorization
        return await handler(request)

    return middleware


def _is_whole(body: Any) -> bool:
    """Return whether the body is in memory as bytes."""
    return body == b"" or isinstance(getattr(body, "_value", None), bytes | bytearray | str)
