"""The settings of `refreshd serve`. They need no key ring and no provider's client secret, and resolve neither."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from daemon.adapters.door_keys import DoorKeys, LinesInvalid, parse_readers, parse_writers
from daemon.domain.due import Timing
from daemon.domain.hook import Route
from daemon.domain.provider import Definition, Provider, Rate
from daemon.domain.return_url import fault_of_return_url
from daemon.domain.token import PROVIDER_NAME
from daemon.runtime.config.fields import (
    ARRAY,
    STRICT,
    Context,
    Duration,
    Flag,
    Host,
    Read,
    Span,
    Text,
    checked,
    duration,
    known_keys,
    text,
    whole,
)
from daemon.runtime.config.hooks import read_routes
from daemon.runtime.config.issuers import NO_ISSUERS, Issuers, network, read_issuers
from daemon.runtime.config.problems import Findings, InvalidValue, Problem, SecretsAway, SettingsInvalid
from daemon.runtime.config.providers.definition_dir import Known
from daemon.runtime.config.providers.definitions import DefinitionTable, definition, faults
from daemon.runtime.config.providers.life_keys import rate_of
from daemon.runtime.config.providers.provider_settings import AllowedHost, ProviderTable, whole_tables
from daemon.runtime.config.secret_places import Use
from daemon.runtime.config.secret_reading import SecretReader
from daemon.runtime.config.secret_resolution import Answered, Resolution
from daemon.runtime.config.secret_sources import (
    BearerToken,
    SecretContext,
    SecretText,
    file_of,
    one_source,
    secret,
)
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
from daemon.runtime.config.sources import Document, base_directory, read_document
from daemon.runtime.config.wrapped_keys import name_wrapped

LONGEST_OFFLINE = timedelta(hours=1)
SHORTEST_RETENTION = timedelta(days=1)
_DOOR = ("readers", "writer")
DEMO_PROVIDER = "sandbox"  # which the daemon runs itself
USUAL_RATE = Rate(count=600, per=timedelta(minutes=1))


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


def return_url(value: object) -> str:
    """Read a URL of an application, or the beginning of its URLs."""
    url = web_url(value)
    beginning = f"{url}/" if "/" not in url.partition("://")[2] else url
    if fault_of_return_url(beginning, [beginning]) is not None:
        raise InvalidValue(
            "is not a URL that a browser can be sent to",
            'Write it like "https://app.example.com/connected", without user, fragment or query parameters of refreshd.',
        )
    return url


def page_with_id(value: object) -> str:
    if "{id}" not in web_url(value):
        raise InvalidValue(
            "does not contain {id}", 'Write it like "https://app.example.com/reconnect?token={id}".'
        )
    return text(value)


def readers_of(value: object, info: Context) -> Mapping[str, bytes]:
    """Return the reader keys, or none if their source has not answered."""
    lines = secret(one_source(value), info)
    try:
        return parse_readers(lines.reveal()) if lines else {}
    except LinesInvalid as why:
        raise InvalidValue(
            f"is not what `refreshd keys reader` prints: {why}", "Write its lines to the file again."
        ) from None


def writers_of(value: object, info: Context) -> Mapping[str, Any]:
    """Return the writer keys, or none if their source has not answered."""
    lines = secret(one_source(value), info)
    try:
        return parse_writers(lines.reveal()) if lines else {}
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
class TlsOutline:
    """[access.tls] without the key."""

    __pydantic_config__: ClassVar = STRICT

    cert: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTable:
    __pydantic_config__: ClassVar = STRICT

    host: Host = "127.0.0.1"
    port: Annotated[int, Read(whole(0, 65_535))] = 9465  # 0: any free one
    socket: Text | None = None
    tls: TlsTable | None = None
    trusted_proxies: Annotated[tuple[Annotated[IPv4Network | IPv6Network, Read(network)], ...], ARRAY] = ()
    public_url: Annotated[str, Read(web_url)] | None = None
    return_urls: Annotated[tuple[Annotated[str, Read(return_url)], ...], ARRAY] = ()
    unbound_connect: Flag = False
    reconnect_url: Annotated[str, Read(page_with_id)] | None = None
    max_wait: Duration = timedelta(seconds=30)
    fresh_for: Duration = timedelta(seconds=60)
    offline_for: Annotated[timedelta, Read(offline_span)] = timedelta(minutes=5)
    rate: Annotated[Rate, Read(rate_of)] = USUAL_RATE
    rate_per_caller: Annotated[Rate, Read(rate_of)] | None = None
    audit_reads_retention: Span = timedelta(days=30)
    admin_port: Annotated[int, Read(whole(0, 65_535))] | None = None
    bearer_token: BearerToken | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedProviderTable(DefinitionTable):
    """The keys of a provider that the access service reads: its definition, the client's id for the page on which owners
    consent, and the hosts to which variables may lead.
    """

    client_id: Text | None = None
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
    issuers: Issuers = NO_ISSUERS
    socket: Path | None
    keys: DoorKeys = field(repr=False)
    with_ring: bool
    log: LogSettings
    providers: Mapping[str, Provider]  # the configured ones, without their clients' secrets
    definitions: Mapping[str, Definition]  # of these
    timing: Timing
    directory: Path  # that relative paths start from
    hooks: tuple[Route, ...] = ()  # who is told of anomalies
    answered: tuple[
        Answered, ...
    ] = ()  # which source gave a secret, for those outside this machine and lists

    @property
    def connects(self) -> bool:
        """Return whether applications are to connect accounts."""
        return bool(self.access.return_urls) or self.access.unbound_connect

    def beside(self, path: str) -> Path:
        return self.directory / path


def load_access(
    path: Path | None,
    env: Mapping[str, str],
    env_file: Path | None = None,
    *,
    reader: SecretReader | None = None,
) -> AccessSettings:
    """Return the settings of the access service. Raises SettingsInvalid with every problem, or SecretsAway."""
    secrets = Resolution(reader or SecretReader())
    document = read_document(path, env, env_file)
    try:
        return _checked(document, secrets)
    except SettingsInvalid as invalid:
        if not secrets.refuse(invalid.problems, document.findings):
            raise
    return _checked(read_document(path, env, env_file), secrets)


def _checked(document: Document, secrets: Resolution) -> AccessSettings:
    table, findings = document.table, document.findings
    unknown_sections(document)
    around = surroundings(document, may_create=_is_demo(table))
    secrets.ask(table, _uses(table), around.local)
    around = replace(around, answers=secrets.answers)
    store = checked(StoreSettings, table.get("store", {}), ("store",), findings, context=around)
    state = checked(StateTable, table.get("state", {}), ("state",), findings)
    access, issuers = _access(table.get("access", {}), findings, around)
    log = checked(LogSettings, table.get("log", {}), ("log",), findings)
    keys, with_ring = _door_keys(table.get("keys", {}), findings, around)
    configured = table.get("providers", {})
    if _is_demo(table) and isinstance(configured, Mapping):
        configured = {DEMO_PROVIDER: {}, **configured}
    providers = _providers(configured, known_definitions(document), findings, around)
    timing = _timing(table.get("refresh", {}), findings)
    _check_listener(access, findings, with_tls=access is not None and access.tls is not None)
    waiting = secrets.waiting(findings, clients=False)
    if not findings.problems and waiting and log:
        raise SecretsAway(waiting, log=log)
    if findings.problems or not (store and state and access and keys and log and timing):
        raise SettingsInvalid(findings.problems, log_format=log.format.value if log else "auto")
    secrets.accept()
    return AccessSettings(
        source=str(document.file or "the environment, without a file,"),
        store=in_its_database(store, stated="database" in table.get("store", {})),
        state_dir=state_dir(state, document),
        access=access,
        issuers=issuers,
        socket=base_directory(document.file) / access.socket if access.socket else None,
        keys=keys,
        with_ring=with_ring,
        log=log,
        providers=providers,
        definitions={name: one.definition for name, one in providers.items()},
        timing=timing,
        directory=base_directory(document.file),
        hooks=read_routes(table.get("hooks", [])),
        answered=tuple(secrets.answered()),
    )


def _uses(table: Mapping[str, Any]) -> frozenset[Use]:
    """Return what the access service uses secrets for. It asks for the ring only where it has no other keys."""
    keys = table.get("keys")
    own = isinstance(keys, Mapping) and any(name in keys for name in _DOOR)
    return frozenset({Use.STORE, Use.ACCESS, *(() if own else (Use.KEYS,))})


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessOutline:
    """The settings of an access service without their secrets, none of which is opened. `secret_files`: where secrets come
    from, by key. `alone`: the file is the service's own, since it has reader keys and no ring.
    """

    access: AccessTable | None  # without `tls.key` and `bearer_token`; None if it is invalid
    alone: bool
    with_tls: bool
    socket: Path | None
    secret_files: Mapping[str, Path]
    has_readers: bool
    has_writer: bool
    problems: tuple[Problem, ...]


def outline_access(
    path: Path | None, env: Mapping[str, str], env_file: Path | None = None
) -> AccessOutline | None:
    """Return the outline, or None for a configuration without an access service."""
    try:
        document = read_document(path, env, env_file)
    except SettingsInvalid:  # as `load` reports
        return None
    keys, table = document.table.get("keys", {}), document.table.get("access")
    keys = keys if isinstance(keys, Mapping) else {}
    if table is None and not any(name in keys for name in _DOOR):
        return None
    findings, before = document.findings, len(document.findings.problems)  # those, `load` reports
    around = surroundings(document, may_create=False)
    files = _secret_files(keys, table, findings, around)
    tls = table.get("tls") if isinstance(table, Mapping) else None
    if tls is not None:
        checked(TlsOutline, _without(tls, "key"), ("access", "tls"), findings)
    plain = _without(table if table is not None else {}, "tls", "bearer_token")
    access = checked(AccessTable, plain, ("access",), findings, context=around)
    _check_listener(access, findings, with_tls=tls is not None)
    return AccessOutline(
        access=access,
        alone="ring" not in keys and "readers" in keys,
        with_tls=tls is not None,
        socket=around.directory / access.socket if access and access.socket else None,
        secret_files=files,
        has_readers="readers" in keys,
        has_writer="writer" in keys,
        problems=tuple(findings.problems[before:]),
    )


def _without(table: object, *names: str) -> object:
    if not isinstance(table, Mapping):
        return table
    return {name: value for name, value in table.items() if name not in names}


def _secret_files(
    keys: Mapping[str, Any], table: object, findings: Findings, around: SecretContext
) -> dict[str, Path]:
    access = table if isinstance(table, Mapping) else {}
    tls = access.get("tls")
    places: dict[tuple[str, ...], Any] = {("keys", name): keys[name] for name in _DOOR if name in keys}
    if isinstance(tls, Mapping) and "key" in tls:
        places["access", "tls", "key"] = tls["key"]
    if "bearer_token" in access:
        places["access", "bearer_token"] = access["bearer_token"]
    files = {}
    for place, value in places.items():
        try:
            file = file_of(value, around)
        except InvalidValue as why:
            findings.add(place, why.what, why.do)
        else:
            if file is not None:
                files[".".join(place)] = file
    return files


def _is_demo(table: Mapping[str, Any]) -> bool:
    demo = table.get("demo")
    return isinstance(demo, Mapping) and demo.get("enabled") in (True, "true")


def _access(table: object, findings: Findings, around: SecretContext) -> tuple[AccessTable | None, Issuers]:
    """Return the settings in [access], and the trusted issuers, which are a list of tables in it."""
    own = table
    issuers = NO_ISSUERS
    if isinstance(table, Mapping) and "issuers" in table:
        own = {name: value for name, value in table.items() if name != "issuers"}
        issuers = read_issuers(table["issuers"], findings, around)
    return checked(AccessTable, own, ("access",), findings, context=around), issuers


_OF_RING = ("ring", "installation", "writers", "max_age")  # what [keys] says of a ring


def _door_keys(table: object, findings: Findings, around: SecretContext) -> tuple[DoorKeys | None, bool]:
    """Return the reader and writer keys: the configured ones, else those of the ring; and whether they are the
    ring's.
    """
    if isinstance(table, Mapping) and not any(name in table for name in _DOOR):
        ring = checked(KeySettings, name_wrapped(table), ("keys",), findings, context=around)
        if ring is None or ring.active not in ring.ring:
            if ring is not None:
                findings.add(
                    ("keys", "active"), "is not the id of a key on the ring", "Add it to [keys.ring]."
                )
            return None, True
        if not all(one.key for one in ring.ring.values()):
            return None, True  # a source has not answered
        return DoorKeys.of_ring(ring.key_ring), True
    own = (
        {name: value for name, value in table.items() if name not in _OF_RING}
        if isinstance(table, Mapping)
        else table
    )
    lines = checked(DoorKeysTable, own, ("keys",), findings, context=around)
    if lines is None or not lines.readers:
        return None, False
    first = next(iter(lines.readers))  # the active one, as `keys reader --all` prints them
    reader = lines.active if lines.active and lines.active in lines.readers else first
    writers = lines.writer or {}
    writer = reader if reader in writers else next(iter(writers), None)
    return DoorKeys(lines.readers, writers, reader=reader, writer=writer), False


def _providers(
    configured: object, known: Known, findings: Findings, around: SecretContext
) -> dict[str, Provider]:
    """Return the configured providers. Their clients' secrets are not read."""
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
            definition=definition(name, row), client_id=row.client_id or "", allowed_hosts=row.allowed_hosts
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


def _check_listener(access: AccessTable | None, findings: Findings, *, with_tls: bool) -> None:
    if access is None:
        return
    if access.socket is None and not LOOPBACK.fullmatch(access.host):
        if not with_tls and not access.trusted_proxies:
            findings.add(
                ("access", "host"),
                "is not a loopback address, so other machines would send access keys in plain text",
                "Set access.tls, or access.trusted_proxies if a proxy with TLS stands before it.",
            )
        if access.bearer_token and len(access.bearer_token.reveal()) < SHORTEST_BEARER:
            findings.add(
                ("access", "bearer_token"),
                f"has fewer than {SHORTEST_BEARER} characters, and access.host is not a loopback address",
                "Make one with `openssl rand -base64 24`.",
            )
    if access.audit_reads_retention < SHORTEST_RETENTION:
        findings.add(("access", "audit_reads_retention"), "is shorter than a day", 'Write at least "1d".')
