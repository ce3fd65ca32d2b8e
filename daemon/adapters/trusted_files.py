"""Trust in files: only those count that no other user can change, as in sshd's StrictModes.

The file, every directory on the way to it and every symbolic link there must belong to root or to this user,
and be writable by nobody else. A sticky directory such as /tmp may be on the way, since others can't replace
this user's files in it. A group counts as this user's own if it has no other known members, such as the
private groups of distributions and the fsGroup of a pod.
"""

import errno
import grp
import os
import pwd
import select
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from shlex import quote

from daemon.adapters.state_files import IDENTITY, JOURNAL, LOCK, MONGODB

PIPE_PAUSE = timedelta(seconds=10)
_MOST_LINKS = 40  # as the kernel follows
_ACL = "system.posix_acl_access"
_ALL_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Untrusted(Exception):
    """Others can change a file or directory. `what` names its path, owner and mode, `do` the command that
    fixes it.
    """

    def __init__(self, what: str, do: str) -> None:
        self.what, self.do = what, do
        super().__init__(f"{what}. {do}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The content of a file, and who can read it."""

    data: bytes = field(repr=False)
    everybody: bool  # every local user may read it
    group: str | None  # so may this group, in which are others than root and this user


def read_trusted(path: Path, *, limit: int = -1) -> Content:
    """Return the content of `path`, at most `limit` bytes of it. Raises OSError, ValueError or Untrusted.

    A pipe is not waited for longer than ten seconds, and a device not at all: a start or a reload would hang.
    """
    trust(path)
    descriptor = os.open(
        path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    )  # else opening a pipe waits for its writer
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        _judge(path, found, last=True)
        if stat.S_ISFIFO(found.st_mode):
            data = _from_pipe(descriptor, limit)
        elif stat.S_ISREG(found.st_mode):
            os.set_blocking(descriptor, True)
            data = file.read(limit)
        elif (ready := file.read(limit)) is not None:
            data = ready
        else:
            raise OSError(errno.EAGAIN, "it is a device with nothing to read")
    shared = found.st_mode & stat.S_IRGRP and not _is_own_group(found.st_gid)
    return Content(
        data=data,
        everybody=bool(found.st_mode & stat.S_IROTH),
        group=_group(found.st_gid) if shared else None,
    )


def require_file(path: Path) -> None:
    """Raise OSError if `path` leads to anything but a file: a library that opens a pipe or a device may wait without end.
    A file that is missing or hidden passes, since who opens it will find that.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise OSError(errno.EINVAL, f"it is {kind}, and not a file", str(path))


def _from_pipe(descriptor: int, limit: int) -> bytes:
    """Return the bytes that a pipe's writers write until they close it. Raises OSError if they pause for too long."""
    data, poll = bytearray(), select.poll()
    poll.register(descriptor, select.POLLIN)
    while limit < 0 or len(data) < limit:
        if not poll.poll(PIPE_PAUSE / timedelta(milliseconds=1)):
            seconds = int(PIPE_PAUSE.total_seconds())
            raise OSError(errno.ETIMEDOUT, f"it is a pipe that nobody has written for {seconds} seconds")
        if not (piece := os.read(descriptor, 1 << 16)):
            break
        data += piece
    return bytes(data) if limit < 0 else bytes(data[:limit])


def read_own(path: Path) -> str:
    """Return the text of a secret file that this program made: it belongs to this user, and no other user can
    read it.

    Raises OSError or Untrusted.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor) as file:
        found = os.fstat(descriptor)
        closed = stat.S_ISREG(found.st_mode) and not found.st_mode & _ALL_OTHERS
        if found.st_uid != os.geteuid() or not closed:
            raise Untrusted(
                f"{_described(path, found)}, and belongs to another user", f"Remove it: rm {quote(str(path))}"
            )
        return file.read()


def write_own(path: Path, text: str) -> None:
    """Write the secret file whole or not at all, with mode 0600 from the first byte. Raises OSError."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.touch(mode=0o600)
    half.write_text(text)
    half.replace(path)


def trust(path: Path, *, itself: bool = True) -> None:
    """Raise Untrusted if another user can change the file that `path` leads to. A missing file passes.

    `itself`: whether the file at the end of the path is checked too.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        for step, found, last in _way(path):
            if itself or not last:
                _judge(step, found, last=last)


def make_private(directory: Path, *, dedicated: bool = False) -> int | None:
    """Create `directory`, or take the existing one, for this user alone.

    Returns its former mode if it had to be closed. `dedicated`: only refreshd creates a directory of this
    name, so it may be closed whatever it holds. Raises OSError or Untrusted.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = open_mode(directory, dedicated=dedicated)
    if mode is not None:
        directory.chmod(0o700)
    return mode


def open_mode(directory: Path, *, dedicated: bool = False) -> int | None:
    """Return the mode of `directory` if it must be closed to others, else None.

    Raises OSError, or Untrusted if closing it is not enough: another user made it or a file in it, or it
    isn't refreshd's alone.
    """
    trust(directory, itself=False)
    found = directory.stat()
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid():
        do = f"chown {_user(os.geteuid())} {_quoted(directory)}, or name a directory inside it: {directory}/refreshd."
        raise Untrusted(_described(directory, found), do)
    _search(directory)
    if not mode & _ALL_OTHERS:
        return None
    if mode & stat.S_ISVTX or not (dedicated or _is_for_us(directory)):
        do = f"chmod 700 {_quoted(directory)}, or name a directory that holds nothing else."
        raise Untrusted(f"{_described(directory, found)}: other users can enter it", do)
    return mode


def _search(directory: Path) -> None:
    """Raise Untrusted for files that others have put there while they could."""
    for folder in (directory, directory / MONGODB):
        for entry in folder.iterdir() if folder.is_dir() else ():
            with suppress(FileNotFoundError):  # a running daemon has just removed it
                found = entry.lstat()
                if not _is_ours(found.st_uid):
                    me = _user(os.geteuid())
                    do = f"If it is refreshd's: chown -R {me} {_quoted(directory)}; else remove it."
                    raise Untrusted(_described(entry, found), do)


def _is_for_us(directory: Path) -> bool:
    """Return whether it was made for refreshd, so that a system directory or a home is never closed by
    mistake.
    """
    names = {entry.name for entry in directory.iterdir()}
    return not names or not names.isdisjoint({LOCK, IDENTITY, JOURNAL, MONGODB})


def _way(path: Path) -> Iterator[tuple[Path, os.stat_result, bool]]:
    """Yield each directory and symbolic link on the way to `path` in the kernel's order, then the file at its
    end, and whether it is that.
    """
    here, links = Path("/"), 0
    left = list(reversed(path.absolute().parts[1:]))
    yield here, here.lstat(), not left
    while left:
        if (name := left.pop()) == "..":
            here = here.parent
            continue
        step = here / name
        found = step.lstat()
        link = stat.S_ISLNK(found.st_mode)
        yield step, found, not left and not link
        if not link:
            here = step
            continue
        if (links := links + 1) > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = step.readlink()
        here = Path("/") if target.is_absolute() else here
        left += reversed(target.parts[1:] if target.is_absolute() else target.parts)


def _judge(step: Path, found: os.stat_result, *, last: bool) -> None:
    mode, path = found.st_mode, _quoted(step)
    if not _is_ours(found.st_uid):
        me = _user(os.geteuid())
        do = f"chown {me} {path}, or run refreshd as {_user(found.st_uid)}."
        raise Untrusted(f"{_described(step, found)}, who can change files that {me} acts on", do)
    if stat.S_ISLNK(mode) or stat.S_ISCHR(mode):
        return
    if stat.S_ISDIR(mode) and mode & stat.S_ISVTX and not last:
        return
    if mode & stat.S_IWOTH:
        raise Untrusted(f"{_described(step, found)}: every local user can change it", f"chmod o-w {path}")
    if mode & stat.S_IWGRP and not _is_own_group(found.st_gid):
        who = f"the group {_group(found.st_gid)} can change it"
        raise Untrusted(f"{_described(step, found)}: {who}", f"chmod g-w {path}")
    if mode & stat.S_IWGRP and _has_acl(step):
        who = "its access list may allow others to change it"
        raise Untrusted(f"{_described(step, found)}: {who}", f"setfacl -b {path}; chmod g-w {path}")


def _is_ours(user: int) -> bool:
    return user in (0, os.geteuid())


def _is_own_group(group: int) -> bool:
    """Return whether the group has no known members other than root and this user."""
    if group not in (0, os.getegid(), *os.getgroups()):
        return False
    ours = {one.pw_name for one in pwd.getpwall() if _is_ours(one.pw_uid)}
    others = {one.pw_name for one in pwd.getpwall() if one.pw_gid == group} - ours
    with suppress(KeyError):
        others |= set(grp.getgrgid(group).gr_mem) - ours
    return not others


def _has_acl(path: Path) -> bool:
    """Return whether it has an access list. The mode's group bits are then the maximum for any user or group
    that the list names.
    """
    try:
        return bool(os.getxattr(path, _ACL))
    except OSError:
        return False


def _described(path: Path, found: os.stat_result) -> str:
    return f"{path} belongs to {_user(found.st_uid)} (mode {stat.S_IMODE(found.st_mode):04o})"


def _quoted(path: Path) -> str:
    return quote(str(path))


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # containers give numbers without names
        return f"user {number}" if number != os.geteuid() else str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
