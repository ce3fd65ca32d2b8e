"""One request and what comes back, on one of aiohttp's connections.

aiohttp connects, speaks TLS, goes through proxies and keeps connections for the next request. Its session is left out:
the request is written here, in one piece, so that whoever calls can check whatever must be true with nothing awaited
between the check and the write, nothing is ever repeated, and a request costs half the CPU. So is its parser: see
`response`.

Of the parts used, aiohttp documents `connect` and `Connection`; the connection's protocol (our `ProviderProtocol`) it does not. That
it does what is needed here is for tests/adapters/token_endpoint/test_endpoint.py to say, with every new version.
"""

import asyncio
from datetime import datetime

import aiohttp
from aiohttp.connector import Connection
from multidict import CIMultiDict
from yarl import URL

from daemon.adapters.token_endpoint.protocol import ProviderProtocol
from daemon.adapters.token_endpoint.response_parser import (
    LARGEST_REPLY,
    ORDINARY_REPLY,
    NotHttp,
    ResponseParser,
)
from daemon.domain.reply import Reply
from daemon.domain.request import Request

LONGEST_LOCATION = 2_000  # characters
QUIET = 0.5  # seconds without another byte of a reply whose end can't be told: that was it

_HEADERS = CIMultiDict({"User-Agent": "refreshd", "Accept-Encoding": "identity"})


def message_of(request: Request, url: URL) -> bytes:
    """The bytes that go out (RFC 9112 §3). Raises ValueError, quoting nothing, for what can't stand in its head."""
    headers = _HEADERS.copy()
    headers.update(request.headers)
    headers["Content-Length"] = str(len(request.body))
    target = url.raw_path_qs
    lines = [f"{request.method} {target} HTTP/1.1", f"Host: {url.host_port_subcomponent}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if " " in target or not "".join(lines).isprintable():
        raise ValueError("a line break or control character in the head of a request")
    return "\r\n".join((*lines, "", "")).encode() + request.body


class Exchange:
    """Writes once, then reads. What has come so far is a reply even where its body breaks off: it may hold the only copy
    of a token.
    """

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self._line: ProviderProtocol | None = None  # once the request was written
        self._response: ResponseParser | None = None  # the reply to it

    @property
    def sent(self) -> bool:
        """The provider may have the request."""
        return self._response is not None

    def write(self, message: bytes) -> None:
        """Hand all of `message` to the system. Raises ClientConnectionError where the connection is gone already, or the
        provider has spoken first: that would pass for the answer.
        """
        line = self.connection and self.connection.protocol
        if (
            not isinstance(line, ProviderProtocol)
            or line.transport is None
            or line.transport.is_closing()
            or line.should_close
        ):
            raise aiohttp.ClientConnectionError
        self._line, self._response = line, line.listen()
        line.transport.write(message)

    async def read(self) -> None:
        """All of it, or what is left of it. Raises ClientError or OSError where that is no reply; what came before this is
        cancelled remains.
        """
        line, response = self._line, self._response
        if line is None or response is None:
            raise RuntimeError("no request was sent")
        await response.settled.wait()
        while not response.ended:
            known = len(response.body)
            await asyncio.sleep(QUIET)  # noqa: TID251  nothing is tried again
            if len(response.body) == known:
                break
        if not response.status:
            raise response.connection_error or NotHttp
        if len(response.body) > ORDINARY_REPLY:
            await line.turn()  # to keep it and to understand it is work, too

    def end(self) -> None:
        """The connection is used again only behind a reply that ended as announced, or where nothing was sent. Else it is
        torn down: over TLS, too, nothing that is still here goes out any more.
        """
        if self.connection is None:
            return
        line = self.connection.protocol
        if isinstance(line, ProviderProtocol) and (self._response is None or self._response.keep_alive):
            line.rest()
            self.connection.release()
        else:
            if line is not None:
                line.abort()
            self.connection.close()

    def reply(self, asked_at: datetime) -> Reply | None:
        """What has come, or None where that is no reply."""
        response = self._response
        if response is None:
            return None
        response.stop()
        if not response.status:
            return None
        return Reply(
            status=response.status,
            content_type=response.headers.get("Content-Type", ""),
            retry_after=response.headers.get("Retry-After"),
            body=bytes(response.body[:LARGEST_REPLY]),
            location=response.headers.get("Location", "")[:LONGEST_LOCATION] or None,
            whole=response.complete,
            asked_at=asked_at,
        )
