"""How another application stores its tokens: which field holds what, in one description for both directions.

`read` takes a row apart into a token response, which `read_consent` judges like any other. `write` puts a token's
current values into a copy of the row, under the names and in the types that the row has. Every other value stays as it
is, and so does the whole row if the token has not changed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum
from typing import Protocol

from daemon.domain.consent_ends import time_names
from daemon.domain.expiry import end_of
from daemon.domain.secret import Secret
from daemon.domain.token_response import at_path, text

Cells = Mapping[str, object]  # one row: a JSON object, a document, or a table's columns by name

NAME = "@name"  # a path: the name under which the row stands in an object of rows
FILE = "@file"  # a path: the name of the row's file, without its ending
ALL = "*"  # a name in `meta` or `vars`: every text of the object at the path, under its own name

_SAME = timedelta(milliseconds=1)  # MongoDB stores milliseconds
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(?:\.(\d{1,9}))?(Z|[+-]\d\d(?::?\d\d)?)?")
_SECONDS, _MILLISECONDS = 1_000_000_000, 1_000_000_000_000  # the least number that is taken for such a date
_NUMBER = re.compile(r"\d+(\.\d+)?")
_NAME_OF_A_NOTE = re.compile(r"[A-Za-z0-9_-]{1,64}")


class RowInvalid(ValueError):
    """A row can't be used. The text is a clause for people, and contains no value of the row."""


class SourceKind(StrEnum):
    """What holds the rows."""

    JSON = "json"
    JSONL = "jsonl"
    MONGODB = "mongodb"
    POSTGRESQL = "postgresql"


class Encoding(StrEnum):
    """How bytes are written as text."""

    HEX = "hex"
    BASE64 = "base64"
    TEXT = "text"  # for a key only: its characters are its bytes


class TimeForm(StrEnum):
    """How a date is written into a field that holds none yet."""

    ISO = "iso"
    SECONDS = "s"
    MILLISECONDS = "ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """How the application encrypts: AES-256-GCM. `fields`: the fields of a Layout that are encrypted.

    `form`: "json:A,B,C" is a JSON text and "object:A,B,C" a nested object with these three names; "A:B:C" are encoded
    texts with a separator; "A+B+C" are the joined bytes, encoded. A, B and C name nonce, tag and ciphertext in any order.
    """

    form: str
    encoding: Encoding = Encoding.HEX
    key: Encoding = Encoding.HEX
    iv_bytes: int = 12  # of a new text; one that replaces another takes its length
    aad: str = ""
    fields: tuple[str, ...] = ("access_token", "refresh_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """An application's way to store tokens.

    Each field is a sequence of dotted paths, of which the first that leads to something is read; a row's own style
    decides which one is written. `meta` and `vars` are paths by name, or by ALL. `provider_name` names the provider of all rows; otherwise `provider` leads to the
    application's word for it, which `providers` translates. `rows`: the path of the rows in a JSON text.
    """

    name: str
    title: str
    source: SourceKind
    rows: str = ""
    collection: str | None = None
    table: str | None = None
    provider_name: str | None = None
    provider: tuple[str, ...] = ()
    providers: Mapping[str, str] = field(default_factory=dict)
    account: tuple[str, ...]
    access_token: tuple[str, ...]
    refresh_token: tuple[str, ...]
    token_type: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()
    expires_at: tuple[str, ...] = ()
    issued_at: tuple[str, ...] = ()
    consented_at: tuple[str, ...] = ()
    last_used_at: tuple[str, ...] = ()
    subject: tuple[str, ...] = ()
    time: TimeForm = TimeForm.MILLISECONDS
    meta: Mapping[str, str] = field(default_factory=dict)
    vars: Mapping[str, str] = field(default_factory=dict)
    encryption: Encryption | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row as it stands in its source. `name` and `file`: where a source of files has it."""

    cells: Cells = field(repr=False)
    name: str | None = None
    file: str | None = None


class Cipher(Protocol):
    """The application's encryption of one text."""

    def open(self, cell: object) -> str:
        """Return the text in `cell`. Raises RowInvalid."""

    def seal(self, text: str, *, like: object) -> object:
        """Return `text` encrypted, with a nonce as long as that of `like`, if that is an encrypted cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a row holds. `body` has the names of RFC 6749 and is read like a token response.

    `ignored`: the row's names that nothing here has read.
    """

    key: str
    provider: str
    account: str
    body: Mapping[str, object] = field(repr=False)
    issued_at: datetime | None
    consented_at: datetime | None
    last_used_at: datetime | None
    subject: str | None
    meta: Mapping[str, str]
    vars: Mapping[str, str]
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """A stored token's values, as a row is to have them. `refresh_token`: perhaps a text that replaces it."""

    provider: str
    account: str
    access_token: Secret | None
    refresh_token: Secret | None
    token_type: str | None = None
    scope: str | None = None
    issued_at: datetime | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    subject: str | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    vars: Mapping[str, str] = field(default_factory=dict)


