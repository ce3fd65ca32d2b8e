"""Wishes: tokens whose early renewal an application asks for. They don't wait for a sweep, nor behind a backlog.

A wish overrides nothing but the queue. Its token is claimed like any other, if it is due and the provider isn't
paused. A wish that can't be served is dropped: in the store its token is due, so a sweep takes it.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from itertools import islice

from daemon.domain.claim import StoreLost
from daemon.domain.event import InternalError
from daemon.refreshing.bulkhead import Bulkhead
from daemon.refreshing.ports import Observe, Store
from daemon.refreshing.provider_health import ProviderHealth
from daemon.refreshing.rate_gate import RateGate

MOST = 1000  # wishes of one provider that wait


class Wishes:
    """Serves the wishes for one provider's tokens through its `bulkhead`, beside the passes of its lane."""

    def __init__(
        self,
        bulkhead: Bulkhead,
        *,
        store: Store,
        health: ProviderHealth,
        rate: RateGate,
        busy: Callable[[], Collection[str]],
        may_start: Callable[[], bool],
        observe: Observe,
    ) -> None:
        self._bulkhead = bulkhead
        self._store = store
        self._health = health
        self._rate = rate
        self._busy = busy
        self._may_start = may_start
        self._observe = observe
        self._tokens: dict[str, None] = {}  # in the order of their wishes
        self._serving: asyncio.Task[None] | None = None

    def add(self, tokens: Iterable[str]) -> None:
        """Renew these tokens soon. A token that waits already, or more than MOST of them, adds nothing."""
        for token in tokens:
            if len(self._tokens) < MOST:
                self._tokens[token] = None
        if self._tokens and (self._serving is None or self._serving.done()):
            name = f"wishes {self._bulkhead.provider.name}"
            self._serving = asyncio.create_task(self._serve(), name=name)
        self._bulkhead.wake()

    async def ended(self) -> None:
        """Wait until no wish is being served."""
        if self._serving is not None:
            await asyncio.wait({self._serving})

    async def _serve(self) -> None:
        while self._tokens:
            try:
                await self._work()
            except StoreLost:  # reported by the store
                self._tokens.clear()
            except Exception as error:  # noqa: BLE001  the lane goes on without wishes
                self._tokens.clear()
                self._observe(
                    InternalError(where="wishes", provider=self._bulkhead.provider.name, error=error)
                )

    async def _work(self) -> None:
        """Claim and start the wishes in their order, as long as the lane may. Raises StoreLost."""
        bulkhead = self._bulkhead
        try:
            while (self._tokens or bulkhead.wished) and self._may_serve():
                if self._tokens and bulkhead.wishes_left:
                    await self._claim()
                else:
                    await bulkhead.one_freed()
            self._tokens.clear()
        finally:
            async with self._rate.turn:
                with suppress(StoreLost):  # the store releases them later
                    await bulkhead.give_back_wished(self._store)

    async def _claim(self) -> None:
        """Claim as many as the quota and the rate limit allow, and start them. Raises StoreLost."""
        bulkhead = self._bulkhead
        async with self._rate.turn:
            await self._rate.ready(goes_on=self._may_serve)
            limit = self._rate.available(bulkhead.wishes_left)
            if limit < 1 or not self._may_serve() or await self._is_paused():
                return
            tokens = list(islice(self._tokens, limit))
            for token in tokens:
                del self._tokens[token]
            batch = await self._store.claim_wished(bulkhead.provider, tokens=tokens, busy=self._busy())
            await self._rate.acquire(bulkhead.take_wished(batch))
            bulkhead.fill()

    async def _is_paused(self) -> bool:
        """Return whether the provider was paused since the last sweep. Raises StoreLost."""
        pause = await self._store.pause_of(self._bulkhead.provider)
        if pause is not None:
            self._health.follow(pause)
        return pause is not None

    def _may_serve(self) -> bool:
        return self._may_start() and not self._health.breaker.is_open
