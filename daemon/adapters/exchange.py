"""One request and what comes back, on one of aiohttp's connections.

aiohttp connects, speaks TLS, goes through proxies, keeps connections for the next request and parses the answer. Only
its session is left out: the request is written here, in one piece, so that whoever calls can check whatever must be
true with nothing awaited between the check and the write, nothing is ever repeated, and a request costs half the CPU.

Of the parts used, aiohttp documents `connect` and `Connection`; the connection's protocol it does not. That it does what
is needed here is for tests/adapters/test_token_endpoint.py to say, with every new version.
"""

from datetime import datetime

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from multidict import CIMultiDict
from yarl import URL

from daemon.domain.dialect import Reply
from daemon.domain.request import Request

LARGEST_REPLY = 256 * 1024  # bytes; a token reply has one to four thousand

_INTERIM = frozenset(range(100, 200)) - {101}  # something more comes behind these (RFC 9110 §15.2)
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
        raise ValueError("a line end or the like in the head of a request")
    return "\r\n".join((*lines, "", "")).encode() + request.body


class Exchange:
    """Writes once, then reads. What has come so far is a reply even where its body breaks off: it may hold the only
    copy of a token.
    """

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.sent = False  # the provider may have the request
        self.head: RawResponseMessage | None = None  # of the reply: its status and headers
        self._body: aiohttp.StreamReader
        self._pieces: list[bytes] = []
        self._size = 0
        self._whole = False

    def write(self, message: bytes) -> None:
        """Hand all of `message` to the system. Raises ClientConnectionError where the connection is gone already,
        or holds something that nobody asked for: it would pass for the answer.
        """
        protocol = self._protocol
        transport = protocol.transport
        if transport is None or transport.is_closing() or protocol.should_close:
            raise aiohttp.ClientConnectionError
        protocol.set_response_params(read_until_eof=True, auto_decompress=False)
        self.sent = True
        transport.write(message)

    async def read(self) -> None:
        """All of it, or what is left of it. Raises ClientError, HttpProcessingError or OSError; what came before that,
        or before it was cancelled, remains.
        """
        while self.head is None:
            head, self._body = await self._protocol.read()
            self.head = None if head.code in _INTERIM else head
        while piece := await self._body.readany():
            self._pieces.append(piece[: LARGEST_REPLY - self._size])
            self._size += len(piece)
            if self._size > LARGEST_REPLY:
                return
        self._whole = True

    def end(self) -> None:
        """The connection is used again only behind a reply that ended as announced, or where nothing was sent."""
        if self.connection is None:
            return
        if self._whole or not self.sent:
            self.connection.release()
        else:
            self.connection.close()

    def reply(self, asked_at: datetime) -> Reply:
        """What has come, once there is a `head`."""
        if self.head is None:
            raise RuntimeError("no reply has come")
        return Reply(
            status=self.head.code,
            content_type=self.head.headers.get("Content-Type", ""),
            retry_after=self.head.headers.get("Retry-After"),
            body=b"".join(self._pieces),
            whole=self._whole,
            asked_at=asked_at,
        )

    @property
    def _protocol(self) -> ResponseHandler:
        protocol = self.connection and self.connection.protocol
        if protocol is None:
            raise aiohttp.ClientConnectionError
        return protocol
