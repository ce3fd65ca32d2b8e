"""The places of the configuration where secrets stand, and which of them a process uses."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from daemon.runtime.config.problems import InvalidValue, Place
from daemon.runtime.config.ring import source_in
from daemon.runtime.config.secret_chains import Chain, chain_of
from daemon.runtime.config.wrapped_keys import name_wrapped


class Use(Enum):
    """What a process uses secrets for. A source that it does not use is not asked."""

    STORE = "store"  # its URI
    KEYS = "keys"  # the ring
    SERVER = "server"  # the daemon's own listener
    REQUESTS = "requests"  # the proxy
    CLIENTS = "clients"  # at the providers
    MIRRORS = "mirrors"
    HOOKS = "hooks"
    ACCESS = "access"  # the access service: its listener, readers and writer


DAEMON = frozenset(Use) - {Use.ACCESS}
STORE_ONLY = frozenset({Use.STORE, Use.KEYS})


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretPlace:
    """A place with sources that are read before the tables are checked."""

    place: Place
    chain: Chain
    use: Use


_SINGLE: tuple[tuple[Place, Use], ...] = (
    (("store", "uri"), Use.STORE),
    (("server", "bearer_token"), Use.SERVER),
    (("refresh", "proxy"), Use.REQUESTS),
    (("access", "bearer_token"), Use.ACCESS),
    (("access", "tls", "key"), Use.ACCESS),
    (("keys", "readers"), Use.ACCESS),
    (("keys", "writer"), Use.ACCESS),
)


def secret_places(table: Mapping[str, Any], uses: Collection[Use]) -> Iterator[SecretPlace]:
    """Yield the places whose sources have to be asked for `uses`: lists, and sources outside this machine. A list of
    sources on this machine is asked always. An invalid notation is left to the code that reads the table.
    """
    for place, value, use in _values(table):
        try:
            own = source_in(value) if use is Use.KEYS and isinstance(value, Mapping) else value
            chain = chain_of(own)
        except InvalidValue:
            continue
        if chain is None or not (chain.is_remote or len(chain.steps) > 1):
            continue
        if use in uses or not chain.is_remote:
            yield SecretPlace(place=place, chain=chain, use=use)


def _values(table: Mapping[str, Any]) -> Iterator[tuple[Place, object, Use]]:
    for place, use in _SINGLE:
        above = _table(table, *place[:-1])
        if place[-1] in above and not (place[0] == "keys" and isinstance(above[place[-1]], list)):
            yield place, above[place[-1]], use
    for name, value in _table({"keys": name_wrapped(table.get("keys"))}, "keys", "ring").items():
        if not isinstance(value, list):  # a key has one source
            yield ("keys", "ring", name), value, Use.KEYS
    for name in _table(table, "providers"):
        for key in ("client_secret", "client_key"):
            if key in (own := _table(table, "providers", name)):
                yield ("providers", name, key), own[key], Use.CLIENTS
    yield from _mirrors(table.get("mirrors"))
    yield from _hooks(table.get("hooks"))


def _mirrors(mirrors: object) -> Iterator[tuple[Place, object, Use]]:
    for number, row in enumerate(mirrors if isinstance(mirrors, list) else ()):
        for key in ("uri", "key"):
            if isinstance(row, Mapping) and key in row:
                yield ("mirrors", str(number), key), row[key], Use.MIRRORS


def _hooks(hooks: object) -> Iterator[tuple[Place, object, Use]]:
    """Yield the secrets of hooks. A list there is no chain: each of its secrets is used."""
    for number, row in enumerate(hooks if isinstance(hooks, list) else ()):
        value = row.get("secret") if isinstance(row, Mapping) else None
        for one in value if isinstance(value, list) else () if value is None else (value,):
            yield ("hooks", str(number), "secret"), one, Use.HOOKS


def _table(table: Mapping[str, Any], *steps: str) -> Mapping[str, Any]:
    for step in steps:
        inner = table.get(step)
        table = inner if isinstance(inner, Mapping) else {}
    return table
