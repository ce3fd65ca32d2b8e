"""Delivers the events of one hook, at least once each.

Each hook has a courier of its own, with its own bound, so a receiver that hangs holds up nobody else's events. What has
been tried and when is stored, with the delivery or with the hook; a courier remembers nothing that a crash could lose. A
delivery is settled after the answer: if the process dies in between, it is sent once more.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.domain.event import HookBack, HookCounted, HookDisabled
from daemon.domain.hook import Attempt, Format, Health, Outcome, pause_after
from daemon.domain.hook_delivery import Delivery
from daemon.domain.hook_message import Message, message
from daemon.domain.owner_event import Actor, OwnerEvent, OwnerEventType
from daemon.notifying.ports import Chance, Clock, Deliveries, Observe, Outbox, Sender

IN_FLIGHT = 8  # requests to one receiver
POLL = timedelta(seconds=5)  # another process may have stored an event
DISABLED_POLL = timedelta(minutes=1)
LOOK_AGAIN = timedelta(seconds=1)  # for other events, while requests are on their way
SOON = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressee:
    """A configured hook. `keys`: with each of which its requests are signed. `configuration`: changes with whatever may
    make a receiver that is gone answer again.
    """

    name: str
    format: Format
    keys: Sequence[bytes]
    configuration: str


class Courier:
    """Every method raises StoreLost."""

    def __init__(
        self,
        to: Addressee,
        *,
        deliveries: Deliveries,
        sender: Sender,
        outbox: Outbox,
        clock: Clock,
        chance: Chance,
        observe: Observe,
    ) -> None:
        self.to = to
        self._deliveries = deliveries
        self._sender = sender
        self._outbox = outbox
        self._clock = clock
        self._chance = chance
        self._observe = observe
        self._health = Health()
        self._in_flight: set[asyncio.Task[None]] = set()

    async def work(self) -> timedelta:
        """Deliver what is due, until nothing more is or the receiver needs a rest. Returns how long to wait."""
        try:
            while True:
                pause = await self._begin()
                if pause is not None and not self._in_flight:
                    return pause
                await self._one_ended()
        finally:
            await self._give_up()

    async def _begin(self) -> timedelta | None:
        """Begin as many requests as may be on their way. Returns how long to wait if no other can begin now, even if none
        was on its way.
        """
        due_at = await self._deliveries.next_due(self.to.name)
        if due_at is None:
            return POLL
        now = self._clock.now()
        if due_at > now:
            return min(due_at - now + SOON, POLL)
        self._health = await self._deliveries.health(self.to.name)
        if self._health.disabled_for(self.to.configuration):
            return DISABLED_POLL
        if rest := self._health.rest(now):
            return min(rest, POLL)
        free = (IN_FLIGHT if self._health.at_once else 1) - len(self._in_flight)
        if free > 0:
            await self._take(free)
        return None if self._in_flight else SOON

    async def _take(self, limit: int) -> None:
        claimed = await self._deliveries.claim(self.to.name, limit=limit)
        if claimed.malformed:
            self._observe(HookCounted(hook=self.to.name, outcome=Outcome.MALFORMED, count=claimed.malformed))
        for delivery in claimed.deliveries:
            self._in_flight.add(asyncio.create_task(self._deliver(delivery), name=f"hook {self.to.name}"))

    async def _one_ended(self) -> None:
        if not self._in_flight:
            return
        done, self._in_flight = await asyncio.wait(
            self._in_flight, timeout=LOOK_AGAIN.total_seconds(), return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            task.result()

    async def _give_up(self) -> None:
        """End what is on its way. Its events stay claimed, and are due again when their lease ends."""
        left, self._in_flight = self._in_flight, set()
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _deliver(self, delivery: Delivery) -> None:
        sent_at = self._clock.now()
        attempt = await self._sender.send(request_to(self.to, delivery.event, sent_at=sent_at))
        now, chance = self._clock.now(), self._chance()
        if attempt.outcome is Outcome.DELIVERED:
            await self._deliveries.delivered(delivery, status=attempt.status)
        else:
            pause = pause_after(delivery.attempts + 1, chance=chance, retry_after=attempt.retry_after)
            await self._deliveries.failed(delivery, attempt, due_at=now + pause)
        await self._weigh(attempt, sent_at, now, chance)

    async def _weigh(self, attempt: Attempt, sent_at: datetime, now: datetime, chance: float) -> None:
        """Note how the receiver is, and report the attempt."""
        before = self._health
        after = before.after(
            attempt, sent_at=sent_at, now=now, chance=chance, configuration=self.to.configuration
        )
        self._health = after
        self._observe(
            HookCounted(
                hook=self.to.name, outcome=attempt.outcome, status=attempt.status, failures=after.failures
            )
        )
        if before.failures and not after.failures:
            self._observe(HookBack(hook=self.to.name, failures=before.failures))
        if after.disabled_at is not None:
            await self._outbox.add([_disabled(self.to.name, after)])  # first: a repetition has the same id
        if after != before:
            await self._deliveries.save_health(self.to.name, after)
        if after.disabled_at is not None:
            self._observe(HookDisabled(hook=self.to.name))


def request_to(to: Addressee, event: OwnerEvent, *, sent_at: datetime) -> Message:
    """Return the request that reports `event` to `to`."""
    return message(event, form=to.format, keys=to.keys, sent_at=sent_at)


def _disabled(hook: str, health: Health) -> OwnerEvent:
    since = health.gone_since or health.disabled_at
    assert since is not None  # noqa: S101  it is disabled
    return OwnerEvent(
        id=f"hook.disabled:{hook}:{since.isoformat()}",
        type=OwnerEventType.HOOK_DISABLED,
        at=health.disabled_at or since,
        who_acts=Actor.OPERATOR,
        kind="gone",
        code=hook,
    )
