"""Connections to providers: where they may lead, and how they end.

A request whose host comes from a database may reach public addresses only. That is checked on the very addresses that
are connected to, after every look-up, so a name that changes its mind gains nothing.
"""

import socket
import ssl
import struct
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Protocol

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import is_ip_address
from aiohttp.tracing import Trace
from yarl import URL

from daemon.adapters.egress.names import Names
from daemon.adapters.token_endpoint.protocol import ProviderProtocol, Turns


class PrivateAddress(OSError):
    """The host has no public address, and must have one."""


class Timer(Protocol):
    """Limits how long a request may take: as a whole, and what it waits for beforehand."""

    def wait(self) -> None: ...
    def begin(self) -> None: ...


class Destination(aiohttp.ClientRequest):
    """Where a connection leads. Its `timer` begins when connecting does: not before the host's look-up has its place."""

    def __init__(
        self, url: URL, *, timer: Timer, proxy: URL | None, proxy_headers: dict[str, str] | None
    ) -> None:
        super().__init__("GET", url, proxy=proxy, proxy_headers=proxy_headers)
        self.timer = timer


class Connector(aiohttp.TCPConnector):
    """Connections, each a `ProviderProtocol`. How many there are is the caller's business."""

    def __init__(
        self, *, timeout: timedelta, tls: ssl.SSLContext, names: Names, allows: Callable[[str], bool] | None
    ) -> None:
        """They lead to addresses that `allows` lets pass (None: to any). The resolver drops the others, so that one of
        several can be used; the socket is the last gate, and the only one that an address in the URL itself meets.
        """
        super().__init__(
            limit=0,
            use_dns_cache=False,
            resolver=names if allows is None else _Allowed(names, allows),
            ssl=tls,
            socket_factory=lambda address: _socket(address, timeout=timeout, allows=allows),
        )
        self._names = names
        self._factory = partial(ProviderProtocol, self._loop, Turns(self._loop))  # type: ignore[assignment]  # aiohttp has no other way

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  theirs
    ) -> ResponseHandler:
        if isinstance(req, Destination):
            host = (req.proxy or req.url).host
            if host and not is_ip_address(host):
                req.timer.wait()
                await self._names.begun(host)
            req.timer.begin()
        return await super()._create_connection(req, traces, timeout)


class _Allowed(AbstractResolver):
    """Forgets the addresses that are not allowed."""

    def __init__(self, names: Names, allows: Callable[[str], bool]) -> None:
        self._names = names
        self._allows = allows

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._names.resolve(host, port, family)
        allowed = [one for one in found if self._allows(one["host"])]
        if found and not allowed:
            raise PrivateAddress
        return allowed

    async def close(self) -> None:
        """The names are others' as well."""


def _socket(
    address: aiohttp.AddrInfoType, *, timeout: timedelta, allows: Callable[[str], bool] | None
) -> socket.socket:
    """A socket that delivers nothing behind our back: once we have given up on a request, what is left of it in the
    kernel is dropped (linger: none) and not sent when the network comes back.
    """
    family, kind, protocol, _, place = address
    if allows is not None and not allows(str(place[0])):
        raise PrivateAddress
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout // timedelta(milliseconds=1))
    return made
