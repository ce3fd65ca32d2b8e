"""What is wrong with a definition as a whole: keys that contradict each other, and values that could send a secret to the
wrong server.
"""

import re
from collections.abc import Iterator, Mapping

from daemon.domain.provider import AssertionAudience, Grant, VariableKind
from daemon.domain.token_response import looks_secret
from daemon.domain.token_url import BASE
from daemon.runtime.config.providers.assertion_keys import assertion_faults, claim_variables
from daemon.runtime.config.providers.consent_keys import consent_faults, consent_urls
from daemon.runtime.config.providers.definition_table import DefinitionTable, VariableTable
from daemon.runtime.config.providers.life_keys import life_faults
from daemon.runtime.config.providers.request_keys import (
    echo_faults,
    method_faults,
    omission_faults,
    parameter_faults,
)
from daemon.runtime.config.providers.sign_table import condition_faults, sign_faults
from daemon.runtime.config.providers.url_rules import Fault, url_faults, used_variables

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
    for name in sorted(urls & _values_of(table.variables)):
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


def _values_of(variables: Mapping[str, VariableTable]) -> set[str]:
    return {name for name, row in variables.items() if row.kind is VariableKind.VALUE}
