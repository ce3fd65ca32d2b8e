"""Follows the wishes for early renewals while the daemon runs.

Without the change stream no wish is lost: its token is due in the store, so the next sweep takes it.
"""

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from daemon.adapters.mongo.wishes import NotFollowed, WishStream
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.claim import StoreLost
from daemon.domain.event import InternalError
from daemon.refreshing.ports import Clock, Observe

READY_EVERY = timedelta(milliseconds=100)  # until MongoDB was found
RETRY_FIRST, RETRY_LAST = (
    timedelta(seconds=1),
    timedelta(minutes=1),
)  # the first one also while MongoDB is away
AHEAD = timedelta(seconds=1)  # of MongoDB's clock: an application's clock may be
MILLISECOND = timedelta(milliseconds=1)  # MongoDB's dates have no finer resolution
MOST_AHEAD = 1000  # wishes that wait for their moment


class WishFollower:
    """Passes the tokens of wishes to `renew`, until cancelled. It logs the loss of the stream once, and its return."""

    def __init__(
        self,
        stream: WishStream,
        *,
        renew: Callable[[Collection[str]], None],
        clock: Clock,
        log: EventLog,
        observe: Observe,
    ) -> None:
        self._stream = stream
        self._renew = renew
        self._clock = clock
        self._log = log
        self._observe = observe
        self._failures = 0  # in a row, though MongoDB answered
        self._lost: str | None = None  # why the stream is not there
        self._ahead = 0

    async def run(self, ready: Callable[[], bool]) -> None:
        """Follow the wishes, once the daemon is `ready` for them."""
        while True:
            if not ready():
                await asyncio.sleep(READY_EVERY.total_seconds())
                continue
            try:
                await self._stream.follow(self._wished, begun=self._begun)
            except StoreLost:  # whatever else needs MongoDB reports it
                await asyncio.sleep(RETRY_FIRST.total_seconds())
                continue
            except NotFollowed as why:
                self._log_loss(str(why))
            except Exception as error:  # noqa: BLE001  a bug here must end neither the daemon nor the stream
                self._observe(InternalError(where="wishes", error=error))
            await asyncio.sleep(min(RETRY_FIRST * 2**self._failures, RETRY_LAST).total_seconds())
            self._failures = min(self._failures + 1, 8)

    def _begun(self) -> None:
        self._failures = 0
        if self._lost is not None:
            self._lost = None
            self._log.log(log_lines.WISHES_BACK)

    def _log_loss(self, why: str) -> None:
        if why != self._lost:
            self._lost = why
            self._log.log(log_lines.WISHES_LOST, message=why)

    def _wished(self, token: str, due_at: datetime) -> None:
        """Renew `token` as soon as it is due. A later date isn't a wish for an early renewal."""
        ahead = due_at - self._clock.now()
        if ahead <= timedelta(0):
            self._renew([token])
        elif ahead <= AHEAD and self._ahead < MOST_AHEAD:
            self._ahead += 1
            wait = ahead + MILLISECOND
            asyncio.get_running_loop().call_later(wait.total_seconds(), self._now_due, token)

    def _now_due(self, token: str) -> None:
        self._ahead -= 1
        self._renew([token])
