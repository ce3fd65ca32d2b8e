"""A receiver, a store of deliveries and an outbox for tests of the courier."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from daemon.domain.event import Event
from daemon.domain.hook import Attempt, Format, Health, Outcome
from daemon.domain.hook_delivery import Claimed, Delivery
from daemon.domain.hook_message import Message
from daemon.domain.owner_event import Actor, OwnerEvent, OwnerEventType
from daemon.notifying.courier import Addressee, Courier
from tests.support.clocks import SetClock

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
LEASE = timedelta(minutes=1)
DELIVERED = Attempt(outcome=Outcome.DELIVERED, status=200)


def event(name: str) -> OwnerEvent:
    return OwnerEvent(
        id=name, type=OwnerEventType.NEEDS_REAUTH, at=NOON, who_acts=Actor.OWNER, code=name, revision=1
    )


class World:
    """One hook with its receiver. `answer`: what it answers to the event with this name."""

    def __init__(self) -> None:
        self.clock = SetClock(NOON)
        self.diary: list[str] = []
        self.due: dict[str, datetime] = {}
        self.attempts: dict[str, int] = {}
        self.known = Health()
        self.told: list[OwnerEvent] = []
        self.events: list[Event] = []
        self.malformed = 0
        self.at_once = self.most_at_once = 0
        self.answer: Callable[[str], Attempt] = lambda _name: DELIVERED
        self.gate: asyncio.Event | None = None
        self.courier = self.with_configuration("c1")

    def with_configuration(self, configuration: str) -> Courier:
        to = Addressee(name="crm", format=Format.STANDARD, keys=[b"k" * 24], configuration=configuration)
        return Courier(
            to,
            deliveries=self,
            sender=self,
            outbox=self,
            clock=self.clock,
            chance=lambda: 1.0,
            observe=self.events.append,
        )

    def put(self, *names: str) -> None:
        for name in names:
            self.due[name], self.attempts[name] = self.clock.now(), 0

    # Deliveries

    async def next_due(self, hook: str) -> datetime | None:
        assert hook == "crm"
        return min(self.due.values(), default=None)

    async def claim(self, hook: str, *, limit: int) -> Claimed:
        assert hook == "crm"
        now = self.clock.now()
        names = [name for name, at in sorted(self.due.items(), key=lambda one: one[1]) if at <= now][:limit]
        for name in names:
            self.due[name] = now + LEASE
        malformed, self.malformed = self.malformed, 0
        taken = [Delivery(id=n, claim="c", event=event(n), attempts=self.attempts[n]) for n in names]
        return Claimed(deliveries=taken, malformed=malformed)

    async def delivered(self, delivery: Delivery, *, status: int | None) -> None:
        assert status == 200
        self.diary.append(f"done {delivery.id}")
        del self.due[delivery.id]

    async def failed(self, delivery: Delivery, attempt: Attempt, *, due_at: datetime) -> None:
        self.diary.append(f"{attempt.outcome} {delivery.id} {(due_at - self.clock.now()).total_seconds():g}")
        self.due[delivery.id] = due_at
        self.attempts[delivery.id] += 1

    async def health(self, hook: str) -> Health:
        assert hook == "crm"
        return self.known

    async def save_health(self, hook: str, health: Health) -> None:
        assert hook == "crm"
        self.known = health

    # Sender

    async def send(self, message: Message) -> Attempt:
        name, gate = json.loads(message.body)["data"]["code"], self.gate
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.diary.append(f"send {name}")
        try:
            await asyncio.sleep(0)
            if gate is not None:
                await gate.wait()
        finally:
            self.at_once -= 1
        return self.answer(name)

    # Outbox

    async def add(self, events: Sequence[OwnerEvent]) -> None:
        self.told += events
