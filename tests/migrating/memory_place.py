"""An application's store in memory. Fits `migrating.ports.ForeignStore`."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence

from daemon.domain.foreign import BadRow, Replacement, SourceLost
from daemon.domain.layout import Cells, Layout, Row
from daemon.domain.layout_reading import key_of


class MemoryPlace:
    """`rows_by_key` is what stands there. `lost`: a sentence, while the place is away."""

    def __init__(
        self, layout: Layout, rows: Sequence[Row] = (), *, name: str = "/srv/app/tokens.json"
    ) -> None:
        self._layout = layout
        self.name = name
        self.lost: str | None = None
        self.writes = 0
        self.rows_by_key = {key_of(layout, row): row for row in rows}

    async def rows(self, *, new: bool = False) -> AsyncIterator[Row | BadRow]:
        self._there()
        for row in list(self.rows_by_key.values()):
            yield row

    async def again(self, rows: Sequence[Row]) -> Mapping[str, Row]:
        self._there()
        keys = (key_of(self._layout, row) for row in rows)
        return {key: self.rows_by_key[key] for key in keys if key in self.rows_by_key}

    async def replace(self, changes: Sequence[Replacement]) -> Mapping[str, str]:
        self._there()
        self.writes += 1
        refused = {}
        for change in changes:
            stands = self.rows_by_key.get(change.key)
            if (stands and stands.cells) != (change.before and change.before.cells):
                refused[change.key] = "another program has changed it"
            elif change.after is None:
                del self.rows_by_key[change.key]
            else:
                self.rows_by_key[change.key] = change.after
        return refused

    async def as_written(self, rows: Sequence[Row]) -> Mapping[str, Row]:
        return await self.again(rows)

    def encode(self, cells: Cells) -> str:
        return json.dumps(cells)

    def decode(self, text: str) -> Cells:
        cells: Cells = json.loads(text)
        return cells

    def _there(self) -> None:
        if self.lost is not None:
            raise SourceLost(self.lost)
