"""The settings: the operator's configuration, checked as a whole, in plain dataclasses for the rest of the
program.

All problems are reported together, each named by its key. Nothing starts until they are fixed (exit 78).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from daemon.adapters.mongo.address import address_of
from daemon.domain.key_use import KeyUse
from daemon.domain.layout import Layout
from daemon.domain.provider import Definition, Provider
from daemon.domain.secret import Secret
from daemon.runtime.config.client_sources import ClientSource, client_sources
from daemon.runtime.config.exposed_secrets import find_exposed_secrets
from daemon.runtime.config.fields import checked, did_you_mean, format_duration
from daemon.runtime.config.hooks import HookSettings, read_hooks
from daemon.runtime.config.layouts import read_layouts
from daemon.runtime.config.lazy_mapping import LazyMapping
from daemon.runtime.config.mirrors import MirrorSettings, read_mirrors
from daemon.runtime.config.problems import Findings, Problem, SecretsAway, SettingsInvalid, Waiting
from daemon.runtime.config.providers.definition_dir import Known, read_known
from daemon.runtime.config.providers.definitions import read_definition
from daemon.runtime.config.providers.provider_settings import read_providers, whole_tables
from daemon.runtime.config.secret_places import DAEMON, Use
from daemon.runtime.config.secret_reading import SecretReader
from daemon.runtime.config.secret_resolution import Answered, Resolution
from daemon.runtime.config.secret_sources import EMBEDDED, SecretContext, world_readable
from daemon.runtime.config.sections import (
    DefinitionsTable,
    DemoSettings,
    KeySettings,
    LayoutsTable,
    LogFormat,
    LogLevel,
    LogSettings,
    RefreshSettings,
    ServerSettings,
    StateTable,
    StoreSettings,
)
from daemon.runtime.config.sources import Document, base_directory, config_path, read_document
from daemon.runtime.config.wrapped_keys import name_wrapped

__all__ = [
    "DemoSettings",
    "KeySettings",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "Problem",
    "RefreshSettings",
    "ServerSettings",
    "Settings",
    "SettingsInvalid",
    "StoreSettings",
    "config_path",
    "load",
]

SHORTEST_BEARER = 16  # characters, for a server that other machines can reach
LEASE_MARGIN = timedelta(seconds=20)  # a lease covers two requests, and claiming, keeping and recording
OUTDATED = (
    "use the embedded MongoDB only to try refreshd: its version 6.0 has had no security fixes since July 2025"
)
_MONGODBS_OWN = frozenset({"admin", "local", "config"})
LOOPBACK = re.compile(r"localhost|127(\.[0-9]{1,3}){3}|::1|\[::1\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All valid settings. Their secrets never print themselves."""

    source: str  # the file, or that there is none
    store: StoreSettings
    state_dir: Path
    refresh: RefreshSettings
    keys: KeySettings
    server: ServerSettings
    log: LogSettings
    demo: DemoSettings
    definitions: Mapping[str, Definition]  # all definitions that a provider can be configured over
    providers: Mapping[str, Provider]
    layouts: Mapping[str, Layout]
    mirrors: tuple[MirrorSettings, ...] = ()  # those of this host
    hooks: tuple[HookSettings, ...] = ()
    loose: tuple[Problem, ...] = ()  # secrets that more users can read than need to
    clients: Mapping[str, ClientSource] = field(default_factory=dict)  # that can be read again, by provider
    answered: tuple[
        Answered, ...
    ] = ()  # which source gave a secret, for those outside this machine and lists
    lacking: tuple[Waiting, ...] = ()  # secrets of clients that have not come

    @property
    def caution(self) -> str | None:
        """Return the risk of these settings although they are valid; None if there is none."""
        return OUTDATED if self.store.embedded and not self.demo.enabled else None


SECTIONS = (
    "store",
    "state",
    "refresh",
    "keys",
    "server",
    "log",
    "demo",
    "definitions",
    "providers",
    "layouts",
    "mirrors",
    "hooks",
    "access",  # of `refreshd serve`, which reads it
)


