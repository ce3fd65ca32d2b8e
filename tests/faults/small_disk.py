"""A disk that is small enough to be filled: a file system in memory, for as long as a test."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


class SmallDisk:
    """What is mounted at `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._hog = directory / "hog"

    def fill(self) -> None:
        """Take all that is left, to the last page."""
        with self._hog.open("wb", buffering=0) as hog, suppress(OSError):
            while True:
                hog.write(bytes(1 << 16))
        assert self.free == 0

    def clear(self) -> None:
        """Give it back."""
        self._hog.unlink()

    @property
    def free(self) -> int:
        disk = os.statvfs(self.directory)
        return disk.f_bavail * disk.f_frsize


@contextmanager
def small_disk(directory: Path, *, mebibytes: int) -> Iterator[SmallDisk]:
    """Mount one at `directory`, made if missing. Skips the test where that is not allowed."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=700", "refreshd-test", directory]
    try:
        mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError as why:
        pytest.skip(f"a small disk can't be mounted here: {why}")
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(directory)
    finally:
        # Lazily: whatever a failing test leaves open must not keep it there.
        subprocess.run(["umount", "--lazy", directory], check=True)
