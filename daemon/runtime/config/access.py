"""The settings of `refreshd serve`. They need no key ring and no provider's client secret, and resolve neither."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from daemon.adapters.door_keys import DoorKeys
from daemon.domain.due import Timing
from daemon.domain.hook import Route
from daemon.domain.provider import Definition, Provider
from daemon.domain.token import PROVIDER_NAME
from daemon.runtime.config.access_keys import door_keys
from daemon.runtime.config.access_sections import (
    CLIENT_KEYS,
    DOOR_KEYS,
    AccessTable,
    ServedProviderTable,
    check_listener,
)
from daemon.runtime.config.fields import checked
from daemon.runtime.config.hooks import read_routes
from daemon.runtime.config.issuers import NO_ISSUERS, Issuers, read_issuers
from daemon.runtime.config.problems import Findings, SecretsAway, SettingsInvalid
from daemon.runtime.config.providers.definition_dir import Known
from daemon.runtime.config.providers.definition_faults import faults
from daemon.runtime.config.providers.definitions import definition
from daemon.runtime.config.providers.provider_settings import whole_tables
from daemon.runtime.config.secret_places import Use
from daemon.runtime.config.secret_reading import SecretReader
from daemon.runtime.config.secret_resolution import Answered, Resolution
from daemon.runtime.config.secret_sources import SecretContext
from daemon.runtime.config.sections import LogSettings, RefreshSettings, StateTable, StoreSettings
from daemon.runtime.config.settings import (
    in_its_database,
    known_definitions,
    secret_context,
    state_dir,
    unknown_sections,
)
from daemon.runtime.config.sources import Document, base_directory, read_document

DEMO_PROVIDER = "sandbox"  # which the daemon runs itself


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
    hooks: tuple[Route, ...] = ()  # the hooks that receive anomalies
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
    context = secret_context(document, may_create=_is_demo(table))
    secrets.ask(table, _uses(table), context.local)
    context = replace(context, answers=secrets.answers)
    store = checked(StoreSettings, table.get("store", {}), ("store",), findings, context=context)
    state = checked(StateTable, table.get("state", {}), ("state",), findings)
    access, issuers = _access(table.get("access", {}), findings, context)
    log = checked(LogSettings, table.get("log", {}), ("log",), findings)
    keys, with_ring = door_keys(table.get("keys", {}), findings, context)
    configured = table.get("providers", {})
    if _is_demo(table) and isinstance(configured, Mapping):
        configured = {DEMO_PROVIDER: {}, **configured}
    providers = _providers(configured, known_definitions(document), findings, context)
    timing = _timing(table.get("refresh", {}), findings)
    check_listener(access, findings, with_tls=access is not None and access.tls is not None)
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
    """Return what the access service uses secrets for. It asks for the ring only if it has no other keys."""
    keys = table.get("keys")
    own = isinstance(keys, Mapping) and any(name in keys for name in DOOR_KEYS)
    return frozenset({Use.STORE, Use.ACCESS, *(() if own else (Use.KEYS,))})


def _is_demo(table: Mapping[str, Any]) -> bool:
    demo = table.get("demo")
    return isinstance(demo, Mapping) and demo.get("enabled") in (True, "true")


def _access(table: object, findings: Findings, context: SecretContext) -> tuple[AccessTable | None, Issuers]:
    """Return the settings in [access], and the trusted issuers, which are a list of tables in it."""
    own = table
    issuers = NO_ISSUERS
    if isinstance(table, Mapping) and "issuers" in table:
        own = {name: value for name, value in table.items() if name != "issuers"}
        issuers = read_issuers(table["issuers"], findings, context)
    return checked(AccessTable, own, ("access",), findings, context=context), issuers


def _providers(
    configured: object, known: Known, findings: Findings, context: SecretContext
) -> dict[str, Provider]:
    """Return the configured providers. Their clients' secrets are not read."""
    found = {}
    for name, table in whole_tables(configured, known).items():
        place = ("providers", name)
        if not PROVIDER_NAME.fullmatch(name) or not isinstance(table, Mapping):
            findings.add(place, "is not a provider", "Write a section like [providers.xero].")
            continue
        facts = {key: value for key, value in table.items() if key not in CLIENT_KEYS}
        row = checked(ServedProviderTable, facts, place, findings, context=context)
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
