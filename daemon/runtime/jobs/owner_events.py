"""Relays the events of tokens into the outbox, while the daemon runs."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.claim import StoreLost
from daemon.domain.event import InternalError
from daemon.domain.waiting_events import EventRefused
from daemon.notifying.announcer import Announcer
from daemon.notifying.relay import Relay
from daemon.refreshing.ports import Observe

# Commands and the access service store events too, so every daemon looks: one query of an index that is nearly empty.
LOOK_EVERY = timedelta(seconds=1)
ANNOUNCED_EVERY = 5  # looks


class EventFollower:
    """Relays until cancelled. It logs a refusal once. `indexed`: whether the index of the events was built; before that,
    each look would read every token.
    """

    def __init__(
        self,
        relay: Relay,
        announcer: Announcer,
        *,
        indexed: Callable[[], bool],
        log: EventLog,
        observe: Observe,
    ) -> None:
        self._relay = relay
        self._announcer = announcer
        self._indexed = indexed
        self._looks = 0
        self._log = log
        self._observe = observe
        self._refused: str | None = None

    async def run(self, ready: Callable[[], bool]) -> None:
        """Relay whenever the daemon is `ready`."""
        while True:
            if ready():
                await self.look()
            await asyncio.sleep(LOOK_EVERY.total_seconds())

    async def look(self) -> None:
        """Relay what waits now. Raises nothing."""
        self._looks += 1
        try:
            if self._indexed():
                await self._relay.run()
            if self._looks % ANNOUNCED_EVERY == 1:
                await self._announcer.run()
        except EventRefused as why:
            if str(why) != self._refused:
                self._refused = str(why)
                self._log.log(log_lines.EVENTS_REFUSED, message=str(why))
        except StoreLost:
            pass  # it has reported itself
        except Exception as error:  # noqa: BLE001  a bug here must end neither the daemon nor the next look
            self._observe(InternalError(where="events", error=error))
        else:
            self._refused = None
