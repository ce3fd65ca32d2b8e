"""The lock files: `requirements/*.txt`, as uv writes them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "requirements"

_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class NotLocked(ValueError):
    """A lock file has a line that names no exact version with a hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One package of a lock file. `file`: that file's name without its ending; `hashes`: SHA-256, of each archive."""

    name: NormalizedName
    version: Version
    hashes: tuple[str, ...]
    file: str


def locked(folder: Path = REQUIREMENTS) -> list[Pin]:
    """Every package of every lock file in `folder`. A package that two files lock appears twice.

    Raises NotLocked: what can't be read would not be compared with anything.
    """
    return [pin for path in sorted(folder.glob("*.txt")) for pin in _pins(path)]


def _pins(path: Path) -> Iterator[Pin]:
    """Each line of a requirement ends with a backslash, except for the last."""
    whole = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in whole.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found, hashes = _PIN.match(line), tuple(_HASH.findall(line))
        if found is None or not hashes:
            raise NotLocked(f"{path.name}: {line.split()[0]} has no exact version with a SHA-256 hash")
        name, version = canonicalize_name(found[1]), Version(found[2])
        yield Pin(name=name, version=version, hashes=hashes, file=path.stem)
