"""Durability of names: a file that was created, renamed or deleted is so for good once its directory is synced."""

import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Write the directory's entries to the disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
