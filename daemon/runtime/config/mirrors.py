"""`[[mirrors]]`: the places that refreshd keeps up to date beside its own store."""

import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from daemon.adapters.foreign.cipher import AesGcm, KeyInvalid
from daemon.domain.layout import Layout, SourceKind
from daemon.domain.mirrored import Shown
from daemon.domain.provider import Provider, Rotation
from daemon.domain.secret import Secret
from daemon.runtime.config.fields import ARRAY, STRICT, Flag, Read, Text, checked, one_of, whole
from daemon.runtime.config.layouts import OptionInvalid, laid_over, unknown_layout
from daemon.runtime.config.problems import Findings
from daemon.runtime.config.secret_sources import SecretContext, SecretText

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
Fault = tuple[str, str, str]  # the key, what is wrong, what to do
_SCHEMES = {SourceKind.MONGODB: ("mongodb", "mongodb+srv"), SourceKind.POSTGRESQL: ("postgresql", "postgres")}


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorTable:
    """The keys of one mirror; `MirrorSettings` explains them."""

    __pydantic_config__: ClassVar = STRICT

    layout: Text
    name: Text | None = None
    path: Text | None = None
    uri: SecretText | None = None
    collection: Text | None = None
    table: Text | None = None
    key: SecretText | None = None
    provider: Text | None = None
    providers: Annotated[tuple[Text, ...], ARRAY] = ()
    map: Annotated[tuple[Text, ...], ARRAY] = ()
    keep: Annotated[int, Read(whole(0, 100))] = 5
    owner: Text | None = None
    hosts: Annotated[tuple[Text, ...], ARRAY] = ()
    refresh_token: Annotated[Shown, Read(one_of(Shown, later=("handle",)))] = Shown.NONE
    i_know: Flag = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorSettings:
    """One mirror. `path` is for files, `uri` for databases. `providers`: whose tokens it shows; None: all.

    `keep`: former versions of a file. `owner`: the user, other than the daemon's, to whom the file may belong.
    """

    name: str
    layout: Layout
    path: Path | None
    uri: Secret | None = field(repr=False)
    key: Secret | None = field(repr=False)
    providers: tuple[str, ...] | None
    keep: int
    owner: str | None
    show: Shown


def read_mirrors(
    tables: object,
    layouts: Mapping[str, Layout],
    providers: Mapping[str, Provider],
    findings: Findings,
    around: SecretContext,
) -> tuple[MirrorSettings, ...]:
    """Return the mirrors of this host, and add every problem to `findings`."""
    if not isinstance(tables, list):
        findings.add(("mirrors",), "must be a list of tables", "Write each mirror as a section [[mirrors]].")
        return ()
    found: list[MirrorSettings] = []
    for number, table in enumerate(tables):
        place = ("mirrors", str(number))
        row = checked(MirrorTable, table, place, findings, context=around)
        if row is None:
            continue
        one = _mirror(row, place, layouts, providers, findings, around.directory)
        if one is None:
            continue
        if one.name in {other.name for other in found}:
            findings.add((*place, "name"), "is the name of another mirror too", "Give each its own name.")
        elif not row.hosts or socket.gethostname() in row.hosts:
            found.append(one)
    return tuple(found)


def _mirror(
    row: MirrorTable,
    place: tuple[str, ...],
    layouts: Mapping[str, Layout],
    providers: Mapping[str, Provider],
    findings: Findings,
    directory: Path,
) -> MirrorSettings | None:
    if (layout := layouts.get(row.layout)) is None:
        findings.add((*place, "layout"), unknown_layout(row.layout, layouts), "Correct it.")
        return None
    try:
        layout = laid_over(
            layout,
            provider_name=row.provider,
            maps=row.map,
            collection=row.collection,
            table=row.table,
        )
    except OptionInvalid as why:
        findings.add((*place, "layout"), f"does not fit: {why}", "Correct the key, or use another layout.")
        return None
    before = len(findings.problems)
    for key, what, do in (*_faults(row, layout), *_provider_faults(row, layout, providers)):
        findings.add((*place, key), what, do)
    if len(findings.problems) > before:
        return None
    only = (layout.provider_name,) if layout.provider_name is not None else row.providers
    return MirrorSettings(
        name=row.name or Path(row.path or layout.collection or layout.table or row.layout).stem,
        layout=layout,
        path=Path(os.path.abspath(directory / row.path)) if row.path is not None else None,  # noqa: PTH100  links stay
        uri=row.uri,
        key=row.key,
        providers=only or None,
        keep=row.keep,
        owner=row.owner,
        show=row.refresh_token,
    )


def _faults(row: MirrorTable, layout: Layout) -> Iterator[Fault]:
    """Yield problems of a mirror's own keys."""
    if row.name is not None and not _NAME.fullmatch(row.name):
        yield "name", "is not a valid name", "Use letters, digits, '_', '-' and '.'."
    schemes = _SCHEMES.get(layout.source)
    yield from _file_faults(row, layout) if schemes is None else _database_faults(row, layout, schemes)
    yield from _key_faults(row, layout)


def _file_faults(row: MirrorTable, layout: Layout) -> Iterator[Fault]:
    if row.path is None:
        yield "path", f'is required for source = "{layout.source}"', "Name the file or the directory."
    if row.uri is not None:
        yield "uri", "is for databases only", "Remove it."


def _database_faults(row: MirrorTable, layout: Layout, schemes: Sequence[str]) -> Iterator[Fault]:
    if row.path is not None:
        yield "path", "is for files only", "Remove it."
    if row.uri is None:
        yield "uri", f'is required for source = "{layout.source}"', "Add it, with the database's name."
    elif row.uri and row.uri.reveal().partition("://")[0] not in schemes:
        yield "uri", f"is not a URI of {layout.source}", f'Write "{schemes[0]}://HOST/DATABASE".'


def _key_faults(row: MirrorTable, layout: Layout) -> Iterator[Fault]:
    if layout.encryption is None:
        if row.key is not None:
            yield "key", "is for layouts with a cipher only", "Remove it."
    elif row.key is None:
        yield "key", "is required, because the layout has a cipher", "Add the application's key."
    elif row.key:
        try:
            AesGcm(layout.encryption, row.key)
        except KeyInvalid as why:
            yield "key", f"can't be used: {why}", "Give the key that the application uses."


def _provider_faults(row: MirrorTable, layout: Layout, providers: Mapping[str, Provider]) -> Iterator[Fault]:
    if row.provider is not None and row.providers:
        yield "providers", "excludes the key provider", "Write one of them."
    only: Sequence[str] = (layout.provider_name,) if layout.provider_name is not None else row.providers
    for name in only:
        if name not in providers:
            yield "providers", f"{name} is not configured", "Use configured providers."
    if row.refresh_token is Shown.LIVE and not row.i_know:
        shown = [providers[name] for name in only or providers if name in providers]
        rotating = [one.name for one in shown if one.definition.rotation is not Rotation.NEVER]
        if rotating:
            yield (
                "refresh_token",
                f'is "live", and {", ".join(rotating)} may rotate refresh tokens: an application that presents one ends the grant',
                'Write "none". If no program ever presents them, add i_know = true.',
            )


def mirror_secrets(mirrors: Sequence[MirrorSettings]) -> Iterator[Secret]:
    """Yield the secrets of these mirrors."""
    for mirror in mirrors:
        yield from filter(None, (mirror.uri, mirror.key))
