"""Layout files: how an application stores its tokens, read from TOML. They contain data only.

A layout comes from a shipped file or from the operator's directory. A command lays its options over either.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar

from daemon.domain.cipher_form import FormInvalid, read_form
from daemon.domain.layout import ALL, FIELDS, FILE, NAME, Encoding, Encryption, Layout, SourceKind, TimeForm
from daemon.domain.token import PROVIDER_NAME
from daemon.runtime.config.fields import ARRAY, STRICT, Read, Text, checked, one_of, text
from daemon.runtime.config.lazy_mapping import LazyMapping
from daemon.runtime.config.problems import Findings, InvalidValue, SettingsInvalid
from daemon.runtime.config.sources import operators_files, read_toml

LAYOUT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_LONGEST_PATH = 200  # characters
_META_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

Fault = tuple[tuple[str, ...], str, str]  # the key's path, what is wrong, what to do


def path(value: object) -> str:
    """Read one dotted path, like `credentials.access_token`."""
    found = text(value)
    if len(found) > _LONGEST_PATH or any(not step for step in found.split(".")) or not found.isprintable():
        raise InvalidValue("is not a path", "Write a field's name; a dot leads into an object.")
    if found.startswith("@") and found not in (NAME, FILE):
        raise InvalidValue(
            "begins with @", f'Use "{NAME}" for the entry\'s name, "{FILE}" for the file\'s, or a field.'
        )
    return found


def paths(value: object) -> tuple[str, ...]:
    """Read one dotted path, or several of which the first that a row has counts."""
    return tuple(map(path, value)) if isinstance(value, list) and value else (path(value),)


def form(value: object) -> str:
    """Read the form of an encrypted text; see `domain.layout.Encryption`."""
    try:
        read_form(text(value))
    except FormInvalid:
        raise InvalidValue(
            "does not name a nonce, a tag and a ciphertext",
            'Write it like "json:encrypted,iv,authTag", "iv:authTag:ciphertext" or "iv+ciphertext+tag".',
        ) from None
    return text(value)


def nonce_bytes(value: object) -> int:
    """Read the length of a new nonce: 12 bytes as in NIST SP 800-38D, or 16 as many programs take."""
    if isinstance(value, bool) or value not in (12, 16) or not isinstance(value, int):
        raise InvalidValue("is not a length of a nonce", "Write 12 or 16.")
    return value


Path_ = Annotated[str, Read(path)]
Paths = Annotated[tuple[str, ...], Read(paths)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderTable:
    """Where a row names its provider, and what its words stand for."""

    __pydantic_config__: ClassVar = STRICT

    at: Paths
    names: dict[str, Text] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CipherTable:
    """How the application encrypts its tokens."""

    __pydantic_config__: ClassVar = STRICT

    name: Text
    form: Annotated[str, Read(form)]
    encoding: Annotated[Encoding, Read(one_of(Encoding))] = Encoding.HEX
    key: Annotated[Encoding, Read(one_of(Encoding))] = Encoding.HEX
    iv_bytes: Annotated[int, Read(nonce_bytes)] = 12
    aad: str = ""
    fields: Annotated[tuple[Text, ...], ARRAY] = ("access_token", "refresh_token")


def provider_of(value: object) -> object:
    """Read the provider: its name, or a table that says where a row has it."""
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, str) or not PROVIDER_NAME.fullmatch(value):
        raise InvalidValue("is not a provider's name", 'Write "xero", or a table: { at = "service" }.')
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutTable:
    """The keys of a layout file; `domain.layout.Layout` explains each."""

    __pydantic_config__: ClassVar = STRICT

    source: Annotated[SourceKind, Read(one_of(SourceKind))]
    account: Paths
    access_token: Paths
    refresh_token: Paths
    title: Text | None = None
    rows: Path_ | None = None
    collection: Text | None = None
    table: Text | None = None
    provider: Annotated[object, Read(provider_of)] = None
    token_type: Paths = ()
    scope: Paths = ()
    expires_at: Paths = ()
    issued_at: Paths = ()
    consented_at: Paths = ()
    last_used_at: Paths = ()
    subject: Paths = ()
    time: Annotated[TimeForm, Read(one_of(TimeForm))] = TimeForm.MILLISECONDS
    meta: dict[str, Path_] = field(default_factory=dict)
    vars: dict[str, Path_] = field(default_factory=dict)
    cipher: CipherTable | None = None
    notes: Annotated[tuple[Text, ...], ARRAY] = ()


def read_layout(name: str, table: Mapping[str, Any], *, file: str | None = None) -> Layout:
    """Return the layout in a whole file's `table`. Raises SettingsInvalid, each problem named by `file`."""
    findings = Findings(file or f"layouts/{name}.toml")
    row = checked(LayoutTable, table, (), findings)
    named = None
    if row is not None and isinstance(row.provider, Mapping):
        named = checked(ProviderTable, row.provider, ("provider",), findings)
    for place, what, do in _faults(row, named) if row is not None and not findings.problems else ():
        findings.add(place, what, do)
    if findings.problems or row is None:
        raise SettingsInvalid(findings.problems)
    return _layout(name, row, named)


