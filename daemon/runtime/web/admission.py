"""Admission of connections: their rate, and which one is dropped for a new one. Every user of this machine
may connect.

A new connection always gets in. If there is no room, one of the largest group is dropped: of the network with
the most connections, of its address with the most, the oldest one, whether it is being answered or not. So a
client that opens many connections displaces only its own, and a newcomer outlives as many arrivals as there
are places.
"""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

BACKLOG = 1024  # connections that wait for their turn to be accepted; the kernel may allow fewer
OUT_OF_FILES = timedelta(seconds=1)  # before the next attempt to accept: no descriptor is free, or no memory
HANDSHAKE = 10.0  # seconds
_LOOPBACK = "loopback"


def network_of(address: str) -> str:
    """Return the network of an address, since a client with one address can have the others: all of loopback,
    or an IPv6 /64.
    """
    try:
        ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return _LOOPBACK
    return str(ip if isinstance(ip, IPv4Address) else ip_network((ip, 64), strict=False))


def most_present(addresses: Sequence[str]) -> int:
    """Return the index of the connection to drop, given the `addresses` of connections in the order of
    arrival.
    """
    networks = [network_of(address) for address in addresses]
    by_network, by_address = Counter(networks), Counter(addresses)
    return max(
        range(len(addresses)),
        key=lambda place: (by_network[networks[place]], by_address[addresses[place]], -place),
    )


class Admission:
    """Listens, and accepts connections for a server: `burst` of them freely, then one per `every`."""

    def __init__(
        self,
        factory: Callable[[], asyncio.Protocol],
        *,
        every: timedelta,
        burst: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._factory = factory
        self._tls = tls
        self._pace = RateLimiter(every=every, burst=burst)
        self._accepting: dict[asyncio.Task[None], socket.socket] = {}
        self._handshakes: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> int:
        """Listen on all addresses of `host`. Returns the port. Raises OSError."""
        bound = await asyncio.get_running_loop().create_server(self._factory, host, port, start_serving=False)
        sockets = [each.dup() for each in bound.sockets]
        bound.close()
        await self.listen_on(*sockets)
        return int(sockets[0].getsockname()[1])

    async def listen_on(self, *sockets: socket.socket) -> None:
        """Listen on bound sockets. Raises OSError."""
        for each in sockets:
            self._accepting[asyncio.create_task(self._accept(each), name="accept")] = each
        for each in sockets:
            each.listen(BACKLOG)

    async def close(self) -> None:
        """Accept no more connections."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for listening in self._accepting.values():
            listening.close()
        self._accepting.clear()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._pace()
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError:
                await asyncio.sleep(OUT_OF_FILES.total_seconds())
                continue
            if self._tls is None:
                await self._connect(accepted)
            else:  # a slow handshake delays no other
                task = asyncio.create_task(self._connect(accepted), name="handshake")
                self._handshakes.add(task)
                task.add_done_callback(self._handshakes.discard)

    async def _connect(self, accepted: socket.socket) -> None:
        with suppress(OSError, asyncio.CancelledError):  # gone again
            await asyncio.get_running_loop().connect_accepted_socket(
                self._factory, accepted, ssl=self._tls, ssl_handshake_timeout=HANDSHAKE if self._tls else None
            )


class RateLimiter:
    """A queue: `burst` go through freely, then one per `every`. Zero: no limit."""

    def __init__(self, *, every: timedelta, burst: int) -> None:
        self._queue = asyncio.Lock()  # wakes its waiters in order
        self._next = 0.0
        self._every = every.total_seconds()
        self._prefetch = burst * self._every

    async def __call__(self) -> None:
        if not self._every:
            return
        loop = asyncio.get_running_loop()
        async with self._queue:
            if (wait := self._next - loop.time()) > 0:
                await asyncio.sleep(wait)
            self._next = max(self._next, loop.time() - self._prefetch) + self._every
