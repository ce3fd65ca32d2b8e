"""The rate limit of one lane, and the turns to claim within it. A reload may replace the limit."""

import asyncio
from collections.abc import Callable

from daemon.domain.provider import Provider
from daemon.refreshing.ports import RateLimiter


class RateGate:
    """Holds the provider's limiter, and the lane's current wait for it.

    `turn` is held during each claim, each release and each wait for the limit: two claims at the same time could take one
    token twice. It is fair, so that a pass, wishes and secrets without a claim share the limit.
    """

    def __init__(self, provider: Provider, make: Callable[[Provider], RateLimiter]) -> None:
        self.turn = asyncio.Lock()
        self._make = make
        self._provider = provider
        self._limiter = make(provider)
        self._waiting: asyncio.Task[None] | None = None

    @property
    def is_waiting(self) -> bool:
        return self._waiting is not None

    def use(self, provider: Provider) -> None:
        """Use this provider's rate from now on."""
        before, self._provider = self._provider, provider
        if provider.definition.rates != before.definition.rates:
            self._limiter = self._make(provider)
            self.interrupt()  # the wait was for the former rate

    def available(self, most: int) -> int:
        """Return how many requests are allowed now, at most `most`."""
        return self._limiter.available(most)

    async def acquire(self, count: int) -> None:
        """Count the requests that are sent now, no more than were available."""
        await self._limiter.acquire(count)

    async def ready(self, *, goes_on: Callable[[], bool]) -> None:
        """Wait until at least one request is allowed, as long as `goes_on` returns true. `interrupt` and a
        new limit restart the wait.
        """
        while goes_on():
            limiter = self._limiter
            self._waiting = asyncio.create_task(limiter.ready(), name=f"rate {self._provider.name}")
            await asyncio.wait({self._waiting})
            self._waiting = None
            if limiter is self._limiter:
                return

    def interrupt(self) -> None:
        """Interrupt the current wait."""
        if self._waiting is not None:
            self._waiting.cancel()
