"""What `auth=` of httpx, httpx2 and requests takes.

httpx looks for its own class, and requests for something that can be called. So one object is both.
"""

import importlib
import importlib.util
from collections.abc import AsyncGenerator, Generator
from functools import cache, partial
from typing import Any

from refreshd_reader.aio import AsyncTokens
from refreshd_reader.errors import NeedsReauth, Paused, ReaderError
from refreshd_reader.token import Token
from refreshd_reader.tokens import Source, Tokens

_CLIENTS = ("httpx", "httpx2")
_HEADER = "Authorization"


def auth_for(source: Source, provider: str, account: str) -> Any:
    """Return the object for this token."""
    if isinstance(source, Tokens):
        return _class_of(_Auth)(source, provider, account)
    if isinstance(source, AsyncTokens):
        return _class_of(_AsyncAuth)(source, provider, account)
    raise TypeError(f"{type(source).__name__}: neither Tokens nor AsyncTokens")


@cache
def _class_of(own: type) -> type:
    """Return our class with those of the installed clients beside it."""
    installed = [importlib.import_module(name) for name in _CLIENTS if importlib.util.find_spec(name)]
    return type(own.__name__.lstrip("_"), (own, *(client.Auth for client in installed)), {})


class _Auth:
    """For httpx.Client and for requests, with `Tokens`."""

    requires_request_body = False
    requires_response_body = False

    def __init__(self, tokens: Tokens, provider: str, account: str) -> None:
        self._tokens, self._provider, self._account = tokens, provider, account

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Send the token, and once more after a 401 (httpx)."""
        token = self._tokens.get(self._provider, self._account)
        request.headers[_HEADER] = token.authorization
        response = yield request
        if _may_repeat(request, response, token):
            response.read()
            newer = self._replacement(token)
            if newer is not None:
                request.headers[_HEADER] = newer.authorization
                yield request

    def async_auth_flow(self, _request: Any) -> AsyncGenerator[Any, Any]:
        """Refuse: waiting for refreshd here would stop the event loop."""
        raise TypeError("httpx.AsyncClient needs AsyncTokens instead of Tokens")

    def __call__(self, request: Any) -> Any:
        """Send the token, and once more after a 401 (requests)."""
        token = self._tokens.get(self._provider, self._account)
        request.headers[_HEADER] = token.authorization
        start = _position(request.body)
        request.register_hook("response", partial(self._again, token, start))
        return request

    def _again(self, token: Token, start: int | None, response: Any, **options: Any) -> Any:
        request = response.request
        if response.status_code != 401 or request.headers.get(_HEADER) != token.authorization:
            return response  # or a redirect to another host, which must not get the token
        if not (request.body is None or isinstance(request.body, bytes | str) or start is not None):
            return response
        newer = self._replacement(token)
        if newer is None:
            return response
        _ = response.content  # frees the connection
        response.close()
        again = request.copy()
        if start is not None:
            again.body.seek(start)
        again.headers[_HEADER] = newer.authorization
        second = response.connection.send(again, **options)
        second.history.append(response)
        second.request = again
        return second

    def _replacement(self, token: Token) -> Token | None:
        """Return another token, or None if the 401 is the answer. A token that needs its customer is an error."""
        try:
            newer = self._tokens.refused(token)
        except (NeedsReauth, Paused):
            raise
        except ReaderError:
            return None
        return newer if newer.version != token.version else None


class _AsyncAuth:
    """For httpx.AsyncClient, with `AsyncTokens`."""

    requires_request_body = False
    requires_response_body = False

    def __init__(self, tokens: AsyncTokens, provider: str, account: str) -> None:
        self._tokens, self._provider, self._account = tokens, provider, account

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """Send the token, and once more after a 401."""
        token = await self._tokens.get(self._provider, self._account)
        request.headers[_HEADER] = token.authorization
        response = yield request
        if _may_repeat(request, response, token):
            await response.aread()
            newer = await replacement(self._tokens, token)
            if newer is not None:
                request.headers[_HEADER] = newer.authorization
                yield request

    def sync_auth_flow(self, _request: Any) -> Generator[Any, Any, None]:
        """Refuse: there is no event loop here."""
        raise TypeError("httpx.Client needs Tokens instead of AsyncTokens")

    def __call__(self, _request: Any) -> Any:
        """Refuse: there is no event loop here."""
        raise TypeError("requests needs Tokens instead of AsyncTokens")


async def replacement(tokens: AsyncTokens, token: Token) -> Token | None:
    """Return another token, or None if the 401 is the answer. A token that needs its customer is an error."""
    try:
        newer = await tokens.refused(token)
    except (NeedsReauth, Paused):
        raise
    except ReaderError:
        return None
    return newer if newer.version != token.version else None


def _may_repeat(request: Any, response: Any, token: Token) -> bool:
    """Return whether httpx may send this request twice, and it was this token that got the 401.

    After a redirect to another host, `response` belongs to a request without the token.
    """
    whole = type(request.stream).__name__ == "ByteStream"  # not a file or an iterator, which would be spent
    return (
        response.status_code == 401 and whole and response.request.headers.get(_HEADER) == token.authorization
    )


def _position(body: Any) -> int | None:
    """Return where a file begins that can be read again."""
    if hasattr(body, "seek") and hasattr(body, "tell"):
        try:
            at: int = body.tell()
            body.seek(at)
        except (OSError, ValueError):
            return None
        return at
    return None
