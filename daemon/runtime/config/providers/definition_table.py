"""The keys of a provider's definition. A definition file and `[providers.NAME]` use the same ones."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from daemon.domain.provider import (
    AssertionAlgorithm,
    AssertionAudience,
    BodyFormat,
    ClientAuth,
    ExpiryUnit,
    Grant,
    Method,
    ReplyFields,
    Rotation,
    VariableKind,
)
from daemon.runtime.config.fields import ARRAY, STRICT, Day, Duration, Flag, Read, Span, Text, one_of, text
from daemon.runtime.config.providers.assertion_keys import AssertionTable
from daemon.runtime.config.providers.consent_keys import ConsentTable
from daemon.runtime.config.providers.life_keys import LifeTable, Rates
from daemon.runtime.config.providers.request_keys import Parameters, header_value, variable_pattern
from daemon.runtime.config.providers.sign_table import ConditionTable, Signs, dotted


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableTable:
    __pydantic_config__: ClassVar = STRICT

    kind: Annotated[VariableKind, Read(one_of(VariableKind))] = VariableKind.NAME
    pattern: Annotated[re.Pattern[str], Read(variable_pattern)] | None = None
    default: Text | None = None


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
