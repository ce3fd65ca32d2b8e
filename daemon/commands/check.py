"""`refreshd check`: everything that the daemon will rely on, tried now. It shows every trial with its outcome."""

import asyncio
import os
from datetime import UTC, datetime

import typer

from daemon.commands.checks.access import check_access, check_service
from daemon.commands.checks.definitions import check_definitions
from daemon.commands.checks.hooks import check_hooks
from daemon.commands.checks.keys import check_ages, check_ring
from daemon.commands.checks.machine import check_state
from daemon.commands.checks.mirrors import check_mirrors
from daemon.commands.checks.providers import (
    check_providers,
    check_retirements,
    check_scopes,
    check_token_urls,
)
from daemon.commands.checks.report import Report, show
from daemon.commands.checks.secrets import check_secrets, check_sources, report_waiting
from daemon.commands.checks.store import check_store
from daemon.commands.support.command import Command
from daemon.commands.support.options import Options, given
from daemon.commands.support.output import Output
from daemon.runtime.config.access_outline import AccessOutline, outline_access
from daemon.runtime.config.problems import SecretsAway, SettingsInvalid
from daemon.runtime.config.settings import load
from daemon.runtime.confinement import confine

app = typer.Typer()


@app.command(cls=Command, epilog="refreshd check --config /etc/refreshd/config.toml")
def check(ctx: typer.Context) -> int:
    """Check the configuration, keys, providers, MongoDB, journal, duplicate tokens and the access service.

    With a configuration that has reader keys and no key ring, it checks what `refreshd serve` relies on instead. Prints the outcome of every check. No token is sent to a provider. The exit code is 0 if no problem was found.
    """
    options, report = given(ctx), Report()
    outline = outline_access(options.config, os.environ, options.env_file)
    if outline is not None and outline.alone:
        asyncio.run(check_service(options, outline, report))
    else:
        _check_daemon(options, outline, report)
    show(Output(as_json=options.json), report)
    return report.code


def _check_daemon(options: Options, outline: AccessOutline | None, report: Report) -> None:
    try:
        confine()
        settings = load(options.config, os.environ, options.env_file)
    except SettingsInvalid as invalid:
        report.invalid(invalid.problems)
    except SecretsAway as away:
        report_waiting(away.waiting, report)
    else:
        report.passed("configuration", f"{settings.source} is valid")
        check_sources(settings, report)
        check_ring(settings, report)
        check_ages(settings, report, datetime.now(UTC))
        check_secrets(settings, report)
        check_providers(settings, report)
        check_scopes(settings, report)
        check_definitions(settings.providers.values(), report)
        check_retirements(settings.providers.values(), report, datetime.now(UTC).date())
        check_token_urls(settings, report)
        check_state(settings, report)
        asyncio.run(check_store(settings, report, access_keys=outline is not None))
        asyncio.run(check_mirrors(settings, report))
        check_hooks(settings, report)
    if outline is not None:
        check_access(outline, report)