# ---------------------------------------------------------------- reading


def key_of(layout: Layout, row: Row) -> str:
    """Return what identifies `row` in its source: the application's words for provider and account.

    Raises RowInvalid if the row names no account.
    """
    _, account = _found(layout.account, row)
    name = _word(account)
    if name is None:
        raise RowInvalid(f"{_list(layout.account)} names no account")
    word = _word(_found(layout.provider, row)[1])
    return name if word is None else f"{word}:{name}"


def placed(layout: Layout, values: Values, cells: Cells) -> Row:
    """Return `cells` as the row of a token: under its name and in its file, where the layout has these."""
    named, filed = NAME in layout.account, FILE in layout.provider
    word = _words_of(layout).get(values.provider, values.provider)
    return Row(cells=cells, name=values.account if named else None, file=word if filed else None)


def owner_of(layout: Layout, row: Row) -> tuple[str, str]:
    """Return the provider and the account of `row`, which needs no key. Raises RowInvalid."""
    key_of(layout, row)
    return _provider(layout, row), _word(_found(layout.account, row)[1]) or ""


def read(layout: Layout, row: Row, cipher: Cipher | None, *, now: datetime) -> Reading:
    """Return what `row` holds. Raises RowInvalid."""
    key = key_of(layout, row)
    found = {name: _found(_paths(layout, name), row) for name in ("provider", "account", *FIELDS)}
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
        account=_word(found["account"][1]) or "",
        body=body,
        issued_at=_instant(_value(layout, "issued_at", found["issued_at"], cipher), now=now),
        consented_at=_instant(_value(layout, "consented_at", found["consented_at"], cipher), now=now),
        last_used_at=_instant(_value(layout, "last_used_at", found["last_used_at"], cipher), now=now),
        subject=_word(_value(layout, "subject", found["subject"], cipher)),
        meta=_words(layout.meta, row),
        vars=_words(layout.vars, row),
        ignored=tuple(name for name in unread if name not in times.all),
    )


def _provider(layout: Layout, row: Row) -> str:
    if layout.provider_name is not None:
        return layout.provider_name
    word = _word(_found(layout.provider, row)[1])
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
    if _is_encrypted(layout, name):
        try:
            return _required(cipher).open(value)
        except RowInvalid as why:
            raise RowInvalid(f"'{path}' {why}") from None
    return _plain(value)


def _instant(value: object, *, now: datetime) -> datetime | None:
    return None if value in (None, "", 0) else end_of(value, asked_at=now)


def _words(paths: Mapping[str, str], row: Row) -> dict[str, str]:
    """Return the texts at `paths`, by name. A name's own path takes precedence over ALL."""
    found: dict[str, object] = {}
    every = _at(row.cells, paths[ALL]) if ALL in paths else None
    if isinstance(every, Mapping):
        found |= {name: value for name, value in every.items() if _NAME_OF_A_NOTE.fullmatch(name)}
    found |= {name: _found((path,), row)[1] for name, path in paths.items() if name != ALL}
    words = {name: _word(value) for name, value in found.items()}
    return {name: word for name, word in words.items() if word is not None}


def _unread(cells: Cells, read_paths: set[str]) -> dict[str, object]:
    """Return the cells that no path of `read_paths` leads to or into."""
    heads = read_paths | {path.partition(".")[0] for path in read_paths}
    return {name: value for name, value in cells.items() if name not in heads}


# ---------------------------------------------------------------- writing

FIELDS = (
    "access_token",
    "refresh_token",
    "token_type",
    "scope",
    "expires_at",
    "issued_at",
    "consented_at",
    "last_used_at",
    "subject",
)


