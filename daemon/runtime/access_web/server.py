"""The listener of the access service: TCP with or without TLS, or a unix socket; limits, and who is at the other end."""

import asyncio
import errno
import ipaddress
import logging
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from daemon.runtime.access_web.answers import SECURITY_HEADERS, problem_answer
from daemon.runtime.access_web.asked import LARGEST_BODY, Asked, segments_of
from daemon.runtime.web.admission import Admission
from daemon.runtime.web.client_limits import LimitedServer, Limits
from daemon.runtime.web.hosts import address_in, host_name, is_loopback
from daemon.runtime.web.port_holder import port_holder
from daemon.runtime.web.server import PortTaken
from daemon.serving.problems import Problem

UNIX = "unix"  # the address of a caller on the socket
UNKNOWN = "unknown"  # of a caller that a trusted proxy gives no address
SOCKET_MODE = 0o660
PROBES = frozenset({"/livez", "/readyz"})
LIMITS = Limits(
    connections=4000,
    accepted_each=timedelta(milliseconds=0.25),
    asked_within=timedelta(seconds=75),  # longer than a proxy keeps an idle connection
    each=timedelta(0),  # access keys have their own rates
    request_bytes=LARGEST_BODY + 32 * 1024,
)

_LOG = logging.getLogger("aiohttp.server.access")
# A malformed request is answered with 400. Its line may hold the secret of a link, so it is not logged.
_LOG.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))

_SPOKEN = frozenset({HttpVersion10, HttpVersion11})

Handle = Callable[[Asked], Awaitable[web.Response]]


