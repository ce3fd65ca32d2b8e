"""Classify network addresses as public or not. A host name from a database may send a refresh token to public
ones only.

Pure, and independent of the running Python, whose tables of special addresses differ between versions. The
source is IANA's two registries of special-purpose addresses (RFC 6890). When in doubt, an address isn't
public.
"""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits
# All that is globally routed (RFC 4291 §2.4); also keeps 64:ff9b:1::/48 out
_UNICAST = ip_network("2000::/3")
_NEVER = tuple(
    map(
        ip_network,
        (
            "100.64.0.0/10",  # carriers' NAT
            "168.63.129.16/32",  # routable by its looks: Azure's host, as seen from its machines
            "192.0.0.0/24",  # protocol assignments; a cloud's metadata among them
            "192.31.196.0/24",  # AS112: wherever the nearest operator of it is
            "192.52.193.0/24",  # AMT: multicast relays, likewise
            "192.88.99.0/24",  # 6to4's relays, gone
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "2001::/23",  # protocol assignments (Teredo is unwrapped first)
            "2001:db8::/32",  # documentation
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)


def is_public(address: str) -> bool:
    """Return whether `address` is a unicast address of the Internet: not private, loopback, link-local,
    shared, multicast, reserved or unspecified.

    An IPv6 address that carries an IPv4 one (mapped, NAT64, 6to4, Teredo) is judged by the IPv4 address. An
    invalid address, or one with a zone, isn't public.
    """
    if "%" in address:
        return False
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and (carried := _carried(found)):
        return all(map(_is_global, carried))
    return _is_global(found)


def is_private_literal(host: str) -> bool:
    """Return whether `host` is itself an address that isn't public, in any spelling that some resolver
    accepts ("127.1").
    """
    host = host.rstrip(".")
    try:
        ip_address(host)
    except ValueError:
        pass
    else:
        return not is_public(host)
    try:
        socket.inet_aton(host)
    except (OSError, ValueError):
        return False
    return True  # an odd spelling, even of a public address, has no honest use


def _carried(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """Return the IPv4 addresses that the packets really go to, if the address wraps any."""
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo  # the server, and the client behind it
    return (IPv4Address(int(address) & 0xFFFF_FFFF),) if address in _NAT64 else ()


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    if address.version == 6 and address not in _UNICAST:
        return False
    special = address.is_multicast or address.is_reserved or address.is_unspecified
    return address.is_global and not special and not any(address in one for one in _NEVER)
