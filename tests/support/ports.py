"""Ports for the servers that tests start."""

import random
import socket
from pathlib import Path

HOST = "127.0.0.1"
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_COUNT = 12_000
_given: set[int] = set()


def free_port() -> int:
    """Return a port that nothing listens on, and that this process has not returned before.

    It is below the range from which the kernel takes ports itself. A port of that range can be another socket's before
    the server has started, and the test would then talk to a stranger.
    """
    first = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(max(first - _COUNT, 1_024), first) if first > _COUNT else 0
        with socket.socket() as tried:
            try:
                tried.bind((HOST, port))
            except OSError:
                continue
            found: int = tried.getsockname()[1]
        if found not in _given:
            _given.add(found)
            return found
