"""The sealed copy of an earlier import as a source: its rows, under the origin that they had then."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from daemon.domain.foreign import BadRow, Replacement, SourceLost
from daemon.domain.layout import Cells, Row
from daemon.domain.moving import KeptRow


class Codec(Protocol):
    """The two halves of a ForeignStore that need no connection."""

    def encode(self, cells: Cells) -> str: ...
    def decode(self, text: str) -> Cells: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedRows:
    """A ForeignStore that can only be read. `name`: of the source that the copy was made of."""

    name: str
    path: str
    codec: Codec
    kept: Callable[[], Iterator[KeptRow]]

    async def rows(self, *, new: bool = False) -> AsyncIterator[Row | BadRow]:  # noqa: ARG002  a copy exists
        for row in self.kept():
            yield Row(cells=self.codec.decode(row.cells), name=row.name, file=row.file)

    async def again(self, rows: Sequence[Row]) -> Mapping[str, Row]:
        raise self._read_only(len(rows))

    async def replace(self, changes: Sequence[Replacement]) -> Mapping[str, str]:
        raise self._read_only(len(changes))

    async def as_written(self, rows: Sequence[Row]) -> Mapping[str, Row]:
        raise self._read_only(len(rows))

    def encode(self, cells: Cells) -> str:
        return self.codec.encode(cells)

    def decode(self, text: str) -> Cells:
        return self.codec.decode(text)

    def _read_only(self, number: int) -> SourceLost:
        return SourceLost(
            f"{self.path} is a copy, which can't show what {number} rows of {self.name} hold now. Name the source itself"
        )
