"""Warn of secrets that look like placeholders, or like a reference that was copied instead of a value."""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote, urlsplit

from daemon.commands.checks.report import Report
from daemon.commands.support.failure import Exit
from daemon.domain.provider import Provider
from daemon.domain.secret import Secret
from daemon.runtime.config.problems import Waiting
from daemon.runtime.config.settings import Settings

_EXAMPLE_IDS = ("...", "YOUR-CLIENT-ID")
# A reference to a secret store that was taken for the secret itself.
_REFERENCE = re.compile(
    r"(arn:|vault:|op://|ssm:|awssm:|sm://|gsm:|secretsmanager:|akv:|ref\+|projects/[^/]+/secrets/"
    r"|https://[a-z0-9.-]*vault\.).*",
    re.IGNORECASE | re.DOTALL,
)
# What stands in examples and templates.
_TEMPLATE = re.compile(
    r"(change|replace|fill)[-_ ]?(me|this|it)?([-_ ]?in)?!*|x{3,}|\*{3,}|\.{3,}|-{3,}|_{3,}|to[-_ ]?do|tbd|fixme|placeholder|dummy"
    r"|(my|your|the|example|sample)?[-_ ]?(client[-_ ]?)?(secret|password|passwd|token|id)([-_ ]?(here|goes[-_ ]?here))?"
    r"|your[-_ ].*|example[-_.].*|.*[-_]here|insert[-_ ].*|<.*>|\$\{.*\}|\$[A-Z_]+|\{\{.*\}\}|%\(.*\)s",
    re.IGNORECASE | re.DOTALL,
)


def check_sources(settings: Settings, report: Report) -> None:
    """Show which source gave each secret, for lists and sources outside this machine; and which gave none."""
    for one in settings.answered:
        report.passed(one.secret, f"{one.source} has given the secret")
    report_waiting(settings.lacking, report)


def report_waiting(waiting: Iterable[Waiting], report: Report) -> None:
    for one in waiting:
        code = Exit.UNAVAILABLE if one.kind == "away" else Exit.CONFIG
        report.problem(one.where, one.what, one.do, code=code)


def check_secrets(settings: Settings, report: Report) -> None:
    """Warn of placeholders; no message quotes one. An example's client id is a problem."""
    for provider in settings.providers.values():
        if provider.client_id in _EXAMPLE_IDS:
            report.problem(
                f"providers.{provider.name}.client_id",
                "it is a placeholder from an example",
                "Write the client id that the provider gave to your app.",
                code=Exit.CONFIG,
            )
    for loose in settings.loose:
        report.warn(loose.where, loose.what, loose.do)
    for where, value in _secrets(settings):
        if (what := _doubt(value)) is not None:
            report.warn(where, what, "Write the secret itself, or its source: docs/secrets.md.")


def _doubt(value: str) -> str | None:
    bare = value.strip().strip("\"'")
    if _REFERENCE.fullmatch(bare):
        return "it looks like a reference to a secret store, and is sent as it is"
    if _TEMPLATE.fullmatch(bare):
        return "it looks like a placeholder"
    if value != value.strip() or value.startswith("\ufeff"):
        return "it begins or ends with a blank, a line end or a byte order mark, which is sent with it"
    return None


def _secrets(settings: Settings) -> Iterator[tuple[str, str]]:
    for name, provider in settings.providers.items():
        yield from _client(f"providers.{name}", provider)
    if settings.server.bearer_token is not None:
        yield "server.bearer_token", settings.server.bearer_token.reveal()
    urls = (("store.uri", settings.store.uri), ("refresh.proxy", settings.refresh.proxy))
    for where, url in urls:
        if isinstance(url, Secret) and (password := _password(url)):
            yield where, password


def _client(where: str, provider: Provider) -> Iterator[tuple[str, str]]:
    if provider.client_id not in _EXAMPLE_IDS:
        yield f"{where}.client_id", provider.client_id
    if provider.client_secret is not None:
        yield f"{where}.client_secret", provider.client_secret.reveal()


def _password(url: Secret) -> str:
    """Of the URL's user; empty if there is none, or if no parser finds it."""
    try:
        return unquote(urlsplit(url.reveal()).password or "")
    except ValueError:
        return ""
