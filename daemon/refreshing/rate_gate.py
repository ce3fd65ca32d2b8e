"""The rate limit of one lane: what may go now, and the wait for more. A reload may put another limit in its place."""

import asyncio
from collections.abc import Callable

from daemon.domain.provider import Provider
from daemon.refreshing.ports import RateLimiter


class RateGate:
    """Holds the provider's limiter, and the lane's present wait for it."""

    def __init__(self, provider: Provider, make: Callable[[Provider], RateLimiter]) -> None:
        self._make = make
        self._provider = provider
        self._limiter = make(provider)
        self._waiting: asyncio.Task[None] | None = None

    @property
    def is_waiting(self) -> bool:
        return self._waiting is not None

    def use(self, provider: Provider) -> None:
        """Go on with this provider's rate."""
        before, self._provider = self._provider, provider
        if provider.definition.rate != before.definition.rate:
            self._limiter = self._make(provider)
            self.interrupt()  # the wait was for the former rate

    def available(self, most: int) -> int:
        """How many requests may go now, at most `most`."""
        return self._limiter.available(most)

    async def acquire(self, count: int) -> None:
        """So many are going now; no more than were available."""
        await self._limiter.acquire(count)

    async def ready(self, *, goes_on: Callable[[], bool]) -> None:
        """Wait until at least one request may go, as long as `goes_on`. `interrupt` and another limit begin the wait again."""
        while goes_on():
            limiter = self._limiter
            self._waiting = asyncio.create_task(limiter.ready(), name=f"rate {self._provider.name}")
            await asyncio.wait({self._waiting})
            self._waiting = None
            if limiter is self._limiter:
                return

    def interrupt(self) -> None:
        """End the present wait."""
        if self._waiting is not None:
            self._waiting.cancel()
