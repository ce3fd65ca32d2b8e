"""The addresses of host names: one look-up per name at a time, and no name that hangs keeps the others waiting.

The system's resolver knows /etc/hosts and whatever else the machine is set up with, but it blocks: for 20 seconds and
more where a name server is silent. So each look-up has a thread, and threads are the scarce good. Names of one parent
domain share its name servers and mostly hang together: they are a family, and so are all names that were slow the last
time. A family may take a thread only while it holds fewer than are free. So the first takes half of them at most, and
there is always one left for a family that has none.

A thread can't be ended: a look-up outlives the request that asked for it, and its outcome serves the next one.
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
    """One look-up: first it waits for its place, then for its outcome."""

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
        """`ask` blocks until it has a name's addresses, or raises OSError. Default: the system's resolver."""
        self._loop = asyncio.get_running_loop()
        self._ask = ask or _addresses
        self._latest: dict[str, LookUp] = {}
        self._waiting: list[LookUp] = []
        self._held = Counter[str]()  # places, by family

    async def begun(self, host: str) -> None:
        """Wait until a look-up of `host` has begun, or is not needed."""
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
        """Begin what may begin, in the order in which it came."""
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
        except RuntimeError:  # the system has no thread for us
            refused = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            self._loop.call_soon(self._finish, look_up, refused)

    def _run(self, look_up: LookUp) -> None:
        """In a thread, for which the process does not wait when it ends."""
        try:
            outcome: Outcome = self._ask(look_up.host)
        except Exception as why:  # noqa: BLE001  OSError, or UnicodeError for what can't be a name
            outcome = why
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._finish, look_up, outcome)

    def _finish(self, look_up: LookUp, outcome: Outcome) -> None:
        now = self._loop.time()
        self._held -= Counter([look_up.family])  # without those that hold none any more
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
    """The address as text, with its zone where it has one (RFC 4007)."""
    zoned = len(address) == 4 and address[3]
    return socket.getnameinfo(address, _NUMERIC)[0] if zoned else str(address[0])