def _layout(name: str, row: LayoutTable, named: ProviderTable | None) -> Layout:
    same = {one.name for one in fields(LayoutTable)} - {"title", "rows", "provider", "cipher"}
    known: dict[str, Any] = {key: getattr(row, key) for key in same}
    cipher = row.cipher
    return Layout(
        name=name,
        title=row.title or name,
        rows=row.rows or "",
        provider_name=row.provider if isinstance(row.provider, str) else None,
        provider=named.at if named else (),
        providers=named.names if named else {},
        encryption=None
        if cipher is None
        else Encryption(**{one.name: getattr(cipher, one.name) for one in fields(Encryption)}),
        **known,
    )


def _faults(row: LayoutTable, named: ProviderTable | None) -> Iterator[Fault]:
    """Yield problems across keys."""
    for key, kind in (
        ("rows", SourceKind.JSON),
        ("collection", SourceKind.MONGODB),
        ("table", SourceKind.POSTGRESQL),
    ):
        if getattr(row, key) is not None and row.source is not kind:
            yield (key,), f'is for source = "{kind}" only', "Remove it, or change the source."
    yield from _place_faults(row, named)
    for key in ("meta", "vars"):
        for name in getattr(row, key):
            if name == ALL and row.source is SourceKind.POSTGRESQL:
                yield (key, name), "leads to an object, which no column holds", "Name each column."
            elif name != ALL and not _META_NAME.fullmatch(name):
                yield (key, name), "is not a valid name", "Use letters, digits, '_' and '-', or * alone."
    for word, ours in (named.names if named is not None else {}).items():
        if not PROVIDER_NAME.fullmatch(ours):
            yield ("provider", "names", word), "is not a provider's name", "Use a name of refreshd's."
    if row.cipher is not None:
        yield from _cipher_faults(row, row.cipher)


def _place_faults(row: LayoutTable, named: ProviderTable | None) -> Iterator[Fault]:
    """Yield problems with the names of entries and files: both exist in files only, and hold one value each."""
    if NAME in row.account and row.source is not SourceKind.JSON:
        yield ("account",), f'"{NAME}" is for source = "json" only', "Name the field that holds the account."
    if FILE in row.account:
        yield ("account",), f'"{FILE}" can\'t be the account', "A file is for one provider: use it there."
    files = (SourceKind.JSON, SourceKind.JSONL)
    if named is not None and FILE in named.at and row.source not in files:
        yield ("provider", "at"), f'"{FILE}" is for files only', "Name the field that holds the provider."
    for key in FIELDS:
        if {NAME, FILE} & set(getattr(row, key)):
            yield (key,), f'"{NAME}" and "{FILE}" hold no such value', "Name the field that holds it."


def _cipher_faults(row: LayoutTable, cipher: CipherTable) -> Iterator[Fault]:
    if cipher.name != "aes-256-gcm":
        yield ("cipher", "name"), "is not a cipher that refreshd supports", 'Write "aes-256-gcm".'
    if cipher.encoding is Encoding.TEXT:
        yield ("cipher", "encoding"), '"text" is for the key only', 'Write "hex" or "base64".'
    for name in cipher.fields:
        if name not in FIELDS or not getattr(row, name):
            yield ("cipher", "fields"), f"lists {name}, which this layout has no path for", "Remove it."


