"""The access service on this machine, as a command asks it whether it is ready. No key is sent."""

import json
import socket
import ssl
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple

from daemon.runtime.config.access_outline import AccessOutline
from daemon.runtime.config.access_sections import AccessTable

TIMEOUT = 5  # seconds
_LARGEST = 1 << 16  # bytes
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  an address to replace
_CHECKS = {"store", "keys"}


class Answer(NamedTuple):
    """The answer of an access service. `failed`: the names of its failed checks."""

    ready: bool
    failed: tuple[str, ...]


class Foreign(NamedTuple):
    """Something else listens there."""


def ask_access(outline: AccessOutline) -> Answer | Foreign | None:
    """Return what listens where the service would; None if nothing does, or if that is not on this machine."""
    access = outline.access
    if access is None or (outline.socket is None and (access.port == 0 or not _is_here(access.host))):
        return None
    try:
        with closing(_connection(outline, access)) as connection:
            connection.request("GET", "/readyz", headers={"Host": "localhost", "Connection": "close"})
            response = connection.getresponse()
            return _answer(response.status, response.read(_LARGEST))
    except (ConnectionRefusedError, FileNotFoundError):
        return None
    except (OSError, HTTPException):
        return Foreign() if _listens(outline, access) else None


def _is_here(host: str) -> bool:
    """Return whether `host` is an address of this machine: only such a one can be bound."""
    try:
        family, kind, protocol, _, found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(found)
    except OSError:
        return False
    return True


def _answer(status: int, body: bytes) -> Answer | Foreign:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    checks = found.get("checks") if isinstance(found, dict) else None
    if status not in (200, 503) or not isinstance(checks, Mapping) or checks.keys() != _CHECKS:
        return Foreign()
    failed = tuple(name for name, check in checks.items() if not _passes(check))
    return Answer(found.get("ready") is True, failed)


def _passes(check: Any) -> bool:
    return isinstance(check, Mapping) and check.get("ok") is True


def _connection(outline: AccessOutline, access: AccessTable) -> HTTPConnection:
    if outline.socket is not None:
        return _UnixConnection(outline.socket)
    host = _EVERY_ADDRESS.get(access.host, access.host)
    if outline.with_tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it gets no secret
        return HTTPSConnection(host, access.port, timeout=TIMEOUT, context=context)
    return HTTPConnection(host, access.port, timeout=TIMEOUT)


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(str(self._path))


def _listens(outline: AccessOutline, access: AccessTable) -> bool:
    """Return whether a connection can be made, although HTTP fails on it."""
    if outline.socket is not None:
        return False
    host = _EVERY_ADDRESS.get(access.host, access.host)
    try:
        socket.create_connection((host, access.port), timeout=TIMEOUT).close()
    except OSError:
        return False
    return True
