"""The health server of the daemon on this machine, as a command asks it."""

import json
import socket
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Any, NamedTuple

from daemon.commands.support.failure import Exit, Failed
from daemon.runtime.config.settings import Settings

TIMEOUT = 15  # seconds; the server itself gives up on its checks after five
LARGEST = 64 << 20  # bytes
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  an address to replace
_WHERE = "server.host and server.port"


class Health(NamedTuple):
    """The bodies of /readyz and /status. `status` is empty if the daemon did not report it in time."""

    readiness: Mapping[str, Any]
    status: Mapping[str, Any]


def ask_health(settings: Settings) -> Health:
    """Ask the daemon that listens at the configured address of this machine. Raises Failed."""
    host, port = _address(settings)
    readiness = _get(settings, host, port, "/readyz")
    status = _get(settings, host, port, "/status")
    return Health(readiness, {} if "error" in status else status)


def _address(settings: Settings) -> tuple[str, int]:
    """The address to ask. The bearer token never leaves this machine. Raises Failed."""
    host, port = settings.server.host, settings.server.port
    if port == 0:
        raise Failed(
            "server.port: it is 0, so the daemon takes any free port. Configure a port to ask it", Exit.CONFIG
        )
    host = _EVERY_ADDRESS.get(host, host)
    try:
        family, kind, protocol, _, found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(found)  # only an address of this machine can be bound
    except OSError:
        raise Failed(
            f"server.host: {host} is not an address of this machine. Run this command where the daemon runs",
            Exit.CONFIG,
        ) from None
    return str(found[0]), port


def _get(settings: Settings, host: str, port: int, path: str) -> Mapping[str, Any]:
    token = settings.server.bearer_token
    headers = {} if token is None else {"Authorization": f"Bearer {token.reveal()}"}
    try:
        with closing(HTTPConnection(host, port, timeout=TIMEOUT)) as connection:
            connection.request("GET", path, headers={**headers, "Connection": "close"})
            response = connection.getresponse()
            code, body = response.status, response.read(LARGEST)
    except (OSError, HTTPException) as why:
        raise _no_daemon(
            host, port, getattr(why, "strerror", None) or str(why) or type(why).__name__
        ) from None
    if code in (401, 421):
        raise Failed(
            f"server.bearer_token: the daemon at {_place(host, port)} does not accept it. Configure the token with which"
            " the daemon was started, or reload the daemon",
            Exit.CONFIG,
        )
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if code not in (200, 503) or not isinstance(found, dict):
        raise _no_daemon(host, port, f"another program answered {path} with HTTP {code}")
    return found


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _no_daemon(host: str, port: int, why: str) -> Failed:
    return Failed(
        f"no refreshd daemon answers at {_place(host, port)}, from {_WHERE} ({why}). Start it, or name its configuration"
        " with --config",
        Exit.UNAVAILABLE,
    )
