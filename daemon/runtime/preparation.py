"""The first contact with MongoDB: its kind, its indexes, and whether the tokens are where the configuration says."""

from contextlib import suppress

from daemon.adapters.mongo.admin.preflight import CHOOSE_DATABASE, harmful_indexes, tokens_elsewhere
from daemon.adapters.mongo.connection import Mongo, Refusal
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.claim import StoreLost


async def prepare(mongo: Mongo, log: EventLog) -> None:
    """Prepare the store for work, and log what an operator should change. Raises StoreLost."""
    if await mongo.prepare():
        log.log(
            log_lines.STORE_STANDALONE,
            message="this MongoDB is not a replica set: no failover and no retryable writes",
        )
    await _find_the_tokens(mongo, log)
    with suppress(Refusal):  # without the right to look; `check` names it
        for harm in await harmful_indexes(mongo):
            log.log(log_lines.STORE_INDEX_HARMFUL, message=harm.why, do=f"drop the index {harm.name!r}")


async def _find_the_tokens(mongo: Mongo, log: EventLog) -> None:
    """Raise StoreLost if the tokens are in another database than the one in the URI's path."""
    before, mongo.misplaced = mongo.misplaced, await tokens_elsewhere(mongo)
    if mongo.misplaced is not None:
        if before is None:
            log.log(log_lines.STORE_MISPLACED, message=mongo.misplaced, do=CHOOSE_DATABASE)
        raise StoreLost(mongo.misplaced)
