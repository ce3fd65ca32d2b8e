"""What moving tokens needs from the world. The adapters fit these by shape; tests bring fakes."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from daemon.domain.foreign import BadRow, Replacement
from daemon.domain.layout import Cells, Row


class ForeignStore(Protocol):
    """The place where an application keeps its tokens: files, a collection, or a table, described by a layout.

    Every method raises SourceLost if the whole can't be read or written.
    """

    @property
    def name(self) -> str:
        """What identifies it for good: an absolute path, or a URI with its collection or table and no password."""

    def rows(self, *, new: bool = False) -> AsyncIterator[Row | BadRow]:
        """Yield every row, as they arrive. `new`: the place may not exist yet, and then has no rows."""

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
