"""What an operator reads about a configuration that was taken over: where its secrets are from, and which URLs changed."""

from collections.abc import Sequence

from daemon.adapters.mongo.audit import Audit
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.claim import StoreLost
from daemon.runtime.config.reload import Moved
from daemon.runtime.config.settings import Settings


def log_secrets(settings: Settings, log: EventLog) -> None:
    """Log which source gave each secret, and which gave none."""
    for one in settings.answered:
        if one.kept is None:
            log.log(log_lines.SECRET_ANSWERED, place=one.secret, source=one.source)
        else:
            log.log(log_lines.SECRET_KEPT, place=one.secret, source=one.source, message=one.kept)
    for waiting in settings.lacking:
        log.log(log_lines.SECRET_AWAY, place=waiting.where, source=waiting.source, message=waiting.why)


async def note_moved(changes: Sequence[Moved], audit: Audit, log: EventLog) -> None:
    """Log and audit the new URLs of tokens, client secrets and owners. Without MongoDB there is no audit record,
    but no reload waits.
    """
    for moved in changes:
        urls = {moved.key: moved.now, f"former_{moved.key}": moved.former}
        log.log(log_lines.PROVIDER_MOVED, provider=moved.provider, **urls)
        change = f"{moved.key} changed from {moved.former or 'none'} to {moved.now or 'none'}"
        try:
            await audit.note("reload", moved.provider, result=change)
        except StoreLost:
            log.log(log_lines.AUDIT_LOST, provider=moved.provider, result=change)
