"""The instance's row in the store, kept up to date while the daemon runs."""

import socket
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from datetime import datetime

from daemon import __version__
from daemon.adapters.journal.journal import SqliteJournal
from daemon.adapters.mongo.connection import Mongo, Refusal
from daemon.adapters.mongo.instances import (
    InstanceRow,
    SeenService,
    forget_silent_instances,
    report_instance,
    seen_services,
)
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.runtime.parts import Keys
from daemon.runtime.state.instance import Instance


class OwnRow:
    """Writes the row. A refusal by MongoDB is logged once, and renewals work without the row."""

    def __init__(
        self, mongo: Mongo, keys: Keys, journal: SqliteJournal, instance: Instance, log: EventLog
    ) -> None:
        self._mongo = mongo
        self._journal = journal
        self._keys = keys
        self._instance = instance
        self._log = log
        self._begun = mongo.clock.boot()
        self._started: datetime | None = None  # by MongoDB's clock
        self._indexed = False
        self._refused = False
        self.services: Sequence[SeenService] = ()  # as of the last write

    async def write(self) -> None:
        """Write the row with the current state. Raises StoreLost."""
        if not self._indexed:
            self._indexed = await self._allowed(
                "the index that expires old rows", forget_silent_instances(self._mongo)
            )
        row = InstanceRow(
            id=self._instance.id,
            kind="run",
            host=socket.gethostname(),
            version=__version__,
            started_at=self._started_at(),
            writer_key_ids=tuple(self._keys.ring.writers),
            sealing=set(self._keys.ring.ids) - self._keys.ring.only_open,
            keys=dict.fromkeys(self._keys.ring.ids, (0, 0)) | dict(self._journal.sealed_with),
        )
        await self._allowed("this instance's row", report_instance(self._mongo, row))
        with suppress(Refusal):  # a login that may not look writes no row either
            self.services = await seen_services(self._mongo)

    def _started_at(self) -> datetime:
        if self._started is None:
            clock = self._mongo.clock
            self._started = clock.now() - (clock.boot() - self._begun)
        return self._started

    async def _allowed(self, what: str, work: Awaitable[None]) -> bool:
        """Return whether MongoDB did the work."""
        try:
            await work
        except Refusal as why:
            if not self._refused:
                self._refused = True
                self._log.log(
                    log_lines.STORE_REFUSED,
                    message=f"can't store {what}: {why}",
                )
            return False
        return True
