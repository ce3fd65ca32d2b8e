"""The mutations of docs/develop/invariants.md as changes of text, which a program can apply.

A row of that document names the rule that is broken, the file, and the tests that notice. An entry of a TOML file here has the
row's own words as `rule`, the text `old`, which stands once in the file, and the text `new` in its place.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
class Mutation:
    """One change of one file. `source`: the TOML file that it is from."""

    source: str
    rule: str
    file: str
    old: str
    new: str
    tests: Sequence[str]

    def applied(self, text: str) -> str:
        """Return `text` with the change. Raises ValueError unless `old` stands in it exactly once."""
        if (times := text.count(self.old)) != 1:
            raise ValueError(f"{self.file} has the text {times} times")
        return text.replace(self.old, self.new)


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


def _entries(path: Path) -> Iterator[Mapping[str, str]]:
    yield from tomllib.loads(path.read_text())["mutation"]


def _mutation(source: str, entry: Mapping[str, str], row: Row) -> Mutation:
    [file] = row.files
    old, new = entry["old"], entry["new"]
    return Mutation(source=source, rule=row.rule, file=f"daemon/{file}", old=old, new=new, tests=row.tests)
