"""Tables and marked lines for people: what needs Rich, which takes long to import and single results can do without."""

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from daemon.commands.support.column import Column
from daemon.domain.visible import visible

_STYLES = {"active": "green", "needs_reauth": "red", "paused": "yellow"}
_WIDE = 160  # columns where no terminal says how many
_WIDEST = (
    48  # characters, of a column that is as wide as its cells: a longer cell only moves the rest of its line
)
_SHORTEST = 12  # ... of a last column that is cut
_GAP = "  "


class Tables:
    """Standard output, for people."""

    def __init__(self) -> None:
        width = None if sys.stdout.isatty() else _WIDE
        self._widths: list[int] = []
        self._console = Console(markup=False, highlight=False, emoji=False, width=width, soft_wrap=False)

    def marked(self, mark: str, text: str, *, style: str) -> None:
        line = Text.assemble((mark, style), " ", visible(text))
        self._console.print(line, soft_wrap=True)

    def pairs(self, pairs: Iterable[tuple[str, str]]) -> None:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in pairs:
            table.add_row(_cell(name), _cell(value))
        self._console.print(table)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]], *, head: bool) -> None:
        cells = [[_cell(value) for value in row] for row in rows]
        if head:
            self._widths = [
                _width(column, of) for column, of in zip(columns, zip(*cells, strict=True), strict=True)
            ]
            cells.insert(0, [Text(column.title, style="bold") for column in columns])
        for row in cells:
            self._console.print(self._line(row), soft_wrap=True)

    def _line(self, row: Sequence[Text]) -> Text:
        line = Text()
        for cell, width in zip(row[:-1], self._widths, strict=False):
            line.append_text(cell).append(" " * (max(width - cell.cell_len, 0) + len(_GAP)))
        last = row[-1].copy()
        if sys.stdout.isatty():
            last.truncate(max(self._console.width - line.cell_len, _SHORTEST), overflow="ellipsis")
        line.append_text(last).rstrip()
        return line


def _width(column: Column, cells: Sequence[Text]) -> int:
    widest = max((cell.cell_len for cell in cells), default=0)
    return max(len(column.title), column.width, min(widest, _WIDEST))


def _cell(text: str) -> Text:
    return Text(visible(text), style=_STYLES.get(text, ""))
