"""How fast a provider may be asked: aiolimiter's leaky bucket, sized so that its limit holds in any stretch of time."""

from aiolimiter import AsyncLimiter

from daemon.domain.provider import Rate

_BURST = 10  # a tenth of what is allowed may go at once; the rest comes evenly


class LeakyBucket:
    """Fits `refreshing.ports.RateLimiter`. It counts what this process asks: replicas each have their own."""

    def __init__(self, rate: Rate | None) -> None:
        self._limiter = None if rate is None else _limiter(rate)
        self._credit = 0  # waited for, but not spent yet

    async def ready(self) -> None:
        """Wait until at least one request may go."""
        if self._limiter is not None and not self._credit:
            await self._limiter.acquire(1)
            self._credit = 1

    def available(self, most: int) -> int:
        """How many requests may go now, at most `most`."""
        if self._limiter is None:
            return most
        allowed = self._credit
        while allowed < most and self._limiter.has_capacity(allowed - self._credit + 1):
            allowed += 1
        return min(allowed, most)

    async def acquire(self, count: int) -> None:
        """So many are going now; no more than was allowed, so this does not wait."""
        if self._limiter is None:
            return
        from_credit = min(count, self._credit)
        self._credit -= from_credit
        await self._limiter.acquire(count - from_credit)


def _limiter(rate: Rate) -> AsyncLimiter:
    """A bucket of `burst` that leaks `count - burst` in the time: together never more than `count`."""
    per = rate.per.total_seconds()
    if rate.count == 1:
        return AsyncLimiter(1, per)
    burst = max(1, rate.count // _BURST)
    return AsyncLimiter(burst, per * burst / (rate.count - burst))
