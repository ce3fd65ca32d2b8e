"""Security advisories about the locked packages, kept in the repository so that a scan needs no network.

`python -m supply.advisories check` compares every lock file with `requirements/advisories.json` and exits with 1 if a
locked version is affected. `python -m supply.advisories update FILE...` renews that file from advisories in the OSV
format (https://ossf.github.io/osv-schema/): single records, or zip archives of them as databases export them.
"""

import argparse
import json
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from supply.lock import REQUIREMENTS, Pin, locked

DATA = REQUIREMENTS / "advisories.json"
_ECOSYSTEM = "PyPI"


class NotReadable(ValueError):
    """A file of advisories is not as it must be. The text names the file or the advisory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisory:
    """One range of versions that an advisory affects: from `introduced` (None: the first one) up to, but without,
    `fixed`, or up to `last`. Without either, no version is fixed yet.
    """

    package: str
    id: str
    introduced: str | None = None
    fixed: str | None = None
    last: str | None = None

    def affects(self, version: Version) -> bool:
        """By the order of PEP 440, in which a pre-release of the fixed version comes before the fix."""
        if self.introduced is not None and version < Version(self.introduced):
            return False
        if self.fixed is not None:
            return version < Version(self.fixed)
        return self.last is None or version <= Version(self.last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisories:
    """`as_of`: the date of the newest record. `accepted`: advisories that do not concern refreshd, and why."""

    as_of: str
    accepted: dict[str, str] = field(default_factory=dict)
    advisories: tuple[Advisory, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What an OSV record says about the locked packages."""

    id: str
    modified: str
    withdrawn: bool
    ranges: tuple[Advisory, ...]


def read(path: Path = DATA) -> Advisories:
    """The advisories in `path`. Raises NotReadable."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        ranges = tuple(Advisory(**row) for row in stored.pop("advisories"))
        for bound in (bound for one in ranges for bound in (one.introduced, one.fixed, one.last)):
            Version(bound or "0")
        return Advisories(**stored, advisories=ranges)
    except (OSError, ValueError, TypeError, KeyError) as why:
        raise NotReadable(f"{path}: {why}") from why


def hits(pins: Iterable[Pin], known: Advisories) -> list[tuple[Pin, Advisory]]:
    """Each locked package that an advisory affects."""
    pairs = ((pin, one) for pin in pins for one in known.advisories if one.package == pin.name)
    return [(pin, one) for pin, one in pairs if one.affects(pin.version)]


def records(paths: Iterable[Path], packages: frozenset[str]) -> Iterator[Record]:
    """The records in files and zip archives, reduced to `packages`. Raises NotReadable."""
    for name, text in _texts(paths):
        try:
            found = json.loads(text)
            for row in found if isinstance(found, list) else [found]:
                yield _record(row, packages)
        except (ValueError, TypeError, KeyError, AttributeError) as why:
            raise NotReadable(f"{name} isn't a record in the OSV format: {why!r}") from why


def updated(known: Advisories, news: Iterable[Record], packages: frozenset[str]) -> Advisories:
    """`known`, with each advisory of `news` in the place of what was known under its id. Advisories about packages that
    are not locked any more are dropped.
    """
    newest, met, ranges = known.as_of, set[str](), set[Advisory]()
    for record in news:
        newest = max(newest, record.modified)
        met.add(record.id)
        if not record.withdrawn:
            ranges.update(record.ranges)
    ranges.update(one for one in known.advisories if one.id not in met and one.package in packages)
    return replace(known, as_of=newest, advisories=tuple(sorted(ranges, key=_order)))


def write(known: Advisories, path: Path = DATA) -> None:
    """One advisory a line, so that a difference can be read."""
    rows = [
        json.dumps({name: value for name, value in asdict(one).items() if value is not None})
        for one in known.advisories
    ]
    listed = ",\n    ".join(rows)
    path.write_text(
        f'{{\n  "as_of": {json.dumps(known.as_of)},\n  "accepted": {json.dumps(known.accepted, indent=4)},\n'
        f'  "advisories": [\n    {listed}\n  ]\n}}\n',
        encoding="utf-8",
    )


def _order(one: Advisory) -> list[str]:
    return [text or "" for text in asdict(one).values()]


def _texts(paths: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        try:
            if not zipfile.is_zipfile(path):
                yield str(path), path.read_bytes()
                continue
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if name.endswith(".json"):
                        yield f"{path}/{name}", archive.read(name)
        except (OSError, zipfile.BadZipFile) as why:
            raise NotReadable(f"{path}: {why}") from why


def _record(row: dict[str, Any], packages: frozenset[str]) -> Record:
    """The CVE is an advisory's best known name, and databases agree on it."""
    name = next((alias for alias in sorted(row.get("aliases") or ()) if alias.startswith("CVE-")), row["id"])
    ranges = [one for affected in row.get("affected") or () for one in _ranges(name, affected, packages)]
    withdrawn = bool(row.get("withdrawn"))
    return Record(id=name, modified=row["modified"][:10], withdrawn=withdrawn, ranges=tuple(ranges))


