"""The file system of the state directory, from the kernel's list of mounts (proc_pid_mountinfo(5)).

A network file system guarantees neither the locks nor the fsyncs that the journal and the instance's id need.
Memory and a container's own layer guarantee them, but lose everything in the end.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

MOUNTINFO = Path("/proc/self/mountinfo")

# fmt: off
_REMOTE = (
    "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs",
    "pvfs2", "smb3", "smbfs",
)
# FUSE programs that keep their files on other machines: the starts of their names.
_REMOTE_PROGRAMS = (
    "blobfuse", "ceph", "curlftpfs", "davfs", "gcsfuse", "gluster", "goofys", "hdfs", "juicefs", "lizardfs", "mfs",
    "moosefs", "rclone", "s3", "seaweedfs", "smb", "ssh",
)
# fmt: on
_MEMORY = ("tmpfs", "ramfs", "rootfs")
_LAYERS = ("overlay", "overlayfs", "aufs", "fuse.fuse-overlayfs")
_HANDED_IN = frozenset(
    {"9p"}
)  # by the host of a virtual machine or sandbox, so its disk may well be a good one
_OCTAL = re.compile(r"\\([0-7]{3})")


class _Mount(NamedTuple):
    id: str
    parent: str
    point: PurePosixPath
    filesystem: str


def mounts(mountinfo: Path = MOUNTINFO) -> str:
    """Return the kernel's list of mounts; empty if there is none (it is Linux's)."""
    try:
        return mountinfo.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def filesystem_at(path: Path, mountinfo: str) -> str | None:
    """Return the type of the file system of `path`, which is absolute and without symbolic links; None if not
    listed.

    Follows the mounts as the kernel does, since one mount may hide another.
    """
    left = [mount for line in mountinfo.splitlines() if (mount := _mount(line)) is not None]
    listed = {mount.id for mount in left}
    outermost = [mount for mount in left if mount.parent not in listed or mount.parent == mount.id]
    here = _entered(path, outermost)
    found = None
    while here is not None:
        found = here
        left.remove(here)
        here = _entered(path, [mount for mount in left if mount.parent == found.id])
    return found.filesystem if found else None


def is_remote(filesystem: str) -> bool:
    """Return whether another machine keeps the files."""
    kind, _, program = filesystem.partition(".")
    return kind in _REMOTE or (kind == "fuse" and program.startswith(_REMOTE_PROGRAMS))


def caution(filesystem: str) -> str | None:
    """Return the risk for files on this file system, or None if no risk is known."""
    if filesystem in _MEMORY:
        return "it is in memory and is lost when this machine restarts"
    if filesystem in _LAYERS:
        return "it is in a container's own layer and is lost with the container"
    if filesystem in _HANDED_IN:
        return "it belongs to the host, which may delay writes that refreshd asks for"
    return None


def _entered(path: Path, among: Sequence[_Mount]) -> _Mount | None:
    """Return the first mount on the way to `path`. Of two on one point, the upper one is the other's
    child.
    """
    on_the_way = [mount for mount in among if path.is_relative_to(mount.point)]
    return min(on_the_way, key=lambda mount: len(mount.point.parts), default=None)


def _mount(line: str) -> _Mount | None:
    """Parse `id parent device root point options [tags ...] - type source options`; None if the line is
    different.
    """
    before, _, after = line.partition(" - ")
    fields, behind = before.split(" "), after.split(" ")
    if len(fields) < 6 or not behind[0]:
        return None
    point = _OCTAL.sub(lambda escape: chr(int(escape[1], 8)), fields[4])
    return _Mount(fields[0], fields[1], PurePosixPath(point), behind[0])
