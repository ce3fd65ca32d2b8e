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

import aiohttp
from aiohttp.abc import ResolveResult

from daemon.adapters.line import Line


class PrivateAddress(OSError):
    """The host has no public address, and must have one."""


class _Resolver(aiohttp.ThreadedResolver):
    """Looks names up, and forgets the addresses that are not allowed."""

    def __init__(self, allows: Callable[[str], bool]) -> None:
        super().__init__()
        self._allows = allows

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        allowed = [one for one in found if self._allows(one["host"])]
        if found and not allowed:
            raise PrivateAddress
        return allowed


def connector(
    *, timeout: timedelta, limit: int, tls: ssl.SSLContext, allows: Callable[[str], bool] | None
) -> aiohttp.TCPConnector:
    """Connections (each a `Line`) to addresses that `allows` lets pass (None: to any). The resolver drops the others, so
    that one of several can be used; the socket is the last gate, and the only one that an address in the URL itself meets.
    """
    made = aiohttp.TCPConnector(
        limit=limit,
        ttl_dns_cache=60,
        resolver=None if allows is None else _Resolver(allows),
        ssl=tls,
        socket_factory=lambda address: _socket(address, timeout=timeout, allows=allows),
    )
    made._factory = partial(Line, made._loop)  # type: ignore[assignment]  # noqa: SLF001  aiohttp has no other way
    return made


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
