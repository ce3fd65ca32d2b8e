"""The process of `refreshd serve`: its failures to start become sentences and exit codes."""

import asyncio
import os
import sys

from daemon.adapters.mongo.connection import StoreUriInvalid
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog, Format, configure, is_json
from daemon.commands.support.collector import collect_seldom
from daemon.commands.support.failure import Exit
from daemon.commands.support.options import Options
from daemon.commands.support.start_failure import report
from daemon.runtime.access.life import STOP_AFTER, AccessService
from daemon.runtime.access.tls import SslInvalid
from daemon.runtime.awaiting_secrets import wait_without_listener
from daemon.runtime.config.access import AccessSettings, load_access
from daemon.runtime.config.problems import SecretsAway
from daemon.runtime.config.secret_reading import SecretReader
from daemon.runtime.config.settings import SettingsInvalid
from daemon.runtime.service_manager import ServiceManager
from daemon.runtime.stop_limit import StopLimit
from daemon.runtime.web.server import PortTaken


def serve_until_signal(options: Options) -> int:
    """Serve until a signal. Returns the exit code."""
    format_: Format = "auto"
    try:
        settings = _settings(options)
        if settings is None:
            return Exit.DONE
        format_ = settings.log.format.value
        return asyncio.run(_serve(settings))
    except (SettingsInvalid, StoreUriInvalid, SslInvalid, PortTaken, OSError) as why:
        code, sentence = _explained(why)
        format_ = why.log_format if isinstance(why, SettingsInvalid) else format_
        sentences = (
            [str(problem) for problem in why.problems] if isinstance(why, SettingsInvalid) else [sentence]
        )
        report(why, code, sentences, as_json=options.json or is_json(format_, sys.stdout))
        return code


def _settings(options: Options) -> AccessSettings | None:
    """The settings as soon as their secrets have come. None: a signal ended the wait."""
    reader = SecretReader()

    def read() -> AccessSettings:
        return load_access(options.config, os.environ, options.env_file, reader=reader)

    try:
        return read()
    except SecretsAway as away:
        log = configure(format=away.log.format.value, level=away.log.level.value)
        manager = ServiceManager(os.environ)
        return asyncio.run(wait_without_listener(away, read, log=log, manager=manager, limit=_limit(log)))


async def _serve(settings: AccessSettings) -> int:
    collect_seldom()
    log = configure(format=settings.log.format.value, level=settings.log.level.value)
    for one in settings.answered:
        log.log(log_lines.SECRET_ANSWERED, place=one.secret, source=one.source)
    manager = ServiceManager(os.environ)
    return await AccessService(settings, log=log, manager=manager, limit=_limit(log)).run()


def _limit(log: EventLog) -> StopLimit:
    return StopLimit(STOP_AFTER, lambda running: log.log(log_lines.ACCESS_CUT_OFF, running=running))


def _explained(why: Exception) -> tuple[Exit, str]:
    match why:
        case PortTaken():
            return Exit.HELD, f"access.port: {why}. Stop that process, or choose another access.port"
        case OSError():
            return (
                Exit.CONFIG,
                f"access.host: refreshd can't listen on it ({why.strerror or why}). Choose another address",
            )
        case _:
            return Exit.CONFIG, str(why)
