"""Connections to permitted addresses only. Each address is checked when it is connected to, after every look-up, so a
name can't bypass the check by resolving differently later.
"""

import socket
from collections.abc import Callable

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from daemon.adapters.egress.names import Names


class PrivateAddress(OSError):
    """The host has no public address, although it must have one."""


class PermittedNames(AbstractResolver):
    """Drops the addresses that are not allowed, so that one of several can be used."""

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
        """Do nothing: other connectors share the names."""


def permitted_socket(address: aiohttp.AddrInfoType, *, allows: Callable[[str], bool] | None) -> socket.socket:
    """Return a socket for `address`. This is the only check for an address in the URL itself. Raises PrivateAddress."""
    family, kind, protocol, _, destination = address
    if allows is not None and not allows(str(destination[0])):
        raise PrivateAddress
    return socket.socket(family, kind, protocol)