def load(
    path: Path | None,
    env: Mapping[str, str],
    env_file: Path | None = None,
    *,
    uses: Collection[Use] = DAEMON,
    reader: SecretReader | None = None,
) -> Settings:
    """Return the settings in the file at `path` (None: where `config_path` finds it) and in the environment.

    Only secrets for `uses` are asked for outside this machine; an empty text is in the place of others. `reader` keeps
    the answers in use while their sources are away.

    Raises SettingsInvalid with every problem, or SecretsAway. A client's secret that has not come is in `lacking`. May
    create a key file if [demo] allows `create = true`.
    """
    secrets = Resolution(reader or SecretReader())
    document = read_document(path, env, env_file)
    try:
        return _checked(document, uses, secrets)
    except SettingsInvalid as invalid:
        if not secrets.refuse(invalid.problems, document.findings):
            raise
    return _checked(read_document(path, env, env_file), uses, secrets)


def _checked(document: Document, uses: Collection[Use], secrets: Resolution) -> Settings:
    table, findings = document.table, document.findings
    unknown_sections(document)
    demo = checked(DemoSettings, table.get("demo", {}), ("demo",), findings)
    context = secret_context(document, may_create=demo is not None and demo.enabled)
    secrets.ask(table, uses, context.local)
    context = replace(context, answers=secrets.answers)

    store = checked(StoreSettings, table.get("store", {}), ("store",), findings, context=context)
    state = checked(StateTable, table.get("state", {}), ("state",), findings)
    refresh = checked(RefreshSettings, table.get("refresh", {}), ("refresh",), findings, context=context)
    keys = checked(
        KeySettings, _without_door_keys(table.get("keys", {})), ("keys",), findings, context=context
    )
    server = checked(ServerSettings, table.get("server", {}), ("server",), findings, context=context)
    log = checked(LogSettings, table.get("log", {}), ("log",), findings)
    known = known_definitions(document)
    configured = table.get("providers", {})
    most = refresh.concurrency if refresh else RefreshSettings().concurrency
    providers = read_providers(configured, known, findings, context, concurrency=most)
    layouts = _layouts(document)
    mirrors = read_mirrors(table.get("mirrors", []), layouts, providers, findings, context)
    hooks = read_hooks(table.get("hooks", []), providers, findings, context)

    find_exposed_secrets(document, _token_urls(configured, known), findings)
    _check_demo(demo, store, findings)
    _check_refresh(refresh, findings)
    _check_keys(keys, findings)
    _check_server(server, findings)
    if findings.problems or not (store and state and refresh and keys and server and log and demo):
        raise SettingsInvalid(findings.problems, log_format=log.format.value if log else "auto")
    lacking = secrets.lacking()
    settings = Settings(
        source=str(document.file or "the environment, without a file,"),
        store=in_its_database(store, stated="database" in table.get("store", {})),
        state_dir=state_dir(state, document),
        refresh=refresh,
        keys=keys,
        server=server,
        log=log,
        demo=demo,
        definitions=LazyMapping(known.tables, lambda name: read_definition(name, known.tables[name])),
        providers={
            name: replace(one, client_secret=None, lacking=f"{lacking[name].source}: {lacking[name].why}")
            if name in lacking
            else one
            for name, one in providers.items()
        },
        layouts=layouts,
        mirrors=mirrors,
        hooks=hooks,
        loose=tuple(dict.fromkeys(context.loose)),
        clients={one.provider: one for one in client_sources(configured, context.local)},
        answered=tuple(secrets.answered()),
        lacking=tuple(secrets.waiting(findings, clients=True)),
    )
    if waiting := secrets.waiting(findings, clients=False):
        raise SecretsAway(waiting, log=log, settings=settings)
    secrets.accept()
    return settings


def _without_door_keys(table: object) -> object:
    """Return [keys] without the keys of `refreshd serve`, so that one file can serve both."""
    if not isinstance(table, Mapping):
        return table
    return name_wrapped({name: value for name, value in table.items() if name not in ("readers", "writer")})


def in_its_database(store: StoreSettings, *, stated: bool) -> StoreSettings:
    """Choose the database: store.database takes precedence over the URI's path; MongoDB's own databases hold
    no tokens.
    """
    if isinstance(store.uri, Secret) and not store.uri:
        return store  # its source was not asked, or has not answered
    path = address_of(store.uri.reveal()).database if isinstance(store.uri, Secret) else None
    return store if stated or path is None or path in _MONGODBS_OWN else replace(store, database=path)


def unknown_sections(document: Document) -> None:
    for name in document.table:
        if name not in SECTIONS:
            document.findings.add((name,), "unknown section", did_you_mean(name, SECTIONS))


def secret_context(document: Document, *, may_create: bool) -> SecretContext:
    exposed = document.env_file is not None and world_readable(document.env_file)
    return SecretContext(
        directory=base_directory(document.file),
        variables=document.variables,
        exposed=document.env_file_names if exposed else frozenset(),
        may_create=may_create,
    )


