"""A listener on this machine for one callback of an authorization server (RFC 8252 §7.3).

Any page in the owner's browser, and any program of this machine, can send a request here. Only a callback with the
state of this consent ends the wait, and nothing of a request is shown on a page.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from daemon.domain.authorization import Code, Denied, NotThisConsent

DEFAULT_PORT = 8917
HOST, PATH = "127.0.0.1", "/callback"
_LARGEST_HEAD = 32 * 1024  # bytes of a request without its body
_PATIENCE = timedelta(seconds=10)  # for a whole request
_MOST_CLIENTS = 16  # the others wait
_HEADERS = (
    "Content-Type: text/html; charset=utf-8\r\n"
    "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'; form-action 'none'\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Cache-Control: no-store\r\n"
    "Connection: close\r\n"
)


@dataclass(frozen=True, slots=True)
class _Page:
    status: str
    title: str
    text: str


_RECEIVED = _Page(
    "200 OK", "Consent received", "refreshd has received your answer. You can close this window."
)
_REFUSED = _Page(
    "200 OK", "No consent", "Nothing was connected. The terminal shows why. You can close this window."
)
_ELSEWHERE = _Page(
    "400 Bad Request", "Another consent", "This address does not belong to the consent in progress."
)
_OVER = _Page("409 Conflict", "Already answered", "This consent has been answered before.")
_NOT_FOUND = _Page("404 Not Found", "Not found", "There is nothing at this address.")
_METHOD = _Page("405 Method Not Allowed", "Not allowed", "Only GET is allowed here.")
_MISDIRECTED = _Page("421 Misdirected Request", "Other host", "This address belongs to another host.")
_BAD = _Page("400 Bad Request", "Bad request", "The request can't be read.")


def redirect_uri(port: int = DEFAULT_PORT) -> str:
    """Return the redirect URI that operators register at the provider."""
    return f"http://{HOST}:{port}{PATH}"


class CallbackListener:
    """Waits for one callback. `read` returns the meaning of its query, or raises NotThisConsent."""

    def __init__(self, read: Callable[[str], Code | Denied], port: int) -> None:
        self._read = read
        self._hosts = frozenset({f"{HOST}:{port}", f"localhost:{port}"})
        self._clients = asyncio.Semaphore(_MOST_CLIENTS)
        self._found: Code | Denied | None = None
        self.answer: asyncio.Future[Code | Denied] = asyncio.get_running_loop().create_future()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close its connection. Never raises for a client's fault. The wait ends after the owner's
        page was sent.
        """
        try:
            with suppress(OSError, TimeoutError):
                async with self._clients, asyncio.timeout(_PATIENCE.total_seconds()):
                    await self._answer_one(reader, writer)
        finally:
            if self._found is not None and not self.answer.done():
                self.answer.set_result(self._found)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            page = self._page_for(head.decode("ascii"))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, UnicodeDecodeError):
            page = _BAD
        writer.write(_response(page))
        await writer.drain()

    def _page_for(self, head: str) -> _Page:
        request, *lines = head.split("\r\n")
        method, _, rest = request.partition(" ")
        target, _, version = rest.partition(" ")
        headers = [line.partition(":") for line in lines]
        hosts = [value.strip() for name, _, value in headers if name.lower() == "host"]
        if not version.startswith("HTTP/1."):
            return _BAD
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return _MISDIRECTED
        if method != "GET":
            return _METHOD
        try:
            parts = urlsplit(target)
        except ValueError:
            return _BAD
        if parts.scheme or parts.netloc or parts.path != PATH:
            return _NOT_FOUND
        return self._answered(parts.query)

    def _answered(self, query: str) -> _Page:
        try:
            answer = self._read(query)
        except NotThisConsent:
            return _ELSEWHERE
        if self._found is not None:
            return _OVER
        self._found = answer
        return _REFUSED if isinstance(answer, Denied) else _RECEIVED


@asynccontextmanager
async def listening(read: Callable[[str], Code | Denied], port: int) -> AsyncIterator[CallbackListener]:
    """Listen on this machine. Raises OSError if the port is taken."""
    listener = CallbackListener(read, port)
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(listener.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accept, HOST, port, limit=_LARGEST_HEAD)
    try:
        yield listener
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def _response(page: _Page) -> bytes:
    body = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{page.title}</title>'
        f"<h1>{page.title}</h1><p>{page.text}</p></html>"
    ).encode()
    head = f"HTTP/1.1 {page.status}\r\n{_HEADERS}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
