"""A release's files, in `dist/`: sdist and wheel, the packages for applications, a bill of materials, and SHA256SUMS.

The same sources give the same bytes, on every machine: times come from SOURCE_DATE_EPOCH, the build tools are those of
requirements/build.txt, and nothing is fetched.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import tomllib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from hatchling.build import build_sdist, build_wheel

from supply.bill import bill_of_materials
from supply.clients import build_clients
from supply.lock import ROOT, locked


class NotBuilt(RuntimeError):
    """The files would not be the same elsewhere."""


def build(folder: Path, *, at: datetime) -> list[Path]:
    """Build everything into `folder`, from the sources in the current directory. Raises NotBuilt."""
    pins = locked(Path.cwd() / "requirements")
    for pin in pins:
        if pin.file == "build" and version(pin.name) != str(pin.version):
            raise NotBuilt(
                f"{pin.name} {version(pin.name)} is installed, {pin.version} is locked: run make dist again"
            )
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = [folder / build_sdist(str(folder)), folder / build_wheel(str(folder))]
    clients = build_clients(Path.cwd(), folder, at=at)
    files += [file for client in clients for file in client.files]
    bill = folder / f"{project['name']}-{project['version']}.cdx.json"
    contents = bill_of_materials(project, pins, clients, at=at)
    bill.write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
    files.append(bill)
    sums = folder / "SHA256SUMS"
    digests = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(files)]
    sums.write_text("".join(digests), encoding="utf-8")
    return [*files, sums]


def _epoch(seconds: str) -> datetime:
    if not seconds.isdecimal():
        raise NotBuilt("SOURCE_DATE_EPOCH isn't set; make dist sets it to the time of the last commit")
    return datetime.fromtimestamp(int(seconds), tz=UTC)


def main() -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m supply.dist", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="replaced (default: %(default)s)")
    folder = parser.parse_args().out.resolve()
    try:
        for file in build(folder, at=_epoch(os.environ.get("SOURCE_DATE_EPOCH", ""))):
            print(file)
    except (NotBuilt, ValueError) as why:
        print(f"supply.dist: {why}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