def write(
    layout: Layout, row: Cells | None, values: Values, cipher: Cipher | None, *, now: datetime
) -> Cells:
    """Return `row` with the token's current values; `row` itself if it has them. None: a new row.

    A value that the row has in another form stays, so a date keeps its digits and an encrypted text its nonce.
    """
    if row is None:
        return _new_row(layout, values, cipher)
    style = _style(layout, row)
    written = dict(row)
    changed = False
    for name, secret in (("access_token", values.access_token), ("refresh_token", values.refresh_token)):
        path = _path(layout, name, row, style)
        old = _at(row, path)
        if _holds(layout, name, old, secret, cipher):
            continue
        changed = True
        _put(written, path, None if secret is None else _sealed(layout, name, secret.reveal(), old, cipher))
    if not changed:
        return row
    for name, word in (("token_type", values.token_type), ("scope", values.scope)):
        path, old = _found(_paths(layout, name), Row(cells=row))
        if old is not None and word is not None:
            _put(written, path, _scope_like(old, word) if name == "scope" else word)
    for path, value in _times(layout, row, values, style, now=now):
        _put(written, path, value)
    return written


def without_tokens(layout: Layout, row: Cells) -> Cells:
    """Return `row` with an empty text for each value that `layout` reads as an access or a refresh token."""
    emptied = dict(row)
    for path in (*layout.access_token, *layout.refresh_token):
        if _at(row, path) is not None:
            _put(emptied, path, "")
    return emptied


def _new_row(layout: Layout, values: Values, cipher: Cipher | None) -> Cells:
    words = _words_of(layout)
    row: dict[str, object] = {}
    for paths, word in (
        (layout.account, values.account),
        (layout.provider, words.get(values.provider, values.provider)),
    ):
        if paths and paths[0] not in (NAME, FILE):
            _put(row, paths[0], word)
    for name in FIELDS:
        paths, value = _paths(layout, name), getattr(values, name, None)
        if not paths or value is None:
            continue
        match value:
            case Secret():
                _put(row, paths[0], _sealed(layout, name, value.reveal(), None, cipher))
            case datetime():
                _put(row, paths[0], _in_form(value, layout.time))
            case _:
                _put(row, paths[0], value)
    _put_words(row, layout.meta, values.meta)
    _put_words(row, layout.vars, values.vars)
    return row


def _put_words(row: dict[str, object], paths: Mapping[str, str], words: Mapping[str, str]) -> None:
    others = {name: word for name, word in words.items() if name not in paths}
    for name, path in paths.items():
        if name in words:
            _put(row, path, words[name])
        elif name == ALL and others:
            _put(row, path, others)


def _words_of(layout: Layout) -> dict[str, str]:
    """Return the application's word for each provider: the first, if it has several."""
    return {ours: theirs for theirs, ours in reversed(list(layout.providers.items()))}


def _holds(layout: Layout, name: str, old: object, secret: Secret | None, cipher: Cipher | None) -> bool:
    """Return whether the cell `old` already holds `secret`."""
    if old is None or secret is None:
        return old is None and secret is None
    if not _is_encrypted(layout, name):
        return isinstance(old, str) and Secret(old) == secret
    try:
        return Secret(_required(cipher).open(old)) == secret
    except RowInvalid:
        return False


def _sealed(layout: Layout, name: str, value: str, old: object, cipher: Cipher | None) -> object:
    return _required(cipher).seal(value, like=old) if _is_encrypted(layout, name) else value


def _times(
    layout: Layout, row: Cells, values: Values, style: int, *, now: datetime
) -> Iterator[tuple[str, object]]:
    """Yield the paths and values of the dates that change with the access token."""
    names = time_names(row)
    ends = [path for path in layout.expires_at if _at(row, path) is not None] or list(names.ends)
    if not ends and not names.spans and layout.expires_at:
        ends = [layout.expires_at[min(style, len(layout.expires_at) - 1)]]
    for path in ends:
        yield path, None if values.expires_at is None else _like(row, path, values.expires_at, layout.time)
    births = [path for path in layout.issued_at if _at(row, path) is not None]
    born = births or (list(names.births) if names.spans else [])
    if values.issued_at is not None:
        for path in born:
            yield path, _like(row, path, values.issued_at, layout.time)
    start = values.issued_at if born and values.issued_at is not None else now
    for path in names.spans:
        if values.expires_at is not None:
            yield path, _number_like(row[path], max(0, int((values.expires_at - start).total_seconds())))


def _like(row: Cells, path: str, at: datetime, form: TimeForm) -> object:
    """Return `at` in the form of the date that the row has at `path`, or that date itself if it is the same."""
    old = _at(row, path)
    if isinstance(old, datetime):
        at = at.astimezone(UTC)
        return at if old.tzinfo else at.replace(tzinfo=None)
    known = end_of(old, asked_at=at) if old not in (None, "") else None
    if known is not None and abs(known - at) < _SAME:
        return old
    if isinstance(old, str):
        return _text_like(old, at, form)
    if isinstance(old, int | float) and not isinstance(old, bool):
        return _number_like(old, _count(at, old))
    return _in_form(at, form)


