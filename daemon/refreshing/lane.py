"""One provider's share of the work: it claims what fits, starts it, and goes on while more is due.

Lanes keep providers apart: one that hangs fills its own lane and no other.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from daemon.domain.answer import Answer, Misconfigured, Unavailable
from daemon.domain.brake import Brake, Pause, Reason, alike_by
from daemon.domain.claim import Claim, SetAside, StoreLost
from daemon.domain.event import InFlight, ProviderThrottled, TokenUnreadable
from daemon.domain.provider import Provider
from daemon.refreshing.lookahead import Lookahead
from daemon.refreshing.ports import Clock, Journal, Observe, Pace, Pauses, Store
from daemon.refreshing.refresher import Refresher

SHYNESS = timedelta(milliseconds=500)  # how long the first answer is waited for before many more are asked


class Lane:
    """At most `provider.share` tokens of one provider in flight; at first one alone, in case our client is refused."""

    def __init__(
        self,
        provider: Provider,
        *,
        store: Store,
        pauses: Pauses,
        pace: Callable[[Provider], Pace],
        journal: Journal,
        refresher: Refresher,
        clock: Clock,
        observe: Observe,
    ) -> None:
        self.provider = provider
        self.in_flight: dict[str, asyncio.Task[None]] = {}
        self._store = store
        self._pauses = pauses
        self._pace_of = pace
        self._pace = pace(provider)
        self._journal = journal
        self._refresher = refresher
        self._clock = clock
        self._observe = observe
        self._brake = Brake()
        self._shy = True  # one at a time: an answer, or the lack of one, will tell
        self._shy_until = timedelta(0)
        self._pause: Pause | None = None
        self._tried: datetime | None = None  # the pause that our own client has probed at once
        self._faulty: set[str] = set()  # a bug of ours met them: not presented again by this process
        self._lost = False  # a result could not be stored: first it is replayed, then more is claimed
        self._claims: deque[Claim] = deque()  # not started yet
        self._ahead = Lookahead()
        self._freed = asyncio.Event()
        self._waiting: asyncio.Task[None] | None = None  # for the pace
        self._telling = False
        self._stopping = False

    def use(self, provider: Provider) -> None:
        """Go on with this provider; another client has to prove itself anew."""
        if provider != self.provider:
            self.provider, self._pace = provider, self._pace_of(provider)
            self._brake, self._tried, self._shy = Brake(paused=self._brake.paused), None, True

    def follow(self, pause: Pause | None) -> None:
        """What all replicas have agreed on: a rest, or the end of one."""
        self._pause = pause
        if pause is None:
            self._brake.release()
        elif not self._brake.paused:
            self._brake.rest()
        self._shy = self._shy or self._brake.paused

    async def work(self) -> int:
        """Claim and start all that is due. Returns how many were claimed. Raises StoreLost."""
        self._lost = False
        self._shy_until = self._clock.boot() + SHYNESS
        claimed = await self._probe() if self._brake.paused else 0
        self._ahead.begin(self._clock.boot())
        more = True
        try:
            while more and await self._room() and not self._brake.paused:
                if (limit := self._allowed()) > 0:
                    batch = await self._store.claim(self.provider, limit=limit, busy=self._busy())
                    self._ahead.measure(self._clock.boot(), share=self.provider.share)
                    self._claims += await self._taken(batch.items)
                    self._fill()
                    claimed += len(batch.items)
                    more = batch.more
            await self._all_started()
        finally:
            claimed -= await self._give_back()
        if self._lost:
            raise StoreLost("a result could not be stored; its reply waits in the journal")
        return claimed

    async def _probe(self) -> int:
        """While the provider rests: one token when the time has come, and it is our turn. Where it rests for an
        outage, what we have asked once without an answer is asked once more all the same.
        """
        pause = self._pause
        if pause is None or pause.reason is Reason.OPERATOR or not await self._room():
            return 0
        due = pause.next_probe_at is None or pause.next_probe_at <= self._clock.now() or self._is_other(pause)
        if not due and pause.reason is not Reason.OUTAGE:
            return 0
        limit = self._pace.allows(1 if due else self.provider.share - len(self.in_flight))
        batch = await self._store.claim(self.provider, limit=limit, busy=self._busy(), doubtful=not due)
        claims = await self._taken(batch.items)
        ours = not due or not claims or await self._pauses.take_turn(self.provider, pause)
        if not ours or self._stopping:
            await self._store.release(claims)
            return 0
        if due and claims:
            self._tried = pause.since
        self._start(claims)
        if self.in_flight:
            await asyncio.wait(self.in_flight.values())
        return len(batch.items)

    def _is_other(self, pause: Pause) -> bool:
        """Whether the pause was about another client than ours, and ours was not tried yet."""
        return pause.client != self._pauses.client_of(self.provider) and self._tried != pause.since

    def stop(self) -> None:
        """Start nothing more."""
        self._stopping = True
        self._freed.set()
        if self._waiting is not None:
            self._waiting.cancel()

    def resume(self) -> None:
        """Take the stop back: the provider is configured again."""
        self._stopping = False

    async def drain(self) -> None:
        """Start nothing more, and wait for what is in flight."""
        self.stop()
        while self.in_flight:
            await asyncio.wait(self.in_flight.values())

    def _allowed(self) -> int:
        """How many may be claimed: as many as can start now, and in a moment."""
        return self._pace.allows(self._most + self._ahead.count - self._held)

    @property
    def _most(self) -> int:
        """How many may be in flight."""
        return 1 if self._shy else self.provider.share

    @property
    def _held(self) -> int:
        return len(self.in_flight) + len(self._claims)

    @property
    def _works(self) -> bool:
        return not self._stopping and not self._lost and self._journal.writable

    @property
    def _goes_on(self) -> bool:
        """Whether what is claimed may start. While the provider rests it must not, and waits for nothing."""
        return self._works and not (self._claims and self._brake.paused)

    async def _room(self) -> bool:
        """Wait until a good part of what may be held is free, so that claims come in batches, and the pace allows more.
        False: nothing more is to be started.
        """
        if self._shy and self.in_flight:
            left = max(self._shy_until - self._clock.boot(), timedelta(0))
            await asyncio.wait(self.in_flight.values(), timeout=left.total_seconds())
            if self._clock.boot() >= self._shy_until and not self._brake.paused:
                self._shy = False
        while self._goes_on and 2 * self._held > self._most + self._ahead.count:
            self._freed.clear()
            await self._freed.wait()
        if self._works:
            self._waiting = asyncio.create_task(self._pace.ready(), name=f"pace {self.provider.name}")
            await asyncio.wait({self._waiting})  # `stop` cancels it
            self._waiting = None
        return self._works

    def _busy(self) -> set[str]:
        """What is in flight here, or has a reply in the journal, is never presented."""
        claimed = (claim.token.id for claim in self._claims)
        return {*self.in_flight, *claimed, *self._journal.tokens, *self._faulty}

    async def _taken(self, items: Sequence[Claim | SetAside]) -> list[Claim]:
        """The claims of a batch. What could not be used is reported."""
        for item in items:
            if isinstance(item, SetAside):
                report(item, self._observe)
        claims = [item for item in items if isinstance(item, Claim)]
        await self._pace.spend(len(claims))
        return claims

    def _fill(self) -> None:
        """Start what is claimed, as far as there is room."""
        while self._claims and len(self.in_flight) < self._most and self._goes_on:
            self._start([self._claims.popleft()])

    def _start(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            self.in_flight[claim.token.id] = asyncio.create_task(self._refresh(claim), name=claim.token.id)
        self._tell_soon()

    async def _all_started(self) -> None:
        while self._claims and self._goes_on:
            self._freed.clear()
            await self._freed.wait()

    async def _give_back(self) -> int:
        """What was claimed and must not start now is anybody's at once. Returns how many these are."""
        claims, self._claims = list(self._claims), deque()
        by_claim = {claim.id: [one for one in claims if one.id == claim.id] for claim in claims}
        for alike in by_claim.values():
            await self._store.release(alike)
        return len(claims)

    async def _refresh(self, claim: Claim) -> None:
        try:
            answer = await self._refresher.refresh(claim)
            if answer is not None:
                await self._heard(alike_by(self.provider, claim.token), answer)
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
            self._ahead.finished()
            self._fill()
            self._freed.set()
            self._tell_soon()

    async def _heard(self, who: str, answer: Answer) -> None:
        """Let the provider rest, or end its rest, where this answer tells so. Raises StoreLost."""
        if not isinstance(answer, Misconfigured):
            self._shy = False
        if isinstance(answer, Unavailable) and answer.throttled:
            self._observe(ProviderThrottled(provider=self.provider.name))
        rested = self._brake.paused
        reason = self._brake.heard(who, answer)
        if reason is not None:
            self._shy = True
            await self._pauses.pause(self.provider, reason)
        elif rested and not self._brake.paused:
            await self._pauses.resume(self.provider)

    def _tell_soon(self) -> None:
        """Once for all that begins and ends in one turn of the loop."""
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        self._observe(InFlight(provider=self.provider.name, count=len(self.in_flight)))


def report(item: SetAside, observe: Observe) -> None:
    """Tell of a document that was set aside, once per change."""
    if item.new:
        observe(
            TokenUnreadable(
                token=item.token, provider=item.provider, kind=item.kind, code=item.code, message=item.message
            )
        )
