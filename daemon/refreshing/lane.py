"""One provider's share of the work: it claims what fits, starts it, and goes on while more is due.

Lanes keep providers apart: one that hangs fills its own lane and no other.
"""

import asyncio
from collections.abc import Sequence

from daemon.domain.claim import Claim, SetAside, StoreLost
from daemon.domain.event import InFlight, TokenUnreadable
from daemon.domain.provider import Provider
from daemon.refreshing.ports import Journal, Observe, Store
from daemon.refreshing.refresher import Refresher


class Lane:
    """At most `provider.share` tokens of one provider in flight."""

    def __init__(
        self, provider: Provider, *, store: Store, journal: Journal, refresher: Refresher, observe: Observe
    ) -> None:
        self.provider = provider
        self.in_flight: dict[str, asyncio.Task[None]] = {}
        self._store = store
        self._journal = journal
        self._refresher = refresher
        self._observe = observe
        self._faulty: set[str] = set()  # a bug of ours met them: not presented again by this process
        self._lost = False  # a result could not be stored: first it is replayed, then more is claimed
        self._freed = asyncio.Event()
        self._stopping = False

    async def work(self) -> int:
        """Claim and start all that is due. Returns how many were claimed. Raises StoreLost."""
        claimed = 0
        more = True
        self._lost = False
        while more and await self._room() and self._journal.writable and not self._lost:
            batch = await self._store.claim(self.provider, limit=self._free(), busy=self._busy())
            await self._start(batch.items)
            claimed += len(batch.items)
            more = batch.more
        return claimed

    def stop(self) -> None:
        """Start nothing more."""
        self._stopping = True
        self._freed.set()

    def resume(self) -> None:
        """Take the stop back: the provider is configured again."""
        self._stopping = False

    async def drain(self) -> None:
        """Start nothing more, and wait for what is in flight."""
        self.stop()
        while self.in_flight:
            await asyncio.wait(self.in_flight.values())

    def _free(self) -> int:
        return self.provider.share - len(self.in_flight)

    async def _room(self) -> bool:
        """Wait until a good part of the share is free, so that claims come in batches. False: stopping."""
        while not self._stopping and self._free() < max(1, self.provider.share // 2):
            self._freed.clear()
            await self._freed.wait()
        return not self._stopping

    def _busy(self) -> set[str]:
        """What is in flight here, or has a reply in the journal, is never presented."""
        return {*self.in_flight, *self._journal.tokens, *self._faulty}

    async def _start(self, items: Sequence[Claim | SetAside]) -> None:
        if self._stopping:
            await self._store.release([item for item in items if isinstance(item, Claim)])
            return
        for item in items:
            if isinstance(item, SetAside):
                report(item, self._observe)
            else:
                task = asyncio.create_task(self._refresh(item), name=item.token.id)
                self.in_flight[item.token.id] = task
        self._tell()

    async def _refresh(self, claim: Claim) -> None:
        try:
            await self._refresher.refresh(claim)
        except StoreLost:
            self._lost = True  # its reply, if one came, is in the journal; the next sweep replays it
        except Exception as error:  # noqa: BLE001  one token's bug must not reach the others
            if (
                claim.token.id not in self._journal.tokens
            ):  # there it is blocked until its reply can be replayed
                self._faulty.add(claim.token.id)
            context = {"message": f"refreshing {claim.token.id} failed unexpectedly", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
        finally:
            del self.in_flight[claim.token.id]
            self._freed.set()
            self._tell()

    def _tell(self) -> None:
        self._observe(InFlight(provider=self.provider.name, count=len(self.in_flight)))


def report(item: SetAside, observe: Observe) -> None:
    """Tell of a document that was set aside, once per change."""
    if item.new:
        observe(
            TokenUnreadable(
                token=item.token, provider=item.provider, kind=item.kind, code=item.code, message=item.message
            )
        )
