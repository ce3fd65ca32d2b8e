"""The identity of this process: one instance per state directory, under a lock.

The id is bound to the machine's boot and to the very file that contains it. The same id under the same lock
therefore means that the process which used it before is dead, and that its claims can be taken back. A copied
directory or a cloned machine does not match, and gets a new id.

This and the journal require a disk of this machine: a network file system is refused.
"""

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from daemon.adapters.state_files import IDENTITY, LOCK
from daemon.adapters.trusted_files import Untrusted, make_private
from daemon.runtime.state.filesystem import MOUNTINFO, filesystem_at, is_remote, mounts

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class StateHeld(Exception):
    """Another process uses this state directory."""


class StateUnusable(Exception):
    """The state directory can't be used; the text gives the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The identity of this instance among the replicas, and its directory."""

    id: str
    directory: Path
    former_mode: int | None  # of the directory, if others could enter it before; None: they couldn't
    filesystem: str | None  # the kernel's name for the directory's file system; None: unknown


def take(directory: Path, *, mountinfo: Path = MOUNTINFO) -> Instance:
    """Lock `directory` for the life of this process, and determine the instance's id.

    Raises StateHeld, naming the process, or StateUnusable.
    """
    try:
        former = make_private(directory)
        filesystem = _of_this_machine(directory, mountinfo)
        descriptor = lock_file(directory / LOCK)  # stays open for the life of this process
        holder = f"{os.getpid()}\n".encode()
        os.pwrite(descriptor, holder, 0)  # in place: that works on a full disk too
        os.ftruncate(descriptor, len(holder))
        identity = directory / IDENTITY
        stored = _read(identity)
        name = _write(identity) if stored is None else stored
        _lock_identity(identity)
        return Instance(
            id=name,
            directory=directory,
            filesystem=filesystem,
            former_mode=former,
        )
    except Untrusted as why:
        raise StateUnusable(f"state.dir: {why}") from None
    except OSError as why:
        raise StateUnusable(
            f"state.dir {directory}: {why.strerror or why}. Make it a directory that this user can write to and that"
            " has room"
        ) from None


def _lock_identity(identity: Path) -> None:
    """Lock the identity file too, for the life of this process: the lock file alone protects nothing once it
    is removed.

    Raises StateHeld.
    """
    descriptor = os.open(identity, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StateHeld(
            f"state.dir {identity.parent} is in use by another process, although its lock file is missing: stop that process,"
            " or give this one its own state.dir"
        ) from None


def _of_this_machine(directory: Path, mountinfo: Path) -> str | None:
    """Return the file system that `directory` is on. Raises StateUnusable for a network file system."""
    filesystem = filesystem_at(directory.resolve(), mounts(mountinfo))
    if filesystem is not None and is_remote(filesystem):
        raise StateUnusable(
            f"state.dir {directory}: it is on a network file system ({filesystem}), where neither a lock nor an fsync"
            " can be relied on, and the journal may hold the only copy of a token. Choose a directory on a disk of"
            " this machine; replicas need nothing shared but MongoDB"
        )
    return filesystem


def lock_file(path: Path) -> int:
    """Return a descriptor that holds the lock file at `path`, created if missing. Raises StateHeld, naming
    the process.

    The kernel releases the lock when the descriptor is closed, at the latest when this process ends.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        raise StateHeld(
            f"state.dir {path.parent} is in use by process {holder or 'unknown'}: stop it, or give this process its own"
            " state.dir"
        ) from None
    return descriptor


def id_on_disk(directory: Path) -> str | None:
    """Return the id of the instance that uses `directory`, or used it during this boot."""
    return _read(directory / IDENTITY)


def _read(path: Path) -> str | None:
    """Return the id in the file, if it was written to this very file during this boot."""
    try:
        stored = json.loads(path.read_text())
        if stored["bound"] == _binding(path):
            return str(stored["id"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _write(path: Path) -> str:
    """Return a new id, bound to its file: it is written into that file once its inode is known."""
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    instance = uuid4().hex[:12]
    with fresh.open("w") as file:
        json.dump({"id": instance, "bound": _binding(fresh)}, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    return instance


def _binding(path: Path) -> list[str | int]:
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else "unknown"
    file = path.stat()  # two new disks number their files alike: the number alone is not enough
    return [boot, file.st_dev, file.st_ino]
