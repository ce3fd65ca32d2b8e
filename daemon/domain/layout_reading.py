"""A row, taken apart into a token response, which `read_consent` judges like any other."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from daemon.domain.consent_ends import time_names
from daemon.domain.expiry import end_of
from daemon.domain.layout import ALL, FIELDS, Cells, Cipher, Layout, Reading, Row, RowInvalid
from daemon.domain.layout_cells import cell_at, found_at, is_encrypted, paths_of, required, word_in

_NAME_OF_A_NOTE = re.compile(r"[A-Za-z0-9_-]{1,64}")


def key_of(layout: Layout, row: Row) -> str:
    """Return what identifies `row` in its source: the application's words for provider and account.

    Raises RowInvalid if the row names no account.
    """
    _, account = found_at(layout.account, row)
    name = word_in(account)
    if name is None:
        raise RowInvalid(f"{_list(layout.account)} names no account")
    word = word_in(found_at(layout.provider, row)[1])
    return name if word is None else f"{word}:{name}"


def owner_of(layout: Layout, row: Row) -> tuple[str, str]:
    """Return the provider and the account of `row`, which needs no key. Raises RowInvalid."""
    key_of(layout, row)
    return _provider(layout, row), word_in(found_at(layout.account, row)[1]) or ""


def read(layout: Layout, row: Row, cipher: Cipher | None, *, now: datetime) -> Reading:
    """Return what `row` holds. Raises RowInvalid."""
    key = key_of(layout, row)
    found = {name: found_at(paths_of(layout, name), row) for name in ("provider", "account", *FIELDS)}
    read_paths = {path for path, _ in found.values()}.union(layout.meta.values(), layout.vars.values())
    unread = _unread(row.cells, read_paths)
    times = time_names(unread)
    body: dict[str, object] = {
        name: value
        for name in ("access_token", "refresh_token", "token_type", "scope", "expires_at")
        if (value := _value(layout, name, found[name], cipher)) is not None
    }
    own_end = "expires_at" in body
    for name in times.all if not own_end else times.not_the_end:
        body.setdefault(name, _plain(row.cells[name]))
    return Reading(
        key=key,
        provider=_provider(layout, row),
        account=word_in(found["account"][1]) or "",
        body=body,
        issued_at=_instant(_value(layout, "issued_at", found["issued_at"], cipher), now=now),
        consented_at=_instant(_value(layout, "consented_at", found["consented_at"], cipher), now=now),
        last_used_at=_instant(_value(layout, "last_used_at", found["last_used_at"], cipher), now=now),
        subject=word_in(_value(layout, "subject", found["subject"], cipher)),
        meta=_words(layout.meta, row),
        vars=_words(layout.vars, row),
        ignored=tuple(name for name in unread if name not in times.all),
    )


def _provider(layout: Layout, row: Row) -> str:
    if layout.provider_name is not None:
        return layout.provider_name
    word = word_in(found_at(layout.provider, row)[1])
    if word is None:
        raise RowInvalid(
            f"{_list(layout.provider) or 'it'} names no provider; --provider NAME names one for all rows"
        )
    return layout.providers.get(word, word)


def _value(layout: Layout, name: str, found: tuple[str, object], cipher: Cipher | None) -> object:
    """Return the value `found` for the layout's field `name`, decrypted, a date as a text; None if the row has none."""
    path, value = found
    if value is None:
        return None
    if is_encrypted(layout, name):
        try:
            return required(cipher).open(value)
        except RowInvalid as why:
            raise RowInvalid(f"'{path}' {why}") from None
    return _plain(value)


def _instant(value: object, *, now: datetime) -> datetime | None:
    return None if value in (None, "", 0) else end_of(value, asked_at=now)


def _words(paths: Mapping[str, str], row: Row) -> dict[str, str]:
    """Return the texts at `paths`, by name. A name's own path takes precedence over ALL."""
    found: dict[str, object] = {}
    every = cell_at(row.cells, paths[ALL]) if ALL in paths else None
    if isinstance(every, Mapping):
        found |= {name: value for name, value in every.items() if _NAME_OF_A_NOTE.fullmatch(name)}
    found |= {name: found_at((path,), row)[1] for name, path in paths.items() if name != ALL}
    words = {name: word_in(value) for name, value in found.items()}
    return {name: word for name, word in words.items() if word is not None}


def _unread(cells: Cells, read_paths: set[str]) -> dict[str, object]:
    """Return the cells that no path of `read_paths` leads to or into."""
    heads = read_paths | {path.partition(".")[0] for path in read_paths}
    return {name: value for name, value in cells.items() if name not in heads}


def _plain(value: object) -> object:
    """Return a value as a JSON text could hold it: a date becomes a text."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return value


def _list(paths: Sequence[str]) -> str:
    return " or ".join(f"'{path}'" for path in paths)
