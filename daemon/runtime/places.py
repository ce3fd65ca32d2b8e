"""Opens the store of another application that a layout describes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from daemon.adapters.foreign.files import KEEP, TokenFiles
from daemon.adapters.foreign.json_text import JsonText
from daemon.adapters.mongo.foreign import BsonText, TokenCollection
from daemon.domain.layout import Layout, SourceKind
from daemon.domain.secret import Secret
from daemon.migrating.ports import ForeignStore
from daemon.runtime.config.problems import Problem, SettingsInvalid


@asynccontextmanager
async def open_place(
    layout: Layout,
    *,
    path: Path | None = None,
    uri: Secret | None = None,
    keep: int = KEEP,
    owner: str | None = None,
) -> AsyncIterator[ForeignStore]:
    """Open a file or a directory (`path`) or a database (`uri`). Raises SourceLost, SettingsInvalid.

    `keep` and `owner`: see TokenFiles.
    """
    match layout.source:
        case SourceKind.JSON | SourceKind.JSONL:
            yield TokenFiles(layout, path or Path(), keep=keep, owner=owner)
        case SourceKind.MONGODB:
            collection = TokenCollection(layout, uri or Secret(""))
            try:
                yield collection
            finally:
                await collection.close()
        case SourceKind.POSTGRESQL:
            require_postgresql()
            try:
                from daemon.adapters.foreign.postgresql import TokenTable  # noqa: PLC0415  an extra
            except ImportError:  # psycopg is there, without the library of PostgreSQL that it needs
                raise _without_postgresql() from None
            yield TokenTable(layout, uri or Secret(""))


def text_codec(layout: Layout) -> JsonText | BsonText:
    """Return what makes texts of the layout's rows, without a connection."""
    return BsonText() if layout.source is SourceKind.MONGODB else JsonText()


def require_postgresql() -> None:
    """Raise SettingsInvalid if the library for PostgreSQL is not installed."""
    if find_spec("psycopg") is None:
        raise _without_postgresql()


def _without_postgresql() -> SettingsInvalid:
    return SettingsInvalid(
        [
            Problem(
                where="refreshd[postgresql]",
                what="the library for PostgreSQL is not installed",
                do="Install the packages in requirements/postgresql.txt.",
            )
        ]
    )
