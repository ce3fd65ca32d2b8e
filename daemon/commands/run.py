"""`refreshd run`: the daemon itself. Here its failures to start become sentences and exit codes."""

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import timedelta

import typer

from daemon import __version__
from daemon.adapters.journal.journal import JournalDamaged, JournalFull
from daemon.adapters.mongo.connection import StoreUriInvalid
from daemon.adapters.mongo.embedded_mongod import MongodFailed, MongodMissing
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog, Format, configure, is_json
from daemon.commands.support.collector import collect_seldom
from daemon.commands.support.command import Command
from daemon.commands.support.failure import Exit, unexpected
from daemon.commands.support.options import Options, given
from daemon.commands.support.start_failure import report
from daemon.commands.support.terminal import say
from daemon.runtime.awaiting_secrets import wait_for_secrets
from daemon.runtime.config.layouts import shipped_layouts
from daemon.runtime.config.problems import SecretsAway
from daemon.runtime.config.providers.shipped_tables import shipped_tables
from daemon.runtime.config.secret_reading import SecretReader
from daemon.runtime.config.settings import Settings, SettingsInvalid, load
from daemon.runtime.confinement import confine
from daemon.runtime.daemon import Daemon
from daemon.runtime.service_manager import ServiceManager
from daemon.runtime.state.filesystem import caution
from daemon.runtime.state.instance import StateHeld, StateUnusable, take
from daemon.runtime.stop_limit import GRACE, StopLimit
from daemon.runtime.web.server import PortTaken

_EXPECTED = (
    SettingsInvalid,
    JournalFull,
    StateUnusable,
    StoreUriInvalid,
    JournalDamaged,
    MongodMissing,
    StateHeld,
    PortTaken,
    OSError,
    MongodFailed,
)


app = typer.Typer()


@app.command(cls=Command, epilog="refreshd run --config /etc/refreshd/config.toml")
def run(ctx: typer.Context) -> int:
    """Run the daemon until SIGTERM or Ctrl-C.

    It finishes the requests in flight first. A second signal ends it without waiting for them.

    The log goes to standard output, in the format of log.format. --json applies to errors at start only.
    """
    options = given(ctx)
    as_json = options.json
    confine()

    reader = SecretReader()

    def read() -> Settings:
        return load(options.config, os.environ, options.env_file, reader=reader)

    format_: Format = "auto"
    try:
        settings = _settings(read, reader)
        if settings is None:
            return Exit.DONE
        format_ = settings.log.format.value
        _read_shipped_files()
        return _run(settings, read, reader, options)
    except _EXPECTED as why:
        code, sentences = _explained(why)
        format_ = why.log_format if isinstance(why, SettingsInvalid) else format_
        report(why, code, sentences, as_json=as_json or is_json(format_, sys.stdout))
        return code
    except Exception as bug:
        if not as_json and not is_json(format_, sys.stdout):
            raise
        log = configure(format="json", level="error", stream=sys.stderr)
        log.log(log_lines.DAEMON_FAILED, what=unexpected(bug), code=int(Exit.FAILED), exc_info=bug)
        return Exit.FAILED


def _read_shipped_files() -> None:
    """Read what a reload may need. An upgrade replaces these files while the daemon runs."""
    for shipped in (shipped_tables(), shipped_layouts()):
        dict(shipped)


def _explained(why: Exception) -> tuple[Exit, list[str]]:
    """The exit code and the sentences for one of _EXPECTED."""
    match why:
        case SettingsInvalid():
            return Exit.CONFIG, [str(problem) for problem in why.problems]
        case JournalFull():
            return Exit.FAILED, [str(why)]
        case StateHeld():
            return Exit.HELD, [str(why)]
        case PortTaken():
            return Exit.HELD, [f"server.port: {why}. Stop that process, or choose another server.port"]
        case MongodFailed():
            return Exit.UNAVAILABLE, [str(why)]
        case OSError():
            reason = why.strerror or why
            do = "Choose an address of this machine"
            return Exit.CONFIG, [f"server.host: refreshd can't listen on it ({reason}). {do}"]
        case _:
            return Exit.CONFIG, [str(why)]


def _settings(read: Callable[[], Settings], reader: SecretReader) -> Settings | None:
    """The settings as soon as their secrets have come. None: a signal ended the wait."""
    try:
        return read()
    except SecretsAway as away:
        log = configure(format=away.log.format.value, level=away.log.level.value)
        waiting = wait_for_secrets(
            away,
            read,
            sources=lambda: reader.up,
            log=log,
            manager=ServiceManager(os.environ),
            limit=_limit(GRACE, log),
        )
        return asyncio.run(waiting)


def _limit(first: timedelta, log: EventLog) -> StopLimit:
    return StopLimit(first, lambda running: log.log(log_lines.DAEMON_CUT_OFF, running=running))


def _run(settings: Settings, read: Callable[[], Settings], reader: SecretReader, options: Options) -> int:
    instance = take(settings.state_dir)
    log = configure(format=settings.log.format.value, level=settings.log.level.value)
    if options.json and not is_json(settings.log.format.value, sys.stdout):
        say('refreshd run: --json has no effect on the log. Set log.format = "json" in the configuration')
    if instance.filesystem is not None and (why := caution(instance.filesystem)) is not None:
        log.log(
            log_lines.STATE_VOLATILE,
            message=f"state.dir is on {instance.filesystem}: {why}",
        )
    if instance.former_mode is not None:
        log.log(
            log_lines.STATE_CLOSED,
            message=f"state.dir had mode {instance.former_mode:04o} and has 0700 now",
        )
    if settings.caution is not None:
        log.log(
            log_lines.STORE_OUTDATED,
            message=settings.caution,
        )
    daemon = Daemon(
        settings,
        instance=instance,
        log=log,
        manager=ServiceManager(os.environ),
        reload=read,
        reader=reader,
        limit=_limit(settings.refresh.drain + GRACE, log),
        greet=_greet if sys.stdout.isatty() else lambda _url: None,
        serve=_serve_command(options),
        greet_access=_greet_access
        if sys.stdout.isatty()
        else lambda curl: log.log(log_lines.DEMO_ACCESS_READY, curl=curl),
    )
    collect_seldom()
    return asyncio.run(daemon.run())


def _serve_command(options: Options) -> list[str]:
    """Return the command that starts the access service with the same configuration."""
    given_ = {"--config": options.config, "--env-file": options.env_file}
    same = [str(word) for name, value in given_.items() if value is not None for word in (name, value)]
    return [sys.executable, "-P", "-m", "daemon", *same, "serve"]


def _greet(url: str) -> None:
    print(
        f"\n  refreshd {__version__}\n  status page  {url}/\n  metrics      {url}/metrics\n  stop with Ctrl-C\n",
        flush=True,
    )


def _greet_access(curl: str) -> None:
    print(f"\n  an access token\n  {curl}\n", flush=True)
