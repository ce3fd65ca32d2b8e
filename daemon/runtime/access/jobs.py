"""What the access service does beside requests: reach MongoDB, keep its clock, report itself, store what was counted."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from daemon import __version__
from daemon.adapters.mongo.connection import Mongo, Refusal
from daemon.adapters.mongo.instances import InstanceRow, report_instance
from daemon.adapters.mongo.key_proof import wrong_keys
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.claim import StoreLost
from daemon.domain.waiting_events import EventRefused
from daemon.runtime.clock import Clock
from daemon.runtime.config.access import AccessSettings

HELLO_EVERY = timedelta(seconds=15)  # keeps the store's clock exact
REPORT_EVERY = timedelta(minutes=1)
STORE_USES_EVERY = timedelta(seconds=10)
PREPARE_AGAIN = timedelta(seconds=1)


class AccessJobs:
    """Each job runs until it is cancelled. `stored`: names of what is stored every few seconds, and how. `on_prepared`:
    called when MongoDB was reached for the first time. `failed` receives unexpected errors.
    """

    def __init__(
        self,
        mongo: Mongo,
        settings: AccessSettings,
        *,
        clock: Clock,
        instance: str,
        stored: Sequence[tuple[str, Callable[[], Awaitable[None]]]],
        on_prepared: Callable[[], None],
        failed: Callable[[str, Exception], None],
        log: EventLog,
    ) -> None:
        self.prepared = False
        self.wrong: list[str] = []  # why keys are not those of this store
        self._mongo = mongo
        self._settings = settings
        self._clock = clock
        self._instance = instance
        self._stored = stored
        self._on_prepared = on_prepared
        self._failed = failed
        self._log = log
        self._refused_events = False
        self._started: datetime | None = None

    async def prepare(self) -> None:
        """Reach MongoDB for the first time, however long it takes."""
        while not self.prepared:
            with suppress(StoreLost):
                await self._mongo.adapt()
                self._on_prepared()
                self.wrong = await wrong_keys(self._mongo, self._settings.keys)
                if self.wrong:
                    self._log.log(log_lines.KEYS_WRONG, message="; ".join(self.wrong))
                self.prepared = True
                return
            await asyncio.sleep(PREPARE_AGAIN.total_seconds())

    async def say_hello(self) -> None:
        """Keep the store's clock exact, and notice that MongoDB is back without a request."""
        while True:
            await asyncio.sleep(
                HELLO_EVERY.total_seconds() if self._mongo.up else PREPARE_AGAIN.total_seconds()
            )
            if self.prepared:
                with suppress(StoreLost):
                    await self._mongo.hello()

    async def report(self) -> None:
        """Write this instance's row for other processes, and check its keys again."""
        while True:
            if self.prepared:
                with suppress(StoreLost, Refusal):
                    wrong = await wrong_keys(self._mongo, self._settings.keys)
                    if wrong != self.wrong:
                        line = log_lines.KEYS_WRONG if wrong else log_lines.KEYS_RIGHT
                        self._log.log(line, message="; ".join(wrong))
                    self.wrong = wrong
                    await report_instance(self._mongo, self._row())
            await asyncio.sleep((REPORT_EVERY if self.prepared else PREPARE_AGAIN).total_seconds())

    async def store_uses(self) -> None:
        """Store what was counted, every few seconds."""
        while True:
            await asyncio.sleep(STORE_USES_EVERY.total_seconds())
            for where, store in self._stored:
                try:
                    await store()
                except EventRefused as why:
                    if not self._refused_events:
                        self._log.log(log_lines.EVENTS_REFUSED, message=str(why))
                    self._refused_events = True
                except StoreLost:
                    pass  # it has reported itself, and the counts are still there
                except Exception as error:  # noqa: BLE001  the next time must come
                    self._failed(where, error)

    def _row(self) -> InstanceRow:
        if self._started is None:
            self._started = self._clock.now()
        keys = self._settings.keys
        return InstanceRow(
            id=self._instance,
            kind="serve",
            host=socket.gethostname(),
            version=__version__,
            started_at=self._started,
            keys=dict.fromkeys(keys.reader_ids, (0, 0)),
            sealing=[key_id for key_id in (keys.reader, keys.writer) if key_id is not None],
            writer_key_ids=tuple(keys.writer_ids),
        )
