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
class Place:
    """A host and port, with or without TLS."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreached:
    """The reason that a place was not reached. `distrusted`: it answered, but TLS could not be agreed on."""

    why: str
    distrusted: bool = False


def reach(places: Collection[Place], *, within: timedelta) -> Mapping[Place, Unreached | None]:
    """Try all places at the same time. Returns None for each place that was reached.

    A name service that never answers blocks only its own thread, which ends with the process.
    """
    ended: SimpleQueue[tuple[Place, Unreached | None]] = SimpleQueue()
    for place in places:
        threading.Thread(target=lambda at: ended.put((at, _tried(at))), args=(place,), daemon=True).start()
    found: dict[Place, Unreached | None] = {
        place: Unreached(why=f"no answer within {within.seconds} s") for place in places
    }
    over = time.monotonic() + within.total_seconds()  # noqa: TID251  a limit, and nothing that is stored
    for _ in places:
        try:
            place, outcome = ended.get(timeout=max(0.0, over - time.monotonic()))  # noqa: TID251
        except Empty:
            break
        found[place] = outcome
    return found


def _tried(place: Place) -> Unreached | None:
    try:
        with socket.create_connection((place.host, place.port), timeout=_TRY.total_seconds()) as connection:
            if place.tls:
                client_context().wrap_socket(connection, server_hostname=place.host).close()
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