@cache
def shipped_layouts() -> LazyMapping[Layout]:
    """Return the shipped layouts by name. A test prevents that one is invalid."""
    directory = resources.files("daemon.layouts")
    files = sorted(file.name for file in directory.iterdir() if file.name.endswith(".toml"))

    def read(name: str) -> Layout:
        return read_layout(name, tomllib.loads((directory / f"{name}.toml").read_text("utf-8")))

    return LazyMapping((file.removesuffix(".toml") for file in files), read)


def read_layouts(directory: Path | None, findings: Findings) -> Mapping[str, Layout]:
    """Return the shipped layouts together with those in `directory`, which take precedence. Adds each problem to
    `findings`.
    """
    own: dict[str, Layout] = {}
    for file in operators_files(directory, "layouts", findings):
        if not LAYOUT_NAME.fullmatch(file.stem):
            do = "Rename it: a to z, 0 to 9, '_' and '-', a letter or digit first, and .toml."
            findings.add(("layouts", "dir"), f"{file} has a name that is not a layout's", do)
            continue
        try:
            table = read_toml(file, "Correct the file, or remove it.")
            own[file.stem] = read_layout(file.stem, table, file=str(file))
        except SettingsInvalid as invalid:
            findings.problems.extend(invalid.problems)
    return shipped_layouts().under(own)


# ---------------------------------------------------------------- options of a command


class OptionInvalid(ValueError):
    """An option does not fit the layout. The text is a sentence for operators."""


def laid_over(
    layout: Layout,
    *,
    provider_name: str | None = None,
    maps: Sequence[str] = (),
    collection: str | None = None,
    table: str | None = None,
) -> Layout:
    """Return `layout` with a command's options. Raises OptionInvalid.

    Each of `maps` is FIELD.VALUE=NAME, a provider's word and its name, or meta.NAME=FIELD or vars.NAME=FIELD.
    """
    if collection is not None and layout.source is not SourceKind.MONGODB:
        raise OptionInvalid(f"--collection: the layout {layout.name} does not read a MongoDB collection")
    if table is not None and layout.source is not SourceKind.POSTGRESQL:
        raise OptionInvalid(f"--table: the layout {layout.name} does not read a PostgreSQL table")
    if provider_name is not None:
        if not PROVIDER_NAME.fullmatch(provider_name):
            raise OptionInvalid(f"--provider: {provider_name!r} is not a provider's name")
        layout = replace(layout, provider_name=provider_name, provider=())
    for one in maps:
        layout = _mapped(layout, one)
    return replace(layout, collection=collection or layout.collection, table=table or layout.table)


def _mapped(layout: Layout, given: str) -> Layout:
    left, equals, right = given.partition("=")
    head, dot, name = left.partition(".")
    if not equals or not dot or not name or not right:
        raise OptionInvalid(
            f"--map: {given!r} is not FIELD.VALUE=NAME. Write it like integration.gmail=google, or meta.domain=apiDomain"
        )
    if head in layout.provider:
        if not PROVIDER_NAME.fullmatch(right):
            raise OptionInvalid(f"--map: {right!r} is not a provider's name")
        return replace(layout, providers={**layout.providers, name: right})
    if head in ("meta", "vars"):
        if not _META_NAME.fullmatch(name):
            raise OptionInvalid(f"--map: {name!r} is not a valid name. Use letters, digits, '_' and '-'")
        return (
            replace(layout, meta={**layout.meta, name: right})
            if head == "meta"
            else replace(layout, vars={**layout.vars, name: right})
        )
    fields_of = ", ".join((*layout.provider, "meta", "vars"))
    raise OptionInvalid(f"--map: {head!r} is not a field that names the provider. Use one of: {fields_of}")


def unknown_layout(name: str, known: Mapping[str, Layout]) -> str:
    """Return a sentence about a layout that does not exist."""
    close = get_close_matches(name, list(known), n=1)
    like = f"Did you mean {close[0]}? " if close else ""
    return f"layout {name!r} is unknown. {like}Known: {', '.join(known)}"
