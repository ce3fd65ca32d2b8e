"""How results look: for people a text or a table, for programs one JSON object a line. Results go to standard output,
whatever else is worth saying to standard error.

What was read from a database may hold anything: control characters never reach a terminal, sealed texts never leave.
"""

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from daemon.adapters.telemetry.redaction import rfc3339
from daemon.commands.support.column import Column
from daemon.commands.support.failure import Exit, Failed, in_json
from daemon.commands.support.terminal import say
from daemon.domain.visible import visible

if TYPE_CHECKING:
    from daemon.commands.support.tables import Tables

_SEALED = re.compile(r"[vw]1\.[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{30,}")


class Output:
    """Standard output, for people or for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def record(self, record: Mapping[str, object]) -> None:
        """One JSON object, on a line of its own."""
        print(json.dumps(plain(record)))

    def result(self, record: Mapping[str, object], text: str, *, keep: str = "") -> None:
        """One result: `record` for programs, `text` for people: one line, unless it `keep`s line ends."""
        if self.as_json:
            self.record(record)
        else:
            print(visible(text, keep=keep))

    def marked(self, mark: str, text: str, *, style: str) -> None:
        """One line for people, behind a mark; on a terminal in the mark's colour."""
        self._tables.marked(mark, text, style=style)

    def exact(self, record: Mapping[str, object], text: str) -> None:
        """A text for a program to take, an id or a secret that was asked for: as it is, but on a terminal."""
        if self.as_json:
            print(json.dumps(record, default=plain))
        else:
            print(visible(text) if sys.stdout.isatty() else text)

    def note(self, *lines: str) -> None:
        """What is worth knowing beside the results."""
        say(*lines)

    def failed(self, sentence: str, code: Exit = Exit.FAILED) -> None:
        """One of several things that can't be done, on standard error; the others go on."""
        error = Failed(sentence, code)
        say(in_json(error, code, [sentence]) if self.as_json else f"refreshd: {sentence}")

    def pairs(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Names and values, aligned."""
        self._tables.pairs(pairs)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]], *, head: bool = True) -> None:
        """Part of a table, one line a row; later parts are as wide as the first. On a terminal the last column is cut
        to what is left of the line. No other cell is ever cut, so that ids can be copied.
        """
        self._tables.table(columns, rows, head=head)

    @cached_property
    def _tables(self) -> "Tables":
        from daemon.commands.support.tables import Tables  # noqa: PLC0415  most results are single lines

        return Tables()


def plain(value: object) -> object:
    """`value` as JSON knows it: instants in RFC 3339, and no sealed text."""
    match value:
        case None | bool() | int():
            return value
        case str():
            return "(sealed)" if _SEALED.fullmatch(value) else value
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime():
            return rfc3339(value)
        case timedelta():
            return value.total_seconds()
        case Mapping():
            return {str(name): plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [plain(inner) for inner in value]
        case _:
            return str(value)


def span(length: timedelta) -> str:
    """How long, in one rounded-down number."""
    seconds = int(length.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def moment(instant: object, *, now: datetime, none: str = "never") -> str:
    """When, as seen from `now`; `none` if there is no such instant."""
    if instant is None:
        return none
    if not isinstance(instant, datetime):
        return "not a date"
    return f"in {span(instant - now)}" if instant >= now else f"{span(now - instant)} ago"
