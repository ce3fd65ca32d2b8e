"""Host name resolution: one look-up per name at a time, and a hanging name does not delay the others.

The system's resolver respects /etc/hosts and the machine's other settings, but it blocks, for 20 seconds and
more if a name server does not answer. So each look-up runs in a thread, and threads are limited. Names of one
parent domain share its name servers and mostly hang together: they form a family. All names that were slow
last time form another family. A family may take a thread only while it holds fewer threads than are free. So
the first family takes at most half of them, and one is always left for a family that has none.

A thread can't be stopped: a look-up outlives the request that started it, and its result serves the next
request.
"""

import asyncio
import errno
import os
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from threading import Thread

from aiohttp.abc import AbstractResolver, ResolveResult

PLACES = 64  # threads
KNOWN_FOR = timedelta(seconds=60)
FAILED_FOR = timedelta(seconds=30)
SLOW = timedelta(seconds=1)
MOST_NAMES = 10_000  # remembered

_SLOW_FAMILY = ""
_NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV

Outcome = list[ResolveResult] | Exception


class LookUp:
    """One look-up. It first waits for a thread, then for its result."""

    def __init__(self, host: str, family: str) -> None:
        self.host = host
        self.family = family
        self.begun = asyncio.Event()
        self.done = asyncio.Event()
        self.began = 0.0
        self.outcome: Outcome = []
        self.until = float("inf")  # then it is out of date
        self.slow = False


class Names(AbstractResolver):
    """A resolver for all connectors of a process."""

    def __init__(self, ask: Callable[[str], list[ResolveResult]] | None = None) -> None:
        """Create the resolver. `ask` blocks until it has a name's addresses, or raises OSError. Default: the
        system's resolver.
        """
        self._loop = asyncio.get_running_loop()
        self._ask = ask or _addresses
        self._latest: dict[str, LookUp] = {}
        self._waiting: list[LookUp] = []
        self._held = Counter[str]()  # places, by family

    async def begun(self, host: str) -> None:
        """Wait until a look-up of `host` has started or is not needed."""
        await self._look_up(host).begun.wait()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        look_up = self._look_up(host)
        await look_up.done.wait()
        if isinstance(look_up.outcome, Exception):
            raise look_up.outcome.with_traceback(None)
        wanted = (one for one in look_up.outcome if family in {socket.AF_UNSPEC, one["family"]})
        return [ResolveResult(**{**one, "port": port}) for one in wanted]

    async def close(self) -> None:
        self._waiting.clear()

    def _look_up(self, host: str) -> LookUp:
        last = self._latest.get(host)
        if last is not None and self._loop.time() < last.until:
            return last
        look_up = LookUp(host, _SLOW_FAMILY if last and last.slow else _parent(host))
        self._latest.pop(host, None)
        self._latest[host] = look_up
        if len(self._latest) > MOST_NAMES:
            del self._latest[next(iter(self._latest))]
        self._waiting.append(look_up)
        self._begin_some()
        return look_up

    def _begin_some(self) -> None:
        """Start the look-ups that may start, in the order of their arrival."""
        waiting, self._waiting = self._waiting, []
        for look_up in waiting:
            if self._held[look_up.family] < PLACES - self._held.total():
                self._begin(look_up)
            else:
                self._waiting.append(look_up)

    def _begin(self, look_up: LookUp) -> None:
        self._held[look_up.family] += 1
        look_up.began = self._loop.time()
        look_up.begun.set()
        try:
            Thread(target=self._run, args=(look_up,), name=f"look-up {look_up.host}", daemon=True).start()
        except RuntimeError:  # the system can't start another thread
            refused = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            self._loop.call_soon(self._finish, look_up, refused)

    def _run(self, look_up: LookUp) -> None:
        """Run the look-up in a thread that the process does not wait for at exit."""
        try:
            outcome: Outcome = self._ask(look_up.host)
        except Exception as why:  # noqa: BLE001  OSError, or UnicodeError for what can't be a name
            outcome = why
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._finish, look_up, outcome)

    def _finish(self, look_up: LookUp, outcome: Outcome) -> None:
        now = self._loop.time()
        self._held -= Counter([look_up.family])  # without families that no longer hold any
        look_up.outcome = outcome
        look_up.slow = now - look_up.began > SLOW.total_seconds()
        valid = FAILED_FOR if isinstance(outcome, Exception) else KNOWN_FOR
        look_up.until = now + valid.total_seconds()
        look_up.done.set()
        self._begin_some()


def _parent(host: str) -> str:
    parent = host.rstrip(".").partition(".")[2]
    return parent if "." in parent else host


def _addresses(host: str) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host,
            host=_written(address),
            port=0,
            family=family,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for family, _, protocol, _, address in found
    ]


def _written(address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]) -> str:
    """Return the address as text, with its zone if it has one (RFC 4007)."""
    zoned = len(address) == 4 and address[3]
    return socket.getnameinfo(address, _NUMERIC)[0] if zoned else str(address[0])
