"""`refreshd check`: everything that the daemon will rely on, tried now. It shows every trial with its outcome."""

import asyncio
from datetime import UTC, datetime

import typer

from daemon.commands.checks.keys import check_ages, check_ring
from daemon.commands.checks.machine import check_state
from daemon.commands.checks.mirrors import check_mirrors
from daemon.commands.checks.providers import check_providers, check_token_urls
from daemon.commands.checks.report import Report, show
from daemon.commands.checks.secrets import check_secrets
from daemon.commands.checks.store import check_store
from daemon.commands.support.access import read_settings
from daemon.commands.support.command import Command
from daemon.commands.support.options import given
from daemon.commands.support.output import Output
from daemon.runtime.config.problems import SettingsInvalid

app = typer.Typer()


@app.command(cls=Command, epilog="refreshd check --config /etc/refreshd/config.toml")
def check(ctx: typer.Context) -> int:
    """Check the configuration, keys, providers, MongoDB, journal and duplicate tokens.

    Prints the outcome of every check. No token is sent to a provider. The exit code is 0 if no problem was found.
    """
    options, report = given(ctx), Report()
    try:
        settings = read_settings(options)
    except SettingsInvalid as invalid:
        report.invalid(invalid.problems)
    else:
        report.passed("configuration", f"{settings.source} is valid")
        check_ring(settings, report)
        check_ages(settings, report, datetime.now(UTC))
        check_secrets(settings, report)
        check_providers(settings, report)
        check_token_urls(settings, report)
        check_state(settings, report)
        asyncio.run(check_store(settings, report))
        asyncio.run(check_mirrors(settings, report))
    show(Output(as_json=options.json), report)
    return report.code
