"""Check whether a server is reachable: look up its name, connect, agree on TLS. Nothing is sent to it."""

import os
import socket
import ssl
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty, SimpleQueue

from daemon.adapters.egress.tls import client_context

_TRY = timedelta(seconds=5)  # for one connection, and again for its handshake


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A host and port, with or without TLS."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreached:
    """The reason that an address was not reached. `distrusted`: it answered, but TLS could not be agreed on."""

    why: str
    distrusted: bool = False


def reach(addresses: Collection[Address], *, within: timedelta) -> Mapping[Address, Unreached | None]:
    """Try all addresses at the same time. Returns None for each address that was reached.

    A name service that never answers blocks only its own thread, which ends with the process.
    """
    ended: SimpleQueue[tuple[Address, Unreached | None]] = SimpleQueue()
    for address in addresses:
        threading.Thread(target=lambda at: ended.put((at, _tried(at))), args=(address,), daemon=True).start()
    found: dict[Address, Unreached | None] = {
        address: Unreached(why=f"no answer within {within.seconds} s") for address in addresses
    }
    over = time.monotonic() + within.total_seconds()  # noqa: TID251  a limit, and nothing that is stored
    for _ in addresses:
        try:
            address, outcome = ended.get(timeout=max(0.0, over - time.monotonic()))  # noqa: TID251
        except Empty:
            break
        found[address] = outcome
    return found


def _tried(address: Address) -> Unreached | None:
    try:
        with socket.create_connection(
            (address.host, address.port), timeout=_TRY.total_seconds()
        ) as connection:
            if address.tls:
                client_context().wrap_socket(connection, server_hostname=address.host).close()
    except ssl.SSLCertVerificationError as why:
        return Unreached(why=f"its certificate is not accepted: {why.verify_message}", distrusted=True)
    except ssl.SSLError as why:
        return Unreached(
            why=f"no TLS: {(why.reason or 'it broke off').replace('_', ' ').lower()}", distrusted=True
        )
    except TimeoutError:
        return Unreached(why=f"no connection within {_TRY.seconds} s")
    except UnicodeError:
        return Unreached(why="name resolution failed")
    except OSError as why:
        return Unreached(why=_reason(why))
    return None


def _reason(error: OSError) -> str:
    """Return the system's text for `error`. The numbers of a failed look-up are not the system's."""
    if isinstance(error, socket.gaierror):
        return f"name resolution failed: {error.strerror}"
    return f"no connection: {os.strerror(error.errno) if error.errno else error}"
