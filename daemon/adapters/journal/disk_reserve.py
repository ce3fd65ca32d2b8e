"""Room on the journal's disk, reserved before anything is asked: a reply in flight must find it, however full the disk is.

The reserve is the journal's own write-ahead file, allocated ahead. SQLite appends to that file wherever it stands and
does not look at its length, so what is allocated behind its end is taken by the replies themselves: there is nothing to
give back, and no moment in which somebody else could take it. The database's file need not grow for a reply to be
durable; that is a checkpoint's work, and waits for room.

How much: 64 KiB for each request in flight, so 16 MiB by default. A token reply has up to 4 KB; sealed, in pages, and in
a transaction of its own it takes 16 KiB of the file to be kept and another 28 to be forgotten (measured), so one of 8 KB
has room for both, and one of 30 KB for the former, which alone matters. The bound of a single reply is far above that,
but replies so large are an outage's pages and no grants, and reserving it for all would ask every small machine for
200 MB. Should so many such pages come while the disk is full as well, the last of them are held in memory.

Beside the reserve some room must be free, or the disk counts as full: then no more is asked, and what is in flight has
the reserve to itself. A file system that never writes in place (Btrfs, ZFS) may not honour the reserve; there, the free
room is all there is.
"""

import os
from pathlib import Path

PER_REPLY = 64 << 10  # bytes
LEAST_FREE = 4 << 20  # bytes: as much as the file itself may grow by with its next checkpoint


def room_for(replies: int) -> int:
    """The bytes that so many replies may take until they are forgotten."""
    return replies * PER_REPLY


def allocated(file: Path) -> int:
    """The bytes of disk that `file` has; none when it is not there."""
    return file.stat().st_blocks * 512 if file.exists() else 0


def shortage(directory: Path, *, asked: int = 0) -> str | None:
    """Why `asked` more bytes can't be had at `directory` without filling its disk; None: they can. Raises OSError."""
    disk = os.statvfs(directory)
    free = disk.f_bavail * disk.f_frsize
    if free >= asked + LEAST_FREE:
        return None
    return f"{directory} has {_mib(free)} free and needs {_mib(asked + LEAST_FREE)}"


def reserve(file: Path, *, used: int, room: int) -> str | None:
    """Allocate `file`, which exists, `room` bytes beyond its first `used`; why not, if that would fill the disk.

    Raises OSError. What stands in the file stays.
    """
    if (lack := shortage(file.parent, asked=max(0, used + room - allocated(file)))) is not None:
        return lack
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_fallocate(descriptor, 0, used + room)
    finally:
        os.close(descriptor)
    return None


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
