"""refreshd's own MongoDB lives as long as the daemon."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from daemon.adapters.mongo.embedded_mongod import EmbeddedMongod, MongodFailed
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog


async def revive(
    mongod: EmbeddedMongod, *, log: EventLog, failed: Callable[[str, Exception], None], every: timedelta
) -> None:
    """Restart the embedded MongoDB whenever it ends, until cancelled. `every`: the pause between two attempts. `failed`
    receives unexpected errors.
    """
    while True:
        try:
            await mongod.wait()
            log.log(log_lines.MONGOD_DIED)
            await mongod.start()
        except MongodFailed as why:
            log.log(log_lines.MONGOD_FAILED, message=str(why))
        except Exception as error:  # noqa: BLE001  the next attempt may fare better
            failed("mongod", error)
        else:
            continue
        await asyncio.sleep(every.total_seconds())
