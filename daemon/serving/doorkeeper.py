"""Who asks: the access key of a request, if it is valid, may come from this address and is within its rate."""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from daemon.domain.access_key import AccessKey, parse_key, proves
from daemon.domain.provider import Rate
from daemon.serving.ports import Clock, Keys
from daemon.serving.problems import Problem, unauthorized

WRONG_ALLOWED, WRONG_WITHIN = 10, timedelta(minutes=1)  # wrong secrets from one address
MOST_REMEMBERED = 10_000  # addresses, and keys, with a rate

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a request. `address`: an IP address, or "unix"; `peer`: the user id at the other end of a unix socket.
    `away`: the store does not answer, and the key is what was last known.
    """

    key: AccessKey
    address: str
    peer: int | None = None
    away: bool = False


class Doorkeeper:
    """Admits callers. `rate`: of a key that has no rate of its own. `failed` receives the address of each caller
    without a valid key.
    """

    def __init__(
        self, keys: Keys, clock: Clock, *, rate: Rate, failed: Callable[[str], None] = lambda _address: None
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._rate = rate
        self._failed = failed
        self._wrong: OrderedDict[str, deque[timedelta]] = OrderedDict()
        self._rates: OrderedDict[str, RateLimit] = OrderedDict()

    async def admit(self, text: str, address: str, peer: int | None = None) -> Caller:
        """Return the caller with the access key `text`. Raises Problem, StoreLost.

        A wrong secret costs what a right one does and slows down only other wrong ones from the same address.
        """
        if not text:
            self._failed(address)
            raise unauthorized()  # nobody has guessed
        presented = parse_key(text)
        known = await self._keys.find(presented.id) if presented else None
        key = known.value if known else None
        if presented is None or known is None or not proves(presented, key) or key is None:
            raise self._wrong_secret(address)
        if not key.is_valid(self._clock.now()) or not key.admits(address):
            self._failed(address)
            raise unauthorized()
        if (wait := self._wait(key)) > timedelta(0):
            raise Problem("rate-limited", "This access key is used too often.", retry_after=wait)
        return Caller(key=key, address=address, peer=peer, away=known.away)

    def _wrong_secret(self, address: str) -> Problem:
        self._failed(address)
        now = self._clock.boot()
        times = self._wrong.pop(address, None) or deque()
        while times and times[0] <= now - WRONG_WITHIN:
            times.popleft()
        _put(self._wrong, address, times)
        if len(times) >= WRONG_ALLOWED:
            wait = times[0] + WRONG_WITHIN - now
            return Problem("rate-limited", "Too many wrong access keys from this address.", retry_after=wait)
        times.append(now)
        return unauthorized()

    def _wait(self, key: AccessKey) -> timedelta:
        rate = key.rate or self._rate
        limit = self._rates.pop(key.id, None)
        if limit is None or limit.rate != rate:
            limit = RateLimit(rate)
        _put(self._rates, key.id, limit)
        return limit.take(self._clock.boot())


class RateLimit:
    """At most `rate.count` uses at once, and as many in each `rate.per` after that (a leaky bucket)."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._each = rate.per / rate.count
        self._empty_at = timedelta(0)  # by the boot-time clock

    def take(self, now: timedelta) -> timedelta:
        """Return zero and count a use, or return the wait until the next one is allowed."""
        empty_at = max(self._empty_at, now) + self._each
        if empty_at - now > self.rate.per:
            return empty_at - now - self.rate.per
        self._empty_at = empty_at
        return timedelta(0)


def _put(items: OrderedDict[str, Item], name: str, item: Item) -> None:
    items[name] = item
    if len(items) > MOST_REMEMBERED:
        items.popitem(last=False)
