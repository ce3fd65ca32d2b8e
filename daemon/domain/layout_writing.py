"""A token's current values in a copy of its row, under the names and in the types that the row has."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from daemon.domain.consent_ends import time_names
from daemon.domain.layout import ALL, FIELDS, FILE, NAME, Cells, Cipher, Layout, Row, RowInvalid, Values
from daemon.domain.layout_cells import (
    cell_at,
    found_at,
    is_encrypted,
    own_words,
    path_of,
    paths_of,
    put_cell,
    required,
    style_of,
)
from daemon.domain.layout_dates import date_in_form, date_like, number_like
from daemon.domain.secret import Secret


def placed(layout: Layout, values: Values, cells: Cells) -> Row:
    """Return `cells` as the row of a token: under its name and in its file, where the layout has these."""
    named, filed = NAME in layout.account, FILE in layout.provider
    word = own_words(layout).get(values.provider, values.provider)
    return Row(cells=cells, name=values.account if named else None, file=word if filed else None)


def write(
    layout: Layout, row: Cells | None, values: Values, cipher: Cipher | None, *, now: datetime
) -> Cells:
    """Return `row` with the token's current values; `row` itself if it has them. None: a new row.

    A value that the row has in another form stays, so a date keeps its digits and an encrypted text its nonce.
    """
    if row is None:
        return _new_row(layout, values, cipher)
    style = style_of(layout, row)
    written = dict(row)
    changed = False
    for name, secret in (("access_token", values.access_token), ("refresh_token", values.refresh_token)):
        path = path_of(layout, name, row, style)
        old = cell_at(row, path)
        if _holds(layout, name, old, secret, cipher):
            continue
        changed = True
        put_cell(
            written, path, None if secret is None else _sealed(layout, name, secret.reveal(), old, cipher)
        )
    if not changed:
        return row
    for name, word in (("token_type", values.token_type), ("scope", values.scope)):
        path, old = found_at(paths_of(layout, name), Row(cells=row))
        if old is not None and word is not None:
            put_cell(written, path, _scope_like(old, word) if name == "scope" else word)
    for path, value in _times(layout, row, values, style, now=now):
        put_cell(written, path, value)
    return written


def without_tokens(layout: Layout, row: Cells) -> Cells:
    """Return `row` with an empty text for each value that `layout` reads as an access or a refresh token."""
    emptied = dict(row)
    for path in (*layout.access_token, *layout.refresh_token):
        if cell_at(row, path) is not None:
            put_cell(emptied, path, "")
    return emptied


def _new_row(layout: Layout, values: Values, cipher: Cipher | None) -> Cells:
    words = own_words(layout)
    row: dict[str, object] = {}
    for paths, word in (
        (layout.account, values.account),
        (layout.provider, words.get(values.provider, values.provider)),
    ):
        if paths and paths[0] not in (NAME, FILE):
            put_cell(row, paths[0], word)
    for name in FIELDS:
        paths, value = paths_of(layout, name), getattr(values, name, None)
        if not paths or value is None:
            continue
        match value:
            case Secret():
                put_cell(row, paths[0], _sealed(layout, name, value.reveal(), None, cipher))
            case datetime():
                put_cell(row, paths[0], date_in_form(value, layout.time))
            case _:
                put_cell(row, paths[0], value)
    _put_words(row, layout.meta, values.meta)
    _put_words(row, layout.vars, values.vars)
    return row


def _put_words(row: dict[str, object], paths: Mapping[str, str], words: Mapping[str, str]) -> None:
    others = {name: word for name, word in words.items() if name not in paths}
    for name, path in paths.items():
        if name in words:
            put_cell(row, path, words[name])
        elif name == ALL and others:
            put_cell(row, path, others)


def _holds(layout: Layout, name: str, old: object, secret: Secret | None, cipher: Cipher | None) -> bool:
    """Return whether the cell `old` already holds `secret`."""
    if old is None or secret is None:
        return old is None and secret is None
    if not is_encrypted(layout, name):
        return isinstance(old, str) and Secret(old) == secret
    try:
        return Secret(required(cipher).open(old)) == secret
    except RowInvalid:
        return False


def _sealed(layout: Layout, name: str, value: str, old: object, cipher: Cipher | None) -> object:
    return required(cipher).seal(value, like=old) if is_encrypted(layout, name) else value


def _times(
    layout: Layout, row: Cells, values: Values, style: int, *, now: datetime
) -> Iterator[tuple[str, object]]:
    """Yield the paths and values of the dates that change with the access token."""
    names = time_names(row)
    ends = [path for path in layout.expires_at if cell_at(row, path) is not None] or list(names.ends)
    if not ends and not names.spans and layout.expires_at:
        ends = [layout.expires_at[min(style, len(layout.expires_at) - 1)]]
    for path in ends:
        yield (
            path,
            None if values.expires_at is None else date_like(row, path, values.expires_at, layout.time),
        )
    births = [path for path in layout.issued_at if cell_at(row, path) is not None]
    born = births or (list(names.births) if names.spans else [])
    if values.issued_at is not None:
        for path in born:
            yield path, date_like(row, path, values.issued_at, layout.time)
    start = values.issued_at if born and values.issued_at is not None else now
    for path in names.spans:
        if values.expires_at is not None:
            yield path, number_like(row[path], max(0, int((values.expires_at - start).total_seconds())))


def _scope_like(old: object, scope: str) -> object:
    return scope.split(" ") if isinstance(old, list) else scope
