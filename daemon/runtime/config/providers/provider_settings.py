"""`[providers.NAME]`: the client at a provider, and changes to a known definition."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any

from daemon.adapters.token_endpoint.client_assertion import KeyUnusable
from daemon.domain.provider import SECRET_AUTHS, ClientAuth, Grant, Provider, VariableKind
from daemon.domain.token import PROVIDER_NAME
from daemon.domain.token_url import LONGEST_VALUE
from daemon.runtime.config.client_key import Key, read_key, with_key
from daemon.runtime.config.fields import ARRAY, Context, Day, Flag, Read, Text, checked, pattern, text, whole
from daemon.runtime.config.problems import Findings, InvalidValue
from daemon.runtime.config.providers.assertion_keys import assertion_terms, is_signed
from daemon.runtime.config.providers.definition_dir import Known, Tables, laid_over
from daemon.runtime.config.providers.definition_faults import faults
from daemon.runtime.config.providers.definition_table import DefinitionTable, asking_nobody
from daemon.runtime.config.providers.definitions import definition
from daemon.runtime.config.providers.pattern_cost import check_cost
from daemon.runtime.config.secret_sources import SecretContext, SecretText, is_unread, secret

# Stand-ins for a provider without a definition, so that its other keys are still checked.
_UNKNOWN = {"token_url": "https://unknown.invalid/", "client_auth": "post"}
_URL_KEYS = (
    "token_url",
    "assertion_audience",
    "issuer",
    "authorize_url",
    "exchange_url",
    "par_url",
    "device_url",
    "manage_url",
    "revoke_url",
    "revoke",
    "scopes",
    "scope_separator",
    "authorize_params",
    "exchange_params",
    "grant",
    "assertion",
    "variables",
    "domains",
    "params",
    "headers",
    "names",
    "omit",
    "repeatable",
    "method",
    "body",
)
_SECRETIVE = tuple(one for one in ClientAuth if one in SECRET_AUTHS)
_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*(:[1-9][0-9]{0,4})?")


def allowed_host(value: object) -> str:
    if not _HOST.fullmatch(text(value)):
        raise InvalidValue(
            "is not a host",
            'Write it in lower case like "sso.example.com", with a port like ":8443" if needed.',
        )
    return text(value)


def client_key(value: object, info: Context) -> Key | None:
    """Return the key, or None if its source has not answered."""
    content = secret(value, info)
    if not content:
        return None
    try:
        return read_key(content)
    except KeyUnusable as unusable:
        do = "Make one with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048`."
        raise InvalidValue(str(unusable), do) from None


def subject_pattern(value: object) -> re.Pattern[str]:
    """Read the pattern of the users for whom tokens may act."""
    found = pattern(value)
    check_cost(found.pattern, longest=LONGEST_VALUE)
    return found


AllowedHost = Annotated[str, Read(allowed_host)]
ClientKey = Annotated[Key, Read(client_key)]
Subject = Annotated[re.Pattern[str], Read(subject_pattern)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderTable(DefinitionTable):
    """The keys of a definition and those of the client."""

    like: Text | None = None  # whose definition it is
    client_id: Text | None = None  # asked for below, so that its absence hides no other problem
    client_secret: SecretText | None = None
    client_secret_created: Day | None = None
    client_key: ClientKey | None = None
    client_key_id: Text | None = None
    subjects: Annotated[tuple[Subject, ...], ARRAY] = ()
    concurrency: Annotated[int | None, Read(whole(1, 100_000))] = None
    allowed_hosts: Annotated[frozenset[AllowedHost], ARRAY] = frozenset()
    allow_private: Flag = False


def whole_tables(providers: object, definitions: Known) -> dict[str, object]:
    """Return each configured provider's table, laid over the known definition of its name or of the one that
    it is like.

    If that definition is broken, its provider can't be checked and is left out.
    """
    if not isinstance(providers, Mapping):
        return {}
    return {
        name: laid_over(definitions.tables.get(base, {}), own) if isinstance(own, Mapping) else own
        for name, own in providers.items()
        if (base := _base(name, own)) not in definitions.broken and name not in definitions.broken
    }


def _base(name: str, own: object) -> str:
    """Return the name of the definition that a provider's own table is laid over."""
    like = own.get("like") if isinstance(own, Mapping) else None
    return like if isinstance(like, str) else name


def read_providers(
    configured: object,
    definitions: Known,
    findings: Findings,
    context: SecretContext,
    *,
    concurrency: int,
) -> dict[str, Provider]:
    """Read the providers in `configured`. Each has a guaranteed share of `concurrency`, the limit of requests
    in flight.
    """
    if not isinstance(configured, Mapping):
        findings.add(("providers",), "must be a table", "Write sections like [providers.xero].")
        return {}
    rows = {}
    for name, table in whole_tables(configured, definitions).items():
        _check_like(name, configured, definitions.tables, findings)
        row = _row(name, table, definitions.tables, findings, context)
        if row is None:
            continue
        if row.concurrency is not None and row.concurrency > concurrency:
            more = f"is more than refresh.concurrency ({concurrency})"
            findings.add(("providers", name, "concurrency"), more, "Lower it, or raise the other.")
        rows[name] = row
    share = even_share([_own_concurrency(row) for row in rows.values()], concurrency)
    return {name: _provider(name, row, configured[name], share) for name, row in rows.items()}


