"""One request and what comes back, on one of aiohttp's connections.

aiohttp connects, speaks TLS, goes through proxies, keeps connections for the next request and parses the answer. Only
its session is left out: the request is written here, in one piece, so that whoever calls can check whatever must be
true with nothing awaited between the check and the write, nothing is ever repeated, and a request costs half the CPU.

Of the parts used, aiohttp documents `connect` and `Connection`; the connection's protocol (our `Line`) it does not. That
it does what is needed here is for tests/adapters/test_token_endpoint.py to say, with every new version.
"""

from datetime import datetime

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from multidict import CIMultiDict, MultiMapping
from yarl import URL

from daemon.adapters.line import LARGEST_REPLY, Line
from daemon.adapters.salvage import salvaged
from daemon.domain.dialect import Reply
from daemon.domain.request import Request

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


_Told = tuple[int, MultiMapping[str], bytes]  # status, headers, body


class Exchange:
    """Writes once, then reads. What has come so far is a reply even where its body breaks off, or its frame is faulty: it
    may hold the only copy of a token.
    """

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.sent = False  # the provider may have the request
        self._heard = bytearray()  # the reply, as it came
        self._head: RawResponseMessage | None = None
        self._body: aiohttp.StreamReader
        self._pieces: list[bytes] = []
        self._size = 0
        self._whole = False

    def write(self, message: bytes) -> None:
        """Hand all of `message` to the system. Raises ClientConnectionError where the connection is gone already, or the
        provider has spoken first: that would pass for the answer.
        """
        line = self._line
        if line.transport is None or line.transport.is_closing() or line.should_close:
            raise aiohttp.ClientConnectionError
        line.set_response_params(read_until_eof=True, auto_decompress=False)
        self._heard = line.listen()
        self.sent = True
        line.transport.write(message)

    async def read(self) -> None:
        """All of it, or what is left of it. Raises ClientError, HttpProcessingError or OSError; what came before that,
        or before it was cancelled, remains.
        """
        while self._head is None:
            head, self._body = await self._line.read()
            self._head = None if head.code in _INTERIM else head
        try:
            while piece := await self._body.readany():
                self._pieces.append(piece[: LARGEST_REPLY - self._size])
                self._size += len(piece)
                if self._size > LARGEST_REPLY:
                    return
        except RuntimeError:  # the parser hung up behind a piece that it refused
            raise aiohttp.ClientConnectionError from None
        announced = self._head.chunked or "Content-Length" in self._head.headers
        self._whole = announced or not isinstance(self._line.exception(), OSError)

    def end(self) -> None:
        """The connection is used again only behind a reply that ended as announced, or where nothing was sent. Else it is
        torn down: over TLS, too, nothing that is still here goes out any more.
        """
        if self.connection is None:
            return
        line = self.connection.protocol
        if not isinstance(line, Line):
            self.connection.close()
        elif self._whole or not self.sent:
            line.rest()
            self.connection.release()
        else:
            line.abort()
            self.connection.close()

    def reply(self, asked_at: datetime) -> Reply | None:
        """What has come, or None where that is no reply."""
        told = self._told()
        if told is None:
            return None
        status, headers, body = told
        return Reply(
            status=status,
            content_type=headers.get("Content-Type", ""),
            retry_after=headers.get("Retry-After"),
            body=body[:LARGEST_REPLY],
            whole=self._whole,
            asked_at=asked_at,
        )

    def _told(self) -> _Told | None:
        if self._head is None:
            return salvaged(bytes(self._heard))
        return self._head.code, self._head.headers, b"".join(self._pieces)

    @property
    def _line(self) -> Line:
        line = self.connection and self.connection.protocol
        if not isinstance(line, Line):
            raise aiohttp.ClientConnectionError
        return line
