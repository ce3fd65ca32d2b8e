"""Protocols for everything that notifying needs from outside. The adapters fit them by shape, and tests bring fakes."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from daemon.domain.event import Event
from daemon.domain.hook import Attempt, Health
from daemon.domain.hook_delivery import Claimed, Delivery
from daemon.domain.hook_message import Message
from daemon.domain.owner_event import OwnerEvent


class Outbox(Protocol):
    """The stored events that are to be delivered. Every method raises StoreLost."""

    async def add(self, events: Sequence[OwnerEvent]) -> None:
        """Store `events`, with a majority. An event whose id is stored already is left as it is."""


class Deliveries(Protocol):
    """The deliveries of hooks, shared by replicas. Every method raises StoreLost."""

    async def next_due(self, hook: str) -> datetime | None:
        """Return when the first delivery of `hook` that waits is due; None if none waits."""

    async def claim(self, hook: str, *, limit: int) -> Claimed:
        """Take up to `limit` deliveries that are due, the oldest first, for the length of a lease."""

    async def delivered(self, delivery: Delivery, *, status: int | None) -> None:
        """End a delivery. Does nothing if another replica has taken it since."""

    async def failed(self, delivery: Delivery, attempt: Attempt, *, due_at: datetime) -> None:
        """Plan the next attempt, likewise."""

    async def health(self, hook: str) -> Health: ...

    async def save_health(self, hook: str, health: Health) -> None: ...


class Sender(Protocol):
    async def send(self, message: Message) -> Attempt:
        """Send `message` once. Never raises for what a receiver does."""


class Clock(Protocol):
    def now(self) -> datetime:
        """Return the store's time (UTC). Raises StoreLost until the store has answered for the first time."""


Chance = Callable[[], float]  # uniform in 0 to 1
Observe = Callable[[Event], None]
