"""Names and addresses in the headers `Host` and `X-Forwarded-For`."""

import ipaddress


def host_name(header: str) -> str:
    """Return the name or address in a `Host` header, without port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0] if header.count(":") == 1 else header


def is_loopback(host: str) -> bool:
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def address_in(entry: str) -> str | None:
    """Return the IP address in an entry of `X-Forwarded-For`, which some proxies write with a port. None: it is none."""
    name = host_name(entry)
    try:
        return str(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        return None
