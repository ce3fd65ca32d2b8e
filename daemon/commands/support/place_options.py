"""The arguments and options that name another application's token store: its layout, its source, and its key."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urlsplit, urlunsplit

import typer

from daemon.adapters.foreign.cipher import AesGcm, KeyInvalid
from daemon.adapters.trusted_files import Untrusted, read_trusted
from daemon.commands.support.arguments import provider_names
from daemon.commands.support.failure import Exit, Failed
from daemon.domain.foreign import SourceLost
from daemon.domain.layout import Cipher, Layout, SourceKind
from daemon.domain.secret import Secret
from daemon.migrating.ports import ForeignStore
from daemon.runtime.config.layouts import OptionInvalid, laid_over, shipped_layouts, unknown_layout
from daemon.runtime.config.settings import Settings
from daemon.runtime.places import open_place

_SCHEMES = {SourceKind.MONGODB: ("mongodb", "mongodb+srv"), SourceKind.POSTGRESQL: ("postgresql", "postgres")}


def layout_names() -> Iterator[str]:
    """Complete the name of a shipped layout."""
    yield from shipped_layouts()


LayoutName = Annotated[
    str,
    typer.Argument(
        metavar="LAYOUT",
        autocompletion=layout_names,
        help="How the tokens are stored: a shipped layout, or your own.",
    ),
]
Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A file or directory, or a URI with its database: mongodb://..., postgresql://...",
    ),
]
ProviderOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=provider_names,
        help="The provider of all tokens, if the layout leaves it open.",
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="FIELD.VALUE=NAME",
        help="The provider that a value stands for, like integration.gmail=google; or meta.NAME=FIELD. Repeatable.",
    ),
]
CollectionOption = Annotated[str | None, typer.Option(metavar="NAME", help="The MongoDB collection.")]
TableOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The PostgreSQL table, perhaps with its schema before a dot."),
]
KeyEnv = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The environment variable with the application's encryption key."),
]
KeyFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The file with the application's encryption key.")
]
SourceEnv = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="The environment variable with the password of SOURCE, or its whole URI."
    ),
]
Owner = Annotated[
    str | None,
    typer.Option(metavar="USER", help="The user, other than you, to whom the files may belong."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOptions:
    """What the command line says about the other store."""

    layout: str
    source: str
    provider: str | None
    maps: list[str]
    collection: str | None
    table: str | None
    key_env: str | None
    key_file: Path | None
    source_env: str | None
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The other store, open."""

    layout: Layout
    store: ForeignStore
    cipher: Cipher | None


@asynccontextmanager
async def opened(settings: Settings, options: PlaceOptions) -> AsyncIterator[Place]:
    """Open the store that the options name. Raises Failed."""
    layout = layout_of(settings, options)
    cipher = cipher_of(layout, options)
    path, uri = _source(layout, options)
    try:
        async with open_place(layout, path=path, uri=uri, owner=options.owner) as store:
            yield Place(layout=layout, store=store, cipher=cipher)
    except SourceLost as lost:
        raise Failed(str(lost), Exit.UNAVAILABLE if uri is not None else Exit.FAILED) from None


def layout_of(settings: Settings, options: PlaceOptions) -> Layout:
    """Return the layout with the options laid over it. Raises Failed."""
    if (layout := settings.layouts.get(options.layout)) is None:
        raise Failed(unknown_layout(options.layout, settings.layouts), Exit.USAGE)
    try:
        return laid_over(
            layout,
            provider_name=options.provider,
            maps=options.maps,
            collection=options.collection,
            table=options.table,
        )
    except OptionInvalid as why:
        raise Failed(str(why), Exit.USAGE) from None


def cipher_of(layout: Layout, options: PlaceOptions) -> Cipher | None:
    """Return the application's encryption, if the layout has one. Raises Failed."""
    if layout.encryption is None:
        return None
    key = _key(options)
    if key is None:
        raise Failed(
            f"the layout {layout.name} encrypts its tokens. Give the application's key with --key-env NAME or --key-file FILE",
            Exit.USAGE,
        )
    try:
        return AesGcm(layout.encryption, key)
    except KeyInvalid as why:
        named = f"--key-env {options.key_env}" if options.key_env else f"--key-file {options.key_file}"
        raise Failed(f"{named}: {why}", Exit.USAGE) from None


def _key(options: PlaceOptions) -> Secret | None:
    if options.key_env is not None and options.key_file is not None:
        raise Failed("--key-env and --key-file exclude each other. Give one of them", Exit.USAGE)
    if options.key_env is not None:
        return _variable("--key-env", options.key_env)
    if options.key_file is None:
        return None
    try:
        return Secret(read_trusted(options.key_file).data.decode().strip())
    except Untrusted as why:
        raise Failed(f"--key-file {options.key_file}: {why.what}. {why.do}", Exit.USAGE) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"--key-file {options.key_file}: it can't be read: {error}", Exit.USAGE) from None


def _source(layout: Layout, options: PlaceOptions) -> tuple[Path | None, Secret | None]:
    """Return the path or the URI that SOURCE means."""
    schemes = _SCHEMES.get(layout.source)
    scheme = options.source.partition("://")[0] if "://" in options.source else None
    if schemes is None:
        if scheme is not None:
            raise Failed(
                f"SOURCE: the layout {layout.name} reads files. Name a file or a directory", Exit.USAGE
            )
        return Path(options.source), None
    if scheme not in schemes:
        raise Failed(
            f"SOURCE: the layout {layout.name} reads a database. Write it like {schemes[0]}://HOST/DATABASE",
            Exit.USAGE,
        )
    if options.source_env is None:
        return None, Secret(options.source)
    given = _variable("--source-env", options.source_env)
    if "://" in given.reveal():
        return None, given
    return None, _with_password(options.source, given)


def _with_password(uri: str, password: Secret) -> Secret:
    parts = urlsplit(uri)
    user, at, host = parts.netloc.rpartition("@")
    if not at or ":" in user:
        raise Failed(
            "--source-env: SOURCE must name a user and no password. Write it like postgresql://USER@HOST/DATABASE",
            Exit.USAGE,
        )
    return Secret(urlunsplit(parts._replace(netloc=f"{user}:{quote(password.reveal(), safe='')}@{host}")))


def _variable(option: str, name: str) -> Secret:
    if not (found := os.environ.get(name)):
        raise Failed(
            f"{option}: the environment variable {name} is not set. Set it, or name another one", Exit.USAGE
        )
    return Secret(found)
