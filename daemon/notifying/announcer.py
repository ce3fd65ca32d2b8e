"""Puts events of no single token's state into the outbox: the end of grants, pauses of providers, anomalies.

Their ids say what happened, so any number of replicas may report the same. Pauses are read from the store, which remembers
the last one of each provider, and ends are found again by each count, so a process that dies loses neither. An anomaly is in
memory until it is stored, and what led to it is too.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from daemon.domain.announcement import of_anomaly, of_end
from daemon.domain.event import AnomalyDetected, Event, TokenEnding
from daemon.domain.owner_event import OwnerEvent
from daemon.notifying.ports import Clock, Outbox

MOST_WAITING = 1_000  # events in memory while the outbox can't be reached; counts report ends again
REPORTED_FOR = timedelta(days=29)  # shorter than the outbox knows an id
MOST_KNOWN = 100_000  # ids


class Pauses(Protocol):
    async def events(self) -> Sequence[OwnerEvent]:
        """Return an event for each provider that is paused, and for the last pause of each that is over. Raises StoreLost."""


class Announcer:
    """`pauses`: None in a process that reports none."""

    def __init__(self, outbox: Outbox, clock: Clock, *, pauses: Pauses | None = None) -> None:
        self._outbox = outbox
        self._clock = clock
        self._pauses = pauses
        self._waiting: dict[str, OwnerEvent] = {}
        self._known: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Note what owners or operators are to hear of `event`, for the next run."""
        match event:
            case TokenEnding():
                self._note(of_end(event, at=self._clock.now()))
            case AnomalyDetected(repeated=False):
                self._note(of_anomaly(event))
            case _:
                pass

    async def run(self) -> None:
        """Store what is new. Raises StoreLost."""
        if self._pauses is not None:
            for one in await self._pauses.events():
                if one.at > self._clock.now() - REPORTED_FOR:
                    self._note(one)
        if not self._waiting:
            return
        events = list(self._waiting.values())
        await self._outbox.add(events)
        self._waiting = {name: one for name, one in self._waiting.items() if one not in events}
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        self._known.update(one.id for one in events)

    def _note(self, event: OwnerEvent) -> None:
        if event.id not in self._known and len(self._waiting) < MOST_WAITING:
            self._waiting.setdefault(event.id, event)
