"""The packages for applications: clients/python as wheel and sdist, and clients/node as the archive that npm installs.

`make dist` puts them into a release, and `make doors` tests these same files.
"""

import gzip
import hashlib
import io
import json
import os
import tarfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hatchling.build import build_sdist, build_wheel

_ALWAYS = ("package.json", "README.md", "LICENSE")  # npm packs them whether `files` names them or not


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A built package. `ecosystem`: as package URLs name it."""

    ecosystem: str
    name: str
    version: str
    files: Sequence[Path]

    @property
    def hashes(self) -> Sequence[str]:
        """The SHA-256 of each file, sorted."""
        return sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in self.files)


def build_clients(sources: Path, folder: Path, *, at: datetime) -> list[Package]:
    """Build the packages of the clone `sources` into `folder`. `at`: the date of each file in the archives."""
    return [
        python_package(sources / "clients" / "python", folder),
        node_package(sources / "clients" / "node", folder, at=at),
    ]


def python_package(source: Path, folder: Path) -> Package:
    """Build the wheel and the sdist."""
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with _inside(source):
        files = [folder / build_wheel(str(folder)), folder / build_sdist(str(folder))]
    return Package(ecosystem="pypi", name=project["name"], version=project["version"], files=files)


def node_package(source: Path, folder: Path, *, at: datetime) -> Package:
    """Pack what `npm pack` would, without npm."""
    manifest = json.loads((source / "package.json").read_text(encoding="utf-8"))
    name, version = manifest["name"], manifest["version"]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in _packed(source, manifest["files"]):
            member = tarfile.TarInfo(f"package/{path.relative_to(source).as_posix()}")
            member.size, member.mode, member.mtime = path.stat().st_size, 0o644, int(at.timestamp())
            with path.open("rb") as content:
                archive.addfile(member, content)
    file = folder / f"{name}-{version}.tgz"
    file.write_bytes(gzip.compress(packed.getvalue(), compresslevel=9, mtime=0))
    return Package(ecosystem="npm", name=name, version=version, files=[file])


def _packed(source: Path, folders: Sequence[str]) -> Iterator[Path]:
    """Yield each file of the package, in an order that no file system decides."""
    yield from (source / name for name in _ALWAYS)
    for folder in folders:
        yield from sorted(path for path in (source / folder).rglob("*") if path.is_file())


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """The builder reads the current directory."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
