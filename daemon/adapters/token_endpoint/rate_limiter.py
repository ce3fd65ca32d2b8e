"""The rate limit per provider: aiolimiter's leaky bucket, sized so that its limit holds in any period."""

from aiolimiter import AsyncLimiter

from daemon.domain.provider import Rate

_BURST = 10  # a tenth of the limit may be sent in a burst; the rest is spread evenly


class LeakyBucket:
    """Implements `refreshing.ports.RateLimiter`, with one bucket for each rate. It limits this process; each replica has
    its own.
    """

    def __init__(self, *rates: Rate) -> None:
        self._limiters = tuple(map(_limiter, rates))
        self._credit = 0  # waited for, but not spent yet

    async def ready(self) -> None:
        """Wait until at least one request may be sent."""
        if not self._credit:
            for limiter in self._limiters:
                await limiter.acquire(1)
            self._credit = 1 if self._limiters else 0

    def available(self, most: int) -> int:
        """Return how many requests may be sent now, at most `most`."""
        if not self._limiters:
            return most
        allowed = self._credit
        while allowed < most and self._have_capacity(allowed - self._credit + 1):
            allowed += 1
        return min(allowed, most)

    async def acquire(self, count: int) -> None:
        """Count this many requests as sent. It does not wait, since they were available."""
        from_credit = min(count, self._credit)
        self._credit -= from_credit
        for limiter in self._limiters:
            await limiter.acquire(count - from_credit)

    def _have_capacity(self, count: int) -> bool:
        return all(limiter.has_capacity(count) for limiter in self._limiters)


def _limiter(rate: Rate) -> AsyncLimiter:
    """Return a bucket of `burst` that leaks `count - burst` in the period, so that the total never exceeds
    `count`.
    """
    per = rate.per.total_seconds()
    if rate.count == 1:
        return AsyncLimiter(1, per)
    burst = max(1, rate.count // _BURST)
    return AsyncLimiter(burst, per * burst / (rate.count - burst))
