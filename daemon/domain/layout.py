"""How another application stores its tokens: which field holds what, in one description for both directions.

`layout_reading.py` takes a row apart, and `layout_writing.py` puts a token's current values into a copy of it. Every
other value stays as it is, and so does the whole row if the token has not changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from daemon.domain.secret import Secret

Cells = Mapping[str, object]  # one row: a JSON object, a document, or a table's columns by name
NAME = "@name"  # a path: the name under which the row stands in an object of rows
FILE = "@file"  # a path: the name of the row's file, without its ending
ALL = "*"  # a name in `meta` or `vars`: every text of the object at the path, under its own name


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
