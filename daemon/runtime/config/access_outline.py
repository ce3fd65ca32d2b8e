"""The access service's settings without their secrets, for `refreshd check`, which may not read them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from daemon.runtime.config.access_sections import DOOR_KEYS, AccessTable, check_listener
from daemon.runtime.config.fields import STRICT, Text, checked
from daemon.runtime.config.problems import Findings, InvalidValue, Problem, SettingsInvalid
from daemon.runtime.config.secret_sources import SecretContext, file_of
from daemon.runtime.config.settings import secret_context
from daemon.runtime.config.sources import read_document


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOutline:
    """[access.tls] without the key."""

    __pydantic_config__: ClassVar = STRICT

    cert: Text


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
    if table is None and not any(name in keys for name in DOOR_KEYS):
        return None
    findings, before = document.findings, len(document.findings.problems)  # those, `load` reports
    context = secret_context(document, may_create=False)
    files = _secret_files(keys, table, findings, context)
    tls = table.get("tls") if isinstance(table, Mapping) else None
    if tls is not None:
        checked(TlsOutline, _without(tls, "key"), ("access", "tls"), findings)
    plain = _without(table if table is not None else {}, "tls", "bearer_token")
    access = checked(AccessTable, plain, ("access",), findings, context=context)
    check_listener(access, findings, with_tls=tls is not None)
    return AccessOutline(
        access=access,
        alone="ring" not in keys and "readers" in keys,
        with_tls=tls is not None,
        socket=context.directory / access.socket if access and access.socket else None,
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
    keys: Mapping[str, Any], table: object, findings: Findings, context: SecretContext
) -> dict[str, Path]:
    access = table if isinstance(table, Mapping) else {}
    tls = access.get("tls")
    places: dict[tuple[str, ...], Any] = {("keys", name): keys[name] for name in DOOR_KEYS if name in keys}
    if isinstance(tls, Mapping) and "key" in tls:
        places["access", "tls", "key"] = tls["key"]
    if "bearer_token" in access:
        places["access", "bearer_token"] = access["bearer_token"]
    files = {}
    for place, value in places.items():
        try:
            file = file_of(value, context)
        except InvalidValue as why:
            findings.add(place, why.what, why.do)
        else:
            if file is not None:
                files[".".join(place)] = file
    return files
