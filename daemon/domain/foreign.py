"""Rows of an application's store: what reading and replacing them can come to."""

from dataclasses import dataclass, field

from daemon.domain.layout import Row

LARGEST_ROW = 64 * 1024  # characters of a row's text
TOO_LARGE = "it is larger than 64 KB"


class SourceLost(Exception):
    """The application's store can't be read or written as a whole. The text is a sentence for operators: what, where,
    and what to do; it contains no password and no value.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row that can't be taken apart: `label` names its place ("line 7"), `why` is a clause for people."""

    label: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """One row's change. `before`: the row as it was read, which must still stand there (None: no such row).
    `after`: the row as it is to be (None: it is removed).
    """

    key: str
    before: Row | None = field(repr=False)
    after: Row | None = field(repr=False)
