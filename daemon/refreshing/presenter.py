"""Secrets that no claim covers, such as authorization codes: presented within the provider's rate."""

import asyncio
from collections.abc import Awaitable, Callable

from daemon.refreshing.rate_gate import RateGate

TOGETHER = 4  # authorization codes of one provider; they are few, and must not hold up the renewals


class Presenter:
    """Presents the secrets of one provider. `may_present`: whether one may be sent now. `goes_on`: whether a wait for
    the rate still makes sense.
    """

    def __init__(
        self,
        rate: RateGate,
        *,
        may_present: Callable[[], bool],
        goes_on: Callable[[], bool],
    ) -> None:
        self.running: set[asyncio.Future[None]] = set()
        self._rate = rate
        self._may_present = may_present
        self._goes_on = goes_on
        self._together = asyncio.Semaphore(TOGETHER)

    async def present(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Run `work`, which presents one secret. Returns False if nothing may be sent to the provider now; nothing has
        begun then.
        """
        async with self._together:
            if not self._may_present():
                return False
            async with self._rate.turn:
                await self._rate.ready(goes_on=self._goes_on)
                if not self._may_present():
                    return False
                await self._rate.acquire(1)
            task = asyncio.ensure_future(work())
            self.running.add(task)
            try:
                await task
            finally:
                self.running.discard(task)
        return True
