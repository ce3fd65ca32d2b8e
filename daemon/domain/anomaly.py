"""Anomalies: access that a person should look at. Each is found by a plain rule, and hinders no request."""

from collections import OrderedDict
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

IPV4_NETWORK, IPV6_NETWORK = 24, 48  # bits of an address that count as its network
UNIX = "unix"  # the address, and the network, of a caller on the socket
MOST_REMEMBERED = 10_000
_LONGEST = 64  # characters of an address


class AnomalyKind(StrEnum):
    """The rule that found it. The values label metrics and log lines."""

    KEY_FROM_NEW_NETWORK = "key_from_new_network"
    READ_BURST = "read_burst"
    AUTH_FAILURES = "auth_failures"
    SUBJECT_DEVICE_CHANGED = "subject_device_changed"
    REFUSED_AGAIN = "refused_again"
    REUSE_REFUSED = "reuse_refused"


OF_DAEMON = (AnomalyKind.REUSE_REFUSED,)
OF_ACCESS = tuple(kind for kind in AnomalyKind if kind not in OF_DAEMON)


def network_of(address: str) -> str | None:
    """Return the network of an IP address: /24 for IPv4, /48 for IPv6, `unix` for the socket; None for other texts."""
    return _network_of(address) if len(address) <= _LONGEST else None


@lru_cache(maxsize=MOST_REMEMBERED)
def _network_of(address: str) -> str | None:
    if address == UNIX:
        return UNIX
    try:
        ip = ip_address(address)
    except ValueError:
        return None
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is None:
            return str(IPv6Network((int(ip), IPV6_NETWORK), strict=False))
        ip = ip.ipv4_mapped
    return str(IPv4Network((int(ip), IPV4_NETWORK), strict=False))


class Once:
    """Remembers things for the hour in which they were first seen."""

    def __init__(self, *, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._hours: OrderedDict[tuple[str, ...], datetime] = OrderedDict()

    def is_first(self, *what: str, hour: datetime) -> bool:
        """Return whether `what` was not seen in this hour yet, and remember it."""
        seen = self._hours.pop(what, None) == hour
        self._hours[what] = hour
        if len(self._hours) > self._most:
            self._hours.popitem(last=False)
        return not seen
