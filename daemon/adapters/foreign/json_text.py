"""Rows as JSON texts, for sources whose values are those of JSON."""

import json

from daemon.domain.layout import Cells


class JsonText:
    """Fits the two halves of `migrating.ports.ForeignStore` that need no connection."""

    def encode(self, cells: Cells) -> str:
        """Return `cells` as a text that keeps every value's type."""
        return json.dumps(cells, ensure_ascii=False, separators=(",", ":"))

    def decode(self, text: str) -> Cells:
        """Return what `encode` made a text of."""
        cells: Cells = json.loads(text)
        return cells
