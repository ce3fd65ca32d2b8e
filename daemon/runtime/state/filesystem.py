"""What the state directory stands on, by what the kernel says of its mounts (proc_pid_mountinfo(5)).

A network's file system promises neither the locks nor the fsyncs that the journal and the instance's id are built on.
Memory and a container's own layer keep these promises, and forget everything in the end all the same.
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
# Through FUSE any program can be a file system: the names of those that keep their files elsewhere begin so.
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
    """The kernel's list; empty where there is none (it is Linux's)."""
    try:
        return mountinfo.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def filesystem_at(path: Path, mountinfo: str) -> str | None:
    """The type of the file system that holds `path`, an absolute one without symbolic links; None: not listed.

    Goes from mount to mount as the kernel does when it follows the path, since one mount may hide another.
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
    """Whether the files are kept by another machine."""
    kind, _, program = filesystem.partition(".")
    return kind in _REMOTE or (kind == "fuse" and program.startswith(_REMOTE_PROGRAMS))


def caution(filesystem: str) -> str | None:
    """What is to be feared for files there; None: nothing that we know of."""
    if filesystem in _MEMORY:
        return "it is in memory and is lost when this machine restarts"
    if filesystem in _LAYERS:
        return "it is in a container's own layer and is lost with the container"
    if filesystem in _HANDED_IN:
        return "it belongs to the host, which may delay writes that refreshd asks for"
    return None


def _entered(path: Path, among: Sequence[_Mount]) -> _Mount | None:
    """The first mount that one meets on the way to `path`; of two on one point, the one on top is the other's child."""
    on_the_way = [mount for mount in among if path.is_relative_to(mount.point)]
    return min(on_the_way, key=lambda mount: len(mount.point.parts), default=None)


def _mount(line: str) -> _Mount | None:
    """`id parent device root point options [tags ...] - type source options`; None: it is not such a line."""
    before, _, after = line.partition(" - ")
    fields, behind = before.split(" "), after.split(" ")
    if len(fields) < 6 or not behind[0]:
        return None
    point = _OCTAL.sub(lambda escape: chr(int(escape[1], 8)), fields[4])
    return _Mount(fields[0], fields[1], PurePosixPath(point), behind[0])
