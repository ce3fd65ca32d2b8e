"""What moving tokens needs from the world. The adapters fit these by shape; tests bring fakes."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from daemon.domain.layout import Cells, Row


class SourceLost(Exception):
    """The application's store can't be read or written as a whole. The text is a sentence for operators: what, where,
    and what to do; it contains no password and no value.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row that can't be taken apart: `label` says where it stands ("line 7"), `why` is a clause for people."""

    label: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """One row's change. `before`: the row as it was read, which must still stand there (None: no such row).
    `after`: the row as it is to be (None: it is removed).
    """

    key: str
    before: Row | None = field(repr=False)
    after: Row | None = field(repr=False)


class ForeignStore(Protocol):
    """The place where an application keeps its tokens: files, a collection, or a table, described by a layout.

    Every method raises SourceLost if the whole can't be read or written.
    """

    @property
    def name(self) -> str:
        """What identifies it for good: an absolute path, or a URI with its collection or table and no password."""

    def rows(self) -> AsyncIterator[Row | BadRow]:
        """Yield every row, as they arrive."""

    async def again(self, rows: Sequence[Row]) -> Mapping[str, Row]:
        """Return the present content of these rows, by key. Those that are gone are missing."""

    async def replace(self, changes: Sequence[Replacement]) -> Mapping[str, str]:
        """Make the changes. Return those that were not made, by key, with the reason as a clause for people.

        A row that does not stand as `before` says is left alone. What was written is durable on return.
        """

    def encode(self, cells: Cells) -> str:
        """Return `cells` as a text that keeps every value's type."""

    def decode(self, text: str) -> Cells:
        """Return what `encode` made a text of."""
