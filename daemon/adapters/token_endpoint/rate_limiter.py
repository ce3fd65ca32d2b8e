"""The rate limit per provider: aiolimiter's leaky bucket, sized so that its limit holds in any period."""

from aiolimiter import AsyncLimiter

from daemon.domain.provider import Rate

_BURST = 10  # a tenth of the limit may be sent in a burst; the rest is spread evenly


class LeakyBucket:
    """Implements `refreshing.ports.RateLimiter`. It limits this process; each replica has its own."""

    def __init__(self, rate: Rate | None) -> None:
        self._limiter = None if rate is None else _limiter(rate)
        self._credit = 0  # waited for, but not spent yet

    async def ready(self) -> None:
        """Wait until at least one request may be sent."""
        if self._limiter is not None and not self._credit:
            await self._limiter.acquire(1)
            self._credit = 1

    def available(self, most: int) -> int:
        """Return how many requests may be sent now, at most `most`."""
        if self._limiter is None:
            return most
        allowed = self._credit
        while allowed < most and self._limiter.has_capacity(allowed - self._credit + 1):
            allowed += 1
        return min(allowed, most)

    async def acquire(self, count: int) -> None:
        """Count this many requests as sent. It does not wait, since they were available."""
        if self._limiter is None:
            return
        from_credit = min(count, self._credit)
        self._credit -= from_credit
        await self._limiter.acquire(count - from_credit)


def _limiter(rate: Rate) -> AsyncLimiter:
    """Return a bucket of `burst` that leaks `count - burst` in the period, so that the total never exceeds
    `count`.
    """
    per = rate.per.total_seconds()
    if rate.count == 1:
        return AsyncLimiter(1, per)
    burst = max(1, rate.count // _BURST)
    return AsyncLimiter(burst, per * burst / (rate.count - burst))
