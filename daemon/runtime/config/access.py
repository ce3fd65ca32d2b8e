"""The settings of `refreshd serve`. They need no key ring and no provider's client secret, and resolve neither."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from daemon.adapters.door_keys import DoorKeys, LinesInvalid, parse_readers, parse_writers
from daemon.domain.due import Timing
from daemon.domain.provider import Definition, Provider, Rate
from daemon.domain.token import PROVIDER_NAME
from daemon.runtime.config.fields import (
    ARRAY,
    STRICT,
    Context,
    Duration,
    Read,
    Span,
    Text,
    checked,
    duration,
    known_keys,
    text,
    whole,
)
from daemon.runtime.config.problems import Findings, InvalidValue, SettingsInvalid
from daemon.runtime.config.providers.definition_dir import Known
from daemon.runtime.config.providers.definitions import DefinitionTable, definition, faults, rate_of
from daemon.runtime.config.providers.provider_settings import AllowedHost, ProviderTable, whole_tables
from daemon.runtime.config.secret_sources import BearerToken, SecretContext, SecretText, secret
from daemon.runtime.config.sections import (
    KeySettings,
    LogSettings,
    RefreshSettings,
    StateTable,
    StoreSettings,
)
from daemon.runtime.config.settings import (
    LOOPBACK,
    SHORTEST_BEARER,
    in_its_database,
    known_definitions,
    state_dir,
    surroundings,
    unknown_sections,
)
from daemon.runtime.config.sources import base_directory, read_document

LONGEST_OFFLINE = timedelta(hours=1)
SHORTEST_RETENTION = timedelta(days=1)
_DOOR = ("readers", "writer")
DEMO_PROVIDER = "sandbox"  # which the daemon runs itself
USUAL_RATE = Rate(count=600, per=timedelta(minutes=1))


def network(value: object) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text(value))
    except ValueError:
        raise InvalidValue("is not a network", 'Write it like "10.0.0.0/8" or "fd00::/8".') from None


def offline_span(value: object) -> timedelta:
    span = timedelta(0) if type(value) is int and value == 0 else duration(value)
    if span > LONGEST_OFFLINE:
        raise InvalidValue("is longer than an hour", 'Write at most "1h".')
    return span


def web_url(value: object) -> str:
    """Read an absolute URL: https, or http on this machine."""
    parts = urlsplit(text(value))
    plain = parts.scheme == "http" and LOOPBACK.fullmatch(parts.hostname or "")
    if not parts.hostname or not (parts.scheme == "https" or plain) or parts.fragment:
        raise InvalidValue("is not an https URL", 'Write it like "https://tokens.example.com".')
    return text(value)


def page_with_id(value: object) -> str:
    if "{id}" not in web_url(value):
        raise InvalidValue(
            "does not contain {id}", 'Write it like "https://app.example.com/reconnect?token={id}".'
        )
    return text(value)


def readers_of(value: object, info: Context) -> Mapping[str, bytes]:
    try:
        return parse_readers(secret(value, info).reveal())
    except LinesInvalid as why:
        raise InvalidValue(
            f"is not what `refreshd keys reader` prints: {why}", "Write its lines to the file again."
        ) from None


def writers_of(value: object, info: Context) -> Mapping[str, Any]:
    try:
        return parse_writers(secret(value, info).reveal())
    except LinesInvalid as why:
        raise InvalidValue(
            f"is not what `refreshd keys writer` prints: {why}", "Write its lines to the file again."
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsTable:
    __pydantic_config__: ClassVar = STRICT

    cert: Text
    key: SecretText


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTable:
    __pydantic_config__: ClassVar = STRICT

    host: Text = "127.0.0.1"
    port: Annotated[int, Read(whole(0, 65_535))] = 9465  # 0: any free one
    socket: Text | None = None
    tls: TlsTable | None = None
    trusted_proxies: Annotated[tuple[Annotated[IPv4Network | IPv6Network, Read(network)], ...], ARRAY] = ()
    public_url: Annotated[str, Read(web_url)] | None = None
    return_urls: Annotated[tuple[Annotated[str, Read(web_url)], ...], ARRAY] = ()
    reconnect_url: Annotated[str, Read(page_with_id)] | None = None
    max_wait: Duration = timedelta(seconds=30)
    fresh_for: Duration = timedelta(seconds=60)
    offline_for: Annotated[timedelta, Read(offline_span)] = timedelta(minutes=5)
    rate: Annotated[Rate, Read(rate_of)] = USUAL_RATE
    audit_reads_retention: Span = timedelta(days=30)
    admin_port: Annotated[int, Read(whole(0, 65_535))] | None = None
    bearer_token: BearerToken | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedProviderTable(DefinitionTable):
    """The keys of a provider that the access service reads: its definition, and the hosts to which variables may lead."""

    allowed_hosts: Annotated[frozenset[AllowedHost], ARRAY] = frozenset()


_CLIENT = frozenset(known_keys(ProviderTable)) - frozenset(known_keys(ServedProviderTable))  # not read here


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorKeysTable:
    """`[keys]` without a ring."""

    __pydantic_config__: ClassVar = STRICT

    readers: Annotated[Mapping[str, bytes], Read(readers_of)]
    writer: Annotated[Mapping[str, Any], Read(writers_of)] | None = None
    active: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """All valid settings of the access service. `with_ring`: its keys are derived from a ring, which is more than it
    needs. `timing`: of the tokens that applications store.
    """

    source: str
    store: StoreSettings
    state_dir: Path  # of an embedded MongoDB
    access: AccessTable
    socket: Path | None
    keys: DoorKeys = field(repr=False)
    with_ring: bool
    log: LogSettings
    providers: Mapping[str, Provider]  # the configured ones, without their clients
    definitions: Mapping[str, Definition]  # of these
    timing: Timing
    directory: Path  # that relative paths start from

    def beside(self, path: str) -> Path:
        return self.directory / path


def load_access(path: Path | None, env: Mapping[str, str], env_file: Path | None = None) -> AccessSettings:
    """Return the settings of the access service. Raises SettingsInvalid with every problem."""
    document = read_document(path, env, env_file)
    table, findings = document.table, document.findings
    unknown_sections(document)
    around = surroundings(document, may_create=_is_demo(table))
    store = checked(StoreSettings, table.get("store", {}), ("store",), findings, context=around)
    state = checked(StateTable, table.get("state", {}), ("state",), findings)
    access = checked(AccessTable, table.get("access", {}), ("access",), findings, context=around)
    log = checked(LogSettings, table.get("log", {}), ("log",), findings)
    keys, with_ring = _door_keys(table.get("keys", {}), findings, around)
    configured = table.get("providers", {})
    if _is_demo(table) and isinstance(configured, Mapping):
        configured = {DEMO_PROVIDER: {}, **configured}
    providers = _providers(configured, known_definitions(document), findings, around)
    timing = _timing(table.get("refresh", {}), findings)
    _check_listener(access, findings)
    if findings.problems or not (store and state and access and keys and log and timing):
        raise SettingsInvalid(findings.problems, log_format=log.format.value if log else "auto")
    return AccessSettings(
        source=str(document.file or "the environment, without a file,"),
        store=in_its_database(store, stated="database" in table.get("store", {})),
        state_dir=state_dir(state, document),
        access=access,
        socket=base_directory(document.file) / access.socket if access.socket else None,
        keys=keys,
        with_ring=with_ring,
        log=log,
        providers=providers,
        definitions={name: one.definition for name, one in providers.items()},
        timing=timing,
        directory=base_directory(document.file),
    )


def _is_demo(table: Mapping[str, Any]) -> bool:
    demo = table.get("demo")
    return isinstance(demo, Mapping) and demo.get("enabled") in (True, "true")


def _door_keys(table: object, findings: Findings, around: SecretContext) -> tuple[DoorKeys | None, bool]:
    """Return the reader and writer keys: the configured ones, else those of the ring; and whether they are the
    ring's.
    """
    if isinstance(table, Mapping) and not any(name in table for name in _DOOR):
        ring = checked(KeySettings, table, ("keys",), findings, context=around)
        if ring is None or ring.active not in ring.ring:
            if ring is not None:
                findings.add(
                    ("keys", "active"), "is not the id of a key on the ring", "Add it to [keys.ring]."
                )
            return None, True
        return DoorKeys.of_ring(ring.key_ring), True
    own = (
        {name: value for name, value in table.items() if name not in ("ring", "writers", "max_age")}
        if isinstance(table, Mapping)
        else table
    )
    lines = checked(DoorKeysTable, own, ("keys",), findings, context=around)
    if lines is None:
        return None, False
    first = next(iter(lines.readers))  # the active one, as `keys reader --all` prints them
    reader = lines.active if lines.active and lines.active in lines.readers else first
    writers = lines.writer or {}
    writer = reader if reader in writers else next(iter(writers), None)
    return DoorKeys(lines.readers, writers, reader=reader, writer=writer), False


def _providers(
    configured: object, known: Known, findings: Findings, around: SecretContext
) -> dict[str, Provider]:
    """Return the configured providers. Their clients are not read."""
    found = {}
    for name, table in whole_tables(configured, known).items():
        place = ("providers", name)
        if not PROVIDER_NAME.fullmatch(name) or not isinstance(table, Mapping):
            findings.add(place, "is not a provider", "Write a section like [providers.xero].")
            continue
        facts = {key: value for key, value in table.items() if key not in _CLIENT}
        row = checked(ServedProviderTable, facts, place, findings, context=around)
        if row is None:
            continue
        for inner, what, do in faults(row):
            findings.add((*place, *inner), what, do)
        found[name] = Provider(
            definition=definition(name, row), client_id="", allowed_hosts=row.allowed_hosts
        )
    return found


def _timing(table: object, findings: Findings) -> Timing | None:
    """Return when stored tokens are renewed. The rest of [refresh] is the daemon's, and may name a secret."""
    own = (
        {name: table[name] for name in ("window", "jitter") if name in table}
        if isinstance(table, Mapping)
        else table
    )
    refresh = checked(RefreshSettings, own, ("refresh",), findings)
    return Timing(window=refresh.window, jitter=refresh.jitter) if refresh else None


def _check_listener(access: AccessTable | None, findings: Findings) -> None:
    if access is None:
        return
    if access.socket is None and not LOOPBACK.fullmatch(access.host):
        if access.tls is None and not access.trusted_proxies:
            findings.add(
                ("access", "host"),
                "is not a loopback address, so other machines would send access keys in plain text",
                "Set access.tls, or access.trusted_proxies if a proxy with TLS stands before it.",
            )
        if access.bearer_token is not None and len(access.bearer_token.reveal()) < SHORTEST_BEARER:
            findings.add(
                ("access", "bearer_token"),
                f"has fewer than {SHORTEST_BEARER} characters, and access.host is not a loopback address",
                "Make one with `openssl rand -base64 24`.",
            )
    if access.audit_reads_retention < SHORTEST_RETENTION:
        findings.add(("access", "audit_reads_retention"), "is shorter than a day", 'Write at least "1d".')
