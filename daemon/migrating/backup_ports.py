"""What backups need from the world. The adapters fit these by shape; tests bring fakes."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from daemon.domain.backup import Archived, ArchivedToken, Stored, Write


class BackupSource(Protocol):
    """The store, as a backup reads it. Every method raises StoreLost."""

    async def suffixes(self) -> Sequence[str]:
        """Return the ends of the names of the collections to be read; that of the tokens is empty and comes last."""

    def documents(self, suffix: str) -> AsyncIterator[Sequence[bytes]]:
        """Yield the documents of a collection, each as one line of text. Raises SnapshotLost."""


class Sink(Protocol):
    """An archive that is being written."""

    async def write(self, text: bytes) -> None:
        """Write some more of the plain text. Raises ArchiveInvalid."""


class Archive(Protocol):
    """An archive that can be read several times."""

    @property
    def name(self) -> str: ...

    def chunks(self) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Read the plain text from its start. Raises ArchiveInvalid, also if the file was changed meanwhile."""


class RestoreTarget(Protocol):
    """The store, as a restore fills it. Every method raises StoreLost."""

    async def is_empty(self) -> bool:
        """Return whether no token is stored."""

    async def prepare(self) -> None:
        """Make the tokens of one grant quick to find."""

    def opens(self, line: bytes) -> Mapping[str, bool]:
        """Return the ids of the keys that have sealed the token in `line`, and whether the ring's open its texts."""

    def read(self, lines: Sequence[bytes]) -> Sequence[Archived]:
        """Return the documents in `lines`."""

    async def stored(self, archived: Sequence[Archived]) -> Sequence[Stored]:
        """Return what the store has of each."""

    async def holders(self, tokens: Sequence[ArchivedToken]) -> Mapping[str, str]:
        """Return the ids of documents that hold a refresh token of these, by fingerprint."""

    async def ended(self, tokens: Sequence[ArchivedToken], *, since: datetime) -> Mapping[str, str]:
        """Return those of `tokens`, by id, whose grants were revoked, with the ids under which they were: tombstones show
        that, and for tokens that are not stored, orders in the audit after `since` that were not taken back.
        """

    async def write(self, writes: Sequence[Write]) -> Mapping[int, str | None]:
        """Store the documents. Return the places of those that were not, with the reason for which MongoDB refuses
        them, or None if the store got another content meanwhile.
        """

    async def add_missing(self, suffix: str, lines: Sequence[bytes], *, dry_run: bool) -> int:
        """Store the documents whose ids another collection lacks. Return their number."""


class Clock(Protocol):
    def now(self) -> datetime: ...
