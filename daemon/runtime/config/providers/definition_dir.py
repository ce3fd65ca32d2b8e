"""The operator's own definitions, one file each in `[definitions] dir`. They change a shipped definition of
the same name, or add one. Keys of [providers.NAME] are laid over either.

Shipped definitions change only with refreshd. These files are read again with every configuration, and so at
a reload.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.domain.token import PROVIDER_NAME
from daemon.runtime.config.problems import Findings, Problem, SettingsInvalid
from daemon.runtime.config.providers.definitions import read_definition
from daemon.runtime.config.providers.shipped_tables import shipped_tables
from daemon.runtime.config.providers.url_rules import used_variables
from daemon.runtime.config.sources import operators_files, read_toml

# The addresses that belong to the server of the token URL.
_SERVER_KEYS = (
    "issuer",
    "authorize_url",
    "exchange_url",
    "par_url",
    "device_url",
    "manage_url",
    "revoke_url",
)

Tables = Mapping[str, Mapping[str, Any]]  # a definition's name -> its keys, as they were written


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Every definition that a provider can be configured over. `broken`: the names of invalid files."""

    tables: Tables = field(default_factory=shipped_tables)
    broken: frozenset[str] = frozenset()


def read_known(directory: Path | None, findings: Findings) -> Known:
    """Return the shipped definitions together with those in `directory`. Adds each problem to `findings`, by
    its file and key.
    """
    own: dict[str, Mapping[str, Any]] = {}
    broken = set()
    for file in operators_files(directory, "definitions", findings):
        name = file.stem
        try:
            _check_name(file)
            table = laid_over(
                shipped_tables().get(name, {}), read_toml(file, "Correct the file, or remove it.")
            )
            read_definition(name, table, file=str(file))
        except SettingsInvalid as invalid:
            findings.problems.extend(invalid.problems)
            broken.add(name)
        else:
            own[name] = table
    return Known(tables=shipped_tables().under(own), broken=frozenset(broken))


def laid_over(shipped: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `own` over `shipped`, table by table.

    A token URL of the operator's own is another server: the pages and addresses of the shipped one don't
    belong to it, and a revocation there would show that server a refresh token of this one. So they are left
    out, and with them the variables that are in no other URL.
    """
    shipped = dict(shipped)
    if own.get("token_url", shipped.get("token_url")) != shipped.get("token_url"):
        shipped = _without_server(shipped, own)
        urls = (str(own.get(key, shipped.get(key, ""))) for key in ("token_url", *_SERVER_KEYS))
        params = [*_laid(shipped, own, "params").values(), *_laid(shipped, own, "headers").values()]
        revoke = str(_table(own, "revoke").get("url", ""))
        claims = _laid(_table(shipped, "assertion"), _table(own, "assertion"), "claims").values()
        used = used_variables(*urls, revoke, *map(str, params), *map(str, claims))
        if isinstance(shipped.get("variables"), Mapping):
            shipped["variables"] = {name: row for name, row in shipped["variables"].items() if name in used}
        brought = shipped.pop("callback_variables", ())
        if "authorize_url" in own and (left := [name for name in brought if name in used]):
            shipped["callback_variables"] = left
    merged: dict[str, Any] = {**shipped, **own}
    for key in shipped.keys() & own.keys():
        if isinstance(shipped[key], Mapping) and isinstance(own[key], Mapping):
            merged[key] = laid_over(shipped[key], own[key])
    return merged


def _without_server(shipped: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return `shipped` without the addresses of its server and the day on which that is off, and without its revocation
    if that has no address then.
    """
    kept = {key: value for key, value in shipped.items() if key not in (*_SERVER_KEYS, "retires")}
    if "issuer" not in own:
        kept.pop("assertion_audience", None)
    revoke = {key: value for key, value in _table(shipped, "revoke").items() if key != "url"}
    kept.pop("revoke", None)
    return {**kept, "revoke": revoke} if revoke and ("revoke_url" in own or "revoke" in own) else kept


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = table.get(key, {})
    return inner if isinstance(inner, Mapping) else {}


def _laid(shipped: Mapping[str, Any], own: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return {**_table(shipped, key), **_table(own, key)}


def _check_name(file: Path) -> None:
    if not PROVIDER_NAME.fullmatch(file.stem):
        do = "Rename it: a to z, 0 to 9, '_' and '-', a letter or digit first, and .toml."
        problem = Problem(where=str(file), what="its name is not a valid provider name", do=do)
        raise SettingsInvalid([problem])