def even_share(own: Sequence[int | None], concurrency: int) -> int:
    """Return the guaranteed share of each provider that has no `concurrency` of its own, at least 1.

    Together they get half of what the others leave, so that the other half can be lent to providers with more
    work.
    """
    count = own.count(None)
    rest = max(concurrency - sum(one for one in own if one is not None), 0)
    return max(1, rest // (2 * count) if count > 1 else rest)


def most_in_flight(providers: Iterable[Provider], concurrency: int) -> int:
    """Return the maximum of concurrent requests. Connections and space in the journal are needed for so
    many.
    """
    return max(concurrency, sum(provider.share for provider in providers))


def overcommitted(providers: Iterable[Provider], concurrency: int) -> str | None:
    """Return a warning if more requests are guaranteed than `refresh.concurrency` allows, else None."""
    shares = {provider.name: provider.share for provider in providers}
    if (total := sum(shares.values())) <= concurrency:
        return None
    largest = sorted(shares, key=lambda name: -shares[name])[:3]
    named = ", ".join(f"{name} {shares[name]}" for name in largest)
    if len(shares) > len(largest):
        named += ", ..."
    return (
        f"{len(shares)} providers have guarantees for {total} requests in total ({named}), "
        f"more than refresh.concurrency ({concurrency}): up to {total} can be in flight"
    )


def _provider(name: str, row: ProviderTable, configured: object, even: int) -> Provider:
    own_window = isinstance(configured, Mapping) and "window" in configured
    provider = Provider(
        definition=definition(name, row),
        like=row.like,
        client_id=row.client_id or "",
        client_secret=row.client_secret,
        client_secret_created=row.client_secret_created,
        subjects=row.subjects,
        share=_own_concurrency(row) or even,
        most=_own_concurrency(row),
        window=row.window if own_window else None,
        allowed_hosts=row.allowed_hosts,
        allow_private=row.allow_private,
    )
    try:
        return with_key(provider, row.client_key, key_id=row.client_key_id) if row.client_key else provider
    except KeyUnusable:
        return provider  # `_algorithm_faults` reports that


def _own_concurrency(row: ProviderTable) -> int | None:
    """Return the operator's `concurrency`. Without one, a provider whose refused calls cost grants is asked one at a time:
    each request under way would cost another one.
    """
    return row.concurrency or (1 if row.spends_on_refusal else None)


def _row(
    name: str, table: object, definitions: Tables, findings: Findings, context: SecretContext
) -> ProviderTable | None:
    place = ("providers", name)
    if not PROVIDER_NAME.fullmatch(name):
        findings.add(
            place, "is not a provider's name", "Use a to z, 0 to 9, '_' and '-', a letter or digit first."
        )
    if isinstance(table, Mapping) and _base(name, table) not in definitions:
        _check_is_defined(name, table, definitions, findings)
        table = {**_UNKNOWN, **table}
    row = checked(ProviderTable, asking_nobody(table), place, findings, context=context)
    if row is None:
        return None
    if not findings.broken(*((*place, key) for key in _URL_KEYS)):
        for inner, what, do in faults(row):
            findings.add((*place, *inner), what, do)
    unread = isinstance(table, Mapping) and is_unread(table.get("client_key", ""), context)
    for key, what, do in (*_client_faults(row), *_algorithm_faults(row)):
        # Its file may also name the client.
        if key in ("client_key", "client_id") and unread and _signs(row):
            continue
        if not findings.broken((*place, key), (*place, "client_auth"), (*place, "like")):
            findings.add((*place, key), what, do)
    return row


def _check_like(name: str, configured: Mapping[str, object], definitions: Tables, findings: Findings) -> None:
    """Check that `like` names a definition.

    It can't name another provider of the configuration. So there is neither chain nor cycle, and no provider
    silently takes over another one's client, proxy or host.
    """
    place = ("providers", name, "like")
    own = configured[name]
    like = own.get("like") if isinstance(own, Mapping) else None
    if not isinstance(like, str) or not like.strip():
        return
    if name in definitions:
        findings.add(place, f"{name} has a definition of its own", "Remove like, or choose another name.")
    elif like not in definitions:
        what, do = _unlike(like, configured, definitions)
        findings.add(place, what, do)


def _unlike(like: str, configured: Mapping[str, object], definitions: Tables) -> tuple[str, str]:
    """Return why `like` is invalid and what to write instead. `like` itself may be a secret in the wrong
    place.
    """
    other = configured.get(like)
    if isinstance(other, Mapping) and (base := other.get("like")) in definitions:
        return "is the name of a provider that itself uses like", f'Write like = "{base}".'
    if like in configured:
        do = "Put its definition in its own file, NAME.toml in the directory of [definitions]."
        return "is the name of a provider that the configuration defines", do
    close = get_close_matches(like.lower(), definitions, n=3)
    do = f"Did you mean {' or '.join(close)}?" if close else "`refreshd providers` lists them."
    return "is not the name of a known definition", do


def _check_is_defined(name: str, table: Mapping[str, Any], definitions: Tables, findings: Findings) -> None:
    """Check that a provider without a known definition has all required keys."""
    place = ("providers", name)
    if "like" in table:
        return  # `_check_like` reports that
    if "token_url" not in table:
        close = get_close_matches(name.lower(), definitions, n=1)
        do = 'To define it here, add token_url and client_auth. To add another client of a known provider, write like = "NAME".'
        do = f"Did you mean {close[0]}? {do}" if close else do
        findings.add((*place, "token_url"), "is required: no definition of this name is shipped", do)
    elif "client_auth" not in table:
        findings.add((*place, "client_auth"), "is required", f"Add it, one of: {', '.join(ClientAuth)}.")


def _client_faults(row: ProviderTable) -> Iterator[tuple[str, str, str]]:
    if {row.grant, *row.grants} == {Grant.NONE}:
        return  # nothing is ever asked
    signed, named = is_signed(row.grant, row.client_auth), (ClientAuth.SECRET_AS_USER, ClientAuth.OMITTED)
    known = row.client_id or (row.client_key and row.client_key.client_id)
    if known is None and (signed or row.client_auth not in named):
        yield "client_id", "is required", "Add it: the provider assigned it to your app."
    if row.assertion is not None and assertion_terms(row.assertion).chooses_subject and not row.subjects:
        do = r"List patterns of allowed users, like subjects = ['.+@acme\.example']."
        yield "subjects", "are required because each token names the user to act for", do
    if not row.allowed_hosts and not row.domains and _begins_with_a_base(row):
        do = 'Add them, like allowed_hosts = ["sso.example.com"].'
        yield "allowed_hosts", "are required because each token specifies its own server", do
    if row.client_auth is ClientAuth.BASIC_PLAIN and ":" in (row.client_id or ""):
        yield (
            "client_id",
            "contains a colon, which ends the user name in plain Basic",
            'Set client_auth = "basic".',
        )
    yield from _secret_faults(row)
    yield from _key_faults(row)


def _signs(row: ProviderTable) -> bool:
    return row.client_auth is ClientAuth.PRIVATE_KEY_JWT or is_signed(row.grant, row.client_auth)


def _secret_faults(row: ProviderTable) -> Iterator[tuple[str, str, str]]:
    keyed = row.client_auth in (ClientAuth.PRIVATE_KEY_JWT, ClientAuth.BEARER_JWT, ClientAuth.NONE)
    unsent = keyed or (_signs(row) and row.client_auth not in _SECRETIVE)
    if row.client_secret is not None and unsent and row.exchange_auth not in _SECRETIVE:
        do = f"Remove it, or set client_auth to one of: {', '.join(_SECRETIVE)}."
        yield "client_secret", f'is never sent with client_auth = "{row.client_auth}"', do
    if row.client_secret is None and row.client_auth in _SECRETIVE:
        do = 'Add it, like client_secret = { env = "NAME" }; for a public client set client_auth = "none".'
        yield "client_secret", "is required", do


def _key_faults(row: ProviderTable) -> Iterator[tuple[str, str, str]]:
    own = row.client_auth in (ClientAuth.PRIVATE_KEY_JWT, ClientAuth.BEARER_JWT)
    why = f'client_auth = "{row.client_auth}"' if own else f'grant = "{row.grant}"'
    if row.client_key is None and _signs(row):
        do = 'Add it, like client_key = { file = "PATH" }, with the private key in PEM format.'
        yield "client_key", f"is required with {why}", do
    for key, value in (("client_key", row.client_key), ("client_key_id", row.client_key_id)):
        if value is not None and not _signs(row):
            do = 'Remove it, or set client_auth = "private_key_jwt".'
            yield key, f'is not used with client_auth = "{row.client_auth}"', do


def _algorithm_faults(row: ProviderTable) -> Iterator[tuple[str, str, str]]:
    """Check that the key fits one of the algorithms that the provider takes."""
    if row.client_key is None or not _signs(row):
        return
    try:
        row.client_key.signing.restricted(row.assertion_algorithms)
    except KeyUnusable as unusable:
        yield "client_key", str(unusable), "Make a key of a type that the provider takes."


def _begins_with_a_base(row: ProviderTable) -> bool:
    begins = {name for name, known in row.variables.items() if known.kind is VariableKind.BASE}
    return any(row.token_url.startswith(f"${{{name}}}") for name in begins)
