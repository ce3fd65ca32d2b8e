"""Who asks: the access key of a request, if it is valid, may come from this address and is within its rate."""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import TypeVar

from daemon.domain.access_key import AccessKey, parse_key, proves
from daemon.domain.provider import Rate
from daemon.domain.use import Workload
from daemon.serving.ports import Clock, Keys
from daemon.serving.problems import Problem, Unauthorized

WRONG_ALLOWED, WRONG_WITHIN = 10, timedelta(minutes=1)  # wrong secrets from one address
MOST_REMEMBERED = 10_000  # addresses, keys with a rate, and callers of keys
ONE_HOST = 64  # bits of an IPv6 address: a single host usually has all the addresses behind them

Name = TypeVar("Name")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a request. `address`: an IP address, or "unix"; `peer`: the user id at the other end of a unix socket.
    `away`: the store does not answer, and the key is what was last known. `workload`: who has proved it with a JWT
    instead of an access key; then `key` is what a rule allows it.
    """

    key: AccessKey
    address: str
    peer: int | None = None
    away: bool = False
    workload: Workload | None = None


class Doorkeeper:
    """Admits callers. `rate`: of a key that has no rate of its own. `rate_per_caller`: of one caller with one key, in
    addition; None: no such limit. `failed` receives the address of each caller without a valid key. `refused` receives the
    caller who has the right secret of a key that is revoked, disabled or past its end, or may not be used from there.
    """

    def __init__(
        self,
        keys: Keys,
        clock: Clock,
        *,
        rate: Rate,
        rate_per_caller: Rate | None = None,
        failed: Callable[[str], None] = lambda _address: None,
        refused: Callable[[Caller], None] = lambda _caller: None,
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._rate = rate
        self._rate_per_caller = rate_per_caller
        self._failed = failed
        self._refused = refused
        self._wrong = WrongGuesses(clock)
        self._rates: OrderedDict[str, RateLimit] = OrderedDict()
        self._callers: OrderedDict[str, RateLimit] = OrderedDict()

    async def admit(self, text: str, address: str, peer: int | None = None) -> Caller:
        """Return the caller with the access key `text`. Raises Problem, StoreLost.

        A wrong secret costs what a right one does and slows down only other wrong ones from the same address.
        """
        if not text:
            self._failed(address)
            raise Unauthorized(presented=False)  # nobody has guessed
        presented = parse_key(text)
        known = await self._keys.find(presented.id) if presented else None
        key = known.value if known else None
        if presented is None or known is None or not proves(presented, key) or key is None:
            raise self._wrong_secret(address)
        caller = Caller(key=key, address=address, peer=peer, away=known.away)
        if not key.is_valid(self._clock.now()) or not key.admits(address):
            self._failed(address)
            self._refused(caller)
            raise Unauthorized(presented=True)
        self._count(key, address, peer)
        return caller

    def _wrong_secret(self, address: str) -> Problem:
        self._failed(address)
        if (wait := self._wrong.note(address)) > timedelta(0):
            return Problem("rate-limited", "Too many wrong access keys from this address.", retry_after=wait)
        return Unauthorized(presented=True)

    def _count(self, key: AccessKey, address: str, peer: int | None) -> None:
        """Count a use of `key`. Raises Problem without counting it if one of its rates is used up, so that a caller
        who asks too often leaves the key's rate to the others.
        """
        now = self._clock.boot()
        rates = [(_limit(self._rates, key.id, key.rate or self._rate), "This access key is used too often.")]
        if self._rate_per_caller is not None:
            caller = f"{key.id} {_host(address, peer)}"
            limit = _limit(self._callers, caller, self._rate_per_caller)
            rates.append((limit, "This access key is used too often from this address."))
        wait, detail = max((limit.wait(now), detail) for limit, detail in rates)
        if wait > timedelta(0):
            raise Problem("rate-limited", detail, retry_after=wait)
        for limit, _ in rates:
            limit.use(now)


class WrongGuesses:
    """Wrong proofs by address. Many of them slow down only other wrong ones from the same address."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._times: OrderedDict[str, deque[timedelta]] = OrderedDict()

    def note(self, address: str) -> timedelta:
        """Return zero and count a wrong one, or return the wait until the next one is judged."""
        now = self._clock.boot()
        times = self._times.pop(address, None) or deque()
        while times and times[0] <= now - WRONG_WITHIN:
            times.popleft()
        put(self._times, address, times)
        if len(times) >= WRONG_ALLOWED:
            return times[0] + WRONG_WITHIN - now
        times.append(now)
        return timedelta(0)


class RateLimit:
    """At most `rate.count` uses in a burst, and as many in each `rate.per` after that (a leaky bucket)."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._each = rate.per / rate.count
        self._empty_at = timedelta(0)  # by the boot-time clock

    def wait(self, now: timedelta) -> timedelta:
        """Return how long the next use must wait: zero if it is allowed."""
        return max(self._after_use(now) - now - self.rate.per, timedelta(0))

    def use(self, now: timedelta) -> None:
        self._empty_at = self._after_use(now)

    def take(self, now: timedelta) -> timedelta:
        """Return zero and count a use, or return the wait until the next one is allowed."""
        if (wait := self.wait(now)) <= timedelta(0):
            self.use(now)
        return wait

    def _after_use(self, now: timedelta) -> timedelta:
        return max(self._empty_at, now) + self._each


def _host(address: str, peer: int | None) -> str:
    """Return the text under which the uses of one caller are counted: a user at a socket, an IPv4 address, or the
    network of an IPv6 address.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return f"{address} {peer}"
    if not isinstance(ip, IPv6Address):
        return str(ip)
    return str(ip.ipv4_mapped or IPv6Network((int(ip), ONE_HOST), strict=False))


def _limit(limits: OrderedDict[str, RateLimit], name: str, rate: Rate) -> RateLimit:
    """Return the limit of `name`, a new one if its rate has changed, as the one that was used last."""
    limit = limits.pop(name, None)
    if limit is None or limit.rate != rate:
        limit = RateLimit(rate)
    put(limits, name, limit)
    return limit


def put(items: OrderedDict[Name, Item], name: Name, item: Item) -> None:
    """Add an item, and drop the oldest one beyond MOST_REMEMBERED."""
    items[name] = item
    if len(items) > MOST_REMEMBERED:
        items.popitem(last=False)