def _text_like(old: str, at: datetime, form: TimeForm) -> object:
    if _NUMBER.fullmatch(old.strip()):
        return str(_count(at, float(old)))
    if date := _DATE.fullmatch(old.strip()):
        between, fraction, zone = date[1], date[2] or "", date[3] or ""
        digits = f"{at.microsecond:06d}000"[: len(fraction)]
        return f"{at:%Y-%m-%d}{between}{at:%H:%M:%S}{'.' * bool(fraction)}{digits}{_utc(zone)}"
    if old.strip().endswith("GMT"):
        return format_datetime(at, usegmt=True)
    return _in_form(at, form)


def _utc(zone: str) -> str:
    """Return UTC as `zone` writes a time zone."""
    return re.sub(r"\d", "0", zone.replace("-", "+"))


def _count(at: datetime, old: float) -> int:
    """Return the seconds or milliseconds since 1970, whichever `old` counts."""
    milliseconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return milliseconds if old >= _MILLISECONDS else milliseconds // 1000


def _number_like(old: object, number: int) -> object:
    """Return `number` in the type of `old`: an integer of another language stays one."""
    if isinstance(old, str):
        return str(number)
    return type(old)(number) if isinstance(old, int | float) and not isinstance(old, bool) else number


def _in_form(at: datetime, form: TimeForm) -> object:
    match form:
        case TimeForm.ISO:
            return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case TimeForm.SECONDS:
            return _count(at, _SECONDS)
        case TimeForm.MILLISECONDS:
            return _count(at, _MILLISECONDS)


def _scope_like(old: object, scope: str) -> object:
    return scope.split(" ") if isinstance(old, list) else scope


# ---------------------------------------------------------------- paths


def _paths(layout: Layout, name: str) -> tuple[str, ...]:
    paths: tuple[str, ...] = getattr(layout, name)
    return paths


def _found(paths: Sequence[str], row: Row) -> tuple[str, object]:
    """Return the first of `paths` that leads to something in `row`, and that value."""
    for path in paths:
        value = row.name if path == NAME else row.file if path == FILE else _at(row.cells, path)
        if value is not None:
            return path, value
    return "", None


def _style(layout: Layout, row: Cells) -> int:
    """Return which of a field's paths this row uses: the place of its access token's among them, else its refresh token's."""
    for paths in (layout.access_token, layout.refresh_token):
        for place, path in enumerate(paths):
            if _at(row, path) is not None or path in row:
                return place
    return 0


def _path(layout: Layout, name: str, row: Cells, style: int) -> str:
    """Return the path at which the row has the field `name`, or at which one of its style would have it."""
    paths = _paths(layout, name)
    return _found(paths, Row(cells=row))[0] or paths[min(style, len(paths) - 1)]


def _at(cells: Cells, path: str) -> object:
    """Return the value at `path`, or under that very name: a name may contain a dot."""
    if path in cells:
        return cells[path]
    return at_path(cells, path) if "." in path else None


def _put(cells: dict[str, object], path: str, value: object) -> None:
    """Set the value at `path`, in copies of the objects on the way."""
    head, dot, rest = path.partition(".")
    if not dot or path in cells:
        cells[path] = value
        return
    inner = cells.get(head)
    copy = dict(inner) if isinstance(inner, Mapping) else {}
    _put(copy, rest, value)
    cells[head] = copy


# ---------------------------------------------------------------- values


def _word(value: object) -> str | None:
    """Return an identifier as a text: JavaScript stores whole numbers as floating point."""
    if value is None or isinstance(value, bool | Mapping | list):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    return text(value if isinstance(value, str) else str(value)) or None


def _plain(value: object) -> object:
    """Return a value as a JSON text could hold it: a date becomes a text."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return value


def _is_encrypted(layout: Layout, name: str) -> bool:
    return layout.encryption is not None and name in layout.encryption.fields


def _required(cipher: Cipher | None) -> Cipher:
    if cipher is None:
        raise RowInvalid("is encrypted; --key-env NAME or --key-file FILE gives the key")
    return cipher


def _list(paths: Sequence[str]) -> str:
    return " or ".join(f"'{path}'" for path in paths)
