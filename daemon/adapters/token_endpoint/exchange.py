"""One request and its response, on one of aiohttp's connections.

aiohttp connects, speaks TLS, goes through proxies and keeps connections for the next request. Its session is
not used: this module writes the request in one piece. So callers can check their conditions with nothing
awaited between check and write, nothing is ever repeated, and a request costs half the CPU. aiohttp's parser
is not used either: see `response_parser`.

Of the parts used, aiohttp documents `connect` and `Connection`, but not the connection's protocol, which is
`ProviderProtocol` here. tests/adapters/token_endpoint/test_endpoint.py checks it for every new version.
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
from daemon.domain.reply import Reply, by_the_senders_clock
from daemon.domain.request import Request

LONGEST_LOCATION = 2_000  # characters
QUIET = 0.5  # seconds without another byte end a reply that does not announce its end

_HEADERS = CIMultiDict({"User-Agent": "refreshd", "Accept-Encoding": "identity"})


def message_of(request: Request, url: URL) -> bytes:
    """Return the bytes of the request (RFC 9112 §3). Raises ValueError, quoting nothing, for invalid
    characters in its head.
    """
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
    """Write once, then read. The bytes received so far are a reply even if the body breaks off, because they
    may hold the only copy of a token.
    """

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self._line: ProviderProtocol | None = None  # once the request was written
        self._response: ResponseParser | None = None  # the reply to it

    @property
    def sent(self) -> bool:
        """Return whether the provider may have received the request."""
        return self._response is not None

    def write(self, message: bytes) -> None:
        """Hand all of `message` to the system.

        Raises ClientConnectionError if the connection is already closed, or if the provider has sent data
        first, which would be read as the answer.
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
        """Read the response to its end, or as far as it goes.

        Raises ClientError or OSError if it isn't a reply. On cancellation, the bytes read so far remain.
        """
        line, response = self._line, self._response
        if line is None or response is None:
            raise RuntimeError("no request was sent")
        await response.settled.wait()
        while not response.ended:
            received = len(response.body)
            await asyncio.sleep(QUIET)  # noqa: TID251  nothing is tried again
            if len(response.body) == received:
                break
        if not response.status:
            raise response.connection_error or NotHttp
        if len(response.body) > ORDINARY_REPLY:
            await line.turn()  # to keep it and to understand it is work, too

    def end(self) -> None:
        """Return the connection to the pool if the reply ended as announced or nothing was sent. Otherwise
        close it, over TLS too, so that no buffered data is sent any more.
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
        """Return the received reply, or None if it isn't one."""
        response = self._response
        if response is None:
            return None
        response.stop()
        if not response.status:
            return None
        return Reply(
            status=response.status,
            content_type=response.headers.get("Content-Type", ""),
            retry_after=by_the_senders_clock(
                response.headers.get("Retry-After"), response.headers.get("Date")
            ),
            body=bytes(response.body[:LARGEST_REPLY]),
            location=response.headers.get("Location", "")[:LONGEST_LOCATION] or None,
            whole=response.complete,
            asked_at=asked_at,
        )
