"""`[[hooks]]`: the receivers of events."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from daemon.adapters.egress.public_addresses import is_private_literal
from daemon.domain.hook import Format, Route, matched_types
from daemon.domain.hook_message import PREFIX, SHORTEST, SecretInvalid, signing_key
from daemon.domain.secret import Secret
from daemon.domain.token_url import is_loopback
from daemon.runtime.config.fields import ARRAY, STRICT, Context, Flag, Read, Text, checked, one_of, text
from daemon.runtime.config.problems import Findings, InvalidValue, Place
from daemon.runtime.config.secret_sources import SecretContext, secret

_NAME = re.compile(r"(?!unknown$)[A-Za-z0-9_.-]{1,64}")  # metrics call others so
_VISIBLE = re.compile(r"[\x21-\x5b\x5d-\x7e]+")  # no backslash, which some read as a slash
_MAKE_SECRET = f'Make one with `echo "{PREFIX}$(openssl rand -base64 32)"`.'
_MOST_SECRETS = 2
Fault = tuple[str, str, str]  # the key, what is wrong, what to do


def hook_secrets(value: object, info: Context) -> tuple[Secret, ...]:
    """Read a secret, or a list of two while it changes. One whose source has not answered is an empty text."""
    each = value if isinstance(value, list) else [value]
    if not 1 <= len(each) <= _MOST_SECRETS:
        raise InvalidValue(f"has {len(each)} secrets", "Write one, or a list of two while it changes.")
    return tuple(_hook_secret(one, info) for one in each)


def _hook_secret(value: object, info: Context) -> Secret:
    found = secret(value, info)
    if found:
        try:
            signing_key(found.reveal())
        except SecretInvalid as why:
            raise InvalidValue(
                f"{why}: a secret has {PREFIX} and at least {SHORTEST} bytes in base64", _MAKE_SECRET
            ) from None
    return found


def hook_url(value: object) -> str:
    given = text(value)
    try:
        parts = urlsplit(given)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0 or "@" in parts.netloc or parts.fragment or not _VISIBLE.fullmatch(given):
        raise InvalidValue(
            "is not a plain URL", 'Write it like "https://HOST/PATH", without user, spaces or fragment.'
        )
    if parts.scheme not in ("https", "http"):
        raise InvalidValue("must begin with https://", "Write the receiver's https URL.")
    return given


def event_glob(value: object) -> str:
    given = text(value)
    if not matched_types(given):
        raise InvalidValue(f"has no event of the type {given!r}", "docs/hooks.md lists the types.")
    return given


@dataclass(frozen=True, slots=True, kw_only=True)
class HookTable:
    """The keys of one hook; `HookSettings` explains them."""

    __pydantic_config__: ClassVar = STRICT

    name: Text
    url: Annotated[str, Read(hook_url)]
    secret: Annotated[tuple[Secret, ...], Read(hook_secrets)]
    events: Annotated[tuple[Annotated[str, Read(event_glob)], ...], ARRAY] = ()
    providers: Annotated[tuple[Text, ...], ARRAY] = ()
    format: Annotated[Format, Read(one_of(Format))] = Format.STANDARD
    allow_private: Flag = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSettings:
    """One hook. `secrets`: each signs every request. `allow_private`: the receiver may be inside the network."""

    route: Route
    url: str
    secrets: tuple[Secret, ...] = field(repr=False)
    format: Format
    allow_private: bool

    @property
    def name(self) -> str:
        return self.route.name

    @property
    def keys(self) -> tuple[bytes, ...]:
        return tuple(signing_key(one.reveal()) for one in self.secrets if one)

    @property
    def configuration(self) -> str:
        """Return a text that changes with the configuration. It reveals nothing of the secrets."""
        public = (self.url, self.format, self.route.events, self.route.providers, self.allow_private)
        return sha256(json.dumps(public).encode()).hexdigest()[:16]


def read_hooks(
    tables: object, providers: Mapping[str, object], findings: Findings, around: SecretContext
) -> tuple[HookSettings, ...]:
    """Return the hooks, and add every problem to `findings`."""
    if not isinstance(tables, list):
        findings.add(("hooks",), "must be a list of tables", "Write each hook as a section [[hooks]].")
        return ()
    found: list[HookSettings] = []
    for number, table in enumerate(tables):
        place: Place = ("hooks", str(number))
        row = checked(HookTable, table, place, findings, context=around)
        if row is None:
            continue
        for key, what, do in _faults(row, providers):
            findings.add((*place, key), what, do)
        if row.name in {other.name for other in found}:
            findings.add((*place, "name"), "is the name of another hook too", "Give each its own name.")
        found.append(
            HookSettings(
                route=Route(name=row.name, events=row.events, providers=row.providers),
                url=row.url,
                secrets=row.secret,
                format=row.format,
                allow_private=row.allow_private,
            )
        )
    return tuple(found)


def read_routes(tables: object) -> tuple[Route, ...]:
    """Return the names and filters of the hooks for a process that stores events and sends none, so it needs no secret.

    What is invalid is left out: the daemon reports it.
    """
    rows = [one for one in tables if isinstance(one, Mapping)] if isinstance(tables, list) else []
    return tuple(
        Route(name=name, events=_texts(one.get("events")), providers=_texts(one.get("providers")))
        for one in rows
        if isinstance(name := one.get("name"), str) and _NAME.fullmatch(name)
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _faults(row: HookTable, providers: Mapping[str, object]) -> Iterator[Fault]:
    if not _NAME.fullmatch(row.name):
        yield "name", "is not a valid name", "Use 1 to 64 letters, digits, '_', '-' and '.'."
    for name in row.providers:
        if name not in providers:
            yield "providers", f"{name} is not configured", "Use configured providers."
    if row.allow_private:
        return
    if urlsplit(row.url).scheme != "https":
        yield "url", "must begin with https://", "Inside the network, add allow_private = true."
    elif is_private_literal(urlsplit(row.url).hostname or "") or is_loopback(row.url):
        yield "url", "is not a public address", "If it is meant to be inside, add allow_private = true."


def secrets_of_hooks(hooks: tuple[HookSettings, ...]) -> Iterator[Secret]:
    """Yield the secrets of these hooks, with and without their prefix."""
    for hook in hooks:
        for one in filter(None, hook.secrets):
            yield one
            yield Secret(one.reveal().removeprefix(PREFIX))
