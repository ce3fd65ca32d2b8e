"""Paths into a row, and the cells that they lead to."""

from collections.abc import Mapping, Sequence

from daemon.domain.layout import FILE, NAME, Cells, Cipher, Layout, Row, RowInvalid
from daemon.domain.token_response import at_path, text


def own_words(layout: Layout) -> dict[str, str]:
    """Return the application's word for each provider: the first, if it has several."""
    return {ours: theirs for theirs, ours in reversed(list(layout.providers.items()))}


def paths_of(layout: Layout, name: str) -> tuple[str, ...]:
    paths: tuple[str, ...] = getattr(layout, name)
    return paths


def found_at(paths: Sequence[str], row: Row) -> tuple[str, object]:
    """Return the first of `paths` that leads to something in `row`, and that value."""
    for path in paths:
        value = row.name if path == NAME else row.file if path == FILE else cell_at(row.cells, path)
        if value is not None:
            return path, value
    return "", None


def style_of(layout: Layout, row: Cells) -> int:
    """Return which of a field's paths this row uses: the place of its access token's among them, else its refresh token's."""
    for paths in (layout.access_token, layout.refresh_token):
        for place, path in enumerate(paths):
            if cell_at(row, path) is not None or path in row:
                return place
    return 0


def path_of(layout: Layout, name: str, row: Cells, style: int) -> str:
    """Return the path at which the row has the field `name`, or at which one of its style would have it."""
    paths = paths_of(layout, name)
    return found_at(paths, Row(cells=row))[0] or paths[min(style, len(paths) - 1)]


def cell_at(cells: Cells, path: str) -> object:
    """Return the value at `path`, or under that very name: a name may contain a dot."""
    if path in cells:
        return cells[path]
    return at_path(cells, path) if "." in path else None


def put_cell(cells: dict[str, object], path: str, value: object) -> None:
    """Set the value at `path`, in copies of the objects on the way."""
    head, dot, rest = path.partition(".")
    if not dot or path in cells:
        cells[path] = value
        return
    inner = cells.get(head)
    copy = dict(inner) if isinstance(inner, Mapping) else {}
    put_cell(copy, rest, value)
    cells[head] = copy


def word_in(value: object) -> str | None:
    """Return an identifier as a text: JavaScript stores whole numbers as floating point."""
    if value is None or isinstance(value, bool | Mapping | list):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    return text(value if isinstance(value, str) else str(value)) or None


def is_encrypted(layout: Layout, name: str) -> bool:
    return layout.encryption is not None and name in layout.encryption.fields


def required(cipher: Cipher | None) -> Cipher:
    if cipher is None:
        raise RowInvalid("is encrypted; --key-env NAME or --key-file FILE gives the key")
    return cipher