def _ranges(name: str, affected: dict[str, Any], packages: frozenset[str]) -> Iterator[Advisory]:
    about = affected.get("package") or {}
    package = canonicalize_name(about.get("name", ""))
    if about.get("ecosystem") != _ECOSYSTEM or package not in packages:
        return
    one = Advisory(package=package, id=name)
    ranges = [
        closed
        for part in affected.get("ranges") or ()
        if part["type"] == "ECOSYSTEM"
        for closed in _closed(one, part["events"])
    ]
    yield from ranges
    for version in filter(_is_version, affected.get("versions") or ()):
        if not any(closed.affects(Version(version)) for closed in ranges):
            yield replace(one, introduced=version, last=version)


def _closed(one: Advisory, events: list[dict[str, str]]) -> Iterator[Advisory]:
    """The ranges that events open and close, in the order of their versions."""
    marks = [(Version(version), kind, version) for event in events for kind, version in event.items()]
    start: str | None = None
    for _, kind, version in sorted(mark for mark in marks if mark[1] != "limit"):
        if kind == "introduced":
            start = start or version
            continue
        if start is not None:
            end = {"fixed": version} if kind == "fixed" else {"last": version}
            yield replace(one, introduced=None if start == "0" else start, **end)
        start = None
    if start is not None:
        yield replace(one, introduced=None if start == "0" else start)


def _is_version(text: str) -> bool:
    """A locked version follows PEP 440, so nothing else can be equal to one."""
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _check(known: Advisories, pins: list[Pin]) -> int:
    found = hits(pins, known)
    for pin, one in found:
        place = f"requirements/{pin.file}.txt: {pin.name} {pin.version} is affected by {one.id}"
        fix = f"fixed in {one.fixed}" if one.fixed else "no fixed version is known"
        accepted = known.accepted.get(one.id)
        print(f"{place}; {fix}" + (f". Accepted: {accepted}" if accepted else ""))
    bad = [one for _, one in found if one.id not in known.accepted]
    names = {pin.name for pin in pins}
    print(
        f"{len(names)} locked packages, {len(known.advisories)} advisories as of {known.as_of}: {len(bad)} hits"
    )
    return 1 if bad else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 1 for a hit, 2 for a file that can't be read."""
    parser = argparse.ArgumentParser(
        prog="python -m supply.advisories", description=(__doc__ or "").split("\n\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="compare the lock files with the advisories")
    update = commands.add_parser("update", help="renew the advisories from files in the OSV format")
    update.add_argument("files", nargs="+", type=Path, help="records (.json), or archives of them (.zip)")
    for command in commands.choices.values():
        command.add_argument("--data", type=Path, default=DATA, help="the advisories (default: %(default)s)")
        command.add_argument(
            "--requirements", type=Path, default=REQUIREMENTS, help="where the lock files are"
        )
    given = parser.parse_args(arguments)
    try:
        known, pins = read(given.data), locked(given.requirements)
        if given.command == "check":
            return _check(known, pins)
        packages = frozenset(pin.name for pin in pins)
        renewed = updated(known, records(given.files, packages), packages)
    except ValueError as why:
        print(f"supply.advisories: {why}", file=sys.stderr)
        return 2
    write(renewed, given.data)
    return _check(renewed, pins)


if __name__ == "__main__":
    sys.exit(main())
