"""The health of one provider: the evidence of its answers, and the pauses that all replicas have agreed on."""

from collections import deque
from collections.abc import Collection
from datetime import timedelta

from daemon.domain.answer import Answer, Cause, Granted, Unavailable
from daemon.domain.circuit_breaker import CircuitBreaker, Pause, Reason, is_healthy, source_of
from daemon.domain.event import ProviderPaused, ProviderThrottled
from daemon.domain.provider import Provider
from daemon.domain.token import Token
from daemon.refreshing.ports import Clock, Observe, Pauses
from daemon.refreshing.slow_start import SlowStart


class ProviderHealth:
    """The health of one lane's provider. `breaker` decides for this process; `pause` is shared by all
    replicas.
    """

    def __init__(self, provider: Provider, *, pauses: Pauses, clock: Clock, observe: Observe) -> None:
        self.breaker = CircuitBreaker(wary=provider.definition.spends_on_refusal)
        self.slow_start = SlowStart()
        self.pause: Pause | None = None
        self.granting = False  # the last answer was a grant
        self._provider = provider
        self._pauses = pauses
        self._clock = clock
        self._observe = observe
        # The breaker's decisions that are not in the store yet. None: the pause is over.
        self._decided: deque[Reason | None] = deque()
        self._crowded = False

    def use(self, provider: Provider) -> None:
        """Use this configuration of the provider from now on. It has to prove itself again."""
        self._provider = provider
        self.breaker = self.breaker.without_evidence()
        self.breaker.wary = provider.definition.spends_on_refusal
        self.slow_start.restart()

    def follow(self, pause: Pause | None) -> None:
        """Adopt the state that all replicas have agreed on: a pause, or the end of one."""
        self.pause = pause
        if pause is None:
            self.breaker.half_open()
        elif self.breaker.reason is not pause.reason:
            self.breaker.open(pause.reason, self.now)
        if self.breaker.is_open:
            self.slow_start.restart()

    def weigh(self, token: Token, answer: Answer) -> bool:
        """Record the evidence of one token's answer about the provider. Returns whether the answer is
        doubtful.
        """
        outage = isinstance(answer, Unavailable) and answer.cause is Cause.OUTAGE
        if isinstance(answer, Granted) or outage:
            self.granting = not outage
        if isinstance(answer, Granted):
            self.slow_start.end()
        if isinstance(answer, Unavailable) and answer.throttled:
            self._observe(ProviderThrottled(provider=self._provider.name))
        was_open, source, now = self.breaker.is_open, source_of(self._provider, token), self.now
        reason = self.breaker.record(source, answer, healthy=is_healthy(token), now=now)
        if reason is not None:
            self.slow_start.restart()
            self._decided.append(reason)
        elif was_open and not self.breaker.is_open:
            self._decided.append(None)
        return self.breaker.doubts(now)

    async def agree(self) -> None:
        """Write the breaker's decisions to the store for the other replicas. Raises StoreLost."""
        while self._decided:
            reason = self._decided.popleft()
            if reason is None:
                await self._pauses.resume(self._provider)
            else:
                await self._pauses.pause(self._provider, reason)

    def is_crowded(self, crowded: Collection[str]) -> bool:
        """Return whether parked replies crowd the journal. If so, this replica sends no request until an
        operator has discarded some. Other replicas have their own disks and continue.
        """
        name, before = self._provider.name, self._crowded
        self._crowded = name in crowded
        if self._crowded and not before:
            self._observe(ProviderPaused(provider=name, reason=Reason.UNPARSED, next_probe_at=None))
        return self._crowded

    @property
    def now(self) -> timedelta:
        """Time since boot."""
        return self._clock.boot()
