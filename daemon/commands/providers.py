"""`refreshd providers`: the facts about each provider, which of them are configured, and how to configure one."""

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated

import typer

from daemon.commands.support.access import known_providers, read_settings, unknown_provider
from daemon.commands.support.arguments import provider_names
from daemon.commands.support.command import Command
from daemon.commands.support.definition_rows import (
    consent_rows,
    has_base,
    life_rows,
    meaning_rows,
    request_rows,
    revocation_rows,
    sureness,
)
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.loopback import redirect_uri
from daemon.commands.support.options import Options, given
from daemon.commands.support.output import Output, span
from daemon.commands.support.provider_listing import Consent, Kind, Wanted, table, terminal_width
from daemon.domain.provider import (
    SECRET_AUTHS,
    ClientAuth,
    Definition,
    Grant,
    Provider,
)
from daemon.domain.revocation import Revocation
from daemon.runtime.config.providers.definitions import shipped
from daemon.runtime.config.settings import Settings, config_path

_OF_REVOKE = ("success", "unknown")
_SIGNS = ("rejected", "misconfigured", "unavailable", "success")  # of use to the daemon only
app = typer.Typer()


@app.command(cls=Command, epilog="refreshd providers microsoft")
def providers(
    ctx: typer.Context,
    *,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", autocompletion=provider_names, help="The provider to explain."),
    ] = None,
    search: Annotated[
        str,
        typer.Option(metavar="TEXT", help="List only providers whose name, title or host has these words."),
    ] = "",
    verified: Annotated[
        bool | None,
        typer.Option("--verified/--experimental", help="List only providers with this confidence."),
    ] = None,
    only_configured: Annotated[
        bool, typer.Option("--configured", help="List only providers that you have configured.")
    ] = False,
    kind: Annotated[
        Kind | None,
        typer.Option(help="List only providers whose tokens are renewed in this way."),
    ] = None,
    consent: Annotated[
        Consent | None, typer.Option(help="List only providers whose owners can consent in this way.")
    ] = None,
) -> int:
    """List the shipped and configured providers, or explain one."""
    options = given(ctx)
    settings = _settings(options)
    configured = settings.providers if settings is not None else {}
    output = Output(as_json=options.json)
    found = known_providers(settings)
    wanted = Wanted(search=search, verified=verified, configured=only_configured, kind=kind, consent=consent)
    if name is not None:
        if not wanted.is_all:
            raise Failed("NAME explains one provider, so it can't be combined with a filter", Exit.USAGE)
        if name not in found:
            raise unknown_provider(name, settings)
        _explain(output, found[name], configured)
    else:
        _list(output, found, configured, wanted)
    return Exit.DONE


def _list(
    output: Output, known: Mapping[str, Definition], configured: Mapping[str, Provider], wanted: Wanted
) -> None:
    found = [definition for definition in known.values() if wanted.includes(definition, configured)]
    if output.as_json:
        for definition in found:
            output.record(_record(definition, configured))
        return
    if found:
        output.table(*table(found, configured, width=terminal_width()))
    ready = sum(definition.name in configured for definition in found)
    number = f"{len(found)} providers" if wanted.is_all else f"{len(found)} of {len(known)} providers"
    output.note(f"{number}, {ready} configured. `refreshd providers NAME` explains one.")


def _settings(options: Options) -> Settings | None:
    """None before there is a configuration: this command helps to write one."""
    named = options.config or options.env_file or os.environ.get("REFRESHD_CONFIG")
    found = config_path(None, os.environ)
    if not named and found is not None and not found.exists():
        return None
    return read_settings(options, uses=())


def to_configure(definition: Definition) -> str:
    """What the configuration needs for this provider, in TOML."""
    lines = [f"[providers.{definition.name}]"]
    if definition.grant is Grant.NONE:
        return lines[0]
    signed = definition.grant is Grant.JWT_BEARER or definition.client_auth is ClientAuth.BEARER_JWT
    unnamed = definition.client_auth is ClientAuth.OMITTED
    if unnamed and not signed and not definition.authorize_url:
        return lines[0]
    if definition.client_auth is not ClientAuth.SECRET_AS_USER:
        lines.append('client_id = "..."')
    if signed or definition.client_auth is ClientAuth.PRIVATE_KEY_JWT:
        lines.append('client_key = { file = "..." }')
    secret_less = (ClientAuth.PRIVATE_KEY_JWT, ClientAuth.BEARER_JWT, ClientAuth.NONE)
    renews_with_it = definition.client_auth not in secret_less and not (signed and unnamed)
    if renews_with_it or definition.exchange_auth in SECRET_AUTHS:
        variable = definition.name.upper().replace("-", "_")
        lines.append(f'client_secret = {{ env = "{variable}_CLIENT_SECRET" }}')
    if has_base(definition) and not definition.domains:
        lines.append('allowed_hosts = ["..."]')
    if definition.assertion is not None and definition.assertion.chooses_subject:
        lines.append("subjects = ['...']")
    return "\n".join(lines)


def _record(definition: Definition, configured: Mapping[str, Provider]) -> dict[str, object]:
    """The definition's keys as they would stand in its file; durations in seconds."""
    values = {
        field.name: getattr(definition, field.name)
        for field in fields(definition)
        if field.name not in (*_SIGNS, "variables", "as_of", "retires", "reply", "rates", "revoke")
    }
    rates = [f"{rate.count}/{span(rate.per)}" for rate in definition.rates]
    return {
        **values,
        "revoke": definition.revoke and _revocation_record(definition.revoke),
        "redirect_uri": redirect_uri() if definition.authorize_url else None,
        "as_of": definition.as_of and definition.as_of.isoformat(),
        "retires": definition.retires and definition.retires.isoformat(),
        "rate": rates[0] if len(rates) == 1 else rates or None,
        "grants": sorted(definition.grants),
        "variables": {
            name: {"kind": variable.kind, "pattern": variable.pattern.pattern, "default": variable.default}
            for name, variable in definition.variables.items()
        },
        "shipped": definition.name in shipped(),
        "configured": definition.name in configured,
        "like": _like(definition.name, configured),
    }


def _revocation_record(revoke: Revocation) -> dict[str, object]:
    return {
        field.name: getattr(revoke, field.name) for field in fields(revoke) if field.name not in _OF_REVOKE
    }


def _like(name: str, configured: Mapping[str, Provider]) -> str | None:
    """The provider whose definition it has, by the configuration."""
    return configured[name].like if name in configured else None


def _explain(output: Output, definition: Definition, configured: Mapping[str, Provider]) -> None:
    if output.as_json:
        output.record(_record(definition, configured))
        return
    rows = [
        ("Provider", f"{definition.title} ({definition.name})"),
        ("Configured", "yes" if definition.name in configured else "no"),
        ("Confidence", sureness(definition)),
        ("Based on", _like(definition.name, configured) or ""),
        ("Source", definition.docs + (f" ({definition.as_of})" if definition.as_of else "")),
        *request_rows(definition),
        *life_rows(definition),
        *meaning_rows(definition),
        *consent_rows(definition),
        *revocation_rows(definition),
        *(("Note", note) for note in definition.notes),
    ]
    output.pairs((title, value) for title, value in rows if value)
    if definition.name not in configured:
        output.note("", "To configure it:", "", *to_configure(definition).splitlines())
