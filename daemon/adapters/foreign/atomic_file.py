"""Replaces another application's file so that a reader sees either the former content or the new one, whole.

The former versions stay beside it for a while. Owner, group and mode stay as they were.
"""

import ctypes
import fcntl
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NEW_MODE = 0o600
MOST_KEPT = 100
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
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
    """Return what changes with each write of `file`; None if there is no such file."""
    try:
        found = file.stat()
    except OSError:
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
    temporary = file.with_name(f".{file.name}.refreshd-new")
    try:
        with suppress(FileNotFoundError):
            temporary.unlink()  # a crash has left it
        _write(temporary, content, former)
        if not (_exchange(temporary, file, expected) if former is not None else _link(temporary, file)):
            temporary.unlink()
            return False
        if forget:
            for version in _versions(file, keep=MOST_KEPT):
                version.unlink(missing_ok=True)
        if former is not None:
            _keep(temporary, file, 0 if forget else keep)
        _sync_directory(file.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise NotWritten(
            f"{file}: it can't be written: {_reason(error)}. Make room, or give this user the right; nothing was changed"
        ) from None
    return True


def _exchange(temporary: Path, file: Path, expected: tuple[int, ...] | None) -> bool:
    """Let the two files change places. If `file` was not the expected one, let them change back and return False.

    A program that writes in place truncates the file when it opens it. So a write that began before the exchange shows
    in what was taken out, and one that begins later finds the new file.
    """
    _swap(temporary, file)
    if signature(temporary) == expected:
        return True
    _swap(temporary, file)
    return False


def _swap(one: Path, other: Path) -> None:
    """Exchange two directory entries atomically (renameat2 with RENAME_EXCHANGE, Linux 3.15)."""
    if _LIBC.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _link(temporary: Path, file: Path) -> bool:
    """Give the new file its name, unless another program has just created one. Returns whether it did."""
    try:
        os.link(temporary, file)
    except FileExistsError:
        return False
    temporary.unlink()
    return True


def _former(file: Path, owner: str | None) -> os.stat_result | None:
    """Return the file's present status. Raises NotWritten for a link, for what is no file, and for a stranger's."""
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
            if (former.st_uid, former.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(new.fileno(), former.st_uid, former.st_gid)
            os.fchmod(new.fileno(), stat.S_IMODE(former.st_mode))
        new.write(content)
        new.flush()
        os.fsync(new.fileno())


def _keep(former: Path, file: Path, keep: int) -> None:
    """Make `former` the newest of `keep` former versions, each of which only its owner may read."""
    versions = list(_versions(file, keep=keep))
    for older, newer in zip(versions[:0:-1], versions[-2::-1], strict=True):
        if newer.exists():
            newer.replace(older)
    if versions:
        former.chmod(NEW_MODE)
        former.replace(versions[0])
    else:
        former.unlink()


def _versions(file: Path, *, keep: int) -> Iterator[Path]:
    """Yield the paths of the former versions, the newest first. An application's `*.json` does not match them."""
    for number in range(1, keep + 1):
        yield file.with_name(f".{file.name}.refreshd-{number}")


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