def known_definitions(document: Document) -> Known:
    """Return the shipped definitions and those in the operator's directory. A relative directory starts
    beside the file.
    """
    table = document.table.get("definitions", {})
    found = checked(DefinitionsTable, table, ("definitions",), document.findings)
    own = base_directory(document.file) / found.dir if found and found.dir else None
    return read_known(own, document.findings)


def _layouts(document: Document) -> Mapping[str, Layout]:
    """Return the shipped layouts together with those in the operator's directory."""
    found = checked(LayoutsTable, document.table.get("layouts", {}), ("layouts",), document.findings)
    own = base_directory(document.file) / found.dir if found and found.dir else None
    return read_layouts(own, document.findings)


def _token_urls(configured: object, definitions: Known) -> dict[str, object]:
    return {
        name: table.get("token_url")
        for name, table in whole_tables(configured, definitions).items()
        if isinstance(table, Mapping)
    }


def state_dir(state: StateTable, document: Document) -> Path:
    """Return [state] dir, else systemd's first $STATE_DIRECTORY, else var. A relative one starts beside the
    file.
    """
    systemd = document.variables.get("STATE_DIRECTORY", "").partition(":")[0]
    return base_directory(document.file) / (state.dir or systemd or "var")


def _check_demo(demo: DemoSettings | None, store: StoreSettings | None, findings: Findings) -> None:
    if demo is None or not demo.enabled:
        return
    if store is not None and not store.embedded and not findings.broken(("store", "uri")):
        findings.add(
            ("demo", "enabled"),
            f'the demo only fills its own database, but store.uri is not "{EMBEDDED}"',
            "Remove [demo].",
        )
    if demo.lifetime < timedelta(seconds=1) and not findings.broken(("demo", "lifetime")):
        findings.add(("demo", "lifetime"), "is shorter than the sandbox supports", 'Write at least "1s".')


def _check_refresh(refresh: RefreshSettings | None, findings: Findings) -> None:
    if refresh is None or findings.broken(("refresh", "request_timeout")):
        return
    least = 2 * refresh.request_timeout + LEASE_MARGIN
    if refresh.lease < least and not findings.broken(("refresh", "lease")):
        findings.add(
            ("refresh", "lease"),
            f"{format_duration(refresh.lease)} is too short for two requests of up to {format_duration(refresh.request_timeout)} each",
            f'Write at least "{format_duration(least)}", or lower refresh.request_timeout.',
        )
    if refresh.drain <= refresh.request_timeout and not findings.broken(("refresh", "drain")):
        findings.add(
            ("refresh", "drain"),
            f"{format_duration(refresh.drain)} is not longer than refresh.request_timeout",
            f'Write more than "{format_duration(refresh.request_timeout)}", so that every request in flight can finish.',
        )


def _check_keys(keys: KeySettings | None, findings: Findings) -> None:
    if keys is None or findings.broken(("keys", "active"), ("keys", "ring", keys.active)):
        return
    if keys.active not in keys.ring:
        key_ids = ", ".join(keys.ring)
        do = f"Write one of: {key_ids}." if key_ids else "Add it to [keys.ring]."
        findings.add(("keys", "active"), "is not the id of a key on the ring", do)
    elif keys.ring[keys.active].use is KeyUse.OPEN:
        what = f'the key {keys.active!r} has use = "open", so it may not seal'
        findings.add(("keys", "active"), what, 'Name another key, or write use = "all".')
    for key_id in keys.writers or ():
        if key_id not in keys.ring and not findings.broken(("keys", "ring", key_id)):
            findings.add(("keys", "writers"), f"the ring has no key {key_id!r}", "Add it to [keys.ring].")


def _check_server(server: ServerSettings | None, findings: Findings) -> None:
    if server is None or findings.broken(("server", "host"), ("server", "bearer_token")):
        return
    if LOOPBACK.fullmatch(server.host):
        return
    if server.bearer_token is None:
        findings.add(
            ("server", "bearer_token"),
            "is required because server.host is not a loopback address",
            'Add it, like bearer_token = { env = "NAME" }, or set host to "127.0.0.1".',
        )
    elif server.bearer_token and len(server.bearer_token.reveal()) < SHORTEST_BEARER:
        findings.add(
            ("server", "bearer_token"),
            f"has fewer than {SHORTEST_BEARER} characters, and server.host is not a loopback address",
            'Make one with `openssl rand -base64 24`, or set host to "127.0.0.1".',
        )
