"""Disk space for the journal, reserved before any request: a reply in flight must fit even on a full disk.

The reserve is the journal's own write-ahead file, allocated ahead. SQLite appends to that file at its current
position and does not look at its length, so the replies themselves use the space that is allocated behind the
end. No space is ever given back that another program could take. The database file need not grow for a reply
to be durable; that is the work of a checkpoint, which waits for space.

Size: 64 KiB for each request in flight, so 16 MiB by default. A token reply has up to 4 KB. Sealed, in pages,
and in its own transaction it takes 16 KiB of the file to be kept and another 28 KiB to be forgotten
(measured). So a reply of 8 KB fits both times, and one of 30 KB fits the first time, which is the one that
matters. A single reply may be far larger, but such replies are an outage's pages rather than grants, and
reserving space for all of them would ask every small machine for 200 MB. If that many large pages arrive
while the disk is full, the last of them are held in memory.

Some space must be free beside the reserve, or the disk counts as full. Then no further request is sent, and
the requests in flight have the reserve to themselves. A file system that never writes in place (Btrfs, ZFS)
may not honour the reserve; only the free space protects replies there.
"""

import os
from pathlib import Path

PER_REPLY = 64 << 10  # bytes
LEAST_FREE = 4 << 20  # bytes: as much as the file itself may grow by with its next checkpoint


def bytes_for(replies: int) -> int:
    """Return the bytes that `replies` may take until they are forgotten."""
    return replies * PER_REPLY


def allocated(file: Path) -> int:
    """Return the bytes of disk that `file` occupies; 0 if it does not exist."""
    return file.stat().st_blocks * 512 if file.exists() else 0


def shortage(directory: Path, *, asked: int = 0) -> str | None:
    """Return why `asked` more bytes at `directory` would fill its disk; None if they fit. Raises OSError."""
    disk = os.statvfs(directory)
    free = disk.f_bavail * disk.f_frsize
    if free >= asked + LEAST_FREE:
        return None
    return f"{directory} has {_mib(free)} free and needs {_mib(asked + LEAST_FREE)}"


def reserve(file: Path, *, used: int, ahead: int) -> str | None:
    """Allocate `file`, which exists, `ahead` bytes beyond its first `used`. Returns why not, if that would
    fill the disk.

    The content of the file does not change. Raises OSError.
    """
    if (lack := shortage(file.parent, asked=max(0, used + ahead - allocated(file)))) is not None:
        return lack
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_fallocate(descriptor, 0, used + ahead)
    finally:
        os.close(descriptor)
    return None


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
