"""A provider whose replies never end: a program of its own, so that the tests' event loop has nothing to do with it.

    python tests/adapters/token_endpoint/flood.py KIND HOW [PEM]

KIND: one of FLOODS, or `all` for each in turn. HOW: `fast`, or `bytewise`. PEM: a key and a certificate, for TLS.
Prints its port.
"""

import itertools
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

REPLY = b"HTTP/1.1 200 OK\r\n"
CHUNKED = REPLY + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH = REPLY + b"Content-Length: 2\r\n\r\n{}"
FLOODS = {  # what comes first, and what comes again and again
    "interim replies": (b"", b"HTTP/1.1 100 \r\n\r\n"),
    "interim replies with many fields": (b"", b"HTTP/1.1 103 Early\r\n" + b"a:b\r\n" * 200 + b"\r\n"),
    "line ends": (b"", b"\n"),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"a\n"),
    "chunks' extensions": (CHUNKED, b"1;" + b"x" * 60 + b"\r\na\r\n"),
    "small chunks": (CHUNKED, b"1\r\nx\r\n"),
    "headers": (REPLY, b"a:\n"),
    "many headers": (b"", REPLY + b"a:\n" * 84_000 + b"Content-Length: 2\r\n\r\n{}"),
    "a body": (REPLY + b"\r\n", b"x"),
    "junk": (LENGTH, b"x"),
    "replies": (b"", LENGTH),
}
BLOCK = 65_536


def _pieces(kind: str, how: str) -> Iterator[bytes]:
    start, more = FLOODS[kind]
    yield start
    again = more if how == "bytewise" else more * (BLOCK // len(more) + 1)
    while True:
        yield from (again[at : at + 1] for at in range(len(again))) if how == "bytewise" else (again,)


def _serve(connection: socket.socket, kind: str, how: str, tls: ssl.SSLContext | None) -> None:
    with suppress(OSError), connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        spoken = tls.wrap_socket(connection, server_side=True) if tls else connection
        spoken.recv(BLOCK)
        for piece in _pieces(kind, how):
            spoken.sendall(piece)


def main(kind: str, how: str, pem: str | None = None) -> None:
    tls = None
    if pem:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pem)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        print(server.getsockname()[1], flush=True)
        for each in itertools.cycle(FLOODS if kind == "all" else [kind]):
            connection, _ = server.accept()
            threading.Thread(target=_serve, args=(connection, each, how, tls), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
