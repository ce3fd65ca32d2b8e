"""Replaces another application's file so that a reader sees either the former content or the new one, whole.

The former versions stay beside it for a while. Owner, group and mode stay as they were.
"""

import ctypes
import errno
import fcntl
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from daemon.adapters.durable import sync_directory

NEW_MODE = 0o600
MOST_KEPT = 100
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_LIBC = ctypes.CDLL(None, use_errno=True)


class NotWritten(Exception):
    """The file was not changed. The text is a sentence for operators: where, what, and what to do."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes of refreshd from writing in `directory`. Raises NotWritten."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotWritten(
            f"{directory}: {_reason(error)}. Correct the path, or create the directory"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def signature(file: Path) -> tuple[int, ...] | None:
    """Return what changes with each write of `file`; None if there is no such file. Raises OSError."""
    try:
        found = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def replace_file(
    file: Path,
    content: bytes,
    *,
    expected: tuple[int, ...] | None,
    keep: int,
    forget: bool = False,
    owner: str | None = None,
) -> bool:
    """Write `content` durably into `file`, and keep the `keep` former versions. Raises NotWritten.

    `expected`: the signature of the file that `content` is made from. Returns False, with nothing changed, if another
    program has written the file since: its change must not be lost. `forget`: delete the former versions, because they
    hold what must not stay. `owner`: the user, other than this process's, to whom the file may belong.
    """
    former = _former(file, owner)
    names = _Names.of(file)
    try:
        _clear(names, keep)
        _write(names.new, content, former)
        if former is None:
            done = expected is None and _link(names.new, file)
        else:
            done = _exchange(names, expected, forget=forget)
        if not done:
            _discard(names)
            return False
    except OSError as error:
        with suppress(OSError):
            _discard(names)
        raise NotWritten(
            f"{file}: it can't be written: {_reason(error)}. Make room, or give this user the right; nothing was changed"
        ) from None
    try:
        if forget:
            for version in _versions(file, keep=MOST_KEPT):
                version.unlink(missing_ok=True)
        if former is not None:
            _keep(names, 0 if forget else keep)
        sync_directory(file.parent)
    except OSError as error:
        what = (
            "its former versions can't be put in order" if former else "its directory can't be synchronized"
        )
        raise NotWritten(f"{file}: it was written, but {what}: {_reason(error)}. Correct that") from None
    return True


@dataclass(frozen=True, slots=True)
class _Names:
    """The names beside `file` that a write uses. `mark`: a second name of the new file. By it, the next write recognizes
    after a crash whether `new` is still the new file, or the one that an exchange has taken out.
    """

    file: Path
    new: Path
    mark: Path
    aside: Path

    @classmethod
    def of(cls, file: Path) -> "_Names":
        return cls(
            file, *(file.with_name(f".{file.name}.refreshd-{what}") for what in ("new", "mark", "aside"))
        )


def _clear(names: _Names, keep: int) -> None:
    """Clear up after a crash. A file that an exchange has taken out becomes a former version: another program may have
    written it in that very moment.
    """
    if names.mark.exists() and names.new.exists() and not names.new.samefile(names.mark):
        _keep(names, keep)
    _discard(names)


def _discard(names: _Names) -> None:
    for one in (names.new, names.mark, names.aside):
        one.unlink(missing_ok=True)


def _exchange(names: _Names, expected: tuple[int, ...] | None, *, forget: bool) -> bool:
    """Let the new file and the present one change places. If that was not the expected one, let them change back and
    return False. `forget`: after a crash, what was taken out is deleted.

    A program that writes in place truncates the file when it opens it. So a write that began before the exchange shows
    in what was taken out, and one that begins later finds the new file.
    """
    if signature(names.file) != expected:
        return False
    if not forget:
        with suppress(OSError):  # a file system without hard links: a crash may cost a former version there
            os.link(names.new, names.mark)
    try:
        _swap(names.new, names.file)
    except OSError as error:
        if error.errno not in _NO_EXCHANGE:
            raise
        _replace(names)
        return True
    if signature(names.new) == expected:
        return True
    _swap(names.new, names.file)
    return False


def _swap(one: Path, other: Path) -> None:
    """Exchange two directory entries atomically (renameat2 with RENAME_EXCHANGE, Linux 3.15)."""
    if _LIBC.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _replace(names: _Names) -> None:
    """Do the same on a file system that can't exchange two files (NFS, some of FUSE). Only there, a program that writes
    between the check and this loses its write.
    """
    try:
        os.link(names.file, names.aside)
    except OSError:
        _write(names.aside, names.file.read_bytes(), None)
    names.new.replace(names.file)
    names.aside.replace(names.new)


def _link(temporary: Path, file: Path) -> bool:
    """Give the new file its name, unless another program has just created one. Returns whether it did."""
    try:
        os.link(temporary, file)
    except FileExistsError:
        return False
    temporary.unlink()
    return True


def why_not_writable(path: Path, owner: str | None) -> str | None:
    """Return why the file at `path`, or the files in that directory, can't be replaced; None if they can.

    Nothing is written. The text is like that of NotWritten.
    """
    directory = path if path.is_dir() else path.parent
    if not os.access(directory, os.W_OK | os.X_OK):
        return f"{directory}: this user may not write files there. Correct its owner or mode (systemd: ReadWritePaths=)"
    if path == directory:
        return None
    try:
        _former(path, owner)
    except NotWritten as why:
        return str(why)
    return None


def _former(file: Path, owner: str | None) -> os.stat_result | None:
    """Return the file's present status. Raises NotWritten for a link, a directory or a device, and for a stranger's file."""
    try:
        found = file.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotWritten(f"{file}: {_reason(error)}. Correct the path or the rights") from None
    if stat.S_ISLNK(found.st_mode):
        raise NotWritten(
            f"{file}: it is a symbolic link, which refreshd does not follow. Name the file itself"
        )
    if not stat.S_ISREG(found.st_mode):
        raise NotWritten(f"{file}: it is not a file. Name a file")
    if found.st_uid != os.geteuid() and found.st_uid != _uid(owner):
        raise NotWritten(
            f"{file}: it belongs to {_user(found.st_uid)}, not to this user. Name that user as its owner if that is right"
        )
    return found


def _write(temporary: Path, content: bytes, former: os.stat_result | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, NEW_MODE), "wb") as new:
        if former is not None:
            made = os.fstat(new.fileno())  # in a directory with the setgid bit, it has the directory's group
            if (former.st_uid, former.st_gid) != (made.st_uid, made.st_gid):
                os.fchown(new.fileno(), former.st_uid, former.st_gid)
            os.fchmod(new.fileno(), stat.S_IMODE(former.st_mode))
        new.write(content)
        new.flush()
        os.fsync(new.fileno())


def _keep(names: _Names, keep: int) -> None:
    """Make what was taken out the newest of `keep` former versions, each of which only its owner may read."""
    versions = list(_versions(names.file, keep=keep))
    for older, newer in zip(versions[:0:-1], versions[-2::-1], strict=True):
        if newer.exists():
            newer.replace(older)
    if versions:
        names.new.chmod(NEW_MODE)
        names.new.replace(versions[0])
    _discard(names)


def _versions(file: Path, *, keep: int) -> Iterator[Path]:
    """Yield the paths of the former versions, the newest first. An application's `*.json` does not match them."""
    for number in range(1, keep + 1):
        yield file.with_name(f".{file.name}.refreshd-{number}")


def _uid(owner: str | None) -> int | None:
    if owner is None:
        return None
    try:
        return pwd.getpwnam(owner).pw_uid
    except KeyError:
        return None


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
