"""What both kinds of `Tokens` share: the cache, and one request in flight for each token."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from weakref import WeakSet

from refreshd_reader.cache import Cache, Key, clock
from refreshd_reader.errors import ReaderError, Unavailable
from refreshd_reader.token import Token
from refreshd_reader.transport import Reading, Transport, check_id

Flight = tuple[str, ...]  # what is under way: the id of a token, for a refusal also its version


class Core:
    """A transport behind the cache. Callers that need the same token at the same time share one request."""

    def __init__(self, transport: Transport, cache: Cache | None = None) -> None:
        self.transport = transport
        self.cache = Cache() if cache is None else cache
        self._flights: dict[Flight, Future[Token]] = {}
        self._lock = threading.Lock()
        self.on_fork: Callable[[], None] | None = None
        _ALL.add(self)

    def board(self, flight: Flight) -> tuple[Future[Token], bool]:
        """Return the result to come, and whether the caller has to bring it about with `fly`."""
        with self._lock:
            future = self._flights.get(flight)
            if future is not None:
                return future, False
            future = self._flights[flight] = Future()
            return future, True

    def fly(self, flight: Flight, key: Key, future: "Future[Token]", request: Callable[[], Reading]) -> None:
        """Send the request, keep its token, and give everybody on this flight the result."""
        started = clock()
        try:
            reading = request()
        except ReaderError as error:
            if self._land(flight, future):
                self.cache.drop(key)
            future.set_exception(error)
        except BaseException as error:
            self._land(flight, future)
            if isinstance(error, Exception):
                future.set_exception(error)
                return
            future.set_exception(Unavailable("the request was interrupted"))
            raise
        else:
            if self._land(flight, future):
                age = clock() - started
                self.cache.put(key, reading.token, seconds_left=reading.seconds_left, age=age)
            future.set_result(reading.token)

    def _land(self, flight: Flight, future: "Future[Token]") -> bool:
        """Return whether the result is still news: false after `forget`."""
        with self._lock:
            if self._flights.get(flight) is not future:
                return False
            del self._flights[flight]
            return True

    def forget(self, key: Key | None = None) -> None:
        """Forget a token, or all: also those that a request in flight is about to bring."""
        with self._lock:
            for flight in [one for one in self._flights if key is None or one[:2] == key]:
                del self._flights[flight]
        if key is None:
            self.cache.clear()
        else:
            self.cache.drop(key)

    def reading_of(self, key: Key) -> Callable[[], Reading]:
        """Return the request for this token."""
        check_id(*key)
        return lambda: self.transport.read(*key)

    def newer_than(self, token: Token) -> Token | None:
        """Return another version from the cache, if it came while the caller used `token`; else forget `token`."""
        kept = self.cache.get((token.provider, token.account))
        if kept is not None and kept.version != token.version:
            return kept
        self.cache.drop_version(token)
        return None

    def forked(self) -> None:
        """Start again in a forked child: it has neither the threads nor the connections of its parent."""
        self._lock = threading.Lock()
        self._flights = {}
        self.cache.forked()
        self.transport.forked()
        if self.on_fork is not None:
            self.on_fork()


_ALL: WeakSet[Core] = WeakSet()


def _forked() -> None:
    for core in list(_ALL):
        core.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
