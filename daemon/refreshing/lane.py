"""One provider's share of the work: it claims what fits, starts it, and goes on while more is due.

Lanes keep providers apart: one that hangs fills its own lane and no other. What its tokens meet is evidence for the
brake, which decides when the provider must rest; a lane at rest sends probes.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from daemon.domain.answer import Answer, Cause, Granted, Unavailable
from daemon.domain.circuit_breaker import (
    CircuitBreaker,
    Pause,
    Reason,
    alike_by,
    is_healthy,
    is_proven,
    probe_size,
)
from daemon.domain.claim import Batch, Claim, SetAside, StoreLost
from daemon.domain.event import InFlight, ProviderPaused, ProviderThrottled
from daemon.domain.provider import Provider
from daemon.domain.quarantine import Quarantine
from daemon.domain.token import Token
from daemon.refreshing.ports import Clock, Journal, Observe, Pauses, RateLimiter, Store
from daemon.refreshing.prefetch import Prefetch
from daemon.refreshing.refresher import Refresher
from daemon.refreshing.reporting import report, unexpected
from daemon.refreshing.spare import Spare

BUG_REST, LONGEST_BUG_REST = timedelta(minutes=5), timedelta(hours=6)
SHYNESS = timedelta(milliseconds=500)  # how long the first answer is waited for before many more are asked


class Lane:
    """The tokens of one provider in flight: `provider.share`, and what `spare` lends. At first one alone, in case the
    client is refused.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        store: Store,
        pauses: Pauses,
        pace: Callable[[Provider], RateLimiter],
        journal: Journal,
        refresher: Refresher,
        clock: Clock,
        observe: Observe,
        spare: Spare | None = None,
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
        self._spare = spare or Spare()
        self._granting = False  # the last answer was a grant: only then is more than the share in flight
        self._breaker = CircuitBreaker()
        self._decided: deque[Reason | None] = (
            deque()
        )  # by the brake, for the replicas to agree on; None: go on
        self._shy = True  # one at a time: an answer, or the lack of one, will tell
        self._shy_until = timedelta(0)
        self._pause: Pause | None = None
        self._tried: datetime | None = None  # the pause that our own client has probed at once
        self._quarantine = Quarantine(first=BUG_REST, last=LONGEST_BUG_REST)
        self._lost = False  # a result could not be stored: first it is replayed, then more is claimed
        self._claims: deque[Claim] = deque()  # not started yet
        self._prefetch = Prefetch()
        self._freed = asyncio.Event()
        self._waiting: asyncio.Task[None] | None = None  # for the pace
        self._telling = False
        self._crowded = False
        self._stopping = False

    def use(self, provider: Provider) -> None:
        """Go on with this provider. A changed one has to prove itself again; what met a bug gets another chance."""
        self._quarantine.clear()
        if provider == self.provider:
            return
        before, self.provider = self.provider, provider
        self._breaker, self._tried, self._shy = CircuitBreaker(paused=self._breaker.paused), None, True
        if provider.definition.rate != before.definition.rate:
            self._pace = self._pace_of(provider)
            if self._waiting is not None:
                self._waiting.cancel()  # the wait was for the old rate

    def follow(self, pause: Pause | None) -> None:
        """What all replicas have agreed on: a rest, or the end of one."""
        self._pause = pause
        if pause is None:
            self._breaker.release()
        elif self._breaker.paused is not pause.reason:
            self._breaker.rest(pause.reason, self._clock.boot())
        self._shy = self._shy or self._breaker.paused is not None

    async def work(self) -> int:
        """Claim and start all that is due. Returns how many were claimed. Raises StoreLost."""
        self._lost = False
        if self._is_crowded():
            return 0
        self._shy_until = self._clock.boot() + SHYNESS
        claimed, more = 0, True
        try:
            if self._breaker.paused:
                claimed = await self._probe()
            self._prefetch.begin(self._clock.boot())
            while more and await self._room() and not self._breaker.paused:
                if (limit := self._allowed()) > 0:
                    batch = await self._store.claim(self.provider, limit=limit, busy=self._busy())
                    self._prefetch.measure(self._clock.boot(), share=self._most)
                    self._claims += await self._taken(batch.items)
                    self._fill()
                    claimed += len(batch.items)
                    more = batch.more
            await self._all_started()
        finally:
            claimed -= await self._give_back()
        if self._lost:
            raise StoreLost("a result could not be stored; its reply is kept in the journal")
        return claimed

    def _is_crowded(self) -> bool:
        """Whether replies that are kept for people crowd the journal: this replica asks no more until they are gone. It
        is this replica's disk, so it is not for all replicas to agree on.
        """
        name, before = self.provider.name, self._crowded
        self._crowded = name in self._journal.crowded
        if self._crowded and not before:
            self._observe(ProviderPaused(provider=name, reason=Reason.UNPARSED, next_probe_at=None))
        return self._crowded

    async def _probe(self) -> int:
        """While the provider rests: a few tokens when the time has come and it is this replica's turn. Returns how many
        were claimed; what must not start stays among the claims to be given back.
        """
        pause = self._pause
        if pause is None or pause.reason is Reason.OPERATOR or not await self._room():
            return 0
        due = self._is_due(pause.next_probe_at) or self._is_other(pause)
        batch = await (self._candidates(pause) if due else self._doubtful(pause))
        self._claims += await self._taken(batch.items)
        if not self._claims or (due and not await self._take_turn(pause)) or self._stopping:
            return len(batch.items)
        self._start([self._claims.popleft()])
        while self._claims and (not due or is_healthy(self._claims[0].token)):
            self._start([self._claims.popleft()])
        await asyncio.wait(self.in_flight.values())
        return len(batch.items)

    async def _candidates(self, pause: Pause) -> Batch:
        """Proven tokens that are due; if there are none, others: the healthy ones first, else one that has failed."""
        size = probe_size(pause.reason, pause.probes)
        batch = await self._probed(size, proven=True)
        if not batch.items and (self._is_due(pause.next_retry_at) or self._is_other(pause)):
            size = probe_size(pause.reason, pause.probes + pause.retries)
            batch = await self._probed(size, proven=False)
        return batch

    async def _probed(self, size: int, *, proven: bool) -> Batch:
        limit = self._pace.allows(min(size, self.provider.share))
        return await self._store.probe(self.provider, limit=limit, busy=self._busy(), proven=proven)

    async def _doubtful(self, pause: Pause) -> Batch:
        """During an outage, what was asked once without an answer is asked once more: I5 grants it a second chance."""
        limit = self._pace.allows(self.provider.share - len(self.in_flight))
        if pause.reason is not Reason.OUTAGE or limit < 1:
            return Batch(items=(), more=False)
        return await self._store.claim(self.provider, limit=limit, busy=self._busy(), doubtful=True)

    async def _take_turn(self, pause: Pause) -> bool:
        proven = any(is_proven(claim.token) for claim in self._claims)
        ours = await self._pauses.take_turn(self.provider, pause, proven)
        if ours:
            self._tried = pause.since
        return ours

    def _is_due(self, at: datetime | None) -> bool:
        return at is None or at <= self._clock.now()

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
        return self._pace.allows(self._most + self._prefetch.count - self._held)

    @property
    def _most(self) -> int:
        """How many may be in flight."""
        if self._shy:
            return 1
        share = self.provider.share
        lent = self._borrowed + (self._spare.free if self._granting else 0)
        return share + lent if self.provider.most is None else min(share + lent, self.provider.most)

    @property
    def _borrowed(self) -> int:
        return max(0, len(self.in_flight) - self.provider.share)

    @property
    def _held(self) -> int:
        return len(self.in_flight) + len(self._claims)

    @property
    def is_stuck(self) -> bool:
        """Whether a pass that has not ended has nothing to wait for: no request, and no pace."""
        return not self.in_flight and self._waiting is None

    @property
    def _works(self) -> bool:
        return not self._stopping and not self._lost and self._journal.writable

    @property
    def _goes_on(self) -> bool:
        """Whether what is claimed may start. While the provider rests it must not, and waits for nothing."""
        return self._works and not (self._claims and self._breaker.paused)

    async def _room(self) -> bool:
        """Wait until a good part of what may be held is free, so that claims come in batches, and the pace allows more.
        False: nothing more is to be started.
        """
        if self._shy and self.in_flight:
            left = max(self._shy_until - self._clock.boot(), timedelta(0))
            await asyncio.wait(self.in_flight.values(), timeout=left.total_seconds())
            if self._clock.boot() >= self._shy_until and not self._breaker.paused:
                self._shy = False
        self._fill()
        while self._goes_on and 2 * self._held > self._most + self._prefetch.count:
            self._freed.clear()
            await self._freed.wait()
            self._fill()
        await self._paced()
        return self._works

    async def _paced(self) -> None:
        """Wait until the pace allows more. `stop` ends the wait, and `use` begins it again with another pace."""
        while self._works:
            pace = self._pace
            self._waiting = asyncio.create_task(pace.ready(), name=f"pace {self.provider.name}")
            await asyncio.wait({self._waiting})
            self._waiting = None
            if pace is self._pace:
                return

    def _busy(self) -> set[str]:
        """What is in flight here, or has a reply in the journal, is never presented."""
        claimed = (claim.token.id for claim in self._claims)
        return {*self.in_flight, *claimed, *self._journal.tokens, *self._quarantine.held(self._clock.boot())}

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
        self._spare.lend(self.provider.name, self._borrowed)
        self._tell_soon()

    async def _all_started(self) -> None:
        self._fill()  # perhaps it could not when the last token ended, and then nothing else wakes this lane
        while self._claims and self._goes_on:
            self._freed.clear()
            await self._freed.wait()
            self._fill()

    async def _give_back(self) -> int:
        """Release what was claimed and must not start now. Returns how many these are. Raises the first loss of the
        store, after all were tried: the store releases later what it could not release now.
        """
        claims, self._claims = list(self._claims), deque()
        by_claim = {claim.id: [one for one in claims if one.id == claim.id] for claim in claims}
        lost: StoreLost | None = None
        for alike in by_claim.values():
            try:
                await self._store.release(alike)
            except StoreLost as why:
                lost = lost or why
        if lost is not None:
            raise lost
        return len(claims)

    async def _refresh(self, claim: Claim) -> None:
        name = claim.token.id
        try:
            try:
                await self._refresher.refresh(claim, self.weigh)
            finally:
                await self.agree()
            self._quarantine.release([name])
        except StoreLost:
            self._lost = True  # its reply, if one came, is in the journal; the next sweep replays it
        except Exception as error:  # noqa: BLE001  one token's bug must not reach the others
            self._failed(claim.token, error)
        finally:
            del self.in_flight[name]
            self._prefetch.finished()
            self._spare.lend(self.provider.name, self._borrowed)
            self._fill()
            self._freed.set()
            self._tell_soon()

    def _failed(self, token: Token, error: Exception) -> None:
        """Report it, and leave the token alone for a while; with a reply in the journal it is blocked anyway."""
        if token.id not in self._journal.tokens:
            self._quarantine.put(token.id, type(error).__name__, now=self._clock.boot())
        self._observe(unexpected("refresh", token.id, token.provider, error))

    def weigh(self, token: Token, answer: Answer) -> bool:
        """Take note of what one token's answer says of the provider. Returns whether the answer is to be doubted."""
        now = self._clock.boot()
        outage = isinstance(answer, Unavailable) and answer.cause is Cause.OUTAGE
        if isinstance(answer, Granted) or outage:
            self._granting = not outage
        if isinstance(answer, Granted):
            self._shy = False
        if isinstance(answer, Unavailable) and answer.throttled:
            self._observe(ProviderThrottled(provider=self.provider.name))
        before, who = self._breaker.paused, alike_by(self.provider, token)
        reason = self._breaker.heard(who, answer, healthy=is_healthy(token), now=now)
        if reason is not None:
            self._shy = True
            self._decided.append(reason)
        elif before is not None and self._breaker.paused is None:
            self._decided.append(None)
        return self._breaker.doubts(now)

    async def agree(self) -> None:
        """Let the other replicas know what the brake decided. Raises StoreLost."""
        while self._decided:
            reason = self._decided.popleft()
            if reason is None:
                await self._pauses.resume(self.provider)
            else:
                await self._pauses.pause(self.provider, reason)

    def _tell_soon(self) -> None:
        """Once for all that begins and ends in one turn of the loop."""
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        self._observe(InFlight(provider=self.provider.name, count=len(self.in_flight)))
