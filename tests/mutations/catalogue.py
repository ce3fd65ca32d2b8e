"""The mutations of docs/develop/invariants.md as changes of text, which a program can apply.

A row of that document names the rule that is broken, the file, and the tests that notice. An entry of a TOML file here has the
row's own words as `rule`, the text `old`, which stands once in the file, and the text `new` in its place. A rule that more
than one place keeps is broken in each of them: the others are listed under `also`, with their `file` if it is another one.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCUMENT = ROOT / "docs/develop/invariants.md"

_FILE = re.compile(r"`([\w/]+\.py)`")
_TEST = re.compile(r"`(tests/[\w/]+\.py::\w+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the document. `files`: below `daemon/`. `tests`: ids for pytest."""

    rule: str
    files: Sequence[str]
    tests: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The text `old`, which stands once in `file`, and the text `new` in its place."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """What breaks one rule. `source`: the TOML file that it is from."""

    source: str
    rule: str
    changes: Sequence[Change]
    tests: Sequence[str]

    @property
    def files(self) -> Sequence[str]:
        return list(dict.fromkeys(change.file for change in self.changes))

    def applied(self, texts: Mapping[str, str]) -> Mapping[str, str]:
        """Return `texts`, by file, with every change. Raises ValueError unless each `old` stands exactly once."""
        changed = dict(texts)
        for change in self.changes:
            if (times := changed[change.file].count(change.old)) != 1:
                raise ValueError(f"{change.file} has the text {times} times")
            changed[change.file] = changed[change.file].replace(change.old, change.new)
        return changed


def rows() -> Sequence[Row]:
    """Return the rows of all tables of the document."""
    found = []
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.split(" | ")]
        if len(cells) == 3 and (tests := _TEST.findall(cells[2])):
            rule = cells[0].removeprefix("| ")
            found.append(Row(rule=rule, files=_FILE.findall(cells[1]), tests=tests))
    return found


def mutations() -> Sequence[Mutation]:
    """Return every mutation, in the order of the TOML files. Raises KeyError for a rule that no row has."""
    by_rule = {row.rule: row for row in rows()}
    return [
        _mutation(path.name, entry, by_rule[entry["rule"]])
        for path in sorted(HERE.glob("*.toml"))
        for entry in _entries(path)
    ]


def _entries(path: Path) -> Iterator[Mapping[str, Any]]:
    yield from tomllib.loads(path.read_text())["mutation"]


def _mutation(source: str, entry: Mapping[str, Any], row: Row) -> Mutation:
    changes = [_change(one, row) for one in (entry, *entry.get("also", ()))]
    return Mutation(source=source, rule=row.rule, changes=changes, tests=row.tests)


def _change(entry: Mapping[str, Any], row: Row) -> Change:
    """Return one change of an entry. Raises ValueError if its file isn't one of the row's."""
    file = entry.get("file", row.files[0])
    if file not in row.files:
        raise ValueError(f"{row.rule}: the row doesn't name {file}")
    return Change(file=f"daemon/{file}", old=entry["old"], new=entry["new"])
