"""Provider definitions: the shipped ones, and those of a table or a file."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from functools import cache
from types import MappingProxyType
from typing import Any

from daemon.domain.provider import Definition, Grant, ReplyFields, Variable
from daemon.domain.token_url import BASE
from daemon.runtime.config.fields import checked
from daemon.runtime.config.problems import Findings, SettingsInvalid
from daemon.runtime.config.providers.assertion_keys import assertion_terms
from daemon.runtime.config.providers.consent_keys import revocation
from daemon.runtime.config.providers.definition_faults import faults
from daemon.runtime.config.providers.definition_table import DefinitionTable, ShapeTable, asking_nobody
from daemon.runtime.config.providers.life_keys import lives
from daemon.runtime.config.providers.shipped_tables import shipped_tables
from daemon.runtime.config.providers.sign_table import condition, error_pattern

# Long enough for a restart or a fail-over at the provider, and short enough to come before the access token's end.
UNVERIFIED_CONFIRMATION = timedelta(minutes=1)

# The keys of `[providers.NAME]` that concern the client and its users: no definition may bring them.
SECTION_KEYS = frozenset(
    {
        "like",
        "client_id",
        "client_secret",
        "client_secret_created",
        "client_key",
        "client_key_id",
        "subjects",
        "concurrency",
        "allowed_hosts",
        "allow_private",
    }
)


def definition(name: str, table: DefinitionTable) -> Definition:
    """Convert `table` into the domain's Definition."""
    values: dict[str, Any] = {field.name: getattr(table, field.name) for field in fields(DefinitionTable)}
    values["title"] = table.title or name
    values["rates"] = values.pop("rate")
    values |= lives(table)
    values["confirm_after"] = _confirmation(table)
    values["grants"] = table.grants - {table.grant}
    values["variables"] = {
        key: Variable(pattern=row.pattern or BASE, kind=row.kind, default=row.default)
        for key, row in table.variables.items()
    }
    values["reply"] = ReplyFields(
        **{field.name: getattr(table.reply, field.name) for field in fields(ShapeTable)}
    )
    for meaning in ("rejected", "misconfigured", "unavailable"):
        values[meaning] = tuple(map(error_pattern, values[meaning]))
    values["assertion"] = assertion_terms(table.assertion) if table.assertion is not None else None
    values["success"] = condition(table.success) if table.success is not None else None
    values["revoke"] = revocation(table.revoke) if table.revoke is not None else None
    return Definition(name=name, **values)


def _confirmation(table: DefinitionTable) -> timedelta | None:
    """Return the time after which a rejection must be repeated. Unverified definitions require it, unless
    they say "0s".
    """
    if table.confirm_after is not None:
        return table.confirm_after or None
    presents = table.grant in (Grant.REFRESH_TOKEN, Grant.EXCHANGE, Grant.JWT_BEARER)
    return None if table.verified or not presents else UNVERIFIED_CONFIRMATION


@cache
def shipped() -> Mapping[str, Definition]:
    """Return the shipped definitions by name. They are read on first use.

    Raises SettingsInvalid with every problem if a shipped file is invalid; a test prevents that.
    """
    found = {name: read_definition(name, table) for name, table in sorted(shipped_tables().items())}
    return MappingProxyType(found)


def read_definition(name: str, table: Mapping[str, Any], *, file: str | None = None) -> Definition:
    """Return the definition in a whole file's `table`. Raises SettingsInvalid, each problem named by
    `file`.
    """
    findings = Findings(file or f"providers/{name}.toml")
    for key in sorted(table.keys() & SECTION_KEYS):
        do = f"Write it into the section [providers.{name}] of the configuration."
        findings.add((key,), "is not part of a definition", do)
    table = {key: value for key, value in table.items() if key not in SECTION_KEYS}
    row = checked(DefinitionTable, asking_nobody(table), (), findings)
    for place, what, do in faults(row) if row is not None and not findings.problems else ():
        findings.add(place, what, do)
    if findings.problems or row is None:
        raise SettingsInvalid(findings.problems)
    return definition(name, row)
