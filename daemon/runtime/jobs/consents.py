"""Looks for authorization codes that wait, while the daemon runs."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta

from daemon.adapters.mongo.connecting.consent_requests import ConsentsRefused
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.connecting.exchange import CodeExchange
from daemon.domain.claim import StoreLost
from daemon.domain.event import InternalError
from daemon.refreshing.ports import Observe

LOOK_EVERY = timedelta(seconds=1)  # a code lives for a minute at some providers, and its owner waits
REFUSED_AGAIN = timedelta(minutes=1)  # MongoDB's user lacks a right: an operator may give it


class ConsentFollower:
    """Begins the exchanges of waiting codes, until cancelled. It logs a missing right once."""

    def __init__(self, exchange: CodeExchange, *, log: EventLog, observe: Observe) -> None:
        self._exchange = exchange
        self._log = log
        self._observe = observe
        self._refused: str | None = None

    async def run(self, ready: Callable[[], bool], providers: Callable[[], Mapping[str, object]]) -> None:
        """Look for codes at `providers`, whenever the daemon is `ready`."""
        while True:
            pause = await self._look(ready, providers)
            await asyncio.sleep(pause.total_seconds())

    async def _look(
        self, ready: Callable[[], bool], providers: Callable[[], Mapping[str, object]]
    ) -> timedelta:
        """Look once. Returns how long to wait before the next look."""
        if not ready():
            return LOOK_EVERY
        try:
            await self._exchange.look(providers())
        except ConsentsRefused as why:
            if str(why) != self._refused:
                self._refused = str(why)
                self._log.log(log_lines.CONNECT_REFUSED, message=str(why))
            return REFUSED_AGAIN
        except StoreLost:
            pass  # it has reported itself
        except Exception as error:  # noqa: BLE001  a bug here must end neither the daemon nor the next look
            self._observe(InternalError(where="connect", error=error))
        else:
            self._refused = None
        return LOOK_EVERY
