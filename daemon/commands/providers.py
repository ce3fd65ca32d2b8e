"""`refreshd providers`: what is known of each provider, which of them are configured, and how to configure one."""

import os
from collections.abc import Collection, Mapping
from dataclasses import fields
from datetime import timedelta

from daemon.commands.access import known_providers, read_settings, unknown_provider
from daemon.commands.failure import Exit
from daemon.commands.options import Options
from daemon.commands.output import Column, Output, span
from daemon.domain.provider import ClientAuth, Definition, Provider, Rotation
from daemon.runtime.definitions import shipped
from daemon.runtime.settings import config_path

_COLUMNS = (
    Column("Name", width=20),
    Column("Configured", width=10),
    Column("Refresh token", width=24),
    Column("Provider", ratio=1),
)
_ROTATION = {
    Rotation.NEVER: "never replaced",
    Rotation.SOMETIMES: "replaced if one comes",
    Rotation.ALWAYS: "replaced each time",
}
_SIGNS = ("rejected", "misconfigured", "unavailable")  # of use to the daemon only


def providers(options: Options, *, name: str | None) -> int:
    """The definitions shipped and configured, or all that is known of one."""
    configured = _configured(options)
    output = Output(as_json=options.json)
    found = known_providers(configured)
    if name is not None:
        if name not in found:
            raise unknown_provider(name, configured)
        _explain(output, found[name], configured)
    elif output.as_json:
        for definition in found.values():
            output.record(_record(definition, configured))
    else:
        output.table(_COLUMNS, [_row(definition, configured) for definition in found.values()])
    return Exit.DONE


def _configured(options: Options) -> Mapping[str, Provider]:
    """None before there is a configuration: this command helps to write one."""
    named = options.config or options.env_file or os.environ.get("REFRESHD_CONFIG")
    if not named and not config_path(None, os.environ).exists():
        return {}
    return read_settings(options).providers


def to_configure(definition: Definition) -> str:
    """What the configuration needs for this provider, in TOML."""
    lines = [f"[providers.{definition.name}]", 'client_id = "..."']
    if definition.client_auth is not ClientAuth.NONE:
        variable = definition.name.upper().replace("-", "_")
        lines.append(f'client_secret = {{ env = "{variable}_CLIENT_SECRET" }}')
    return "\n".join(lines)


def _row(definition: Definition, configured: Collection[str]) -> list[str]:
    answer = "yes" if definition.name in configured else "no"
    return [definition.name, answer, _ROTATION[definition.rotation], definition.title]


def _record(definition: Definition, configured: Collection[str]) -> dict[str, object]:
    """The definition's keys as they would stand in its file; durations in seconds."""
    known = {
        field.name: getattr(definition, field.name)
        for field in fields(definition)
        if field.name not in (*_SIGNS, "variables", "as_of")
    }
    return {
        **known,
        "as_of": definition.as_of and definition.as_of.isoformat(),
        "variables": {
            name: {"pattern": variable.pattern.pattern, "default": variable.default}
            for name, variable in definition.variables.items()
        },
        "shipped": definition.name in shipped(),
        "configured": definition.name in configured,
    }


def _explain(output: Output, known: Definition, configured: Collection[str]) -> None:
    if output.as_json:
        output.record(_record(known, configured))
        return
    variables = ", ".join(
        f"{name} (default {variable.default})" if variable.default else name
        for name, variable in known.variables.items()
    )
    rows = [
        ("Provider", f"{known.title} ({known.name})"),
        ("Configured", "yes" if known.name in configured else "no"),
        ("Token URL", known.token_url),
        ("Variables", variables),
        ("Client proves itself by", known.client_auth.value),
        ("Access token lives", _span(known.access_lifetime)),
        ("Refresh token", _ROTATION[known.rotation]),
        ("A spent one still works", f"for {_span(known.grace)}" if known.grace else "not at all"),
        ("It dies when unused for", _span(known.refresh_idle)),
        ("It lives at most", _span(known.refresh_lifetime)),
        ("Kept of each reply", ", ".join(known.keep)),
        ("Known from", known.docs + (f" ({known.as_of})" if known.as_of else "")),
        *(("Note", note) for note in known.notes),
    ]
    output.pairs((title, value) for title, value in rows if value)
    if known.name not in configured:
        output.note(f"\nTo configure it:\n\n{to_configure(known)}")


def _span(length: timedelta | None) -> str:
    return span(length) if length else ""
