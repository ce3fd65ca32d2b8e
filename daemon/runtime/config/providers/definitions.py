"""Definition files: the facts about a provider, read from TOML. They are refused if they could send a secret
to the wrong server.

A shipped file and `[providers.NAME]` use the same keys, so this module reads both.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from daemon.domain.provider import (
    AssertionAlgorithm,
    AssertionAudience,
    BodyFormat,
    ClientAuth,
    Definition,
    ExpiryUnit,
    Grant,
    Method,
    ReplyFields,
    Rotation,
    Variable,
    VariableKind,
)
from daemon.domain.token_response import looks_secret
from daemon.domain.token_url import BASE
from daemon.runtime.config.fields import (
    ARRAY,
    STRICT,
    Day,
    Duration,
    Flag,
    Read,
    Span,
    Text,
    checked,
    one_of,
    text,
)
from daemon.runtime.config.problems import Findings, SettingsInvalid
from daemon.runtime.config.providers.assertion_keys import (
    AssertionTable,
    assertion_faults,
    assertion_terms,
    claim_variables,
)
from daemon.runtime.config.providers.consent_keys import (
    ConsentTable,
    consent_faults,
    consent_urls,
    revocation,
)
from daemon.runtime.config.providers.life_keys import LifeTable, Rates, life_faults, lives
from daemon.runtime.config.providers.request_keys import (
    Parameters,
    echo_faults,
    header_value,
    method_faults,
    omission_faults,
    parameter_faults,
    variable_pattern,
)
from daemon.runtime.config.providers.shipped_tables import shipped_tables
from daemon.runtime.config.providers.sign_table import (
    ConditionTable,
    Signs,
    condition,
    condition_faults,
    dotted,
    error_pattern,
    sign_faults,
)
from daemon.runtime.config.providers.url_rules import Fault, url_faults, used_variables

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

_ONLY_CLAIMS = "Only the claims of an assertion know it. Write the value itself."
_DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OWN_PARAMS = frozenset(
    {
        "refresh_token",
        "access_token",
        "assertion",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
    }
)
_NAMED = frozenset({"grant_type", *_OWN_PARAMS})
_OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableTable:
    __pydantic_config__: ClassVar = STRICT

    kind: Annotated[VariableKind, Read(one_of(VariableKind))] = VariableKind.NAME
    pattern: Annotated[re.Pattern[str], Read(variable_pattern)] | None = None
    default: Text | None = None


def values_of(variables: Mapping[str, VariableTable]) -> set[str]:
    return {name for name, row in variables.items() if row.kind is VariableKind.VALUE}


def paths(value: object) -> tuple[str, ...]:
    """Read one dotted path, or several to be tried in turn."""
    return tuple(map(dotted, value)) if isinstance(value, list) and value else (dotted(value),)


Paths = Annotated[tuple[str, ...], Read(paths)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeTable:
    __pydantic_config__: ClassVar = STRICT

    access_token: Paths = ReplyFields().access_token
    refresh_token: Paths = ReplyFields().refresh_token
    token_type: Paths = ReplyFields().token_type
    scope: Paths = ReplyFields().scope
    expires_in: Paths = ReplyFields().expires_in
    expires_at: Paths = ReplyFields().expires_at
    refresh_expires_in: Paths = ReplyFields().refresh_expires_in
    consent_expires_in: Paths = ReplyFields().consent_expires_in
    error_code: Paths = ReplyFields().error_code
    error_message: Paths = ReplyFields().error_message


def url_or_none(value: object) -> str:
    """Read the token URL. `asking_nobody` writes None, which no file can: there is none."""
    return "" if value is None else text(value)


def asking_nobody(table: object) -> object:
    """Return the table with no token URL if it needs none: nothing renews its tokens, and no code is exchanged."""
    if not isinstance(table, Mapping) or table.get("grant") != Grant.NONE or "token_url" in table:
        return table
    return table if "authorize_url" in table or "device_url" in table else {**table, "token_url": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionTable(ConsentTable, LifeTable):
    """The keys of a definition file; `domain.provider.Definition` explains each."""

    __pydantic_config__: ClassVar = STRICT

    token_url: Annotated[str, Read(url_or_none)]
    client_auth: Annotated[ClientAuth, Read(one_of(ClientAuth))]
    grant: Annotated[Grant, Read(one_of(Grant))] = Grant.REFRESH_TOKEN
    grants: Annotated[frozenset[Annotated[Grant, Read(one_of(Grant))]], ARRAY] = frozenset()
    assertion: AssertionTable | None = None
    method: Annotated[Method, Read(one_of(Method))] = Method.POST
    assertion_algorithms: Annotated[
        tuple[Annotated[AssertionAlgorithm, Read(one_of(AssertionAlgorithm))], ...], ARRAY
    ] = ()
    assertion_audience: Annotated[AssertionAudience, Read(one_of(AssertionAudience))] = (
        AssertionAudience.TOKEN_URL
    )
    issuer: Text | None = None
    title: Text | None = None
    verified: Flag = False
    docs: Text = ""
    as_of: Day | None = None
    variables: dict[str, VariableTable] = field(default_factory=dict)
    domains: Annotated[tuple[Text, ...], ARRAY] = ()
    body: Annotated[BodyFormat, Read(one_of(BodyFormat))] = BodyFormat.FORM
    repeatable: Flag = False
    names: dict[str, Text] = field(default_factory=dict)
    omit: Annotated[tuple[Text, ...], ARRAY] = ()
    params: Parameters = field(default_factory=dict)
    headers: dict[str, Annotated[str, Read(header_value)]] = field(default_factory=dict)
    reply: ShapeTable = field(default_factory=ShapeTable)
    success: ConditionTable | None = None
    access_lifetime: Span | None = None
    expires_in_unit: Annotated[ExpiryUnit, Read(one_of(ExpiryUnit))] = ExpiryUnit.SECONDS
    rotation: Annotated[Rotation, Read(one_of(Rotation))] = Rotation.SOMETIMES
    reuse_refused: Flag = False
    min_interval: Span | None = None
    rate: Rates = ()
    confirm_after: Duration | None = None
    rejected: Signs = ()
    misconfigured: Signs = ()
    unavailable: Signs = ()
    spends_on_refusal: Flag = False
    keep: Annotated[tuple[Text, ...], ARRAY] = ()
    echo: Annotated[tuple[Text, ...], ARRAY] = ()
    notes: Annotated[tuple[Text, ...], ARRAY] = ()


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


def faults(table: DefinitionTable) -> Iterator[Fault]:
    """Yield problems across keys: unsafe URLs, variables without use, and error patterns that match
    nothing.
    """
    bases = {name for name, row in table.variables.items() if row.kind is VariableKind.BASE}
    about_urls = (
        *(url_faults(("token_url",), table.token_url, table.domains, bases) if table.token_url else ()),
        *(url_faults(("issuer",), table.issuer, table.domains, bases) if table.issuer is not None else ()),
        *consent_faults(
            table, grant=table.grant, domains=table.domains, bases=bases, variables=table.variables
        ),
    )
    yield from dict.fromkeys(about_urls)  # several URLs can lack the same domains
    yield from _assertion_faults(table)
    yield from _variable_faults(table)
    yield from _sign_faults(table)
    if not all(map(_DOMAIN.fullmatch, table.domains)):
        do = 'Write each in lower case like "example.com", without a leading dot.'
        yield ("domains",), "contain an entry that is not a domain", do
    yield from method_faults(table.method, table.grant, table.body, repeatable=table.repeatable)
    yield from parameter_faults("params", table.params, table.body)
    yield from parameter_faults("exchange_params", table.exchange_params, table.body)
    yield from omission_faults(table.omit, table.params)
    yield from life_faults(table, table.grant, table.rotation)
    yield from assertion_faults(table.assertion)
    yield from _grant_faults(table)
    yield from _field_faults(table)


def _assertion_faults(table: DefinitionTable) -> Iterator[Fault]:
    """Check the keys about signed requests. An operator may set another `client_auth`, so the keys alone are no fault."""
    if table.assertion_audience is AssertionAudience.ISSUER and table.issuer is None:
        yield ("assertion_audience",), 'is "issuer", but no issuer is known', "Add issuer."


def _grant_faults(table: DefinitionTable) -> Iterator[Fault]:
    """Check the grants. The definition's own grant renews a stored token, or the client alone if `grants`
    allows it.
    """
    own, client = table.grant, Grant.CLIENT_CREDENTIALS
    if table.grants and own not in table.grants:
        yield ("grants",), "does not include this provider's own grant", f'Add "{own}", or set grant.'
    if table.grants - {own, client}:
        yield (
            ("grants",),
            "lists grants that can't be combined",
            f'Write ["{own}", "{client}"], or remove it.',
        )


def _sign_faults(table: DefinitionTable) -> Iterator[Fault]:
    for meaning in ("rejected", "misconfigured", "unavailable"):
        yield from sign_faults(meaning, getattr(table, meaning))
    if table.success is not None:
        yield from condition_faults(("success",), table.success)


def _field_faults(table: DefinitionTable) -> Iterator[Fault]:
    for name in sorted(table.names.keys() - _NAMED):
        yield (
            ("names", name),
            "is not a parameter that refreshd can rename",
            f"Use one of: {', '.join(sorted(_NAMED))}.",
        )
    ours = _OWN_PARAMS | {table.names.get(name, name) for name in _OWN_PARAMS}
    for name in sorted(ours.intersection(table.params)):
        yield ("params", name), "is sent by refreshd itself", "Remove it."
    for name in table.headers:
        if name.lower() in _OWN_HEADERS or not _HEADER.fullmatch(name):
            yield ("headers", name), "can't be set here", "Remove it."
    for key in ("keep", "echo"):
        if any(map(looks_secret, getattr(table, key))):
            yield (
                (key,),
                "lists a secret field, which would be stored in plain text",
                "Remove fields whose names suggest a secret.",
            )
    yield from echo_faults(table.echo, {*table.params, *_NAMED, *table.names.values()})
    if table.spends_on_refusal and table.grant is not Grant.REFRESH_TOKEN:
        yield ("spends_on_refusal",), "is set, but no refresh token is presented", "Remove it."


def _variable_faults(table: DefinitionTable) -> Iterator[Fault]:
    urls = used_variables(table.token_url, table.issuer, *consent_urls(table))
    used = urls | used_variables(*map(str, table.params.values()), *table.headers.values())
    used |= claim_variables(table.assertion)
    for name in sorted(urls & values_of(table.variables)):
        yield ("variables", name, "kind"), 'is "value", but a URL uses it', 'Write kind = "name".'
    for name in sorted(used - table.variables.keys()):
        do = _ONLY_CLAIMS if name in ("client_id", "scopes") else "Add it with its pattern."
        yield ("variables", name), "is used but not declared", do
    for name, variable in table.variables.items():
        if name not in used:
            what = "is declared but not used in a URL, a parameter, a header or a claim"
            yield ("variables", name), what, "Remove it."
        if (variable.pattern is None) is not (variable.kind is VariableKind.BASE):
            yield (
                ("variables", name, "pattern"),
                "belongs to kind = 'name' or 'value', which requires it",
                "Add or remove it.",
            )
        shape = BASE if variable.kind is VariableKind.BASE else variable.pattern
        if variable.default and shape and not shape.fullmatch(variable.default):
            yield ("variables", name, "default"), "does not match the pattern", "Correct one of the two."


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
