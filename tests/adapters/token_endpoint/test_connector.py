"""What the sockets to providers are set to, where no test can wait for a network that is gone."""

import socket
from datetime import timedelta

from daemon.adapters.token_endpoint.connector import _socket


def test_a_socket_gives_up_on_a_silent_network_with_its_request():
    """Once the request's time is over, the kernel sends nothing of it any more: not by a retry, and not at the close."""
    address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))
    with _socket(address, timeout=timedelta(seconds=30), allows=None) as made:
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == b"\x01\0\0\0\0\0\0\0"
