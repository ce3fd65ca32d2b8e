"""The process of `refreshd serve`: its failures to start become sentences and exit codes."""

import asyncio
import os
import sys

from daemon.adapters.mongo.connection import StoreUriInvalid
from daemon.adapters.telemetry.event_log import Format, configure, is_json
from daemon.commands.support.collector import collect_seldom
from daemon.commands.support.failure import Exit
from daemon.commands.support.options import Options
from daemon.commands.support.start_failure import report
from daemon.runtime.access import AccessService, SslInvalid
from daemon.runtime.config.access import AccessSettings, load_access
from daemon.runtime.config.settings import SettingsInvalid
from daemon.runtime.service_manager import ServiceManager
from daemon.runtime.web.server import PortTaken


def serve_until_signal(options: Options) -> int:
    """Serve until a signal. Returns the exit code."""
    format_: Format = "auto"
    try:
        settings = load_access(options.config, os.environ, options.env_file)
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


async def _serve(settings: AccessSettings) -> int:
    collect_seldom()
    log = configure(format=settings.log.format.value, level=settings.log.level.value)
    return await AccessService(settings, log=log, manager=ServiceManager(os.environ)).run()


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
