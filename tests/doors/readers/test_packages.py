"""The package of clients/node in a release, beside what npm itself packs."""

import tarfile
from pathlib import Path


def contents(tarball: Path) -> dict[str, bytes]:
    with tarfile.open(tarball) as archive:
        opened = ((one.name, archive.extractfile(one)) for one in archive.getmembers())
        return {name: file.read() for name, file in opened if file is not None}


def test_a_release_holds_what_npm_would_pack(tarball: Path, npms_tarball: Path):
    """The release is built without npm, on machines that lack it."""
    assert contents(tarball) == contents(npms_tarball)
    assert tarball.name == npms_tarball.name
