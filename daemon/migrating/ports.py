"""What moving tokens needs from the world. The adapters fit these by shape; tests bring fakes."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from daemon.domain.foreign import BadRow, Replacement
from daemon.domain.layout import Cells, Row
from daemon.domain.moving import Candidate, Due, InFlight, KeptRow, Standing, Waiting


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

    async def as_written(self, rows: Sequence[Row]) -> Mapping[str, Row]:
        """Return rows that `replace` has written, by key, as the place shows them when they are read.

        A database has a form of its own for a date, and fills what a new row leaves out.
        """

    def encode(self, cells: Cells) -> str:
        """Return `cells` as a text that keeps every value's type."""

    def decode(self, text: str) -> Cells:
        """Return what `encode` made a text of."""


class RowCopy(Protocol):
    """A sealed copy of the rows that an import reads."""

    async def add(self, rows: Sequence[KeptRow]) -> None:
        """Append rows, durably on return. Raises CopyFailed; the copy then holds what it held before."""


class ImportedTokens(Protocol):
    """The store of refreshd, as imports need it. Every method raises StoreLost."""

    async def prepare(self) -> None:
        """Make the indexes that keep the queries below short."""

    async def standing(self, candidates: Sequence[Candidate]) -> Mapping[str, Standing]:
        """Return what is stored that concerns each candidate, by its token's id. Ids must be distinct."""

    async def insert(self, candidates: Sequence[Candidate]) -> Mapping[str, str]:
        """Store new tokens as paused, and read them back.

        Returns those that are not stored as given, by id, with the reason as a clause for people.
        """

    async def update(self, candidates: Sequence[tuple[Candidate, Standing]]) -> Mapping[str, str]:
        """Lay candidates over the documents that `standing` found, if these have not changed since. Else as `insert`."""

    async def confirm(self, ids: Collection[str], *, read_at: datetime) -> None:
        """Note that the rows of tokens that are not active yet were read again and are the same."""


class ImportedSlices(Protocol):
    """The imported tokens in refreshd's store, as activations and the way back need them. Every method raises StoreLost."""

    async def prepare(self) -> None:
        """Make the indexes that keep the queries below short."""

    async def activate(
        self,
        ids: Collection[str],
        *,
        at: datetime,
        due: Due,
        newer: Sequence[tuple[Candidate, Standing]] = (),
        read_since: datetime | None = None,
    ) -> Mapping[str, str]:
        """Activate imported tokens that never were. Each of `newer` is laid over its document in the same write.

        `read_since`: only if its row was not read before. Returns those that are not active, by id, with the reason.
        """

    def waiting(self, provider: str) -> AsyncIterator[Sequence[Waiting]]:
        """Yield the provider's imported tokens that no activation and no operator has touched, in batches."""

    async def activated(self, provider: str) -> int:
        """Return how many of the provider's imported tokens were activated."""

    async def take_back(self, provider: str) -> int:
        """Pause the provider's activated imported tokens, as if they had just been imported. Returns their number."""

    async def in_flight(self, provider: str) -> Sequence[InFlight]:
        """Return those of the provider's imported, inactive tokens that a request may still be running for."""