class AccessServer:
    """Serves `handle` from `start()` to `stop()`. `hosts`: the names under which callers may ask; empty for any."""

    def __init__(
        self,
        handle: Handle,
        *,
        host: str,
        port: int,
        path: Path | None = None,
        tls: ssl.SSLContext | None = None,
        hosts: frozenset[str] = frozenset(),
        trusted_proxies: Sequence[IPv4Network | IPv6Network] = (),
        limits: Limits = LIMITS,
    ) -> None:
        """`path`: of a unix socket, which takes the place of `host` and `port`."""
        self._handle = handle
        self._host, self.port, self._path = host, port, path
        self._tls = tls
        self._hosts = hosts
        self._trusted_proxies = trusted_proxies
        self._limits = limits
        self._closing = AsyncExitStack()
        self._server: LimitedServer | None = None

    @property
    def url(self) -> str:
        if self._path is not None:
            return f"unix:{self._path}"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    async def start(self) -> None:
        """Listen. Raises PortTaken, OSError."""
        server = LimitedServer(
            self._answer,
            headers=SECURITY_HEADERS.items(),
            probes=PROBES,
            limits=self._limits,
            refusal=_malformed,
            too_large=_TOO_LARGE,
            request_factory=_request,
            logger=_LOG,
        )
        runner = web.ServerRunner(server, shutdown_timeout=0.0)
        await runner.setup()
        self._closing.push_async_callback(runner.cleanup)
        self._server = server
        admission = Admission(
            server, every=self._limits.accepted_each, burst=self._limits.connections, tls=self._tls
        )
        self._closing.push_async_callback(admission.close)
        try:
            if self._path is not None:
                await admission.listen_on(_unix_socket(self._path))
                self._closing.callback(_remove, self._path)
            else:
                self.port = await admission.listen(self._host, self.port)
        except OSError as error:
            await self.stop()
            if error.errno != errno.EADDRINUSE or self._path is not None:
                raise
            holder = await asyncio.to_thread(port_holder, self.port)
            raise PortTaken(self._host, self.port, holder) from None
        self._admission = admission

    async def drain(self, within: timedelta) -> bool:
        """Accept no more connections, and wait for the open requests. Return whether all have been answered."""
        await self._admission.close()
        if self._server is None:
            return True
        return await self._server.drained(within)

    async def stop(self) -> None:
        """Stop listening, and end the requests that are still open."""
        await self._closing.aclose()

    async def _answer(self, request: BaseRequest) -> web.StreamResponse:
        answer = await self._answered(request)
        if not request.content.at_eof():
            answer.force_close()  # the rest of the body is not read
        return answer

    async def _answered(self, request: BaseRequest) -> web.Response:
        segments = segments_of(request.rel_url.raw_path)
        if segments is None:
            return problem_answer(Problem("invalid-request", "The path is malformed."))
        if isinstance(request, _Request) and not request.is_spoken:
            return problem_answer(Problem("invalid-request", "Use HTTP/1.1."))
        if not self._is_ours(request):
            return problem_answer(Problem("misdirected", "This service is not called by this Host."))
        address, peer = self._caller(request)
        return await self._handle(Asked(request, segments, address, peer))

    def _is_ours(self, request: BaseRequest) -> bool:
        """Return whether `Host` names this service: a web page can point its own name at this machine. So must the
        target, if it is a whole URL, which takes precedence (RFC 9112 section 3.2.2).
        """
        if self._path is not None or not self._hosts:
            return True
        named = {host_name(request.headers.get("Host", "localhost"))}
        if isinstance(request, _Request) and request.authority is not None:
            named.add(request.authority)
        return all(self._is_our_name(name.rstrip(".").lower()) for name in named)

    def _is_our_name(self, name: str) -> bool:
        return name in self._hosts or (is_loopback(name) and is_loopback(self._host))

    def _caller(self, request: BaseRequest) -> tuple[str, int | None]:
        """Return the caller's address: behind trusted proxies, the rightmost one that is none of them.

        If a proxy names a caller that isn't an address, the caller is unknown. It is not the proxy, whose address a key may
        admit.
        """
        transport = request.transport
        peer = None
        if self._path is not None:
            peer, address = _peer_of(transport), UNIX
        else:
            address = str((transport.get_extra_info("peername") or ("",))[0]) if transport else ""
        if not self._trusted_proxies or (self._path is None and not self._is_proxy(address)):
            return address, peer
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
        for one in reversed([text.strip() for text in forwarded if text.strip()]):
            found = address_in(one)
            address = UNKNOWN if found is None else found
            if not self._is_proxy(address):
                break
        return address, peer

    def _is_proxy(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any((getattr(ip, "ipv4_mapped", None) or ip) in network for network in self._trusted_proxies)


class _Request(BaseRequest):
    """A request whose every answer has the security headers, including aiohttp's own to malformed requests.

    `is_spoken`: its version is one that refreshd speaks. `authority`: the host in its target, if that is a whole URL.
    """

    def __init__(self, message: RawRequestMessage, *rest: Any) -> None:
        super().__init__(message, *rest)
        self.is_spoken = message.version in _SPOKEN
        if not self.is_spoken:
            self._version = HttpVersion11  # that of the answer
        self.authority = (message.url.host or "") if message.url.absolute else None

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.popall("Server", None)


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> BaseRequest:
    return _Request(message, payload, protocol, writer, task, task.get_loop())


def _malformed() -> web.Response:
    """Return the answer to a request that can't be parsed. It quotes nothing: a line may hold an access key."""
    return problem_answer(Problem("invalid-request", "The request is not well-formed HTTP/1.1."))


def _too_large() -> tuple[str, bytes]:
    """Return the head, without its end, and the body of the answer to a request with too many bytes."""
    answer = problem_answer(Problem("too-large", "The request has too many bytes."))
    body = answer.body if isinstance(answer.body, bytes) else b""
    head = (
        f"HTTP/1.1 {answer.status} Content Too Large\r\nContent-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n"
    )
    return head, body


_TOO_LARGE = _too_large()


def _unix_socket(path: Path) -> socket.socket:
    """Return a socket bound to `path`, for its owner and group. Another process's socket is not taken."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    before = os.umask(0o777 & ~SOCKET_MODE)
    try:
        if path.is_socket():
            _refuse_if_served(path)
            path.unlink()
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _refuse_if_served(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
    raise OSError(errno.EADDRINUSE, f"another process listens on {path}")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _peer_of(transport: asyncio.Transport | None) -> int | None:
    """Return the user id of the process at the other end of a unix socket (unix(7), SO_PEERCRED)."""
    sock = transport.get_extra_info("socket") if transport else None
    if sock is None or not hasattr(socket, "SO_PEERCRED"):
        return None
    _pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)
