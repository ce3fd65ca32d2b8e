"""`[providers.NAME]`: what is ours at a provider, and over a shipped definition whatever the operator knows better."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any

from daemon.domain.provider import ClientAuth, Provider, VariableKind
from daemon.domain.token import PROVIDER_NAME
from daemon.runtime.definitions import DefinitionTable, definition, faults, shipped_tables
from daemon.runtime.fields import ARRAY, Flag, Read, Text, checked, text, whole
from daemon.runtime.problem import Findings, Wrong
from daemon.runtime.safe_url import used_variables
from daemon.runtime.secret_source import SecretText, Surroundings

# Where nothing says what a provider is, its other keys are checked all the same.
_UNKNOWN = {"token_url": "https://unknown.invalid/", "client_auth": "post"}
_URL_KEYS = (
    "token_url",
    "revoke_url",
    "variables",
    "domains",
    "params",
    "headers",
    "names",
    "method",
    "body",
)
_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*(:[1-9][0-9]{0,4})?")


def allowed_host(value: object) -> str:
    if not _HOST.fullmatch(text(value)):
        raise Wrong(
            "is not a host", 'Write it in small letters like "sso.example.com", with ":8443" if need be.'
        )
    return text(value)


AllowedHost = Annotated[str, Read(allowed_host)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderTable(DefinitionTable):
    """A definition's keys and our own."""

    client_id: Text | None = None  # asked for below, so that its absence hides no other problem
    client_secret: SecretText | None = None
    concurrency: Annotated[int | None, Read(whole(1, 100_000))] = None
    allowed_hosts: Annotated[frozenset[AllowedHost], ARRAY] = frozenset()
    allow_private: Flag = False


def whole_tables(providers: object) -> dict[str, object]:
    """Each configured provider's table, laid over the shipped definition of its name."""
    if not isinstance(providers, Mapping):
        return {}
    return {name: _laid_over(shipped_tables().get(name, {}), table) for name, table in providers.items()}


def read_providers(
    configured: object, findings: Findings, surroundings: Surroundings, *, concurrency: int
) -> dict[str, Provider]:
    """The providers in `configured`; `concurrency`, all requests in flight, is shared out among them evenly."""
    if not isinstance(configured, Mapping):
        findings.add(("providers",), "must be a table", "Write sections like [providers.xero].")
        return {}
    found = {}
    for name, table in whole_tables(configured).items():
        row = _row(name, table, findings, surroundings)
        if row is None:
            continue
        if row.concurrency is not None and row.concurrency > concurrency:
            more = f"is more than refresh.concurrency ({concurrency})"
            findings.add(("providers", name, "concurrency"), more, "Lower it, or raise the other.")
        own_window = isinstance(configured[name], Mapping) and "window" in configured[name]
        found[name] = Provider(
            definition=definition(name, row),
            client_id=row.client_id or "",
            client_secret=row.client_secret,
            share=row.concurrency or max(1, concurrency // len(configured)),
            window=row.window if own_window else None,
            rate=row.rate,
            allowed_hosts=row.allowed_hosts,
            allow_private=row.allow_private,
        )
    return found


def _row(name: str, table: object, findings: Findings, surroundings: Surroundings) -> ProviderTable | None:
    place = ("providers", name)
    if not PROVIDER_NAME.fullmatch(name):
        findings.add(
            place, "is not a provider's name", "Use a to z, 0 to 9, '_' and '-', a letter or digit first."
        )
    if isinstance(table, Mapping) and name not in shipped_tables():
        _check_is_defined(name, table, findings)
        table = {**_UNKNOWN, **table}
    row = checked(ProviderTable, table, place, findings, context=surroundings)
    if row is None:
        return None
    if not findings.broken(*((*place, key) for key in _URL_KEYS)):
        for inner, what, do in faults(row):
            findings.add((*place, *inner), what, do)
    for key, what, do in _client_faults(row):
        if not findings.broken((*place, key), (*place, "client_auth")):
            findings.add((*place, key), what, do)
    return row


def _check_is_defined(name: str, table: Mapping[str, Any], findings: Findings) -> None:
    """Whether a provider that isn't shipped says all that a definition must say."""
    place = ("providers", name)
    if "token_url" not in table:
        close = get_close_matches(name.lower(), shipped_tables(), n=1)
        do = "To define it here, add token_url and client_auth."
        do = f"Did you mean {close[0]}? {do}" if close else do
        findings.add((*place, "token_url"), "is required: no definition of this name is shipped", do)
    elif "client_auth" not in table:
        findings.add((*place, "client_auth"), "is required", "Add it: basic, post or none.")


def _client_faults(row: ProviderTable) -> Iterator[tuple[str, str, str]]:
    if row.client_id is None:
        yield "client_id", "is required", "Add it: the provider gave it to your app."
    if not row.allowed_hosts and not row.domains and _begins_with_a_base(row):
        do = 'Add them, like allowed_hosts = ["sso.example.com"].'
        yield "allowed_hosts", "are required, since each token says where its server is", do
    if row.client_auth is ClientAuth.NONE and row.client_secret is not None:
        do = "Remove it, or set client_auth to basic or post."
        yield "client_secret", 'is never sent with client_auth = "none"', do
    if row.client_auth is not ClientAuth.NONE and row.client_secret is None:
        do = 'Add it, like client_secret = { env = "NAME" }; for a public client set client_auth = "none".'
        yield "client_secret", "is required", do


def _begins_with_a_base(row: ProviderTable) -> bool:
    begins = {name for name, known in row.variables.items() if known.kind is VariableKind.BASE}
    return any(row.token_url.startswith(f"${{{name}}}") for name in begins)


def _laid_over(shipped: Mapping[str, Any], own: object) -> object:
    """`own` over `shipped`, table by table. A token URL of the operator's own needs only the variables it uses."""
    if not isinstance(own, Mapping):
        return own
    known = dict(shipped)
    if "token_url" in own and "variables" in known:
        params = {**known.get("params", {}), **own.get("params", {})}
        urls = (str(own.get(key, known.get(key, ""))) for key in ("token_url", "revoke_url"))
        used = used_variables(*urls, *map(str, params.values()))
        known["variables"] = {name: row for name, row in known["variables"].items() if name in used}
    merged: dict[str, Any] = {**known, **own}
    for key in merged.keys() & known.keys():
        if isinstance(known[key], Mapping) and isinstance(merged[key], Mapping):
            merged[key] = _laid_over(known[key], merged[key])
    return merged
