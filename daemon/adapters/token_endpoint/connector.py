"""Connections to providers: their permitted destinations and their end.

A request whose host comes from a database may reach public addresses only. Each address is checked when it is
connected to, after every look-up, so a name can't bypass the check by resolving differently later.
"""

import socket
import ssl
import struct
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from functools import lru_cache, partial
from typing import Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.helpers import is_ip_address
from aiohttp.tracing import Trace
from yarl import URL

from daemon.adapters.egress.names import Names
from daemon.adapters.egress.permitted import PermittedNames, permitted_socket
from daemon.adapters.token_endpoint.protocol import ProviderProtocol, Turns


class Timer(Protocol):
    """Limits the duration of a request, and of its waits before the connection."""

    def wait(self) -> None: ...
    def begin(self) -> None: ...


_timer: ContextVar[Timer] = ContextVar("timer")  # of the request that this task sends
_NO_LIMIT = aiohttp.ClientTimeout(total=None)  # the timer is one
_ORIGINS = 1024  # destinations that are remembered


class Connector(aiohttp.TCPConnector):
    """Makes connections, each with a `ProviderProtocol`. The caller limits their number."""

    def __init__(
        self, *, timeout: timedelta, tls: ssl.SSLContext, names: Names, allows: Callable[[str], bool] | None
    ) -> None:
        """Connect only to addresses that `allows` accepts (None: to any).

        The resolver drops the others, so that one of several can be used. The socket checks again, which is
        the only check for an address in the URL itself.
        """
        super().__init__(
            limit=0,
            use_dns_cache=False,
            resolver=names if allows is None else PermittedNames(names, allows),
            ssl=tls,
            socket_factory=lambda address: _socket(address, timeout=timeout, allows=allows),
        )
        self._names = names
        # aiohttp describes a destination by a request. To make one takes longer than to look a connection up.
        self._direct = lru_cache(maxsize=_ORIGINS)(partial(aiohttp.ClientRequest, "GET"))
        self._factory = partial(ProviderProtocol, self._loop, Turns(self._loop))  # type: ignore[assignment]  # aiohttp has no other way

    async def reach(
        self, url: URL, *, timer: Timer, proxy: URL | None, proxy_headers: dict[str, str] | None
    ) -> Connection:
        """Return a connection to the origin of `url`, from the pool or a new one. `timer` starts when connecting starts,
        not before the look-up of the host.
        """
        if proxy is None:
            destination = self._direct(url.origin())
        else:  # not shared: aiohttp writes into its headers
            destination = aiohttp.ClientRequest("GET", url, proxy=proxy, proxy_headers=proxy_headers)
        entered = _timer.set(timer)
        try:
            return await self.connect(destination, [], _NO_LIMIT)
        finally:  # a timer knows its task: in the task's own context it would make each request a reference cycle
            _timer.reset(entered)

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  theirs
    ) -> ResponseHandler:
        timer = _timer.get()
        host = (req.proxy or req.url).host
        if host and not is_ip_address(host):
            timer.wait()
            await self._names.begun(host)
        timer.begin()
        return await super()._create_connection(req, traces, timeout)


def _socket(
    address: aiohttp.AddrInfoType, *, timeout: timedelta, allows: Callable[[str], bool] | None
) -> socket.socket:
    """Create a socket that sends nothing after its close: when a request is given up, the kernel drops the
    unsent data (linger: none) instead of sending it when the network comes back.
    """
    made = permitted_socket(address, allows=allows)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout // timedelta(milliseconds=1))
    return made
